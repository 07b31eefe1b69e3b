"""The recorder: takes the rows of answered requests, counts them in blocks, hands out what it counted.

Never awaits, never raises and never grows without bound: what it cannot keep it drops and counts.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np

from gateway.messages import Tensors
from gateway.monitoring.bins import Counts
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.layout import ROWS_CELL, CountLayout

DropReason = Literal["pending_full", "buffer_full", "uncountable"]

BLOCK_ROWS = 1_000
BLOCK_VALUES = 262_144
MAX_PENDING_BLOCKS = 16


class BucketDelta(msgspec.Struct, frozen=True, kw_only=True):
    """Rows counted in one time bucket since the last delta.

    Attributes:
        bucket_start_s: Start of the bucket, seconds since the epoch.
        counts: int64, shape (cells,) of the layout.
    """

    bucket_start_s: int
    counts: Counts

    @property
    def rows(self) -> int:
        """Count the rows."""
        return int(self.counts[ROWS_CELL])


class _Pending(msgspec.Struct):
    """Requests of one bucket that wait to be counted."""

    bucket_start_s: int
    inputs: list[Tensors]
    outputs: list[Tensors]
    request_rows: list[int]
    rows: int


class Recorder:
    """Counts what one version saw in one role, on the bins of one reference.

    Belongs to the event loop's thread. `record` keeps references, so the arrays must not be written to afterwards;
    counting happens in `count_block`, which the owner calls when it has time and `record` said that a block is full.

    Attributes:
        recorded_rows: Rows taken and not dropped, counted or still pending.
        dropped_rows: Rows lost, by reason: "pending_full" when blocks are not counted fast enough, "buffer_full" when
            deltas are not taken, "uncountable" when an array does not fit the reference.
        unsampled_rows: Rows that sampling left out.
    """

    def __init__(
        self,
        layout: CountLayout,
        *,
        row_values: int,
        max_buckets: int = 120,
        sampling: float = 1.0,
        seed: int | None = None,
    ) -> None:
        """Start empty.

        Args:
            layout: Where counts go.
            row_values: Values per row of all tensors that are recorded, watched or not: it bounds what waits in memory.
            max_buckets: Buckets of counts kept while nobody takes them; the oldest is dropped beyond.
            sampling: Share of rows that are recorded, 0 to 1.
            seed: Of the sampling.
        """
        self._counter = BlockCounter(layout)
        self._block_rows = max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(row_values, 1)))
        self._max_pending_rows = MAX_PENDING_BLOCKS * self._block_rows
        self._max_buckets = max_buckets
        self._sampling = sampling
        self._draw = random.Random(seed).random
        self._open: _Pending | None = None
        self._closed: deque[_Pending] = deque()
        self._pending_rows = 0
        self._buckets: dict[int, Counts] = {}
        self.recorded_rows = 0
        self.unsampled_rows = 0
        self.dropped_rows: Counter[DropReason] = Counter()

    @property
    def pending_rows(self) -> int:
        """Count the rows that wait to be counted."""
        return self._pending_rows

    def record(self, inputs: Tensors, outputs: Tensors, rows: int, bucket_start_s: int) -> bool:
        """Take the rows of one answered request, or of one batch.

        Args:
            inputs: Tensors by name, first axis rows.
            outputs: Tensors by name, first axis rows; those not computed are absent.
            rows: Rows of each.
            bucket_start_s: Start of the bucket in which they were observed, seconds since the epoch.
        Returns: Whether a block is full, so that `count_block` is due.
        """
        if self._sampling < 1.0:
            sampled = [row for row in range(rows) if self._draw() < self._sampling]
            self.unsampled_rows += rows - len(sampled)
            if not sampled:
                return self._pending_rows >= self._block_rows
            rows = len(sampled)
            inputs, outputs = _pick(inputs, sampled), _pick(outputs, sampled)
        # The bound is on what waits already: a single large request is no reason to lose rows.
        if self._pending_rows >= self._max_pending_rows:
            self.dropped_rows["pending_full"] += rows
            return True
        if rows > self._block_rows:
            return self._record_slices(inputs, outputs, rows, bucket_start_s)
        pending = self._open
        if pending is None or pending.bucket_start_s != bucket_start_s or pending.rows >= self._block_rows:
            pending = self._open_block(bucket_start_s)
        pending.inputs.append(inputs)
        pending.outputs.append(outputs)
        pending.request_rows.append(rows)
        pending.rows += rows
        self._pending_rows += rows
        self.recorded_rows += rows
        return self._pending_rows >= self._block_rows

    def count_block(self) -> bool:
        """Count one block.

        Returns: Whether another full block waits.
        """
        if self._closed:
            pending = self._closed.popleft()
        elif self._open is not None:
            pending, self._open = self._open, None
        else:
            return False
        self._pending_rows -= pending.rows
        try:
            self._add(pending.bucket_start_s, self._counter.count(pending.inputs, pending.outputs, pending.rows))
        except Exception:  # noqa: BLE001 - counting must never hurt a request; the culprit is found one by one
            self._count_singly(pending)
        return self._pending_rows >= self._block_rows

    def take_deltas(self) -> list[BucketDelta]:
        """Count what is pending and hand over every bucket's counts, oldest first; they are the caller's from then."""
        while self._pending_rows:
            self.count_block()
        taken, self._buckets = self._buckets, {}
        return [BucketDelta(bucket_start_s=start, counts=taken[start]) for start in sorted(taken)]

    def _record_slices(self, inputs: Tensors, outputs: Tensors, rows: int, bucket_start_s: int) -> bool:
        """Take a request larger than a block as several, so that counting one stays short."""
        bounds = [(start, min(start + self._block_rows, rows)) for start in range(0, rows, self._block_rows)]
        try:
            slices = [(_cut(inputs, *bound), _cut(outputs, *bound)) for bound in bounds]
        except Exception:  # noqa: BLE001 - an array without rows: counted as lost, never raised
            self.dropped_rows["uncountable"] += rows
            return self._pending_rows >= self._block_rows
        for (start, stop), (some_inputs, some_outputs) in zip(bounds, slices, strict=True):
            pending = self._open_block(bucket_start_s)
            pending.inputs.append(some_inputs)
            pending.outputs.append(some_outputs)
            pending.request_rows.append(stop - start)
            pending.rows = stop - start
        self._pending_rows += rows
        self.recorded_rows += rows
        return True

    def _open_block(self, bucket_start_s: int) -> _Pending:
        if self._open is not None:
            self._closed.append(self._open)
        self._open = _Pending(bucket_start_s=bucket_start_s, inputs=[], outputs=[], request_rows=[], rows=0)
        return self._open

    def _count_singly(self, pending: _Pending) -> None:
        for inputs, outputs, rows in zip(pending.inputs, pending.outputs, pending.request_rows, strict=True):
            try:
                self._add(pending.bucket_start_s, self._counter.count([inputs], [outputs], rows))
            except Exception:  # noqa: BLE001 - this request does not fit the reference: counted as lost, never raised
                self.recorded_rows -= rows
                self.dropped_rows["uncountable"] += rows

    def _add(self, bucket_start_s: int, counts: Counts) -> None:
        held = self._buckets.get(bucket_start_s)
        if held is not None:
            held += counts
            return
        self._buckets[bucket_start_s] = counts
        if len(self._buckets) > self._max_buckets:
            oldest = self._buckets.pop(min(self._buckets))
            lost = int(oldest[ROWS_CELL])
            self.recorded_rows -= lost
            self.dropped_rows["buffer_full"] += lost


def merge_deltas(deltas: Iterable[BucketDelta]) -> dict[int, Counts]:
    """Add deltas up by bucket; the order does not matter.

    Returns: Bucket start to int64 counts, shape (cells,); none is one of the deltas' own arrays.
    """
    merged: dict[int, Counts] = {}
    for delta in deltas:
        held = merged.get(delta.bucket_start_s)
        if held is None:
            merged[delta.bucket_start_s] = np.array(delta.counts)
        else:
            held += delta.counts
    return merged


def _pick(tensors: Tensors, rows: list[int]) -> Tensors:
    return {name: array[rows] for name, array in tensors.items()}


def _cut(tensors: Tensors, start: int, stop: int) -> Tensors:
    return {name: array[start:stop] for name, array in tensors.items()}
