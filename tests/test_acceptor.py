"""Who takes a connection when several replicas listen on one socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.acceptor import ABSENT, Acceptor, ConnectionCounts
from gateway.listening import open_data_socket
from gateway.settings import ServerSettings

REPLICAS = 3


@pytest.fixture
def counts(tmp_path: Path) -> Iterator[ConnectionCounts]:
    """Share counts among replicas of which none takes connections yet."""
    with (tmp_path / "counts").open("w+b") as file:
        file.truncate(ConnectionCounts.size(REPLICAS))
        shared = ConnectionCounts(file.fileno(), REPLICAS)
        for number in range(REPLICAS):
            shared.put(number, ABSENT)
        yield shared
        shared.close()


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Listen on a free port."""
    with open_data_socket(ServerSettings(port=0)) as opened:
        yield opened


class Replica:
    """Keeps every connection it gets."""

    def __init__(self, listening: socket.socket, counts: ConnectionCounts, number: int) -> None:
        self.left = asyncio.Semaphore(0)
        self.taken: list[asyncio.BaseTransport] = []
        self.arrivals = asyncio.Semaphore(0)
        self._listening = listening.dup()  # as if it were inherited by a process of its own
        self._listening.setblocking(False)
        self.acceptor = Acceptor(self._listening, self._make_protocol, lambda: len(self.taken), counts, number)

    def _make_protocol(self) -> asyncio.Protocol:
        replica = self

        class Keeper(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport
                replica.taken.append(transport)
                replica.arrivals.release()

            def connection_lost(self, exc: Exception | None) -> None:
                replica.taken.remove(self.transport)
                replica.acceptor.note()
                replica.left.release()

        return Keeper()

    def close(self) -> None:
        self.acceptor.close()
        self._listening.close()
        for transport in self.taken:
            transport.close()


async def connect(listening: socket.socket, replicas: list[Replica], each: int) -> None:
    """Open so many connections for each at once, and wait until each has got them."""
    with contextlib.ExitStack() as stack:
        for _ in range(each * len(replicas)):
            stack.enter_context(socket.create_connection(listening.getsockname()[:2]))
        async with asyncio.timeout(10):
            for replica in replicas:
                for _ in range(each):
                    await replica.arrivals.acquire()


def test_the_fewest_of_the_others_count(counts: ConnectionCounts) -> None:
    assert counts.fewest_beside(0) == ABSENT
    counts.put(1, 5)
    counts.put(2, 3)
    assert [counts.fewest_beside(number) for number in range(REPLICAS)] == [3, 3, 5]


async def test_connections_that_arrive_together_are_shared_out(
    listening: socket.socket, counts: ConnectionCounts
) -> None:
    replicas = [Replica(listening, counts, number) for number in range(REPLICAS)]
    await connect(listening, replicas, 10)
    assert [len(replica.taken) for replica in replicas] == [10, 10, 10]
    for replica in replicas:
        replica.close()
    assert counts.fewest_beside(0) == ABSENT


async def test_a_replica_that_has_fewer_but_is_busy_keeps_nobody_waiting(
    listening: socket.socket, counts: ConnectionCounts
) -> None:
    counts.put(1, 0)
    replica = Replica(listening, counts, 0)
    await connect(listening, [replica], 10)
    assert len(replica.taken) == 10
    replica.close()


async def test_a_connection_that_is_closed_counts_no_longer(listening: socket.socket, counts: ConnectionCounts) -> None:
    replica = Replica(listening, counts, 0)
    await connect(listening, [replica], 2)
    async with asyncio.timeout(10):
        for _ in range(2):
            await replica.left.acquire()
    assert counts.fewest_beside(1) == 0
    replica.close()
    replica.acceptor.note()
    assert counts.fewest_beside(1) == ABSENT
