"""Owns a gateway as a user runs it: `python -m gateway serve` in a process of its own, asked over its sockets.

Never looks inside the process: what a test knows, it read from a socket, a pipe or the exit code.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[2]
EXAMPLE_MODELS = ROOT / "models"

# The machine may be busy with other tests: a deadline says "never", not "slow".
START_WITHIN_S = 30.0
STOP_WITHIN_S = 20.0

QUICK_STOP = "[server]\ndrain_delay_s = 0.1\ndrain_timeout_s = 10\n"
"""A gateway.toml for tests that do not look at the drain."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One whole HTTP answer; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - whatever the server says is what the test is about
        """The parsed body."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The text of an error in the protocol's form."""
        text = self.json["error"]
        assert isinstance(text, str)
        return text


def ask(
    url: str,
    method: str = "GET",
    body: object = None,
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float = 20.0,
) -> HttpAnswer:
    """Send one request on a connection of its own; nothing is decompressed and no redirect followed.

    Args:
        body: Bytes as they are, None for none, anything else as JSON.
    """
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, content, dict(headers or {}))
        response = connection.getresponse()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, answered, response.read())
    finally:
        connection.close()


def eventually(read: Callable[[], T | None], *, within_s: float = 10.0, what: str = "") -> T:
    """Return the first value of `read` that is true, asking again until the deadline.

    Raises: AssertionError: nothing came in time; with the last value that was read.
    """
    deadline = time.monotonic() + within_s
    between = threading.Event()
    while True:
        value = read()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'it'} did not happen within {within_s:g} s; last seen: {value!r}")
        between.wait(0.02)


def free_port() -> int:
    """Return a port that nobody listens on now, for servers that cannot be told to pick one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class GatewayProcess:
    """A running gateway; where it has several replicas, `admin_urls` names the admin plane of each."""

    def __init__(self, process: subprocess.Popen[str], banner: str, log: Path) -> None:
        self._process = process
        self._log = log
        self.banner = banner
        (data,) = _addresses(banner, "predictions")
        self.data_url = data.removesuffix("/v2")
        self.admin_urls = [url.removesuffix("/admin/v1/models") for url in _addresses(banner, "admin")]
        self.admin_url = self.admin_urls[0]

    @property
    def pid(self) -> int:
        """Process id of the gateway."""
        return self._process.pid

    @property
    def data_address(self) -> tuple[str, int]:
        """Host and port of the data plane."""
        return _host_and_port(self.data_url)

    @property
    def admin_address(self) -> tuple[str, int]:
        """Host and port of the admin plane."""
        return _host_and_port(self.admin_url)

    @property
    def log(self) -> str:
        """Everything written to standard error until now."""
        return self._log.read_text()

    @property
    def log_records(self) -> list[dict[str, Any]]:
        """The log lines, where the format is JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def ask(
        self, path: str, method: str = "GET", body: object = None, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Ask the data plane."""
        return ask(self.data_url + path, method, body, headers)

    def ask_admin(self, path: str, method: str = "GET", body: object = None) -> HttpAnswer:
        """Ask the admin plane."""
        return ask(self.admin_url + path, method, body)

    def versions(self, model: str) -> dict[int, dict[str, Any]]:
        """Return what /admin/v1/models says of a model's versions; nothing for an unknown model."""
        models = self.ask_admin("/admin/v1/models").json["models"]
        return {entry["version"]: entry for found in models if found["name"] == model for entry in found["versions"]}

    def state(self, model: str, version: int) -> str:
        """Return a version's state, "" when it is not known."""
        return str(self.versions(model).get(version, {}).get("state", ""))

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a series over everything these labels select; 0 when there is none."""
        text = self.ask_admin("/metrics").body.decode()
        total = 0.0
        for line in text.splitlines():
            match = _SAMPLE.fullmatch(line)
            if match and match["name"] == name:
                found = dict(_LABEL.findall(match["labels"] or ""))
                if labels.items() <= found.items():
                    total += float(match["value"])
        return total

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    def wait(self, within_s: float = STOP_WITHIN_S) -> int:
        """Wait for the process to end and return its exit code."""
        return self._process.wait(within_s)

    def stop(self) -> int:
        """Stop it as Ctrl-C does, without the drain delay, and return its exit code."""
        if self.is_running:
            self.signal(signal.SIGINT)
        return self.wait()


@contextmanager
def running_gateway(
    repository: Path,
    *,
    config: str = QUICK_STOP,
    environment: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    until_ready: bool = True,
    exit_code: int = 0,
) -> Iterator[GatewayProcess]:
    """Run a gateway on free ports; at the end stop it, and hold it to its exit code and a log without tracebacks.

    Args:
        config: The text of its gateway.toml.
        environment: Beyond that of this process, less its GATEWAY_* variables.
        arguments: Flags beyond the repository and the ports.
        until_ready: Whether /readyz must say yes first; an empty repository never does.
        exit_code: What a gateway that the test ends in another way leaves.
    """
    with tempfile.TemporaryDirectory(prefix="gateway-test-") as name:
        folder = Path(name)
        file = folder / "gateway.toml"
        file.write_text(config)
        log = folder / "log"
        places = ["--port", "0", "--admin-port", "0", "--config", str(file), "--state-dir", str(folder / "state")]
        command = [str(repository), *places, *arguments]
        with log.open("w") as errors, start_gateway(command, folder, environment, errors=errors) as process:
            try:
                gateway = GatewayProcess(process, _read_banner(process, log), log)
                if until_ready:
                    ready = gateway.admin_url + "/readyz"
                    eventually(lambda: ask(ready).status == 200, within_s=START_WITHIN_S, what="ready")
                yield gateway
                assert gateway.stop() == exit_code, gateway.log
                assert "Traceback" not in gateway.log, gateway.log
            finally:
                if process.poll() is None:
                    process.kill()


def start_gateway(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    errors: Any = subprocess.PIPE,  # noqa: ANN401 - what Popen takes: a file or one of its constants
) -> subprocess.Popen[str]:
    """Start `gateway serve` in a folder of its own, warnings as errors; the caller waits for it.

    Args:
        folder: Working directory: a gateway.toml there is found.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "gateway", "serve", *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


_SAMPLE = re.compile(r"(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def _read_banner(process: subprocess.Popen[str], log: Path) -> str:
    """Read what the gateway prints when ready: at least both addresses."""
    assert process.stdout is not None
    descriptor = process.stdout.fileno()
    deadline = time.monotonic() + START_WITHIN_S
    printed = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while b"admin  " not in printed or not printed.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise AssertionError(f"no banner within {START_WITHIN_S:g} s, got {printed!r}\n{log.read_text()}")
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                raise AssertionError(f"it ended with exit code {process.wait(STOP_WITHIN_S)}\n{log.read_text()}")
            printed += chunk
    return printed.decode()


def _addresses(banner: str, plane: str) -> list[str]:
    found = re.findall(rf"^{plane} +(http://\S+)$", banner, re.MULTILINE)
    assert found, banner
    return found


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port
