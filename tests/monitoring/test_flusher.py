from __future__ import annotations

import numpy as np

from gateway.errors import StoreUnavailable
from gateway.monitoring.flusher import MAX_PACKETS, Flusher
from gateway.monitoring.ledger import Ledger, Producer
from gateway.monitoring.recorder import BucketDelta
from gateway.monitoring.schedule import WindowSchedule
from gateway.store.memory_windows import MemoryWindowStore
from gateway.store.windows import CountPacket, CountSeries, Receipt
from tests.store.series import series

SCHEDULE = WindowSchedule()


class FlakyStore(MemoryWindowStore):
    """Away while it is told so; notes what it was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.sent: list[tuple[int, int]] = []

    async def add(self, series: CountSeries, packet: CountPacket) -> Receipt:
        self.sent.append((series.version, packet.bucket_start_s))
        if self.is_away:
            raise StoreUnavailable("away", outcome="unknown")
        return await super().add(series, packet)


def filled(buckets: int = 1) -> Ledger:
    ledger = Ledger(40, SCHEDULE, Producer())
    ledger.enter(BucketDelta(bucket_start_s=10 * number, counts=np.ones(40, np.int64)) for number in range(buckets))
    return ledger


async def test_a_store_that_is_away_is_asked_ever_more_rarely() -> None:
    store = FlakyStore()
    store.is_away = True
    subject, ledgers = Flusher(store, seed=1), [(series(), filled())]
    tries = []
    for tenth in range(600):
        before = len(store.sent)
        await subject.flush(ledgers, 1_000 + tenth / 10)
        if len(store.sent) > before:
            tries.append(tenth / 10)
    gaps = np.diff(tries)
    assert 8 <= len(tries) <= 20
    assert (gaps[:3] <= 4).all()
    assert (gaps[5:] >= 4).all()
    assert gaps.max() <= 8.1
    assert (subject.errors, subject.is_up) == (len(tries), False)
    store.is_away = False
    await subject.flush(ledgers, 1_100)
    assert subject.is_up
    assert ledgers[0][1].waiting_rows == 0


async def test_after_a_failure_nothing_else_is_sent_in_that_flush() -> None:
    store = FlakyStore()
    store.is_away = True
    await Flusher(store).flush([(series(), filled(5)), (series(bucket_s=60), filled(5))], 0)
    assert len(store.sent) == 1


async def test_ledgers_take_turns() -> None:
    store = FlakyStore()
    one, two = series(), series(traffic="shadow")
    ledgers = [(one, filled(3)), (two, filled(3))]
    assert await Flusher(store).flush(ledgers, 0) is False
    assert [start for _, start in store.sent] == [0, 0, 10, 10, 20, 20]


async def test_one_flush_sends_no_more_than_its_share() -> None:
    store = FlakyStore()
    ledgers = [(series(), filled(MAX_PACKETS + 10))]
    subject = Flusher(store)
    assert await subject.flush(ledgers, 0) is True
    assert len(store.sent) == MAX_PACKETS
    assert await subject.flush(ledgers, 1) is False
    assert len(store.sent) == MAX_PACKETS + 10


async def test_only_flushes_that_had_something_to_send_are_timed() -> None:
    observed: list[float] = []
    subject = Flusher(FlakyStore(), observe_s=observed.append)
    await subject.flush([(series(), filled(0))], 0)
    assert (observed, subject.is_up) == ([], None)
    await subject.flush([(series(), filled())], 1)
    assert len(observed) == 1
    assert observed[0] >= 0
