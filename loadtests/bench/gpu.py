"""Owns the comparison of the gateway on a GPU with itself on the processor: `python -m loadtests.bench.gpu`.

Never compares with other servers, and writes nothing but a table on standard output.

Needs onnxruntime-gpu and an NVIDIA GPU. All settings are served at once, each by a process of its own, and measured in
turn, so that whatever the machine does in a minute it does to all of them.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import urllib.request
from pathlib import Path

import msgspec

from loadtests.bench import models, payloads
from loadtests.bench.cells import BODIES, Body
from loadtests.bench.client import Job, Measurement
from loadtests.bench.process import BenchFailure, RunningServer, run_pinned, running
from loadtests.bench.servers import GATEWAY, SERVERS

_ALONE = "[batching]\nenabled = false\n"
SETTINGS = {
    "CPU, 1 thread, shared runs": '[execution]\nproviders = ["cpu"]\n',
    "CPU, 8 threads, shared runs": '[execution]\nproviders = ["cpu"]\nintra_op_threads = 8\n',
    "CPU, 1 thread, each alone": f'{_ALONE}[execution]\nproviders = ["cpu"]\n',
    "CUDA, shared runs": '[execution]\nproviders = ["cuda"]\n',
    "CUDA, 4 instances, shared runs": '[execution]\nproviders = ["cuda"]\ninstances = 4\n',
    "CUDA, each alone": f'{_ALONE}[execution]\nproviders = ["cuda"]\n',
}
"""What is compared: model.toml of every model."""
_CONNECTIONS = 64
_WITHIN_S = 60.0


class _Work(msgspec.Struct):
    inference_count: int
    execution_count: int


class _Statistics(msgspec.Struct):
    model_stats: list[_Work]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.bench.gpu", description="Compare CUDA with the CPU.")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(_compare(options.rounds, options.seconds)))
    except BenchFailure as exc:
        sys.stderr.write(f"bench: {exc}\n")
        return 1
    return 0


def _compare(rounds: int, seconds: float) -> list[str]:
    *server_cores, client_core = sorted(os.sched_getaffinity(0))
    lines = ["| request | execution | requests/s | rows a run | p50 ms | p99 ms |", "|---|---|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        servers = {}
        for number, (title, settings) in enumerate(SETTINGS.items()):
            own = folder / str(number)
            _write_repository(own / "models", settings)
            servers[title] = stack.enter_context(
                running(
                    SERVERS[GATEWAY],
                    repository=own / "models",
                    model="cnn",
                    answer_bytes=0,
                    cores=server_cores,
                    directory=own,
                )
            )
        for body in (BODIES["mlp"], BODIES["image"], BODIES["images"]):
            requests = folder / f"{body.name}.msgpack"
            requests.write_bytes(msgspec.msgpack.encode(_requests(body)))
            found: dict[str, list[tuple[Measurement, float]]] = {title: [] for title in servers}
            for _ in range(rounds):
                for title, server in servers.items():
                    found[title].append(_measure(server, body, requests, seconds, [client_core]))
            for title, measured in found.items():
                figures = [
                    statistics.median(one.requests_per_s for one, _ in measured),
                    statistics.median(rows for _, rows in measured),
                    statistics.median(one.p50_ms for one, _ in measured),
                    statistics.median(one.p99_ms for one, _ in measured),
                ]
                row = f"{figures[0]:,.0f} | {figures[1]:.1f} | {figures[2]:.2f} | {figures[3]:.2f}"
                lines.append(f"| {body.name} | {title} | {row} |")
    return lines


def _measure(
    server: RunningServer, body: Body, requests: Path, seconds: float, cores: list[int]
) -> tuple[Measurement, float]:
    """Return one measurement, and the rows of its mean run.

    Raises: BenchFailure: a request failed.
    """
    job = Job(
        port=server.port,
        server_pid=server.pid,
        connections=_CONNECTIONS,
        requests_file=str(requests),
        warmup_s=0.5,
        measure_s=seconds,
    )
    before = _work(server, body)
    command = [sys.executable, "-m", "loadtests.bench.client"]
    output = run_pinned(command, cores, stdin=msgspec.json.encode(job), within_s=seconds + _WITHIN_S)
    after = _work(server, body)
    measured = msgspec.json.decode(output, type=Measurement)
    if measured.errors:
        raise BenchFailure(f"{body.name}: {measured.errors} requests failed, the first: {measured.first_error}")
    runs = max(1, after.execution_count - before.execution_count)
    return measured, (after.inference_count - before.inference_count) / runs


def _work(server: RunningServer, body: Body) -> _Work:
    address = f"http://127.0.0.1:{server.port}/v2/models/{body.model}/versions/1/stats"
    with urllib.request.urlopen(address, timeout=_WITHIN_S) as answer:
        return msgspec.json.decode(answer.read(), type=_Statistics).model_stats[0]


def _requests(body: Body) -> list[bytes]:
    path = SERVERS[GATEWAY].infer_path.format(model=body.model)
    encoded = [payloads.infer_body(body, tensor, "binary") for tensor in payloads.inputs(body)]
    return [payloads.http_request(path, content, json_bytes) for content, json_bytes in encoded]


def _write_repository(repository: Path, settings: str) -> None:
    for name, model in {"mlp": models.mlp(), "cnn": models.cnn()}.items():
        models.write_version(repository, name, 1, model.SerializeToString())
        (repository / name / "model.toml").write_text(settings, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
