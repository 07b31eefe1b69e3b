"""Owns the Redis of the store's tests.

Never holds an expectation.
"""

from collections.abc import Iterator

import pytest

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
