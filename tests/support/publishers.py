"""Owns a process that publishes again and again, each time in a fresh child that the test may kill.

The parent loads every library once and forks: a publish starts within a millisecond, so that hundreds can be killed.
Run it as `python -m tests.support.publishers`; Publisher speaks to it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from gateway.errors import GatewayError
from tests.support.server import ROOT, START_WITHIN_S, STOP_WITHIN_S


class Publisher:
    """The process, seen from the test."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")},
        )
        assert self._process.stdout is not None
        self._descriptor = self._process.stdout.fileno()
        self._unread = b""
        self._child = 0
        assert self.next_line(START_WITHIN_S) == "ready"

    def begin(self, **arguments: object) -> None:
        """Start a publish with the arguments of publish(); paths as text."""
        self._order(json.dumps(arguments))
        started = self.next_line(START_WITHIN_S)
        assert started is not None
        self._child = int(started)

    def next_line(self, within_s: float) -> str | None:
        """Return what the publish said next (a step, its outcome, "ended"), None when it said nothing in time."""
        deadline = time.monotonic() + within_s
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            chunk = os.read(self._descriptor, 65_536)
            assert chunk, f"the publisher ended with exit code {self._process.wait(STOP_WITHIN_S)}"
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def kill(self) -> None:
        """Kill the publish, as `kill -9` does; one that has ended is not reaped yet, so its number is its own."""
        os.kill(self._child, signal.SIGKILL)

    def finish(self) -> list[str]:
        """Wait for the end of the publish and return what it still said."""
        said: list[str] = []
        while (line := self.next_line(START_WITHIN_S)) != "ended":
            assert line is not None, f"the publish hangs after {said}"
            said.append(line)
        self.reap()
        return said

    def reap(self) -> None:
        """Let go of a publish that has said "ended"."""
        self._order("reap")

    def publish(self, **arguments: object) -> str:
        """Publish undisturbed and return the outcome: the version, or the name of the error and its text."""
        self.begin(**arguments)
        return self.finish()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, which lets a publish that still runs finish first."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(STOP_WITHIN_S)

    def _order(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()


def _say(text: str) -> None:
    """Write a line whole: it is shorter than what a pipe takes at once."""
    os.write(sys.stdout.fileno(), f"{text}\n".encode())


def _publish(publish: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """In the child: publish and never return."""
    _say(str(os.getpid()))
    try:
        published = publish(arguments.pop("model"), Path(arguments.pop("file")), report=_say, **arguments)
        _say(f"{published.key}")
    except GatewayError as exc:
        _say(f"{type(exc).__name__}: {exc}")
    finally:
        os._exit(0)


def main() -> None:
    """Publish what standard input orders, one after the other."""
    from gateway.publishing import publish

    _say("ready")
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            _publish(publish, json.loads(line))
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        _say("ended")
        sys.stdin.readline()
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
