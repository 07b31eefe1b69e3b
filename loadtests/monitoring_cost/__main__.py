"""Owns the command line that measures what watching costs: `python -m loadtests.monitoring_cost`.

Compares gateways that watch with some that do not, in turn, anew with each start; then a day of counts in Redis.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from gateway.monitoring.reference import encode_reference
from gateway.monitoring.reference_builder import build_reference
from loadtests.bench.cells import parse_cell
from loadtests.bench.figures import Spread, spread
from loadtests.bench.procfs import default_cores
from loadtests.bench.results import AGAIN, CellResult, Plan
from loadtests.bench.rounds import run_all
from loadtests.bench.servers import Launch, Server
from loadtests.monitoring_cost.redis_cost import MINUTES_A_DAY, RedisCost, private_redis, redis_cost

CELL = "tabular-json-64"
WATCHED, UNWATCHED, CONTROL, JUDGING = "watched", "unwatched", "control", "judging"
OPTIONS = {
    WATCHED: "",
    UNWATCHED: "enabled = false\n",
    # The same settings in a process of its own: two processes alike differ by up to a tenth in speed.
    CONTROL: "enabled = false\n",
    # Windows fall due while the clock runs, so that scipy is in memory and judges.
    JUDGING: "bucket_s = 1\nwindow_buckets = 5\n",
}


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What a run found; CPU in ms for 1,000 requests, one figure for each start of the servers."""

    processors: str
    connections: int
    watched_ms: list[float]
    unwatched_ms: list[float]
    control_ms: list[float]
    judging_resident_bytes: int
    unwatched_resident_bytes: int
    redis: RedisCost


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.monitoring_cost", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, for trying it out")
    parser.add_argument("--output", type=Path, metavar="FILE", help="keep the figures as JSON")
    options = parser.parse_args(arguments)
    server_cores, client_cores = default_cores()
    # Many starts: what a process got of memory layout and hash seed stays with it, and is more than what is looked for.
    starts = 3 if options.quick else 20
    plan = Plan(
        rounds=2,
        warmup_s=0.4,
        measure_s=0.9,
        ceiling_s=0.0,
        server_cores=server_cores,
        client_cores=client_cores,
    )
    with tempfile.TemporaryDirectory(prefix="cost-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with private_redis(directory) as url:
            *compared, judging = (_server(key, f"{url}?db={number}") for number, key in enumerate(OPTIONS))
            run = run_all(compared, [parse_cell(CELL)] * starts, plan, _say, with_starts=False)
            # Long enough for windows of five seconds to be judged.
            long = msgspec.structs.replace(plan, rounds=1, warmup_s=10.0, measure_s=5.0)
            memory = run_all([judging], [parse_cell(CELL)], long, _say, with_starts=False)
    found = _cost(
        run.cells,
        memory.cells[0],
        str(run.machine.processor),
        redis_cost(minutes=60 if options.quick else MINUTES_A_DAY),
    )
    if options.output:
        options.output.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    print(summary(found))
    return 0


def summary(found: Cost) -> str:
    """Write the figures as a table in Markdown."""
    redis = found.redis
    lines = [
        ("CPU, watched", f"{_spread(spread(found.watched_ms))} ms per 1,000 requests"),
        ("CPU, not watched", f"{_spread(spread(found.unwatched_ms))} ms per 1,000 requests"),
        (
            f"watched / not watched, median of {len(found.watched_ms)} starts",
            _median(found.watched_ms, found.unwatched_ms),
        ),
        ("two that do not watch (A/A), likewise", _median(found.control_ms, found.unwatched_ms)),
        ("memory, judging windows", f"{found.judging_resident_bytes / 1e6:.0f} MB"),
        ("memory, not watched", f"{found.unwatched_resident_bytes / 1e6:.0f} MB"),
        (
            f"Redis {redis.version}, {redis.features} features, minute buckets, {redis.replicas} replicas",
            f"{redis.bytes_a_day / 1e6:.1f} MB a day",
        ),
        (f"one EVALSHA, mean of {redis.scripts:,}", f"{redis.script_us / 1e3:.3f} ms"),
    ]
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in lines)])


def _server(key: str, redis: str) -> Server:
    return Server(key=key, title=key, command=_command(key, redis))


def _command(key: str, redis: str) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        _write_reference(launch.repository)
        config = launch.repository.parent / f"{key}.toml"
        config.write_text(f"[monitoring]\n{OPTIONS[key]}")
        return [
            *(sys.executable, "-m", "gateway", "serve", str(launch.repository), "--state-dir", "none"),
            *("--port", str(launch.port), "--admin-port", str(launch.admin_port)),
            *("--redis", redis, "--config", str(config)),
        ]

    return command


def _write_reference(repository: Path) -> None:
    """Give the benchmark's tabular model a reference of the rows that it is asked."""
    place = repository / "tabular" / "1" / "reference.json"
    if place.exists():
        return
    # Imported here: only this needs them.
    import onnxruntime
    from sklearn.datasets import load_breast_cancer

    rows = load_breast_cancer(return_X_y=True)[0].astype(np.float32)
    session = onnxruntime.InferenceSession(str(place.with_name("model.onnx")), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    made = dict(zip(names, session.run(names, {"features": rows}), strict=True))
    place.write_bytes(encode_reference(build_reference({"features": rows}, made)))


def _resident_bytes(cell: CellResult, key: str) -> int:
    return max(one.resident_bytes for one in cell.measurements[key])


def _cost(starts: Sequence[CellResult], judging: CellResult, processors: str, redis: RedisCost) -> Cost:
    def cpu_ms(*keys: str) -> list[float]:
        """Return the mean of each start's measurements."""
        found = [[one.server_cpu_ms for key in keys for one in cell.measurements[key]] for cell in starts]
        return [sum(values) / len(values) for values in found]

    return Cost(
        processors=processors,
        connections=judging.connections,
        watched_ms=cpu_ms(WATCHED, WATCHED + AGAIN),
        unwatched_ms=cpu_ms(UNWATCHED),
        control_ms=cpu_ms(CONTROL),
        judging_resident_bytes=_resident_bytes(judging, JUDGING),
        unwatched_resident_bytes=max(_resident_bytes(cell, UNWATCHED) for cell in starts),
        redis=redis,
    )


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the order statistics between which the median lies with 95 % probability, whatever the distribution.

    Source: binomial confidence interval of a quantile (Conover 1999, 3.2), with the normal approximation.
    """
    ordered, reach = sorted(values), 1.96 * math.sqrt(len(values)) / 2
    low, high = math.floor(len(values) / 2 - reach), math.ceil(len(values) / 2 + reach)
    return ordered[max(low, 0)], ordered[min(high, len(values) - 1)]


def _median(numerators: Sequence[float], denominators: Sequence[float]) -> str:
    ratios = [above / below for above, below in zip(numerators, denominators, strict=True)]
    low, high = median_interval(ratios)
    return f"{spread(ratios).median:.3f}, with 95 % probability {low:.3f} to {high:.3f}"


def _spread(found: Spread, *, digits: int = 1) -> str:
    return f"{found.median:.{digits}f} ({found.lowest:.{digits}f} to {found.highest:.{digits}f})"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
