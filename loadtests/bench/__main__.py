"""Owns the command line of the benchmark: `python -m loadtests.bench`.

Never measures by itself; it chooses the cells, runs them, and writes latest.json, bench.md and bench.png.

Exit codes: 0 done; 1 a server did not start, gave a wrong answer or failed a request; 2 wrong usage; 130 interrupted.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec

from loadtests.bench.cells import Cell, all_cells, parse_cell, quick_cells
from loadtests.bench.process import BenchFailure
from loadtests.bench.procfs import default_cores
from loadtests.bench.report import render
from loadtests.bench.results import Plan, Run
from loadtests.bench.rounds import run_all
from loadtests.bench.servers import SERVERS, Server

_RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark that the command line asks for; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        cells = _chosen_cells(options.cells, quick=options.quick)
        servers = _chosen_servers(options.servers)
    except ValueError as exc:
        parser.error(str(exc))
    # A whole run may replace the committed result; a part of one never does so by accident.
    partial = options.quick or options.cells is not None or options.servers is not None
    output = options.output or (_RESULTS / "partial" if partial else _RESULTS)
    started_at = time.monotonic()
    try:
        if options.render is None:
            with _stopped_by_signals():
                run = run_all(servers, cells, _plan(options), _say)
        else:
            run = msgspec.json.decode(options.render.read_bytes(), type=Run)
        _write(run, output)
    except (BenchFailure, OSError, msgspec.DecodeError) as exc:
        sys.stderr.write(f"bench: {exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted; every server was stopped\n")
        return 130
    _say(f"{time.monotonic() - started_at:.0f} s; wrote latest.json, bench.md and bench.png to {output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="Compare the gateway with a bare ASGI app and a naive Starlette handler, interleaved.",
    )
    parser.add_argument("--quick", action="store_true", help="three cells, three short rounds, about one minute")
    parser.add_argument("--rounds", type=_positive_integer, help="rounds per cell (5; quick: 3)")
    parser.add_argument("--seconds", type=_positive_seconds, help="length of one measurement (2; quick: 1.2)")
    parser.add_argument(
        "--cells", metavar="NAME,…", help="only these cells, for example tabular-json-64,image-binary-8"
    )
    parser.add_argument("--servers", metavar="KEY,…", help=f"only these servers, of {', '.join(SERVERS)}")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"where to write (whole runs: {_RESULTS.name}/, others: partial/ in it)",
    )
    parser.add_argument(
        "--server-cores", type=_cores, metavar="N,…", help="cores of every server (the first; the last is the client's)"
    )
    parser.add_argument("--render", type=Path, metavar="FILE", help="make the report of an earlier latest.json anew")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    server_cores, client_cores = default_cores()
    quick = options.quick
    return Plan(
        rounds=options.rounds or (3 if quick else 5),
        warmup_s=0.2 if quick else 0.4,
        measure_s=options.seconds or (1.2 if quick else 2.0),
        ceiling_s=0.25 if quick else 0.5,
        server_cores=options.server_cores or server_cores,
        client_cores=client_cores,
    )


def _chosen_cells(names: str | None, *, quick: bool) -> list[Cell]:
    if names is not None:
        return [parse_cell(name) for name in names.split(",")]
    return quick_cells() if quick else all_cells()


def _chosen_servers(keys: str | None) -> list[Server]:
    """Return the servers named, in the order of SERVERS.

    Raises: ValueError: a name is unknown, or none of them runs models (the yardstick copies the size of their answer).
    """
    if keys is None:
        return list(SERVERS.values())
    wanted = keys.split(",")
    unknown = [key for key in wanted if key not in SERVERS]
    if unknown:
        raise ValueError(f"no server {unknown[0]!r}: expected some of {', '.join(SERVERS)}")
    chosen = [server for key, server in SERVERS.items() if key in wanted]
    if not any(server.runs_models for server in chosen):
        raise ValueError("expected at least one server that runs models")
    return chosen


def _positive_integer(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def _cores(text: str) -> list[int]:
    cores = [int(core) for core in text.split(",")]
    allowed = os.sched_getaffinity(0)
    if not allowed.issuperset(cores):
        raise argparse.ArgumentTypeError(f"expected cores of {sorted(allowed)}, got {text}")
    return cores


def _positive_seconds(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 60:
        raise argparse.ArgumentTypeError(f"expected 0.1 to 60 seconds, got {value}")
    return value


def _write(run: Run, output: Path) -> None:
    # Imported here: a wrong flag or a missing server should not wait for matplotlib.
    from loadtests.bench.plot import draw

    output.mkdir(parents=True, exist_ok=True)
    (output / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    (output / "bench.md").write_text(render(run), encoding="utf-8")
    draw(run, output / "bench.png")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM, and SIGINT even where a shell has it ignored, unwind the run, so that every server is stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
