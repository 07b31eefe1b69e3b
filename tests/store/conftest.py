"""Owns the Redis of the store's tests and the stores under test.

Never holds an expectation.
"""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.store.memory_store import MemoryStore
from gateway.store.redis_store import RedisStore
from tests.store.redis_server import RedisServer


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """Start a Redis for the tests that leave it alone; each uses a namespace of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Start a Redis of the test's own, to hang and to kill."""
    with RedisServer() as server:
        yield server


AnyStore = MemoryStore | RedisStore


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AnyStore]:
    """Open each kind of store, empty."""
    if request.param == "memory":
        async with MemoryStore(tmp_path / "routes.json") as memory:
            yield memory
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    async with RedisStore(server.url, namespace=tmp_path.name, path=tmp_path / "routes.json") as redis:
        yield redis
