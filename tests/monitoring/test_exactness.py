"""Owns the promise that rows answered are rows in the windows: bit for bit, and whatever is lost is counted.

Three replicas write to one real Redis through doors that lose, delay and cut what passes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from gateway.monitoring.bins import FloatArray
from gateway.settings import MonitoringOptions
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore
from gateway.store.windows import WindowStore
from tests.monitoring.replicas import (
    FRAUD,
    QUICK,
    START_S,
    Clock,
    Replica,
    counted,
    reference_rows,
    settle,
    yardstick,
)
from tests.store.fault_proxy import FaultProxy
from tests.store.redis_server import RedisServer

ROWS = reference_rows(1)


@dataclass
class Cluster:
    """Replicas, the doors between them and Redis, and a store that looks at Redis past the doors."""

    clock: Clock
    replicas: list[Replica]
    doors: list[FaultProxy]
    store: RedisWindowStore
    rng: random.Random

    async def live(self, seconds: int) -> None:
        """Answer some requests on every replica and flush, second by second."""
        for _ in range(seconds):
            for replica in self.replicas:
                for _ in range(self.rng.randrange(4)):
                    replica.record(some_rows(self.rng))
            await asyncio.gather(*(replica.monitor.flush() for replica in self.replicas))
            self.clock.now_s += 1


def some_rows(rng: random.Random) -> FloatArray:
    first = rng.randrange(len(ROWS) - 30)
    return ROWS[first : first + rng.randrange(1, 30)]


@asynccontextmanager
async def cluster(
    server: RedisServer, *, seed: int, options: MonitoringOptions = QUICK, replicas: int = 3
) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        clock, stick = Clock(), yardstick(ROWS, options)
        doors, members = [], []
        for number in range(replicas):
            door = await stack.enter_async_context(FaultProxy(server))
            connection = await stack.enter_async_context(RedisConnection(door.url))
            doors.append(door)
            members.append(Replica(RedisWindowStore(connection), clock, stick, seed=seed + number))
        past_the_doors = await stack.enter_async_context(RedisConnection(server.url))
        yield Cluster(clock, members, doors, RedisWindowStore(past_the_doors), random.Random(seed))


async def expect_exact(store: WindowStore, replicas: Iterable[Replica], *, since_s: int = START_S) -> None:
    """Hold every bucket since then against the rows recorded in it."""
    members = list(replicas)
    stick, clock = members[0].stick, members[0].clock
    series = stick.series(FRAUD, "primary")
    total = np.zeros(stick.layout.cells, np.int64)
    for second in range(since_s, int(clock.now_s) + 1):
        expected = counted(stick, [rows for replica in members for rows in replica.recorded[second]])
        found = await store.read(series, second, second + 1)
        np.testing.assert_array_equal(found, expected, err_msg=f"bucket {second - START_S}")
        total += found
    if since_s == START_S:
        assert total[0] == sum(replica.seen_rows for replica in members)


@pytest.mark.redis
async def test_three_replicas_add_up_bit_for_bit(durable_redis: RedisServer) -> None:
    async with cluster(durable_redis, seed=1) as it:
        await it.live(40)
        await settle(it.replicas, it.clock)
        await expect_exact(it.store, it.replicas)


@pytest.mark.redis
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_lost_answers_late_copies_and_cut_connections_count_nothing_twice(
    durable_redis: RedisServer, seed: int
) -> None:
    async with cluster(durable_redis, seed=seed) as it:
        for _ in range(12):
            door = it.rng.choice(it.doors)
            fault = it.rng.randrange(3)
            door.drops_answers = fault == 0
            door.delay_s = 0.3 if fault == 1 else 0.0  # longer than a call may take: it arrives after its own retry
            if fault == 2:
                door.cut()
            await it.live(3)
            door.drops_answers, door.delay_s = False, 0.0
            await it.live(2)
        await settle(it.replicas, it.clock)
        assert all(not replica.dropped for replica in it.replicas)
        await expect_exact(it.store, it.replicas)


@pytest.mark.redis
async def test_rows_of_sixty_buckets_without_redis_land_late_in_their_own_buckets(durable_redis: RedisServer) -> None:
    async with cluster(durable_redis, seed=4) as it:
        await it.live(10)
        for door in it.doors:
            door.shut()
        await it.live(60)
        assert [labels_value[1] for replica in it.replicas for labels_value in replica.monitor.store_up()] == [0.0] * 3
        for door in it.doors:
            door.reopen()
        await it.live(10)
        await settle(it.replicas, it.clock)
        assert all(not replica.dropped for replica in it.replicas)
        await expect_exact(it.store, it.replicas)
        assert [labels_value[1] for replica in it.replicas for labels_value in replica.monitor.store_up()] == [1.0] * 3


@pytest.mark.redis
async def test_a_hung_redis_costs_nothing_but_time(durable_redis: RedisServer) -> None:
    async with cluster(durable_redis, seed=5) as it:
        await it.live(5)
        durable_redis.pause()
        try:
            await it.live(6)
        finally:
            durable_redis.resume()
        await it.live(5)
        await settle(it.replicas, it.clock)
        await expect_exact(it.store, it.replicas)


@pytest.mark.redis
async def test_a_redis_that_is_killed_and_keeps_its_log_has_everything(durable_redis: RedisServer) -> None:
    async with cluster(durable_redis, seed=6) as it:
        for _ in range(3):
            await it.live(7)
            durable_redis.kill()
            await it.live(3)
            durable_redis.start()
        await it.live(5)
        await settle(it.replicas, it.clock)
        assert all(not replica.dropped for replica in it.replicas)
        await expect_exact(it.store, it.replicas)


@pytest.mark.redis
async def test_a_redis_that_comes_back_empty_gets_back_what_it_had(forgetful_redis: RedisServer) -> None:
    """Every replica remembers what it was told had been stored, as far back as the buffer reaches."""
    async with cluster(forgetful_redis, seed=7) as it:
        for _ in range(3):
            await it.live(15)
            forgetful_redis.forget()
        await it.live(5)
        await settle(it.replicas, it.clock)
        assert all(not replica.dropped for replica in it.replicas)
        await expect_exact(it.store, it.replicas)


@pytest.mark.redis
async def test_what_a_redis_with_an_older_copy_has_lost_is_in_the_drop_counter(forgetful_redis: RedisServer) -> None:
    async with cluster(forgetful_redis, seed=8) as it:
        await it.live(20)
        forgetful_redis.save()
        await it.live(4)
        forgetful_redis.restore()
        await it.live(20)
        await settle(it.replicas, it.clock)
        dropped = sum(sum(replica.dropped.values()) for replica in it.replicas)
        assert {reason for replica in it.replicas for reason in replica.dropped} <= {"store_lost"}
        series = it.replicas[0].stick.series(FRAUD, "primary")
        found = await it.store.read(series, START_S, int(it.clock.now_s))
        assert found[0] + dropped == sum(replica.seen_rows for replica in it.replicas)


@pytest.mark.redis
async def test_lost_rows_equal_the_drop_counter_when_redis_stays_away_too_long(durable_redis: RedisServer) -> None:
    options = MonitoringOptions(bucket_s=1, window_buckets=5, buffer_buckets=20)
    async with cluster(durable_redis, seed=9, options=options) as it:
        await it.live(5)
        for door in it.doors:
            door.shut()
        await it.live(50)
        for door in it.doors:
            door.reopen()
        await it.live(5)
        await settle(it.replicas, it.clock)
        series = it.replicas[0].stick.series(FRAUD, "primary")
        found = await it.store.read(series, START_S, int(it.clock.now_s))
        dropped = sum(replica.dropped["buffer_full"] for replica in it.replicas)
        assert dropped > 0
        assert found[0] + dropped == sum(replica.seen_rows for replica in it.replicas)
        # What was not dropped is exact: all of the last 20 buckets before the return.
        await expect_exact(it.store, it.replicas, since_s=START_S + 40)


@pytest.mark.redis
async def test_shadow_rows_are_counted_apart(durable_redis: RedisServer) -> None:
    async with cluster(durable_redis, seed=10, replicas=1) as it:
        (replica,) = it.replicas
        replica.record(ROWS[:7])
        replica.record(ROWS[:30], role="shadow")
        await settle(it.replicas, it.clock)
        read = [
            (await it.store.read(replica.stick.series(FRAUD, role), START_S, START_S + 1))[0]
            for role in ("primary", "shadow")
        ]
        assert read == [7, 30]
