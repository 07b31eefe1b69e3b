"""Owns the processes of the benchmark: starts one on its core, waits until it is ready, and always ends it.

Never measures requests, and never signals a process it did not start.
"""

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loadtests.bench import procfs
from loadtests.bench.servers import Launch, Server

_READY_WITHIN_S = 60.0
_PROBE_EVERY_S = 0.002
_STOP_WITHIN_S = 5.0
_PR_SET_PDEATHSIG = 1
_ROOT = Path(__file__).resolve().parents[2]


class BenchFailure(Exception):
    """The run cannot give an honest result; the message is the line shown to the user."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningServer:
    """A server that answered its readiness probe."""

    server: Server
    pid: int
    port: int
    ready_s: float
    """From the start of its process to the first 200 of its readiness probe."""
    resident_bytes: int
    """Resident memory of its process tree when it became ready."""

    def pause(self) -> None:
        """Stop its processes; their sockets stay open, so that it loses nothing but time."""
        _signal_each(procfs.process_tree(self.pid), signal.SIGSTOP)

    def resume(self) -> None:
        """Let its processes go on."""
        _signal_each(procfs.process_tree(self.pid), signal.SIGCONT)


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run_pinned(command: Sequence[str], cores: Sequence[int], *, stdin: bytes = b"", within_s: float) -> bytes:
    """Run a command of ours on `cores` to its end and return its standard output.

    Raises: BenchFailure: it failed, or took longer than `within_s`.
    """
    with _start(command, cores, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        try:
            output, complaint = child.communicate(stdin, timeout=within_s)
        except subprocess.TimeoutExpired as exc:
            raise BenchFailure(f"{command[2]} took longer than {within_s:.0f} s") from exc
        finally:
            child.kill()
    if child.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines()
        raise BenchFailure(lines[-1] if lines else f"{command[2]} exited with {child.returncode}")
    return output


@contextlib.contextmanager
def running(
    server: Server, *, repository: Path, model: str, answer_bytes: int, cores: Sequence[int], directory: Path
) -> Iterator[RunningServer]:
    """Start `server` on `cores`, wait until it is ready, and end every process of it on the way out.

    Args:
        model: The one that will be asked.
        directory: Where it gets a working directory of its own and a log, outside the project: no stray settings are
            read, and nothing is left behind.
    Raises: BenchFailure: it exited, or was not ready within 60 s; the message ends with the last lines it wrote.
    """
    launch = Launch(
        repository=repository, port=free_port(), admin_port=free_port(), answer_bytes=answer_bytes, model=model
    )
    ready_path = server.ready_path.format(model=model)
    log = directory / f"{server.key}.log"
    own_directory = Path(tempfile.mkdtemp(prefix=f"{server.key}-", dir=directory))
    with log.open("wb") as log_file:
        started_at = time.perf_counter()
        child = _start(
            server.command(launch), cores, directory=own_directory, stdout=log_file, stderr=subprocess.STDOUT
        )
    try:
        while not _answers_200(launch.port, ready_path):
            exited = child.poll() is not None
            if exited or time.perf_counter() - started_at > _READY_WITHIN_S:
                how = f"exited with {child.returncode}" if exited else f"was not ready within {_READY_WITHIN_S:.0f} s"
                raise BenchFailure(f"{server.title} {how}: {_last_lines(log)}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_PROBE_EVERY_S)
        ready_s = time.perf_counter() - started_at
        resident_bytes, _ = procfs.resident_bytes(procfs.process_tree(child.pid))
        yield RunningServer(
            server=server, pid=child.pid, port=launch.port, ready_s=ready_s, resident_bytes=resident_bytes
        )
    finally:
        _end(child)


def _start(
    command: Sequence[str],
    cores: Sequence[int],
    *,
    directory: Path = _ROOT,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes],
    stderr: int,
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, on `cores`, that dies when the benchmark dies."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    environment["PYTHONPATH"] = str(_ROOT)
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        os.sched_setaffinity(0, cores)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd=directory,
        env=environment,
        start_new_session=True,
        preexec_fn=prepare,  # noqa: PLW1509 - two system calls, and no other thread of ours runs Python
    )


def _answers_200(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path, headers={"connection": "close"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    """Interrupt the process group (SIGINT skips a gateway's drain delay), then kill whatever is left of its tree.

    Some servers put their workers into groups of their own: these are found by descent, while the tree still stands.
    """
    tree = procfs.births(procfs.process_tree(child.pid))
    _signal_each(tree, signal.SIGCONT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_WITHIN_S)
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    now = procfs.births(list(tree))
    _signal_each([pid for pid, born in now.items() if born == tree[pid]], signal.SIGKILL)


def _signal_each(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _last_lines(log: Path, count: int = 3) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " | ".join(line.strip() for line in lines[-count:]) or "it wrote nothing"
