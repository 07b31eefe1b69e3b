"""Owns the processes that load tests start: gateways, Redis, Prometheus and locust, each ended on the way out.

Never listens off loopback, and never signals a process it did not start.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[1]
START_WITHIN_S = 40.0
STOP_WITHIN_S = 40.0

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05

T = TypeVar("T")


class LoadTestFailure(Exception):
    """The run cannot go on, or did not show what it had to; the message is the line shown to the user."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole HTTP answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes

    def document(self) -> dict[str, object]:
        """Return the body, a JSON object.

        Raises: LoadTestFailure: it is none.
        """
        try:
            parsed = json.loads(self.content)
        except ValueError as exc:
            raise LoadTestFailure(f"not JSON: {self.content[:200]!r}") from exc
        if not isinstance(parsed, dict):
            raise LoadTestFailure(f"not an object: {self.content[:200]!r}")
        return parsed


def ask(
    url: str,
    method: str = "GET",
    body: object = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 10.0,
) -> Answer:
    """Send one request on a connection of its own.

    Args:
        body: None for none, bytes as they are, anything else as JSON.
    Raises: OSError, http.client.HTTPException: nobody answers.
    """
    parts = urlsplit(url)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request(
            method, parts.path + (f"?{parts.query}" if parts.query else ""), content, dict(headers or {})
        )
        response = connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, fields, response.read())
    finally:
        connection.close()


def until(read: Callable[[], T | None], *, within_s: float, what: str, seen: Callable[[], object] | None = None) -> T:
    """Return the first value of `read` that is true, asking again until the deadline.

    Args:
        seen: What to show of the world where nothing came; without it the last value that was read.
    Raises: LoadTestFailure: nothing came in time.
    """
    deadline = time.monotonic() + within_s
    between = threading.Event()
    while True:
        value = read()
        if value:
            return value
        if time.monotonic() > deadline:
            shown = str(value if seen is None else seen())
            raise LoadTestFailure(f"{what}: not within {within_s:g} s; last seen: {shown[:400]}")
        between.wait(_POLL_S)


def free_port() -> int:
    """Return a loopback port that was free a moment ago, for servers that cannot be told to pick one."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class Child:
    """A process of ours: what it wrote, whether it lives, how it ended."""

    def __init__(self, title: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.title = title
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll()

    def written(self) -> str:
        """Return everything it has written until now."""
        return self.log.read_text(errors="replace")

    def last_lines(self, count: int = 3) -> str:
        """Return the end of what it wrote, in one line."""
        return " | ".join(line.strip() for line in self.written().strip().splitlines()[-count:]) or "it wrote nothing"

    def wait(self, within_s: float) -> int:
        """Wait for its end and return its exit code.

        Raises: LoadTestFailure: it did not end in time.
        """
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired as exc:
            raise LoadTestFailure(f"{self.title} took longer than {within_s:g} s") from exc

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.exit_code is None:
            self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end, kill it where it does not, and return its exit code."""
        self.send(number)
        try:
            return self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@contextmanager
def child(
    title: str, command: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Child]:
    """Run a command in `folder`, in a group of its own, until the block is left; it dies when we die.

    Args:
        environment: Beyond that of this process, less its GATEWAY_* and LOCUST_* variables.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "LOCUST_"))}
    libc = ctypes.CDLL(None)

    def die_with_parent() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{title}.log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=inherited | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, and no other thread of ours runs Python
        )
    started = Child(title, process, log)
    try:
        yield started
    finally:
        started.stop()


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway whose replicas all answer: one data plane, and an admin plane for each replica."""

    child: Child
    data_url: str
    admin_urls: tuple[str, ...]

    @property
    def admin_url(self) -> str:
        """The admin plane of the first replica."""
        return self.admin_urls[0]

    def admin(
        self, path: str, method: str = "GET", body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Ask the admin plane of the first replica."""
        return ask(self.admin_url + path, method, body, headers)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a series of the first replica over everything these labels select; 0 when there is none."""
        total = 0.0
        for line in self.admin("/metrics").content.decode().splitlines():
            match = _SAMPLE.fullmatch(line)
            if (
                match
                and match["name"] == name
                and labels.items() <= dict(_LABEL.findall(match["labels"] or "")).items()
            ):
                total += float(match["value"])
        return total


_SAMPLE = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@contextmanager
def gateway(
    repository: Path,
    *,
    folder: Path,
    config: str = "",
    arguments: Sequence[str] = (),
    replicas: int = 1,
    title: str = "gateway",
) -> Iterator[RunningGateway]:
    """Serve a repository on loopback ports of the kernel's choice until the block is left.

    Args:
        config: The text of its gateway.toml.
        arguments: Flags beyond repository and configuration; ports given here win.
        replicas: How many processes; more than one need a Redis among the arguments.
    Raises: LoadTestFailure: it ended, or is not ready within 40 s.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{title}.toml"
    file.write_text(config)
    command = [sys.executable, "-m", "gateway", "serve", str(repository), "--config", str(file)]
    command += ["--port", "0", "--admin-port", "0", "--replicas", str(replicas), *arguments]
    with child(title, command, folder=folder) as process:

        def addresses() -> list[str] | None:
            _hold_alive(process)
            found = re.findall(r"^(?:predictions|admin) +(http://[^/\s]+)", process.written(), re.MULTILINE)
            return found if len(found) == 1 + replicas else None

        data_url, *admin_urls = until(addresses, within_s=START_WITHIN_S, what=f"{title}: addresses")
        for url in admin_urls:
            until(lambda url=url: answers_200(url + "/readyz"), within_s=START_WITHIN_S, what=f"{title}: ready")  # type: ignore[misc]
        yield RunningGateway(process, data_url, tuple(admin_urls))


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis without persistence on a free loopback port until the block is left; its URL.

    Raises: LoadTestFailure: it cannot be started.
    """
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    with child("redis", [*command, "--dir", str(folder)], folder=folder) as process:

        def pong() -> bool:
            _hold_alive(process)
            try:
                with socket.create_connection(("127.0.0.1", port), 1.0) as connection:
                    connection.sendall(b"PING\r\n")
                    return connection.recv(64).startswith(b"+PONG")
            except OSError:
                return False

        until(pong, within_s=START_WITHIN_S, what="redis: an answer")
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def prometheus(configuration: str, *, folder: Path) -> Iterator[str]:
    """Run a Prometheus on a free loopback port until the block is left; its URL.

    Args:
        configuration: The text of its prometheus.yml; other files are named by absolute paths.
    Raises: LoadTestFailure: it cannot be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "prometheus.yml"
    file.write_text(configuration)
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--web.listen-address={address}", "--log.level=warn"]
    with child("prometheus", command, folder=folder) as process:

        def is_ready() -> bool:
            _hold_alive(process)
            return answers_200(f"http://{address}/-/ready")

        until(is_ready, within_s=START_WITHIN_S, what="prometheus: ready")
        yield f"http://{address}"


def locust(
    target: str, options: Sequence[str], *, folder: Path, title: str = "locust"
) -> contextlib.AbstractContextManager[Child]:
    """Run locust without its web page against `target`; the caller waits for its end.

    Args:
        options: Of loadtests/locustfile.py.
    """
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py")]
    return child(title, [*command, "--headless", "--only-summary", "--host", target, *options], folder=folder)


def answers_200(url: str) -> bool:
    """Tell whether somebody answers, and with 200."""
    try:
        return ask(url, timeout_s=2.0).status == 200
    except (OSError, http.client.HTTPException):
        return False


def _hold_alive(process: Child) -> None:
    if process.exit_code is not None:
        raise LoadTestFailure(f"{process.title} ended with exit code {process.exit_code}: {process.last_lines()}")
