"""Owns the window stores that the monitoring tests share between replicas.

Never holds an expectation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.store.memory_windows import MemoryWindowStore
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore
from gateway.store.windows import WindowStore
from tests.store.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """Start a Redis for the tests that leave it alone; each uses a namespace of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def durable_redis() -> Iterator[RedisServer]:
    """Start a Redis of the test's own that loses nothing it acknowledged, to hang and to kill."""
    with RedisServer("--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def forgetful_redis() -> Iterator[RedisServer]:
    """Start a Redis of the test's own that comes back empty."""
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[WindowStore]:
    """Open each kind of store, empty."""
    if request.param == "memory":
        yield MemoryWindowStore()
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    async with RedisConnection(server.url) as connection:
        yield RedisWindowStore(connection, namespace=request.node.name)
