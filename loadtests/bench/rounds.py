"""Owns the protocol of a run: who is measured when, how often, and what is kept of it.

Never writes a report: it returns the Run that reports are made from.

For each cell every server is started anew, and stays up, idle, while its neighbours are measured. In each round all of
them are measured in turn, in an order that rotates; the first one (the gateway) twice, so that the run knows what
identical servers look like. Before each measurement there is a warm-up on the same connections. A server that polls
while it has nothing to do is stopped while others are measured.
"""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from loadtests.bench import machine, models, payloads
from loadtests.bench.answers import check_answers, expected_probabilities
from loadtests.bench.cells import Body, Cell
from loadtests.bench.client import Job, Measurement
from loadtests.bench.process import BenchFailure, RunningServer, run_pinned, running
from loadtests.bench.results import AGAIN, CellResult, Peer, Plan, Run, StartResult
from loadtests.bench.servers import GATEWAY, Server

CEILING_ROWS = (1, 8, 64)
_GRACE_S = 90.0
_EXAMPLES = Path(__file__).resolve().parents[2] / "models"


def order(keys: Sequence[str], round_index: int) -> list[str]:
    """Return who is measured in which order in a round: the first key twice, as far apart as possible, rotated.

    Args:
        keys: The servers; the first is the one measured twice.
        round_index: From 0.
    """
    middle = (len(keys) + 1) // 2
    turns = [*keys[:middle], keys[0] + AGAIN, *keys[middle:]]
    shift = round_index % len(turns)
    return turns[shift:] + turns[:shift]


def run_all(
    servers: Sequence[Server],
    cells: Sequence[Cell],
    plan: Plan,
    say: Callable[[str], None],
    *,
    peers: Mapping[str, Peer] | None = None,
    left_out: Mapping[str, str] | None = None,
    with_starts: bool = True,
) -> Run:
    """Build the models in a temporary directory, measure every cell, then the starts.

    Args:
        servers: Who is compared; the first is measured twice.
        cells: What is measured.
        plan: How long.
        say: Called with one line of progress.
        peers: What the report says of those servers that are somebody else's, by key.
        left_out: Peers that could not even be installed, and why.
        with_starts: Whether each server is also started and stopped by itself, once a round.
    Raises: BenchFailure: a server of ours did not start, gave a wrong answer, or failed a request.
    """
    facts = machine.describe()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        repository = directory / "repository"
        models.write_repository(repository)
        bench = _Bench(plan=plan, repository=repository, directory=directory, say=say)
        results = [bench.measure_cell(cell, servers) for cell in cells]
        if peers or not with_starts:
            # Some of them need five seconds to start and five to stop: the starts before each cell must do.
            starts = bench.seen_starts("benchmark")
        else:
            starts = bench.measure_starts(servers, repository, "benchmark")
            gateway = [server for server in servers if server.key == GATEWAY]
            if gateway and any(_EXAMPLES.glob("*/*/model.onnx")):
                # A copy: a server may keep its own state in the repository it serves.
                examples = Path(shutil.copytree(_EXAMPLES, directory / "examples", ignore=shutil.ignore_patterns(".*")))
                starts += bench.measure_starts(gateway, examples, "examples")
    return Run(
        machine=facts,
        plan=plan,
        titles={server.key: server.title for server in servers},
        cells=results,
        starts=starts,
        peers=dict(peers or {}),
        left_out=dict(left_out or {}),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Bench:
    """One run's surroundings: its plan, its models, its temporary directory, and the starts it has seen."""

    plan: Plan
    repository: Path
    directory: Path
    say: Callable[[str], None]
    started: list[RunningServer] = field(default_factory=list)

    def measure_cell(self, cell: Cell, servers: Sequence[Server]) -> CellResult:
        """Start every server that speaks the cell's encoding, check its answers, measure all rounds, stop them.

        A peer that fails is out of this cell, and the others go on.
        """
        speakers = [server for server in servers if cell.encoding in server.encodings]
        bodies = {server.dialect: _bodies(cell, server.dialect) for server in speakers}
        expected = expected_probabilities(cell, self.repository)
        failures: dict[str, str] = {}
        ceiling: dict[int, list[float]] = {rows: [] for rows in CEILING_ROWS} if cell.body.with_ceiling else {}
        up: dict[str, RunningServer] = {}
        answer_bytes = 0
        with contextlib.ExitStack() as stack:
            # Those that run models first: the yardstick answers with as many bytes as the first of them.
            for server in sorted(speakers, key=lambda server: not server.runs_models):
                with self._excusing(server, cell, failures):
                    started = stack.enter_context(
                        self._running(server, self.repository, answer_bytes, model=cell.body.model)
                    )
                    if server.runs_models:
                        first_answer_bytes = check_answers(started, cell, bodies[server.dialect], expected)
                        answer_bytes = answer_bytes or first_answer_bytes
                    if server.polls_when_idle:
                        started.pause()
                    self.started.append(started)
                    up[server.key] = started
            keys = [server.key for server in speakers if server.key in up]
            measurements: dict[str, list[Measurement]] = {key: [] for key in sorted(order(keys, 0))}
            for round_index in range(self.plan.rounds):
                for key in order(keys, round_index):
                    server = up[key.removesuffix(AGAIN)].server
                    if server.key in failures:
                        continue
                    with self._excusing(server, cell, failures):
                        found = self._measure(up[server.key], cell, bodies[server.dialect])
                        measurements[key].append(found)
                        self.say(_progress(cell, f"round {round_index + 1}/{self.plan.rounds}", key, found))
                for rows, rate in self._measure_ceiling(cell.body).items() if ceiling else ():
                    ceiling[rows].append(rate)
        ours = bodies[speakers[0].dialect]
        return CellResult(
            cell=cell.name,
            body=cell.body.name,
            encoding=cell.encoding,
            connections=cell.connections,
            rows=cell.body.rows,
            request_bytes=sum(len(content) for content, _ in ours) // len(ours),
            answer_bytes=answer_bytes,
            measurements={key: found for key, found in measurements.items() if key not in failures},
            ceiling_rows_per_s=ceiling,
            failures=failures,
        )

    def seen_starts(self, label: str) -> list[StartResult]:
        """Return the starts there were before the cells."""
        keys = dict.fromkeys(started.server.key for started in self.started)
        return [
            StartResult(
                server=key,
                repository=label,
                ready_s=[started.ready_s for started in self.started if started.server.key == key],
                resident_bytes=[started.resident_bytes for started in self.started if started.server.key == key],
            )
            for key in keys
        ]

    def measure_starts(self, servers: Sequence[Server], repository: Path, label: str) -> list[StartResult]:
        """Start and stop every server once a round, in turn."""
        ready_s: dict[str, list[float]] = {server.key: [] for server in servers}
        resident_bytes: dict[str, list[int]] = {server.key: [] for server in servers}
        for _ in range(self.plan.rounds):
            for server in servers:
                with self._running(server, repository, answer_bytes=100, model="tabular") as started:
                    ready_s[server.key].append(started.ready_s)
                    resident_bytes[server.key].append(started.resident_bytes)
        for key, seconds in ready_s.items():
            self.say(f"{'start to ready':18} {label:10} {key:14} {min(seconds):.2f} to {max(seconds):.2f} s")
        return [
            StartResult(server=key, repository=label, ready_s=ready_s[key], resident_bytes=resident_bytes[key])
            for key in ready_s
        ]

    @contextlib.contextmanager
    def _excusing(self, server: Server, cell: Cell, failures: dict[str, str]) -> Iterator[None]:
        """Note the failure of a peer; one of ours ends the run."""
        try:
            yield
        except BenchFailure as exc:
            if server.peer is None:
                raise
            failures[server.key] = str(exc).removeprefix(f"{cell.name}: ").removeprefix(f"{server.title}: ")
            self.say(f"{cell.name:18} left out   {server.key:24} {failures[server.key]}")

    def _running(
        self, server: Server, repository: Path, answer_bytes: int, *, model: str
    ) -> contextlib.AbstractContextManager[RunningServer]:
        return running(
            server,
            repository=repository,
            model=model,
            answer_bytes=answer_bytes,
            cores=self.plan.server_cores,
            directory=self.directory,
        )

    def _measure(self, target: RunningServer, cell: Cell, bodies: Sequence[tuple[bytes, int | None]]) -> Measurement:
        path = target.server.infer_path.format(model=cell.body.model)
        requests = [payloads.http_request(path, content, json_bytes) for content, json_bytes in bodies]
        requests_file = self.directory / "requests.msgpack"
        requests_file.write_bytes(msgspec.msgpack.encode(requests))
        job = Job(
            port=target.port,
            server_pid=target.pid,
            connections=cell.connections,
            requests_file=str(requests_file),
            warmup_s=self.plan.warmup_s,
            measure_s=self.plan.measure_s,
        )
        if target.server.polls_when_idle:
            target.resume()
        try:
            output = run_pinned(
                [sys.executable, "-m", "loadtests.bench.client"],
                self.plan.client_cores,
                stdin=msgspec.json.encode(job),
                within_s=self.plan.warmup_s + self.plan.measure_s + _GRACE_S,
            )
        except BenchFailure as exc:
            raise BenchFailure(f"{cell.name}: {target.server.title}: {exc}") from exc
        finally:
            if target.server.polls_when_idle:
                target.pause()
        found = msgspec.json.decode(output, type=Measurement)
        if found.errors:
            first = " | ".join(line for line in found.first_error.splitlines() if line)
            raise BenchFailure(f"{cell.name}: {target.server.title}: {found.errors} requests failed, first: {first}")
        return found

    def _measure_ceiling(self, body: Body) -> dict[int, float]:
        command = [sys.executable, "-m", "loadtests.bench.ceiling", str(models.model_file(self.repository, body.model))]
        for rows in CEILING_ROWS:
            command += ["--rows", str(rows)]
        command += ["--seconds", str(self.plan.ceiling_s)]
        within_s = len(CEILING_ROWS) * self.plan.ceiling_s + _GRACE_S
        return msgspec.json.decode(
            run_pinned(command, self.plan.server_cores, within_s=within_s), type=dict[int, float]
        )


def _bodies(cell: Cell, dialect: payloads.Dialect) -> list[tuple[bytes, int | None]]:
    return [payloads.infer_body(cell.body, tensor, cell.encoding, dialect) for tensor in payloads.inputs(cell.body)]


def _progress(cell: Cell, turn: str, key: str, found: Measurement) -> str:
    return (
        f"{cell.name:18} {turn:10} {key:24} {found.requests_per_s:9,.0f} requests/s  p99 {found.p99_ms:8.2f} ms  "
        f"{found.server_cpu_ms:8.1f} ms CPU per 1,000"
    )
