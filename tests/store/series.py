"""Owns the series and packets that the window store's tests write.

Never holds an expectation.
"""

from __future__ import annotations

import numpy as np

from gateway.store.windows import CountPacket, Counts, CountSeries, Traffic

PRODUCER = b"producer"
OTHER_PRODUCER = b"another."


def series(
    *,
    cells: int = 40,
    reference: str = "sha256:" + "a" * 64,
    traffic: Traffic = "primary",
    bucket_s: int = 10,
    kept_windows: int = 4,
) -> CountSeries:
    return CountSeries(
        model="fraud",
        version=3,
        traffic=traffic,
        reference=reference,
        bucket_s=bucket_s,
        window_buckets=6,
        cells=cells,
        kept_windows=kept_windows,
    )


def some_counts(seed: int, cells: int = 40, highest: int = 9) -> Counts:
    return np.random.default_rng(seed).integers(0, highest, cells, endpoint=True)


def packet(
    counts: Counts,
    sequence: int = 1,
    *,
    after: int = 0,
    bucket_start_s: int = 1_200,
    producer: bytes = PRODUCER,
) -> CountPacket:
    return CountPacket(bucket_start_s=bucket_start_s, producer=producer, sequence=sequence, after=after, counts=counts)
