"""A private redis-server: started, hung, killed and restarted by the tests that own it.

Never touches another server: each has its own directory and socket, and is ended by its process id.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

READY_WITHIN_S = 10.0


class RedisServer:
    """One redis-server on a Unix socket, or on a TCP port of the loopback address.

    Args:
        options: Further arguments of redis-server.
        port: 0 listens on the Unix socket alone.
        config: A configuration file's content.
    """

    def __init__(self, *options: str, port: int = 0, config: str = "") -> None:
        self._options = options
        self._config = config
        self.port = port
        self.directory = Path(tempfile.mkdtemp(prefix="gateway-redis-"))  # short: a socket's path has 108 characters
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address for the store under test."""
        return f"redis://127.0.0.1:{self.port}" if self.port else f"unix://{self.directory}/redis.sock"

    def start(self) -> None:
        """Start it with what its directory holds, and wait until it answers."""
        assert self._process is None
        (self.directory / "redis.conf").write_text(self._config)
        self._process = subprocess.Popen(
            [
                *("redis-server", "redis.conf"),
                *("--port", str(self.port), "--unixsocket", "redis.sock", "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(self.directory), "--logfile", "redis.log"),
                *self._options,
            ],
            cwd=self.directory,
        )
        self._await_answer()

    def kill(self) -> None:
        """End it as a crash would: nothing is saved."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Hang it: connections stay, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on with everything it was sent."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def forget(self) -> None:
        """Kill it and start it empty."""
        self.kill()
        (self.directory / "dump.rdb").unlink(missing_ok=True)
        self.start()

    def save(self, name: str = "kept.rdb") -> None:
        """Keep a copy of everything it holds now."""
        assert self.command("SAVE") == b"+OK\r\n"
        shutil.copy(self.directory / "dump.rdb", self.directory / name)

    def restore(self, name: str = "kept.rdb") -> None:
        """Kill it and start it with the copy."""
        self.kill()
        shutil.copy(self.directory / name, self.directory / "dump.rdb")
        self.start()

    def command(self, *words: str) -> bytes:
        """Send a command past the store under test, and return the first piece of the answer."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(str(self.directory / "redis.sock"))
            request = f"*{len(words)}\r\n" + "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            client.sendall(request.encode())
            return client.recv(65536)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory)

    def _await_answer(self) -> None:
        deadline = os.times().elapsed + READY_WITHIN_S
        while os.times().elapsed < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "redis.log").read_text()
            try:
                if self.command("PING").startswith((b"+PONG", b"-NOAUTH")):
                    return
            except OSError:
                pass
            # Nothing tells that a socket has begun to listen; this is a pause of the poll, not of the test.
            os.sched_yield()
        raise AssertionError(f"redis-server does not answer: {(self.directory / 'redis.log').read_text()}")


def free_port() -> int:
    """Find a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float, what: str) -> float:
    """Ask until it holds, and return after how many seconds it did."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    while not await holds():
        assert loop.time() - started < within_s, f"{what}: not within {within_s} s"
        await asyncio.sleep(0.005)
    return loop.time() - started
