"""uvicorn's server for one socket: accepts alone or in turn with other replicas, and closes without resetting anybody.

Handles no signal and knows no application; the server decides when it begins and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import uvicorn

from gateway.acceptor import Acceptor, ConnectionCounts
from gateway.listening import seal


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What a replica is told that takes its connections from a socket of many.

    Attributes:
        number: Which of them this is.
        is_restarted: Others serve already, so that this one takes nothing before it is ready.
    """

    counts: ConnectionCounts
    number: int
    is_restarted: bool


class Listener(uvicorn.Server):
    """uvicorn's server without its signal handlers: this process has its own.

    Attributes:
        shared: What to know where other replicas accept from the same socket.
        is_last: Whether nobody goes on accepting from the socket when this one stops.
    """

    shared: Shared | None = None
    is_last = True
    _acceptors: Sequence[Acceptor] = ()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take every connection the kernel has already accepted, so that closing the listener resets none, and stop."""
        loop = asyncio.get_running_loop()
        if self.is_last:
            for listening in sockets or []:
                seal(listening)
        waiting = [connection for listening in sockets or [] for connection in _accept_waiting(listening)]
        for server in self.servers:  # at once: nobody may come in between
            server.close()
        for acceptor, listening in zip(self._acceptors, sockets or [], strict=False):
            acceptor.close()
            listening.close()
        for acceptor in self._acceptors:
            await acceptor.settle()
        for connection in waiting:
            await loop.connect_accepted_socket(self._make_protocol, connection)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept; from a socket that replicas share, only what is this one's turn."""
        if self.shared is None or not sockets:
            await super().startup(sockets)
            return
        await self.lifespan.startup()
        connections = self.server_state.connections
        self._acceptors = [
            Acceptor(listening, self._make_protocol, lambda: len(connections), self.shared.counts, self.shared.number)
            for listening in sockets
        ]
        self.servers = []
        self.started = True

    def note_connections(self) -> None:
        """Tell the replicas that share the socket how many connections this one has."""
        for acceptor in self._acceptors:
            acceptor.note()

    def _make_protocol(self) -> asyncio.Protocol:
        protocol_class: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def _accept_waiting(listening: socket.socket) -> Iterator[socket.socket]:
    while True:
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            return
        connection.setblocking(False)
        yield connection
