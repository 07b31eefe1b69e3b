"""Owns the measurement of what routes cost callers: `python -m loadtests.bench.route_cost`.

Never compares what was not interleaved: in each round everything is measured in turn, the yardstick twice, and a
difference counts only outside what the yardstick showed against itself in the same run.

1. split: CPU of the gateway for 1,000 requests to a route of two variants with a routing key, against a pinned version.
2. shadow: p99 at 30 % of the capacity, open loop, of a route with a slow shadow, against one without.

Exit codes: 0 both within their bounds; 1 a bound is broken, or a server of ours failed; 2 wrong usage.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from loadtests.bench import models, payloads
from loadtests.bench.cells import BODIES
from loadtests.bench.client import Job, Measurement
from loadtests.bench.open_loop import Latencies, OpenJob
from loadtests.bench.process import BenchFailure, RunningServer, run_pinned, running
from loadtests.bench.procfs import default_cores
from loadtests.bench.servers import GATEWAY, SERVERS, Launch, Server

MAX_SPLIT_CPU_MS = 2.0
"""For 1,000 requests, beyond a pinned version."""
SHARE_OF_CAPACITY = 0.3
_CONNECTIONS = 64
_KEYS = 4096
_SLOW_LAYERS = 40
_SLOW_WIDTH = 1024
_GRACE_S = 120.0

_ROUTES = """
[routes.plain]
variants = [{name = "stable", model = "tabular", version = 1, weight = 100}]

[routes.split]
variants = [
  {name = "stable", model = "tabular", version = 1, weight = 90},
  {name = "challenger", model = "tabular", version = 2, weight = 10},
]
"""
_SHADOWED = """
[routes.shadowed]
variants = [{name = "stable", model = "tabular", version = 1, weight = 100}]
shadows = [{name = "slow", model = "slow", version = 1}]
"""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How two things differ in one run.

    Attributes:
        median: Of the paired differences, or ratios.
        same: What the yardstick showed against itself: the interval, made symmetric, that is no difference.
    """

    median: float
    same: tuple[float, float]

    @property
    def is_real(self) -> bool:
        """Whether the median stands outside what identical things showed."""
        return not self.same[0] <= self.median <= self.same[1]


def paired_difference(one: Sequence[float], yardstick: Sequence[float], again: Sequence[float]) -> Comparison:
    """Compare by difference, round by round; the yardstick's own differences have no direction."""
    widest = max(abs(first - second) for first, second in zip(yardstick, again, strict=True))
    return Comparison(median=_paired_median(one, yardstick, again, ratio=False), same=(-widest, widest))


def paired_ratio(one: Sequence[float], yardstick: Sequence[float], again: Sequence[float]) -> Comparison:
    """Compare by ratio, round by round; a yardstick's ratio r to itself might as well have been 1/r."""
    ratios = [first / second for first, second in zip(yardstick, again, strict=True)]
    widest = max(*ratios, 1 / min(ratios))
    return Comparison(median=_paired_median(one, yardstick, again, ratio=True), same=(1 / widest, widest))


def _paired_median(one: Sequence[float], yardstick: Sequence[float], again: Sequence[float], *, ratio: bool) -> float:
    pairs = [(value, (first + second) / 2) for value, first, second in zip(one, yardstick, again, strict=True)]
    return statistics.median(value / middle if ratio else value - middle for value, middle in pairs)


def turns(names: Sequence[str], round_index: int) -> list[str]:
    """Return who is measured in which order in a round, rotated so that nobody always comes first."""
    shift = round_index % len(names)
    return [*names[shift:], *names[:shift]]


def main(arguments: list[str] | None = None) -> int:
    """Measure what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench.route_cost", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", nargs="*", metavar="split|shadow", help="both when absent")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds (7)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    options = parser.parse_args(arguments)
    wanted = options.what or ["split", "shadow"]
    if not set(wanted) <= {"split", "shadow"} or options.rounds < 1 or options.seconds <= 0:
        parser.error("expected split, shadow or both, at least one round, and more than no time")
    try:
        with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
            bench = _Bench(Path(name), rounds=options.rounds, measure_s=options.seconds)
            results = [bench.measure_split() if part == "split" else bench.measure_shadow() for part in wanted]
    except BenchFailure as exc:
        sys.stderr.write(f"route_cost: {exc}\n")
        return 1
    return 0 if all(results) else 1


class _Bench:
    """One run: its models, its servers' settings, and how long it measures."""

    def __init__(self, directory: Path, *, rounds: int, measure_s: float) -> None:
        self._directory = directory
        self._rounds = rounds
        self._measure_s = measure_s
        self._warmup_s = 0.4
        self._server_cores, self._client_cores = default_cores()
        self._repository = directory / "repository"
        content = models.tabular().SerializeToString()
        models.write_version(self._repository, "tabular", 1, content)
        models.write_version(self._repository, "tabular", 2, content)
        models.write_version(self._repository, "slow", 1, _slow_model().SerializeToString())

    def measure_split(self) -> bool:
        """Print what a split with a key costs; return whether it is within its bound."""
        paths = {"pinned": "/v2/models/tabular/versions/1/infer", "split": "/v2/models/split/infer"}
        files = {
            "pinned": self._requests(paths["pinned"], keyed=False),
            "split": self._requests(paths["split"], keyed=True),
        }
        cpu_ms: dict[str, list[float]] = {"pinned": [], "split": [], "pinned again": []}
        with self._running("split", _ROUTES) as server:
            for round_index in range(self._rounds):
                for name in turns(list(cpu_ms), round_index):
                    found = self._closed_loop(server, files[name.removesuffix(" again")])
                    cpu_ms[name].append(found.server_cpu_ms)
                    _say(
                        f"round {round_index + 1}/{self._rounds}  {name:14} {found.server_cpu_ms:7.2f} ms CPU per 1,000"
                    )
        cost = paired_difference(cpu_ms["split"], cpu_ms["pinned"], cpu_ms["pinned again"])
        _say(_medians(cpu_ms, "ms CPU per 1,000 requests"))
        _say(
            f"split with a routing key: {cost.median:+.2f} ms CPU per 1,000 requests against a pinned version; "
            f"identical runs differed by up to {cost.same[1]:.2f} ms; bound {MAX_SPLIT_CPU_MS:g} ms"
        )
        return cost.median <= MAX_SPLIT_CPU_MS or not cost.is_real

    def measure_shadow(self) -> bool:
        """Print what a slow shadow does to the p99; return whether that is within the run's own noise."""
        plain, shadowed = (self._requests(f"/v2/models/{route}/infer", keyed=False) for route in ("plain", "shadowed"))
        with contextlib.ExitStack() as stack:
            without = stack.enter_context(self._running("plain", _ROUTES))
            with_shadow = stack.enter_context(self._running("shadowed", _ROUTES + _SHADOWED))
            with_shadow.pause()
            capacity = self._closed_loop(without, plain).requests_per_s
            rate = capacity * SHARE_OF_CAPACITY
            _say(f"capacity {capacity:,.0f} requests/s; open loop at {rate:,.0f}/s")
            p99_ms: dict[str, list[float]] = {"plain": [], "shadowed": [], "plain again": []}
            for round_index in range(self._rounds):
                for name in turns(list(p99_ms), round_index):
                    server, other, file = (
                        (with_shadow, without, shadowed) if name == "shadowed" else (without, with_shadow, plain)
                    )
                    other.pause()
                    server.resume()
                    found = self._open_loop(server, file, rate, seed=round_index)
                    p99_ms[name].append(found.p99_ms)
                    _say(
                        f"round {round_index + 1}/{self._rounds}  {name:14} p99 {found.p99_ms:8.2f} ms  "
                        f"p50 {found.p50_ms:6.2f} ms  {found.requests} requests"
                    )
            without.resume()
            with_shadow.resume()
        ratio = paired_ratio(p99_ms["shadowed"], p99_ms["plain"], p99_ms["plain again"])
        _say(_medians(p99_ms, "ms p99"))
        _say(
            f"slow shadow: p99 is {ratio.median:.2f} × that without one; "
            f"identical runs were within [{ratio.same[0]:.2f}, {ratio.same[1]:.2f}]"
        )
        return ratio.median <= ratio.same[1]

    def _running(self, key: str, routes: str) -> contextlib.AbstractContextManager[RunningServer]:
        """Start a gateway with these routes, kept nowhere."""
        settings = self._directory / f"{key}.toml"
        settings.write_text(f'[server]\nstate_dir = "none"\n{routes}')
        plain = SERVERS[GATEWAY]

        def command(launch: Launch) -> list[str]:
            return [*plain.command(launch), "--config", str(settings)]

        return running(
            Server(key=key, title=f"gateway ({key})", command=command),
            repository=self._repository,
            model="tabular",
            answer_bytes=0,
            cores=self._server_cores,
            directory=self._directory,
        )

    def _requests(self, path: str, *, keyed: bool) -> Path:
        """Write the requests to a path, each with a key of its own if `keyed`."""
        body = BODIES["tabular"]
        contents = [payloads.infer_body(body, tensor, "json")[0] for tensor in payloads.inputs(body)]
        requests = []
        for number in range(_KEYS):
            request = payloads.http_request(path, contents[number % len(contents)], None)
            key = f"x-routing-key: customer-{number:05d}\r\n".encode()
            line, rest = request.split(b"\r\n", 1)
            requests.append(line + b"\r\n" + (key if keyed else b"") + rest)
        file = self._directory / f"{path.replace('/', '-')}.msgpack"
        file.write_bytes(msgspec.msgpack.encode(requests))
        return file

    def _closed_loop(self, server: RunningServer, requests: Path) -> Measurement:
        job = Job(
            port=server.port,
            server_pid=server.pid,
            connections=_CONNECTIONS,
            requests_file=str(requests),
            warmup_s=self._warmup_s,
            measure_s=self._measure_s,
        )
        found = msgspec.json.decode(self._run("loadtests.bench.client", job), type=Measurement)
        _refuse_errors(found.errors, found.first_error)
        return found

    def _open_loop(self, server: RunningServer, requests: Path, rate: float, *, seed: int) -> Latencies:
        job = OpenJob(
            port=server.port,
            connections=_CONNECTIONS,
            requests_file=str(requests),
            requests_per_s=rate,
            warmup_s=self._warmup_s,
            measure_s=self._measure_s,
            seed=seed,
        )
        found = msgspec.json.decode(self._run("loadtests.bench.open_loop", job), type=Latencies)
        _refuse_errors(found.errors, found.first_error)
        return found

    def _run(self, module: str, job: msgspec.Struct) -> bytes:
        within_s = self._warmup_s + self._measure_s + _GRACE_S
        return run_pinned(
            [sys.executable, "-m", module], self._client_cores, stdin=msgspec.json.encode(job), within_s=within_s
        )


def _slow_model() -> onnx.ModelProto:
    """Build a model of the tabular one's input and output that takes milliseconds a row."""
    draw = np.random.default_rng(1)
    width = _SLOW_WIDTH
    weights = [
        numpy_helper.from_array((draw.standard_normal((30, width)) / 1e3).astype(np.float32), "first"),
        numpy_helper.from_array((draw.standard_normal((width, width)) / width).astype(np.float32), "middle"),
        numpy_helper.from_array(draw.standard_normal((width, 2)).astype(np.float32), "last"),
    ]
    nodes = [helper.make_node("MatMul", ["features", "first"], ["h0"])]
    nodes += [helper.make_node("MatMul", [f"h{layer}", "middle"], [f"h{layer + 1}"]) for layer in range(_SLOW_LAYERS)]
    nodes.append(helper.make_node("MatMul", [f"h{_SLOW_LAYERS}", "last"], ["scores"]))
    nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1))
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["rows", 30])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 2])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _refuse_errors(errors: int, first_error: str) -> None:
    if errors:
        raise BenchFailure(f"{errors} requests failed, first: {first_error.splitlines()[0] if first_error else ''}")


def _medians(values: Mapping[str, Sequence[float]], unit: str) -> str:
    return (
        "medians: " + ", ".join(f"{name} {statistics.median(found):.2f}" for name, found in values.items()) + f" {unit}"
    )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
