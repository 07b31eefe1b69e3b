"""Owns the promises every window store keeps: in memory and in Redis, the same tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import numpy as np
import pytest

from gateway.store.memory_windows import MemoryWindowStore
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore
from gateway.store.windows import HISTORY_WINDOWS, CountPacket, CountSeries, ResultHead, WindowStore
from tests.store.redis_server import RedisServer
from tests.store.series import OTHER_PRODUCER, packet, series, some_counts


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[WindowStore]:
    """Open each kind of store, empty."""
    if request.param == "memory":
        yield MemoryWindowStore()
        return
    server: RedisServer = request.getfixturevalue("shared_redis")
    async with RedisConnection(server.url) as connection:
        yield RedisWindowStore(connection, namespace=request.node.name)


def head(attempt: int = 1, rows: int = 100, after: tuple[int, int] = (0, 0)) -> ResultHead:
    return ResultHead(rows=rows, attempt=attempt, after=after)


async def landed(store: WindowStore, of: CountSeries) -> dict[int, int]:
    return (await store.survey(of)).landed


@pytest.mark.parametrize("cells", [1, 40, 600, 1_024, 1_025, 14_000])
async def test_counts_are_read_as_they_were_added(store: WindowStore, cells: int) -> None:
    subject, counts = series(cells=cells), some_counts(1, cells, 2**33)
    receipt = await store.add(subject, packet(counts))
    assert receipt.mark == 1
    np.testing.assert_array_equal(await store.read(subject, 1_200, 1_210), counts)
    assert await landed(store, subject) == {1_200: counts[0]}


async def test_nothing_is_read_where_nothing_was_added(store: WindowStore) -> None:
    subject = series()
    assert not (await store.read(subject, 0, 6_000)).any()
    survey = await store.survey(subject)
    assert (survey.landed, survey.results, survey.baseline) == ({}, {}, None)
    assert await store.results(subject, 500) == []


@pytest.mark.parametrize("cells", [40, 3_000])
async def test_a_packet_counts_once_however_often_it_is_sent(store: WindowStore, cells: int) -> None:
    subject, counts = series(cells=cells), some_counts(2, cells)
    receipts = [await store.add(subject, packet(counts)) for _ in range(3)]
    assert {receipt.mark for receipt in receipts} == {1}
    np.testing.assert_array_equal(await store.read(subject, 1_200, 1_210), counts)
    assert await landed(store, subject) == {1_200: counts[0]}


async def test_a_copy_that_arrives_after_later_packets_changes_nothing(store: WindowStore) -> None:
    subject, first, second = series(), some_counts(3), some_counts(4)
    await store.add(subject, packet(first, 1))
    await store.add(subject, packet(second, 2, after=1))
    late = await store.add(subject, packet(first, 1))
    assert late.mark == 2
    np.testing.assert_array_equal(await store.read(subject, 1_200, 1_210), first + second)


async def test_a_packet_is_refused_where_the_ones_before_it_are_lost(store: WindowStore) -> None:
    subject, counts = series(), some_counts(5)
    refused = await store.add(subject, packet(counts, 7, after=6))
    assert refused.mark == 0
    await store.add(subject, packet(counts, 3))
    assert (await store.add(subject, packet(counts, 7, after=6))).mark == 3
    np.testing.assert_array_equal(await store.read(subject, 1_200, 1_210), counts)


async def test_an_empty_packet_only_asks(store: WindowStore) -> None:
    subject, counts = series(), some_counts(6)
    asking = packet(np.zeros(40, np.int64), 2, after=2)
    assert (await store.add(subject, asking)).mark == 0
    assert await landed(store, subject) == {}
    await store.add(subject, packet(counts, 2))
    assert (await store.add(subject, asking)).mark == 2
    np.testing.assert_array_equal(await store.read(subject, 1_200, 1_210), counts)


async def test_a_receipt_tells_what_the_series_knew_of_the_producer(store: WindowStore) -> None:
    """A store that went back may have lost counts of buckets that nobody writes to any more."""
    subject, counts = series(), some_counts(1)
    first = await store.add(subject, packet(counts, 4, bucket_start_s=1_200))
    second = await store.add(subject, packet(counts, 6, bucket_start_s=1_210))
    again = await store.add(subject, packet(counts, 6, bucket_start_s=1_210))
    asked = await store.add(subject, packet(np.zeros(40, np.int64), 4, after=4, bucket_start_s=1_200))
    other = await store.add(subject, packet(counts, 1, producer=OTHER_PRODUCER))
    assert [receipt.known for receipt in (first, second, again, asked, other)] == [0, 4, 6, 6, 0]


async def test_a_producer_is_known_while_its_windows_are(store: WindowStore) -> None:
    subject, counts = series(kept_windows=2), some_counts(1) + 1
    await store.add(subject, packet(counts, 1, bucket_start_s=0, producer=OTHER_PRODUCER))
    for number in range(3):
        await store.add(subject, packet(counts, number + 1, bucket_start_s=60 * number))
    assert (await store.add(subject, packet(counts, 9, bucket_start_s=120))).known == 3


async def test_producers_add_up_exactly_in_any_order(store: WindowStore) -> None:
    """Three producers, 40 packets each over 8 buckets, sent in random order with random copies, some concurrently."""
    subject = series()
    rng = random.Random(7)
    expected = np.zeros((8, 40), np.int64)
    queues = []
    for name in (b"one.....", b"two.....", b"three..."):
        last: dict[int, int] = {}
        queue: list[CountPacket] = []
        for sequence in range(1, 41):
            bucket = rng.randrange(8)
            counts = some_counts(rng.randrange(10**6), highest=2_000)
            expected[bucket] += counts
            start = 1_200 + 10 * bucket
            queue.append(packet(counts, sequence, after=last.get(start, 0), bucket_start_s=start, producer=name))
            last[start] = sequence
        queues.append(queue)

    async def send(queue: list[CountPacket]) -> None:
        sent: list[CountPacket] = []
        for one in queue:
            sent.append(one)
            assert (await store.add(subject, one)).mark >= one.sequence
            for copy in rng.sample(sent, min(len(sent), rng.randrange(3))):
                await store.add(subject, copy)

    await asyncio.gather(*(send(queue) for queue in queues))
    for bucket in range(8):
        start = 1_200 + 10 * bucket
        np.testing.assert_array_equal(await store.read(subject, start, start + 10), expected[bucket])
    np.testing.assert_array_equal(await store.read(subject, 1_200, 1_280), expected.sum(axis=0))
    assert await landed(store, subject) == {1_200: expected[:6, 0].sum(), 1_260: expected[6:, 0].sum()}


async def test_series_never_meet(store: WindowStore) -> None:
    """Another reference, role or bucket length is another series."""
    plain, counts = series(), some_counts(8)
    others = [series(reference="sha256:" + "b" * 64), series(traffic="shadow"), series(bucket_s=60)]
    await store.add(plain, packet(counts))
    for other in others:
        await store.add(other, packet(some_counts(9)))
    np.testing.assert_array_equal(await store.read(plain, 1_200, 1_210), counts)
    assert await landed(store, plain) == {1_200: counts[0]}


async def test_the_survey_holds_the_latest_windows(store: WindowStore) -> None:
    subject = series(kept_windows=3)
    for number in range(5):
        start = 60 * number
        await store.add(subject, packet(some_counts(number) + 1, number + 1, bucket_start_s=start))
        assert await store.put_result(subject, start, head(rows=number), b"%d" % number)
    survey = await store.survey(subject)
    assert sorted(survey.landed) == sorted(survey.results) == [120, 180, 240]
    assert survey.results[180] == head(rows=3)
    assert await store.results(subject, 10) == [b"4", b"3", b"2", b"1", b"0"]


async def test_a_window_has_one_current_result(store: WindowStore) -> None:
    subject = series()
    await store.add(subject, packet(some_counts(1)))
    assert await store.put_result(subject, 1_200, head(1), b"first")
    assert not await store.put_result(subject, 1_200, head(1, rows=120), b"another replica's")
    assert not await store.put_result(subject, 1_200, head(3), b"too far")
    assert await store.results(subject, 10) == [b"first"]
    assert await store.put_result(subject, 1_200, head(2, rows=130, after=(1_140, 4)), b"second")
    assert await store.results(subject, 10) == [b"second"]
    assert (await store.survey(subject)).results == {1_200: head(2, rows=130, after=(1_140, 4))}


async def test_of_many_deciders_at_once_one_succeeds(store: WindowStore) -> None:
    subject = series()
    await store.add(subject, packet(some_counts(1)))
    for attempt in (1, 2):
        tries = [store.put_result(subject, 1_200, head(attempt), b"%d" % n) for n in range(8)]
        assert (await asyncio.gather(*tries)).count(True) == 1


async def test_a_window_without_rows_has_no_result(store: WindowStore) -> None:
    assert not await store.put_result(series(), 1_200, head(), b"of nothing")
    assert (await store.survey(series())).results == {}


async def test_the_history_is_newest_first_and_capped(store: WindowStore) -> None:
    subject = series()
    for number in range(HISTORY_WINDOWS + 5):
        start = 60 * number
        await store.add(subject, packet(some_counts(1) + 1, number + 1, bucket_start_s=start))
        await store.put_result(subject, start, head(), b"%d" % number)
    newest = HISTORY_WINDOWS + 4
    assert await store.results(subject, 3) == [b"%d" % (newest - n) for n in range(3)]
    everything = await store.results(subject, 10_000)
    assert (len(everything), everything[-1]) == (HISTORY_WINDOWS, b"5")
    assert await store.results(subject, 0) == []


async def test_the_baseline_is_the_last_one_given(store: WindowStore) -> None:
    subject = series()
    for body in (b"one", b"\x00two"):
        await store.put_baseline(subject, body)
        assert (await store.survey(subject)).baseline == body


async def test_producers_are_told_apart(store: WindowStore) -> None:
    subject, counts = series(), some_counts(1)
    await store.add(subject, packet(counts, 1))
    assert (await store.add(subject, packet(counts, 1, producer=OTHER_PRODUCER))).mark == 1
    np.testing.assert_array_equal(await store.read(subject, 1_200, 1_210), 2 * counts)
