from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest

from gateway.errors import StoreUnavailable
from gateway.monitoring.ledger import Producer
from gateway.monitoring.result import encode
from gateway.monitoring.watch import IDLE_LOOK_INTERVAL_S, LOOK_INTERVAL_S, SeriesWatch
from gateway.store.memory_windows import MemoryWindowStore
from gateway.store.windows import CountPacket, Counts, CountSeries, ResultHead, Survey
from tests.monitoring.replicas import FRAUD, counted, reference_rows, yardstick

T = TypeVar("T")

ROWS = reference_rows(71)
STICK = yardstick(ROWS)
SERIES = STICK.series(FRAUD, "primary")
PRODUCER = Producer()


class CountingStore(MemoryWindowStore):
    """Notes how often it was looked at and read."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.reads = 0

    async def survey(self, series: CountSeries) -> Survey:
        self.looks += 1
        return await super().survey(series)

    async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
        self.reads += 1
        return await super().read(series, start_s, end_s)


async def land(store: MemoryWindowStore, bucket_start_s: int, rows: int = 250, *, shift: float = 0.0) -> None:
    packet = CountPacket(
        bucket_start_s=bucket_start_s,
        producer=PRODUCER.id,
        sequence=PRODUCER.next_sequence(),
        after=0,
        counts=counted(STICK, [ROWS[:rows] + shift]),
    )
    await store.add(SERIES, packet)


async def at_once(work: Callable[[], T]) -> T:
    return work()


def watch(store: MemoryWindowStore, jitter_s: float = 0.0) -> SeriesWatch:
    return SeriesWatch(FRAUD, "primary", STICK, store, run=at_once, jitter_s=jitter_s)


async def test_the_store_is_looked_at_when_a_window_falls_due_and_every_two_seconds_for_late_rows() -> None:
    store = CountingStore()
    subject = watch(store)
    await land(store, 1_000)
    looks = []
    for tenth in range(100):
        before = store.looks
        await subject.look(1_000 + tenth / 10)
        if store.looks > before:
            looks.append(tenth / 10)
    assert looks == [0.0, 2.0, 3.0, 5.0, 7.0, 8.0]
    assert store.reads == 1
    assert LOOK_INTERVAL_S == 2.0


async def test_a_series_without_rows_is_looked_at_only_when_a_window_falls_due() -> None:
    store = CountingStore()
    subject = watch(store)
    for tenth in range(1_000):
        await subject.look(1_000 + tenth / 10)
    assert store.looks == 1 + 20
    assert IDLE_LOOK_INTERVAL_S == 10.0


async def test_a_clock_that_is_set_back_does_not_blind_the_watch() -> None:
    store = CountingStore()
    subject = watch(store)
    await subject.look(1_000_000.0)
    await subject.look(1_000.0)
    assert store.looks == 2


async def test_the_loser_of_a_race_shows_the_winners_result() -> None:
    """Another replica stores its result between this one's look and its own."""
    store = MemoryWindowStore()
    winner, loser = watch(store), watch(store)
    await land(store, 1_000)

    class Slow(MemoryWindowStore):
        async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
            assert await winner.look(1_009.0) == []
            return await store.read(series, start_s, end_s)

        async def survey(self, series: CountSeries) -> Survey:
            return await store.survey(series)

        async def put_result(self, series: CountSeries, start_s: int, head: ResultHead, body: bytes) -> bool:
            return await store.put_result(series, start_s, head, body)

        async def results(self, series: CountSeries, limit: int) -> list[bytes]:
            return await store.results(series, limit)

    loser = watch(Slow())
    assert await loser.look(1_009.5) == []
    assert winner.current is not None
    assert loser.current is not None
    assert loser.current.decided_at_s == winner.current.decided_at_s == 1_009.0
    assert (await store.survey(SERIES)).results[1_000].attempt == 1


async def test_a_store_that_refuses_every_result_is_not_asked_without_end() -> None:
    class Stubborn(CountingStore):
        async def put_result(self, series: CountSeries, start_s: int, head: ResultHead, body: bytes) -> bool:
            return False

    store = Stubborn()
    await land(store, 1_000)
    assert await watch(store).look(1_009.0) == []
    assert store.reads == 1


async def test_counts_that_are_gone_are_decided_on_once() -> None:
    """The index still knows of rows whose counts were evicted: the result holds until more rows land."""

    class Evicting(CountingStore):
        async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
            return 0 * await super().read(series, start_s, end_s)

    store = Evicting()
    await land(store, 1_000)
    subject = watch(store)
    for second in range(9, 60):
        await subject.look(1_000.0 + second)
    assert store.reads == 1
    assert subject.current is not None
    assert (subject.current.rows, subject.current.state) == (0, "insufficient")


async def test_what_another_release_stored_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryWindowStore()
    await land(store, 1_000)
    await store.put_result(SERIES, 1_000, ResultHead(rows=250, attempt=1, after=(0, 0)), b"\x81\xa1x\x01")
    await store.put_baseline(SERIES, b"of another release")
    subject = watch(store)
    await land(store, 1_005)
    await subject.look(1_020.0)
    assert {record.message for record in caplog.records} == {"window_result_unreadable", "baseline_unreadable"}
    assert subject.baseline is None
    assert subject.current is not None
    assert (subject.current.start_s, subject.current.after, subject.current.mode) == (1_005, (1_000, 1), "iid")
    assert [result.start_s for result in await subject.history(10)] == [1_005]
    caplog.clear()
    await subject.look(1_030.0)
    assert caplog.records == []


async def test_a_result_of_other_features_is_passed_over() -> None:
    store = MemoryWindowStore()
    await land(store, 1_000)
    subject = watch(store)
    await subject.look(1_009.0)
    other = yardstick(reference_rows(72, features=2))
    assert subject.current is not None
    stranger = SeriesWatch(FRAUD, "primary", other, store, run=at_once)
    await store.put_result(stranger.series, 1_000, subject.current.head, encode(subject.current))
    assert await stranger.history(10) == []


async def test_what_a_first_window_takes_can_be_ended_between_two_null_laws() -> None:
    """Each takes a twentieth of a second, and 256 features may need one each: a gateway that stops waits for one."""
    pieces = 0

    async def counting(work: Callable[[], T]) -> T:
        nonlocal pieces
        pieces += 1
        return work()

    rows = np.floor(np.exp(reference_rows(72, features=4) * [0.2, 0.4, 0.6, 0.8] + 1))  # no two alike
    stick = yardstick(rows)
    store = MemoryWindowStore()
    series = stick.series(FRAUD, "primary")
    counts = counted(stick, [rows[:250]])
    for start in (1_000, 1_005):
        packet = CountPacket(
            bucket_start_s=start, producer=PRODUCER.id, sequence=PRODUCER.next_sequence(), after=0, counts=counts
        )
        await store.add(series, packet)
    subject = SeriesWatch(FRAUD, "primary", stick, store, run=counting)
    await subject.look(1_009.0)
    first, pieces = pieces, 0
    assert first > 4
    await subject.look(1_014.0)
    assert pieces == 2


async def test_a_long_history_is_read_beside_the_loop() -> None:
    """Five hundred windows of 256 features take half a second, in which nobody would be answered."""
    pieces = 0

    async def counting(work: Callable[[], T]) -> T:
        nonlocal pieces
        pieces += 1
        return work()

    store = MemoryWindowStore()
    await land(store, 1_000)
    subject = SeriesWatch(FRAUD, "primary", STICK, store, run=counting)
    await subject.look(1_009.0)
    pieces = 0
    assert [result.start_s for result in await subject.history(500)] == [1_000]
    assert pieces == 1


@pytest.mark.parametrize("fails_at", ["read", "answer"])
async def test_news_survives_a_store_that_goes_away(fails_at: str) -> None:
    """A webhook that missed the one event of a change would never hear of it again."""

    class Leaving(MemoryWindowStore):
        is_away = False

        async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
            if self.is_away:
                self.is_away = False
                raise StoreUnavailable("redis: no answer", outcome="not_written")
            self.is_away = fails_at == "read"
            return await super().read(series, start_s, end_s)

        async def put_result(self, series: CountSeries, start_s: int, head: ResultHead, body: bytes) -> bool:
            taken = await super().put_result(series, start_s, head, body)
            if fails_at == "answer" and start_s == 1_000:
                raise StoreUnavailable("redis: no answer", outcome="unknown")
            return taken

    store = Leaving()
    for start in (1_000, 1_005):
        await land(store, start, shift=1.0)
    subject = watch(store)
    with pytest.raises(StoreUnavailable):
        await subject.look(1_014.0)
    store.is_away = False
    assert [(news.result.start_s, news.result.announced.state) for news in await subject.look(1_014.0)] == [
        (1_000, "watch"),
        (1_005, "drift"),
    ]
    assert await subject.look(1_020.0) == []
