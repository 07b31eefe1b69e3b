"""Owns the command line of the benchmark: `python -m loadtests.bench`.

Never measures by itself; it chooses the cells, runs them, and writes latest.json, bench.md and bench.png; with peers
also their environments and docs/performance.md.

Exit codes: 0 done; 1 a server of ours did not start, gave a wrong answer or failed a request, or no peer could be
installed; 2 wrong usage; 130 interrupted.
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

from loadtests.bench.cells import Cell, all_cells, parse_cell, peer_cells, quick_cells
from loadtests.bench.peers.catalogue import ENVIRONMENTS, PEERS, facts
from loadtests.bench.process import BenchFailure
from loadtests.bench.procfs import default_cores
from loadtests.bench.report import render
from loadtests.bench.results import Plan, Run
from loadtests.bench.rounds import run_all
from loadtests.bench.servers import GATEWAY, SERVERS, YARDSTICK, Server

_RESULTS = Path(__file__).parent / "results"
_DOCS = Path(__file__).parents[2] / "docs"
_EVERYBODY = {**SERVERS, **PEERS}


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark that the command line asks for; return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        servers = _chosen_servers(options.servers, peers=options.peers)
        with_peers = any(server.peer for server in servers)
        cells = _chosen_cells(options.cells, quick=options.quick, peers=with_peers)
    except ValueError as exc:
        parser.error(str(exc))
    # A whole run may replace the committed result; a part of one never does so by accident.
    partial = options.quick or options.cells is not None or options.servers is not None
    started_at = time.monotonic()
    try:
        if options.render is None:
            with _stopped_by_signals():
                servers, left_out = _installed(servers)
                peers = {server.key: facts(server) for server in servers if server.peer}
                run = run_all(servers, cells, _plan(options), _say, peers=peers, left_out=left_out)
        else:
            run = msgspec.json.decode(options.render.read_bytes(), type=Run)
        written = _write(run, options.output, partial=partial)
    except (BenchFailure, OSError, msgspec.DecodeError) as exc:
        sys.stderr.write(f"bench: {exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: interrupted; every server was stopped\n")
        return 130
    _say(f"{time.monotonic() - started_at:.0f} s; wrote {written}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.bench",
        description="Compare the gateway with a bare ASGI app and a naive Starlette handler, interleaved.",
    )
    parser.add_argument("--quick", action="store_true", help="few cells, three short rounds: a minute, or two of peers")
    parser.add_argument(
        "--peers",
        action="store_true",
        help=f"compare with {', '.join(PEERS)} instead, each installed under .bench/ the first time",
    )
    parser.add_argument("--rounds", type=_positive_integer, help="rounds per cell (5; quick: 3)")
    parser.add_argument("--seconds", type=_positive_seconds, help="length of one measurement (2; quick: 1.2)")
    parser.add_argument(
        "--cells", metavar="NAME,…", help="only these cells, for example tabular-json-64,image-binary-8"
    )
    parser.add_argument("--servers", metavar="KEY,…", help=f"only these servers, of {', '.join(_EVERYBODY)}")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help=f"where to write (whole runs: {_RESULTS.name}/, with peers {_RESULTS.name}/peers/ and docs/; "
        "parts of runs: partial/)",
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


def _chosen_cells(names: str | None, *, quick: bool, peers: bool) -> list[Cell]:
    if names is not None:
        return [parse_cell(name) for name in names.split(",")]
    if peers:
        return peer_cells()[:2] if quick else peer_cells()
    return quick_cells() if quick else all_cells()


def _chosen_servers(keys: str | None, *, peers: bool) -> list[Server]:
    """Return the servers named, in the order of the lists.

    Raises: ValueError: a name is unknown, or none of them is ours and runs models (the yardstick copies the size of
        its answer, and peers are compared with it).
    """
    if keys is None:
        return [SERVERS[GATEWAY], SERVERS[YARDSTICK], *PEERS.values()] if peers else list(SERVERS.values())
    wanted = keys.split(",")
    unknown = [key for key in wanted if key not in _EVERYBODY]
    if unknown:
        raise ValueError(f"no server {unknown[0]!r}: expected some of {', '.join(_EVERYBODY)}")
    chosen = [server for key, server in _EVERYBODY.items() if key in wanted]
    if not any(server.runs_models and server.peer is None for server in chosen):
        raise ValueError("expected at least one server of ours that runs models")
    return chosen


def _installed(servers: list[Server]) -> tuple[list[Server], dict[str, str]]:
    """Make the environments of the peers among `servers`.

    Returns: those that can be run, and why the others cannot.
    Raises: BenchFailure: peers were asked for, and there is none.
    """
    failed: dict[str, str] = {}
    for peer in dict.fromkeys(server.peer for server in servers if server.peer):
        try:
            ENVIRONMENTS[peer].make(_say)
        except BenchFailure as exc:
            failed[peer] = str(exc)
            _say(f"left out: {exc}")
    chosen = [server for server in servers if server.peer not in failed]
    if failed and not any(server.peer for server in chosen):
        raise BenchFailure("no peer could be installed")
    return chosen, {server.title: failed[server.peer] for server in servers if server.peer in failed}


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


def _write(run: Run, output: Path | None, *, partial: bool) -> str:
    """Write the result and the reports made from it; return where."""
    # Imported here: a wrong flag or a missing server should not wait for matplotlib.
    from loadtests.bench import performance, performance_plot
    from loadtests.bench.plot import draw

    results = output or (_RESULTS / "partial" if partial else _RESULTS / "peers" if run.peers else _RESULTS)
    results.mkdir(parents=True, exist_ok=True)
    (results / "latest.json").write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    (results / "bench.md").write_text(render(run), encoding="utf-8")
    draw(run, results / "bench.png")
    written = f"latest.json, bench.md and bench.png to {results}"
    if run.peers and GATEWAY in run.titles:
        pages = _DOCS if output is None and not partial else results
        image = pages / "images" / "performance.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        details = os.path.relpath(results / "bench.md", pages)
        (pages / "performance.md").write_text(performance.render(run, details=details), encoding="utf-8")
        performance_plot.draw(run, image)
        written += f", performance.md to {pages}"
    return written


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM, and SIGINT even where a shell has it ignored, unwind the run, so that every server is stopped.

    Only the first one does: a second would cut the stopping short.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
