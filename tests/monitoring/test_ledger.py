import random
from collections.abc import Iterator

import numpy as np
import pytest

from gateway.monitoring.bins import Counts
from gateway.monitoring.ledger import MAX_RESTORES, Ledger, Producer
from gateway.monitoring.recorder import BucketDelta
from gateway.monitoring.schedule import WindowSchedule
from gateway.store.windows import CountPacket, Receipt

CELLS = 5
SCHEDULE = WindowSchedule(bucket_s=10, window_buckets=6, buffer_buckets=12)


def ledger() -> Ledger:
    return Ledger(CELLS, SCHEDULE, Producer())


def delta(start: int, rows: int) -> BucketDelta:
    return BucketDelta(bucket_start_s=start, counts=np.full(CELLS, rows, np.int64))


class Shelf:
    """A store for one ledger, that can lose what it has."""

    def __init__(self) -> None:
        self.counts: dict[int, Counts] = {}
        self.marks: dict[int, int] = {}
        self.known = 0

    def take(self, packet: CountPacket) -> Receipt:
        start, known = packet.bucket_start_s, self.known
        mark = self.marks.get(start, 0)
        if mark >= packet.sequence or mark != packet.after:
            return Receipt(mark=mark, known=known)
        self.counts[start] = self.counts.get(start, np.zeros(CELLS, np.int64)) + packet.counts
        self.marks[start] = self.known = packet.sequence
        return Receipt(mark=packet.sequence, known=known)

    def copy(self) -> "Shelf":
        other = Shelf()
        other.counts, other.marks, other.known = dict(self.counts), dict(self.marks), self.known
        return other

    @property
    def rows(self) -> dict[int, int]:
        return {start: int(counts[0]) for start, counts in self.counts.items()}


def packets(subject: Ledger) -> Iterator[CountPacket]:
    while packet := subject.next_packet():
        yield packet


def send_all(subject: Ledger, shelf: Shelf) -> int:
    sent = 0
    for sent, packet in enumerate(packets(subject), start=1):  # noqa: B007 - the last number is the answer
        subject.settle(packet, shelf.take(packet))
    return sent


def test_counts_are_sent_oldest_bucket_first_and_once() -> None:
    subject, shelf = ledger(), Shelf()
    subject.enter([delta(20, 3), delta(10, 2)])
    subject.enter([delta(20, 4)])
    first = subject.next_packet()
    assert first is not None
    assert (first.bucket_start_s, first.after, first.counts[0]) == (10, 0, 2)
    assert send_all(subject, shelf) == 2
    assert shelf.rows == {10: 2, 20: 7}
    assert subject.next_packet() is None
    assert (subject.stored_rows, subject.waiting_rows, subject.waiting_buckets) == (9, 0, 0)


def test_a_packet_in_doubt_is_sent_again_as_it_is_before_anything_else() -> None:
    subject = ledger()
    subject.enter([delta(20, 3)])
    packet = subject.next_packet()
    subject.enter([delta(10, 9), delta(20, 5)])
    assert subject.next_packet() is packet
    assert packet is not None
    assert packet.counts[0] == 3
    assert subject.waiting_rows == 17
    shelf = Shelf()
    shelf.take(packet)  # it had arrived; only the answer was lost
    send_all(subject, shelf)
    assert shelf.rows == {10: 9, 20: 8}


def test_what_waits_beyond_the_horizon_is_dropped_and_counted() -> None:
    subject, shelf = ledger(), Shelf()
    subject.enter([delta(0, 3), delta(10, 4), delta(20, 5)])
    subject.drop_expired(140.0)
    assert subject.lost_rows == {"buffer_full": 7}
    send_all(subject, shelf)
    assert shelf.rows == {20: 5}


def test_a_packet_in_doubt_is_never_dropped() -> None:
    """It may have been stored: dropped and counted it could be both lost and in the window."""
    subject, shelf = ledger(), Shelf()
    subject.enter([delta(0, 3)])
    packet = subject.next_packet()
    assert packet is not None
    shelf.take(packet)
    subject.drop_expired(10_000.0)
    assert not subject.lost_rows
    send_all(subject, shelf)
    assert shelf.rows == {0: 3}
    subject.drop_expired(10_000.0)
    assert subject.is_empty


def test_a_store_that_comes_back_empty_gets_everything_back() -> None:
    subject, shelf = ledger(), Shelf()
    for start in (0, 10, 20):
        subject.enter([delta(start, 5)])
        send_all(subject, shelf)
        subject.enter([delta(start, 2)])
        send_all(subject, shelf)
    empty = Shelf()
    subject.enter([delta(30, 1)])
    send_all(subject, empty)
    assert empty.rows == {0: 7, 10: 7, 20: 7, 30: 1}
    assert (subject.stored_rows, subject.restored_rows, dict(subject.lost_rows)) == (22, 21, {})


def test_a_store_with_an_older_copy_has_lost_what_is_counted() -> None:
    subject, shelf = ledger(), Shelf()
    subject.enter([delta(0, 5), delta(10, 4)])
    send_all(subject, shelf)
    older = shelf.copy()
    subject.enter([delta(10, 3), delta(20, 2)])
    send_all(subject, shelf)
    subject.enter([delta(30, 1)])
    send_all(subject, older)
    # The bucket of which the copy knows nothing comes back; the one it knows in part does not.
    assert older.rows == {0: 5, 10: 4, 20: 2, 30: 1}
    assert dict(subject.lost_rows) == {"store_lost": 3}
    assert (subject.stored_rows, subject.restored_rows) == (12, 2)


def test_a_bucket_that_is_lost_after_an_older_copy_is_lost_for_good() -> None:
    subject, shelf = ledger(), Shelf()
    subject.enter([delta(10, 4)])
    send_all(subject, shelf)
    older = shelf.copy()
    subject.enter([delta(10, 3)])
    send_all(subject, shelf)
    subject.enter([delta(10, 2)])
    send_all(subject, older)
    assert older.rows == {10: 6}
    empty = Shelf()
    subject.enter([delta(10, 1)])
    send_all(subject, empty)
    assert empty.rows == {10: 1}
    assert dict(subject.lost_rows) == {"store_lost": 9}
    assert subject.stored_rows == 1


def test_a_store_that_forgets_without_end_is_given_up() -> None:
    subject = ledger()
    subject.enter([delta(10, 4)])
    for _ in range(MAX_RESTORES + 3):
        send_all(subject, Shelf())
        subject.enter([delta(10, 0)])
    assert subject.stored_rows + sum(subject.lost_rows.values()) == 4


def test_a_mark_that_nobody_set_is_never_added_to() -> None:
    """A copy of an old packet got into an emptied store: sending everything again would count its rows twice."""
    subject, shelf = ledger(), Shelf()
    subject.enter([delta(10, 4)])
    old = subject.next_packet()
    assert old is not None
    send_all(subject, shelf)
    subject.enter([delta(10, 3)])
    send_all(subject, shelf)
    empty = Shelf()
    subject.enter([delta(10, 2)])
    packet = subject.next_packet()
    assert packet is not None
    subject.settle(packet, empty.take(packet))
    empty.take(old)
    send_all(subject, empty)
    assert empty.rows == {10: 4}
    assert sum(subject.lost_rows.values()) == 9


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_counted_twice_and_nothing_is_lost_uncounted(seed: int) -> None:
    """Random losses of answers, stale copies, empty and older stores, in any order."""
    rng = random.Random(seed)
    subject, shelf = ledger(), Shelf()
    older = shelf.copy()
    entered = 0
    stale: list[CountPacket] = []
    for step in range(400):
        now_s = step * 2.0
        start = SCHEDULE.bucket_start(now_s)
        rows = rng.randrange(5)
        entered += rows
        subject.enter([delta(start, rows)])
        subject.drop_expired(now_s)
        fault = rng.random()
        if fault < 0.03:
            shelf, stale = Shelf(), []
        elif fault < 0.06:
            shelf, stale = older.copy(), []
        elif fault < 0.1:
            older = shelf.copy()
        for packet in packets(subject):
            receipt = shelf.take(packet)
            stale.append(packet)
            shelf.take(rng.choice(stale))
            if rng.random() < 0.2:
                break  # the answer is lost
            subject.settle(packet, receipt)
    send_all(subject, shelf)
    in_store = sum(rows for start, rows in shelf.rows.items() if start >= SCHEDULE.horizon(798.0))
    assert in_store <= entered
    assert subject.stored_rows + sum(subject.lost_rows.values()) == entered
