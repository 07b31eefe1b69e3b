"""The ledger: counts of one series on their way to the store, each in doubt until the store has said that it has them.

Never sends anything, reads no clock and never forgets a row without counting it.
"""

from __future__ import annotations

import itertools
import secrets
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gateway.monitoring.bins import Counts
from gateway.monitoring.layout import ROWS_CELL
from gateway.monitoring.recorder import BucketDelta
from gateway.monitoring.schedule import WindowSchedule
from gateway.store.windows import CountPacket, Receipt

LossReason = Literal["buffer_full", "store_lost"]

MAX_RESTORES = 3
_REMEMBERED_PACKETS = 1_024


class Producer:
    """The identity under which one process sends counts, and the numbers of its packets."""

    def __init__(self) -> None:
        self.id = secrets.token_bytes(8)
        self._sequences: Iterator[int] = itertools.count(1)

    def next_sequence(self) -> int:
        """Give the next packet its number."""
        return next(self._sequences)


@dataclass(slots=True)
class _Bucket:
    """What one bucket has of this process.

    Attributes:
        waiting: Counts not sent yet.
        stored: Counts the store has acknowledged, in the smallest integers that hold them; None when nobody can say.
        sequence: Of the last acknowledged packet; 0 before the first.
        rows_at: Rows acknowledged in all, by sequence, latest packets only.
        in_doubt: Whether the store may have lost what it acknowledged.
        restores: How often that has turned out so.
    """

    waiting: Counts | None = None
    stored: Counts | None = None
    sequence: int = 0
    rows_at: deque[tuple[int, int]] = field(default_factory=lambda: deque([(0, 0)], _REMEMBERED_PACKETS))
    in_doubt: bool = False
    restores: int = 0

    @property
    def waiting_rows(self) -> int:
        return 0 if self.waiting is None else int(self.waiting[ROWS_CELL])


class Ledger:
    """Counts of one series by bucket: waiting, sent, acknowledged.

    One packet is under way at a time. While its outcome is unknown it is sent again as it is and nothing else is, so
    that everything else that waits has certainly not been stored and can be dropped with an exact count. What the
    store acknowledged is remembered until the horizon and put back when the store comes back without it.

    Attributes:
        stored_rows: Rows the store has acknowledged and not been found to have lost.
        lost_rows: Rows dropped, by reason: "buffer_full" when they waited beyond the horizon, "store_lost" when the
            store lost acknowledged rows that nobody can put back.
        restored_rows: Rows put back into a store that had lost them.
    """

    def __init__(self, cells: int, schedule: WindowSchedule, producer: Producer) -> None:
        """Start empty.

        Args:
            cells: Length of a vector of counts.
            schedule: Says how long counts wait.
            producer: Of this process.
        """
        self._cells = cells
        self._schedule = schedule
        self._producer = producer
        self._buckets: dict[int, _Bucket] = {}
        self._under_way: CountPacket | None = None
        self._acknowledged = 0
        self.stored_rows = 0
        self.lost_rows: Counter[LossReason] = Counter()
        self.restored_rows = 0

    @property
    def is_empty(self) -> bool:
        """Whether no bucket is left within the horizon."""
        return not self._buckets

    @property
    def waiting_rows(self) -> int:
        """Count the rows that wait, with those of the packet under way."""
        under_way = 0 if self._under_way is None else int(self._under_way.counts[ROWS_CELL])
        return under_way + sum(bucket.waiting_rows for bucket in self._buckets.values())

    @property
    def waiting_buckets(self) -> int:
        """Count the buckets with rows that wait."""
        return sum(bucket.waiting is not None for bucket in self._buckets.values())

    def enter(self, deltas: Iterable[BucketDelta]) -> None:
        """Take counts from the recorder; the arrays belong to the ledger from then on."""
        for delta in deltas:
            _wait(self._buckets.setdefault(delta.bucket_start_s, _Bucket()), delta.counts)

    def drop_expired(self, now_s: float) -> None:
        """Forget buckets beyond the horizon; the rows that still waited in them are lost and counted."""
        horizon_s = self._schedule.horizon(now_s)
        for start in [start for start in self._buckets if start < horizon_s]:
            if self._under_way is not None and self._under_way.bucket_start_s == start:
                continue
            self.lost_rows["buffer_full"] += self._buckets.pop(start).waiting_rows

    def next_packet(self) -> CountPacket | None:
        """Give what to send next: the packet in doubt, else the oldest bucket that waits or is in doubt."""
        if self._under_way is None:
            due = (start for start, bucket in self._buckets.items() if bucket.waiting is not None or bucket.in_doubt)
            start = min(due, default=None)
            if start is None:
                return None
            self._under_way = self._packet(start, self._buckets[start])
        return self._under_way

    def settle(self, packet: CountPacket, receipt: Receipt) -> None:
        """Take note of what the store said to the packet under way."""
        self._under_way = None
        bucket = self._buckets[packet.bucket_start_s]
        if receipt.known < self._acknowledged:
            for other in self._buckets.values():
                other.in_doubt = other.sequence > 0
            self._acknowledged = receipt.known
        bucket.in_doubt = False
        if receipt.mark >= packet.sequence:
            self._acknowledge(bucket, packet)
        else:
            self._recover(packet.bucket_start_s, bucket, packet, receipt.mark)

    def _packet(self, start: int, bucket: _Bucket) -> CountPacket:
        counts, bucket.waiting = bucket.waiting, None
        return CountPacket(
            bucket_start_s=start,
            producer=self._producer.id,
            # Without counts it only asks whether the store still has what it acknowledged.
            sequence=bucket.sequence if counts is None else self._producer.next_sequence(),
            after=bucket.sequence,
            counts=np.zeros(self._cells, np.int64) if counts is None else counts,
        )

    def _acknowledge(self, bucket: _Bucket, packet: CountPacket) -> None:
        if packet.sequence == bucket.sequence:
            return
        self._acknowledged = packet.sequence
        rows = int(packet.counts[ROWS_CELL])
        self.stored_rows += rows
        if bucket.sequence == 0 or bucket.stored is not None:
            held = packet.counts if bucket.stored is None else packet.counts + bucket.stored.astype(np.int64)
            bucket.stored = held.astype(np.min_scalar_type(int(held.max())))
        bucket.sequence = packet.sequence
        bucket.rows_at.append((packet.sequence, bucket.rows_at[-1][1] + rows))

    def _recover(self, start: int, bucket: _Bucket, packet: CountPacket, mark: int) -> None:
        """Make good for a store that holds less than it acknowledged."""
        if packet.sequence != packet.after:
            _wait(bucket, packet.counts)
        rows_at = dict(bucket.rows_at)
        acknowledged = bucket.rows_at[-1][1]
        bucket.restores += 1
        if mark == 0 and bucket.stored is not None:
            self.stored_rows -= acknowledged
            self.restored_rows += acknowledged
            _wait(bucket, bucket.stored.astype(np.int64))
        else:
            # It came back with an older copy: what is missing cannot be told from what other processes added.
            missing = acknowledged - rows_at.get(mark, 0)
            self.stored_rows -= missing
            self.lost_rows["store_lost"] += missing
        bucket.stored, bucket.sequence = None, mark
        bucket.rows_at.clear()
        bucket.rows_at.append((mark, rows_at.get(mark, 0)))
        if (mark and mark not in rows_at) or bucket.restores > MAX_RESTORES:
            # A mark that nobody set after the last loss: sending what waits might count rows twice.
            self.lost_rows["store_lost"] += bucket.waiting_rows
            del self._buckets[start]


def _wait(bucket: _Bucket, counts: Counts) -> None:
    if bucket.waiting is None:
        bucket.waiting = counts
    else:
        bucket.waiting += counts
