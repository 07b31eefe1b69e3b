"""Owns the promises that only Redis can keep: keys, lifetimes, size, time, and what happens while it is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from gateway.errors import StoreUnavailable
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore, kept_s
from gateway.store.windows import CountSeries, ResultHead
from tests.store.redis_server import RedisServer
from tests.store.series import PRODUCER, packet, series, some_counts

pytestmark = pytest.mark.redis


@asynccontextmanager
async def opened(server: RedisServer) -> AsyncIterator[RedisWindowStore]:
    async with RedisConnection(server.url) as connection:
        yield RedisWindowStore(connection)


def words(answer: bytes) -> list[str]:
    """Read the bulk strings of an answer."""
    return [line.decode() for line in answer.split(b"\r\n") if line and line[:1] not in b"*$"]


def info(server: RedisServer, section: str, pattern: str) -> float:
    match = re.search(pattern, server.command("INFO", section).decode())
    assert match is not None
    return float(match[1])


async def filled(store: RedisWindowStore, of: CountSeries) -> None:
    await store.add(of, packet(some_counts(1, of.cells) + 1))
    await store.put_result(of, 1_200, ResultHead(rows=1, attempt=1, after=(0, 0)), b"result")
    await store.put_baseline(of, b"baseline")


async def test_every_key_names_its_reference_lives_for_a_time_and_shares_one_slot(redis_server: RedisServer) -> None:
    subject = series(cells=3_000)
    async with opened(redis_server) as store:
        await filled(store, subject)
    keys = words(redis_server.command("KEYS", "*"))
    assert len(keys) == 5
    for key in keys:
        assert subject.reference in key
        assert key.startswith("gateway:1:{fraud:3}:primary:")
        assert int(redis_server.command("TTL", key)[1:]) > 0


async def test_counts_are_readable_as_a_bitfield(redis_server: RedisServer) -> None:
    counts = some_counts(2)
    async with opened(redis_server) as store:
        await store.add(series(), packet(counts))
    (key,) = (key for key in words(redis_server.command("KEYS", "*")) if ":counts:" in key)
    for cell in (0, 7, 39):
        answer = redis_server.command("BITFIELD", key, "GET", "u40", f"#{cell}")
        assert int(answer.split(b":")[1]) == counts[cell]


@pytest.mark.parametrize(("bucket_s", "kept"), [(1, 1_560), (10, 15_600), (60, 93_600), (3_600, 108_000)], ids=str)
def test_counts_are_kept_for_26_hours_of_minutes_and_as_long_as_they_may_be_decided_on(
    bucket_s: int, kept: int
) -> None:
    assert kept_s(series(bucket_s=bucket_s)) == kept


async def test_a_store_that_hangs_is_given_up_within_its_time_and_adds_once_when_it_goes_on(
    redis_server: RedisServer,
) -> None:
    subject, counts = series(), some_counts(3)
    loop = asyncio.get_running_loop()
    async with opened(redis_server) as store:
        redis_server.pause()
        try:
            started = loop.time()
            with pytest.raises(StoreUnavailable):
                await store.add(subject, packet(counts))
            assert loop.time() - started < 0.5
            with pytest.raises(StoreUnavailable):
                await store.survey(subject)
        finally:
            redis_server.resume()
        await store.add(subject, packet(counts))
        np.testing.assert_array_equal(await store.read(subject, 1_200, 1_210), counts)


async def test_scripts_are_known_again_after_a_restart(redis_server: RedisServer) -> None:
    async with opened(redis_server) as store:
        await filled(store, series())
        redis_server.forget()
        assert (await store.survey(series())).landed == {}
        await filled(store, series())
        assert await store.results(series(), 1) == [b"result"]


async def test_a_day_of_minute_buckets_of_twenty_features_fits_ten_megabytes(redis_server: RedisServer) -> None:
    """24 bins and three more cells for 20 inputs and 2 predictions, three replicas, half-hour windows."""
    subject = CountSeries(
        model="fraud",
        version=3,
        traffic="primary",
        reference="sha256:" + "a" * 64,
        bucket_s=60,
        window_buckets=30,
        cells=1 + 22 * 27,
        kept_windows=8,
    )
    before = info(redis_server, "memory", r"used_memory:(\d+)")
    async with opened(redis_server) as store:
        counts = some_counts(4, subject.cells, 60) + 1
        for minute in range(1_440):
            for producer in range(3):
                name = bytes([producer]) * 8
                await store.add(subject, packet(counts, minute + 1, bucket_start_s=60 * minute, producer=name))
            if minute % 30 == 29:
                start = 60 * (minute - 29)
                head = ResultHead(rows=1, attempt=1, after=(0, 0))
                assert await store.put_result(subject, start, head, b"%04d" % minute * 1_000)
    used = info(redis_server, "memory", r"used_memory:(\d+)") - before
    mean_us = info(redis_server, "commandstats", r"cmdstat_evalsha:.*usec_per_call=([\d.]+)")
    assert used < 10e6
    assert mean_us < 1_000
    print(f"{used / 1e6:.2f} MB a day, {mean_us:.0f} microseconds for one EVALSHA")  # noqa: T201 - shown by pytest -s


async def test_no_script_adds_more_than_a_thousand_cells(redis_server: RedisServer) -> None:
    async with opened(redis_server) as store:
        await store.add(series(cells=14_000), packet(some_counts(5, 14_000)))
    longest = max(
        int(redis_server.command("STRLEN", key)[1:])
        for key in words(redis_server.command("KEYS", "*"))
        if ":counts:" in key
    )
    assert longest == 1_024 * 5 + len(PRODUCER) + 8
