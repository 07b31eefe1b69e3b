"""The window store of a single process without Redis, and the twin that tests are written against.

Never outlives the process and never grows without bound: old buckets and results make room for new ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from gateway.store.windows import HISTORY_WINDOWS, CountPacket, Counts, CountSeries, Receipt, ResultHead, Survey

T = TypeVar("T")

MAX_SERIES = 256
"""Series remembered; the one that was written to longest ago is forgotten beyond."""


@dataclass(slots=True)
class _Bucket:
    """Counts, and the last packet of every producer in them."""

    counts: Counts
    marks: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Series:
    """Everything remembered of one series."""

    buckets: dict[int, _Bucket] = field(default_factory=dict)
    landed: dict[int, int] = field(default_factory=dict)
    heads: dict[int, ResultHead] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    producers: dict[bytes, int] = field(default_factory=dict)
    baseline: bytes | None = None


class MemoryWindowStore:
    """Counts and results of this process; see `WindowStore`."""

    def __init__(self) -> None:
        self._series: dict[tuple[object, ...], _Series] = {}

    async def add(self, series: CountSeries, packet: CountPacket) -> Receipt:
        """Add a packet's counts to its bucket, once."""
        held = self._touch(series)
        bucket = held.buckets.get(packet.bucket_start_s)
        mark = bucket.marks.get(packet.producer, 0) if bucket else 0
        known = held.producers.get(packet.producer, 0)
        if mark >= packet.sequence or mark != packet.after:
            return Receipt(mark=mark, known=known)
        if bucket is None:
            bucket = held.buckets[packet.bucket_start_s] = _Bucket(np.zeros(series.cells, np.int64))
            _keep_latest(held.buckets, series.kept_windows * series.window_buckets)
        bucket.counts += packet.counts
        bucket.marks[packet.producer] = packet.sequence
        window = series.window_start(packet.bucket_start_s)
        held.landed[window] = held.landed.get(window, 0) + int(packet.counts[0])
        _keep_latest(held.landed, series.kept_windows)
        held.heads = {start: head for start, head in held.heads.items() if start in held.landed}
        held.producers[packet.producer] = packet.sequence
        return Receipt(mark=packet.sequence, known=known)

    async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
        """Add up the buckets that start in [start_s, end_s)."""
        total = np.zeros(series.cells, np.int64)
        buckets = self._series.get(series.identity, _Series()).buckets
        for start in range(start_s, end_s, series.bucket_s):
            if start in buckets:
                total += buckets[start].counts
        return total

    async def survey(self, series: CountSeries) -> Survey:
        """Look at the latest windows that have rows."""
        held = self._series.get(series.identity, _Series())
        return Survey(landed=dict(held.landed), results=dict(held.heads), baseline=held.baseline)

    async def put_result(self, series: CountSeries, start_s: int, head: ResultHead, body: bytes) -> bool:
        """Make this the current result of its window, if it is the next attempt."""
        held = self._touch(series)
        current = held.heads.get(start_s)
        if start_s not in held.landed or head.attempt != (current.attempt if current else 0) + 1:
            return False
        held.heads[start_s] = head
        held.bodies[start_s] = body
        _keep_latest(held.bodies, HISTORY_WINDOWS)
        return True

    async def results(self, series: CountSeries, limit: int) -> list[bytes]:
        """List current results, newest window first."""
        bodies = self._series.get(series.identity, _Series()).bodies
        return [bodies[start] for start in sorted(bodies, reverse=True)[:limit]]

    async def put_baseline(self, series: CountSeries, body: bytes) -> None:
        """Replace what is known of the windows in control."""
        self._touch(series).baseline = body

    def _touch(self, series: CountSeries) -> _Series:
        held = self._series[series.identity] = self._series.pop(series.identity, _Series())
        if len(self._series) > MAX_SERIES:
            del self._series[next(iter(self._series))]
        return held


def _keep_latest(by_start: dict[int, T], limit: int) -> None:
    while len(by_start) > limit:
        del by_start[min(by_start)]
