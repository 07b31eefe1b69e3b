"""Owns the list of servers that are compared. A new one, a peer, is one more entry in SERVERS.

Never starts anything: an entry says how, `process` does it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What a server is told when it starts."""

    repository: Path
    port: int
    admin_port: int
    answer_bytes: int
    """Size of the answer to the request being measured; only the yardstick, which runs no model, needs it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """One server under measurement: its command line and where it answers.

    It must serve the models of `Launch.repository` on 127.0.0.1:`Launch.port` with one intra-op thread.
    """

    key: str
    title: str
    command: Callable[[Launch], list[str]]
    ready_path: str = "/v2/health/ready"
    infer_path: str = "/v2/models/{model}/infer"
    runs_models: bool = True
    """False for the yardstick: its answers are not compared with onnxruntime's."""


def _gateway(launch: Launch) -> list[str]:
    ports = ["--port", str(launch.port), "--admin-port", str(launch.admin_port)]
    return [sys.executable, "-m", "gateway", "serve", str(launch.repository), *ports]


def _bare(launch: Launch) -> list[str]:
    options = ["--port", str(launch.port), "--answer-bytes", str(launch.answer_bytes)]
    return [sys.executable, "-m", "loadtests.bench.bare_app", *options]


def _naive(launch: Launch) -> list[str]:
    return [sys.executable, "-m", "loadtests.bench.naive_app", str(launch.repository), "--port", str(launch.port)]


YARDSTICK = "bare"
GATEWAY = "gateway"
SERVERS = {
    server.key: server
    for server in (
        Server(key=GATEWAY, title="gateway", command=_gateway),
        Server(key=YARDSTICK, title="bare ASGI on uvicorn", command=_bare, runs_models=False),
        Server(key="naive", title="Starlette handler, inline run", command=_naive),
    )
}
