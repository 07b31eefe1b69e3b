"""The parent of several replicas: owns their listening sockets, starts a process for each, and keeps them running.

Serves nothing and loads no model; a replica is a whole gateway in a fresh interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

import gateway
from gateway.acceptor import ABSENT, ConnectionCounts
from gateway.errors import CannotStart
from gateway.identity import ReplicaIdentity
from gateway.listening import address_of, open_admin_socket, open_data_socket, print_banner
from gateway.monitoring.backoff import Backoff
from gateway.orders import DRAIN, HURRY, Orders, Ready, decode_report
from gateway.settings import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
LIVED_A_WHILE_S = 60.0
_GRACE_S = 10.0
_REPORT_BYTES = 1_048_576


def supervise(settings: Settings) -> bool:
    """Run `[server] replicas` processes until a signal says stop.

    Returns: Whether all of them ended as they were told to.
    Raises: CannotStart: a listener cannot be opened, or a replica cannot start.
    """
    server = settings.server
    if not server.redis:
        raise CannotStart(
            f"--replicas {server.replicas}: replicas share what they know through Redis; say where with --redis URL"
        )
    with contextlib.ExitStack() as sockets:
        data_socket = sockets.enter_context(open_data_socket(server))
        admin_sockets = [
            sockets.enter_context(open_admin_socket(settings, number=number)) for number in range(server.replicas)
        ]
        counts_file = sockets.enter_context(TemporaryFile())
        counts_file.truncate(ConnectionCounts.size(server.replicas))
        with asyncio.Runner() as runner:
            return runner.run(_Family(settings, data_socket, admin_sockets, counts_file.fileno()).live())


class _Ending(msgspec.Struct, frozen=True):
    """How a process ended: its exit code, and the reason in words."""

    exit_code: int
    reason: str


class _Family:
    """All replicas of this parent, and what is common to them."""

    def __init__(
        self, settings: Settings, data_socket: socket.socket, admin_sockets: list[socket.socket], counts_fd: int
    ) -> None:
        self._settings = settings
        self._data_socket = data_socket
        self._admin_sockets = admin_sockets
        self._replicas = [
            _Replica(self, settings, data_socket, admin_socket, number)
            for number, admin_socket in enumerate(admin_sockets)
        ]
        self.counts_fd = counts_fd
        self.counts = ConnectionCounts(counts_fd, len(admin_sockets))
        self._is_announced = False
        self.stopping = asyncio.Event()
        self.refusal = ""

    async def live(self) -> bool:
        """Keep everybody running until told to stop, and wait for the last one to end."""
        loop = asyncio.get_running_loop()

        def on_signal(number: signal.Signals) -> None:
            self.stop(without_delay=self.stopping.is_set() or number == signal.SIGINT)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal, number)
        keeping = [asyncio.create_task(replica.keep(), name=replica.identity.id) for replica in self._replicas]
        await self.stopping.wait()
        server = self._settings.server
        # Each listener has its own time to answer what is in flight.
        patience_s = server.drain_delay_s + 2 * server.drain_timeout_s + _GRACE_S
        _, late = await asyncio.wait(keeping, timeout=patience_s)
        if late:
            for replica in self._replicas:
                replica.kill()
        ended_well = await asyncio.gather(*keeping)
        if self.refusal:
            raise CannotStart(self.refusal)
        return all(ended_well)

    def stop(self, *, without_delay: bool) -> None:
        """Have every replica end; once nobody else listens, closing the last socket refuses new connections."""
        self.stopping.set()
        for listening in (self._data_socket, *self._admin_sockets):
            listening.close()
        for replica in self._replicas:
            replica.tell(HURRY if without_delay else DRAIN)

    def refuse(self, reason: str) -> None:
        """Give up: a replica that has never run cannot start."""
        self.refusal = self.refusal or reason
        self.stop(without_delay=True)

    def announce(self) -> None:
        """Print the banner, once, when every replica has been ready."""
        is_complete = all(replica.has_been_ready for replica in self._replicas)
        if self._is_announced or self.stopping.is_set() or not is_complete:
            return
        self._is_announced = True
        admins = [address_of(listening) for listening in self._admin_sockets]
        print_banner(address_of(self._data_socket), admins, self._replicas[0].models)


class _Replica:
    """One replica and the process that is it now."""

    def __init__(
        self,
        family: _Family,
        settings: Settings,
        data_socket: socket.socket,
        admin_socket: socket.socket,
        number: int,
    ) -> None:
        self._family = family
        self._settings = settings
        self._number = number
        self._data_socket = data_socket
        self._admin_socket = admin_socket
        self._process: asyncio.subprocess.Process | None = None
        self._channel: asyncio.StreamWriter | None = None
        self._backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        self._has_run = False
        self.identity = ReplicaIdentity.of(admin_socket)
        self.has_been_ready = False
        self.models: list[str] = []

    async def keep(self) -> bool:
        """Run the replica, and again whenever it ends, until the family stops.

        Returns: Whether it ended as it was told to.
        """
        stopping = self._family.stopping
        while not stopping.is_set():
            started = time.monotonic()
            try:
                ending = await self._run()
            except OSError as exc:  # there is no process or no descriptor to be had now
                ending = _Ending(-1, f"not started: {exc}")
            if stopping.is_set():
                return ending.exit_code == 0 or not self.has_been_ready
            lived_s = time.monotonic() - started
            if lived_s >= LIVED_A_WHILE_S:
                self._backoff.succeed()
            pause_s = self._backoff.fail(started + lived_s)
            facts = {"replica": self.identity.id, "reason": ending.reason, "lived_s": round(lived_s, 1)}
            log.error("replica_ended", extra=facts | {"restart_in_s": round(pause_s, 1)})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause_s)
        return True

    def tell(self, command: bytes) -> None:
        """Send the process a command, if there is one."""
        if self._channel is not None:
            self._channel.write(command)

    def kill(self) -> None:
        """End a process that did not end in time."""
        if self._process is not None and self._process.returncode is None:
            log.error("replica_killed", extra={"replica": self.identity.id, "pid": self._process.pid})
            self._process.kill()

    async def _run(self) -> _Ending:
        """Start the process, hear its reports until it has ended, and say how.

        Raises: OSError: it could not be started.
        """
        here, there = socket.socketpair()
        with there:
            reader, self._channel = await asyncio.open_unix_connection(sock=here, limit=_REPORT_BYTES)
            try:
                self._family.counts.put(self._number, ABSENT)
                if self._family.stopping.is_set():  # the sockets are closed already
                    return _Ending(0, "not started any more")
                self._process = await self._start(there)
                there.close()
                return await self._attend(self._process, reader)
            finally:
                self._family.counts.put(self._number, ABSENT)
                self._channel.close()
                self._channel = None

    async def _start(self, channel: socket.socket) -> asyncio.subprocess.Process:
        orders = Orders(
            settings=self._settings,
            replica=self.identity,
            data_fd=self._data_socket.fileno(),
            admin_fd=self._admin_socket.fileno(),
            channel_fd=channel.fileno(),
            counts_fd=self._family.counts_fd,
            number=self._number,
            is_restarted=self._has_run,
        )
        self._has_run = True
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *(f"-W{option}" for option in sys.warnoptions),
            *("-P", "-m", "gateway.replica", self.identity.id),
            env=_environment(),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(orders.data_fd, orders.admin_fd, orders.channel_fd, orders.counts_fd),
            process_group=0,  # a Ctrl-C in the terminal reaches the parent alone, which then says stop
        )
        if process.stdin is not None:  # it is, as asked for
            process.stdin.write(msgspec.json.encode(orders))
            process.stdin.write_eof()
        return process

    async def _attend(self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader) -> _Ending:
        refusal = ""
        async for line in reader:
            report = decode_report(line)
            if isinstance(report, Ready):
                log.info("replica_ready", extra={"replica": self.identity.id, "pid": process.pid})
                self.has_been_ready, self.models = True, report.models
                self._family.announce()
            else:
                refusal = report.reason
        exit_code = await process.wait()
        if refusal and not self.has_been_ready:
            self._family.refuse(refusal)
        return _Ending(exit_code, refusal or _ended_by(exit_code))


def _environment() -> dict[str, str]:
    """Let the replica find this very package, wherever the parent was started."""
    found = [str(Path(gateway.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return dict(os.environ) | {"PYTHONPATH": os.pathsep.join(found)}


def _ended_by(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"ended by {names.get(-exit_code, f'signal {-exit_code}')}"
