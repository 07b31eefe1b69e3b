"""Owns the promise that a killed replica loses at most what it recorded in one flush interval."""

import asyncio
import sys
import time

import pytest

from gateway.monitoring.schedule import FLUSH_INTERVAL_S
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore
from tests.monitoring.replicas import FRAUD, reference_rows, yardstick
from tests.store.redis_server import RedisServer

FLUSH_TAKES_S = 0.25
"""A busy machine needs some time for the flush itself."""


@pytest.mark.redis
async def test_a_killed_replica_loses_at_most_one_flush_interval(forgetful_redis: RedisServer) -> None:
    replica = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.monitoring.killed_replica", forgetful_redis.url),
        stdout=asyncio.subprocess.PIPE,
    )
    assert replica.stdout is not None
    recorded: list[tuple[float, int]] = []
    while not recorded or recorded[-1][0] < recorded[0][0] + 3.4:
        moment, rows = (await replica.stdout.readline()).split()
        recorded.append((float(moment), int(rows)))
    killed_at = time.monotonic()
    replica.kill()
    await replica.wait()
    series = yardstick(reference_rows(1)).series(FRAUD, "primary")
    async with RedisConnection(forgetful_redis.url) as connection:
        now_s = int(time.time())
        stored = (await RedisWindowStore(connection).read(series, now_s - 60, now_s + 2))[0]
    safe_before = killed_at - FLUSH_INTERVAL_S - FLUSH_TAKES_S
    assert max(rows for moment, rows in recorded if moment < safe_before) <= stored
    assert stored <= recorded[-1][1] + 5 * 10  # what it recorded after its last word was read
