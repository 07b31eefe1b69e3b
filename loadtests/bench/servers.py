"""Owns what a server under measurement is, and the list of our own; peers are listed in `peers/catalogue`.

Never starts anything: an entry says how, `process` does it.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadtests.bench.cells import ENCODINGS
from loadtests.bench.payloads import Dialect


@dataclass(frozen=True, kw_only=True, slots=True)
class Launch:
    """What a server is told when it starts."""

    repository: Path
    port: int
    admin_port: int
    answer_bytes: int
    """Size of the answer to the request being measured; only the yardstick, which runs no model, needs it."""
    model: str
    """The model that is asked; a server may open this one alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Server:
    """One server under measurement: its command line, where it answers and what it understands.

    It must serve `Launch.model` of `Launch.repository` on 127.0.0.1:`Launch.port` with one intra-op thread.
    """

    key: str
    title: str
    command: Callable[[Launch], list[str]]
    ready_path: str = "/v2/health/ready"
    """Answers 200 when requests may come; `{model}` stands for the model that is asked."""
    infer_path: str = "/v2/models/{model}/infer"
    runs_models: bool = True
    """False for the yardstick: its answers are not compared with onnxruntime's."""
    dialect: Dialect = "v2"
    encodings: tuple[str, ...] = ENCODINGS
    peer: str | None = None
    """For somebody else's server, the name of the environment it runs in; its failures do not end the run."""
    polls_when_idle: bool = False
    """Whether it takes processor time without requests: then it is stopped while others are measured."""


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
