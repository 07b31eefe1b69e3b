"""Owns replicas in miniature: monitors on a clock that the test sets, fed with seeded rows.

Never holds an expectation.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from gateway.messages import ModelVersion
from gateway.monitoring.bins import Counts, FloatArray
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.recordings import Role
from gateway.monitoring.reference import Reference, encode_reference
from gateway.monitoring.reference_builder import build_reference
from gateway.monitoring.webhook import Webhook
from gateway.monitoring.yardstick import Yardstick
from gateway.settings import MonitoringOptions
from gateway.store.windows import WindowStore

FRAUD = ModelVersion("fraud", 3)
START_S = 1_700_000_000
QUICK = MonitoringOptions(bucket_s=1, window_buckets=5)


def reference_rows(seed: int, rows: int = 8_000, features: int = 4) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(rows, features))


def score(rows: FloatArray) -> FloatArray:
    """Stand in for the model."""
    return 1 / (1 + np.exp(-rows[:, :1]))


def built_reference(rows: FloatArray) -> Reference:
    return build_reference({"x": rows}, {"score": score(rows)})


def yardstick(rows: FloatArray, options: MonitoringOptions = QUICK) -> Yardstick:
    return Yardstick(encode_reference(built_reference(rows)), options)


class Clock:
    """Seconds since the epoch, as the test sets them."""

    def __init__(self, now_s: float = START_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Replica:
    """A monitor, and everything that was ever recorded on it.

    Attributes:
        recorded: Rows by second.
    """

    def __init__(
        self, store: WindowStore, clock: Clock, stick: Yardstick, *, seed: int = 0, webhook: Webhook | None = None
    ) -> None:
        self.clock = clock
        self.stick = stick
        self.monitor = Monitor(store, wall_clock=clock, seed=seed, webhook=webhook)
        self.monitor.watch(FRAUD, stick)
        self.recorded: defaultdict[int, list[FloatArray]] = defaultdict(list)

    def record(self, rows: FloatArray, *, role: Role = "primary") -> None:
        """Answer one request of these rows."""
        self.recorded[int(self.clock.now_s)].append(rows)
        self.monitor.record(FRAUD, role, {"x": rows}, {"score": score(rows)}, len(rows))

    @property
    def seen_rows(self) -> int:
        return int(sum(value for _, value in self.monitor.seen_rows("primary")))

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped, by reason, without the reasons that never happened."""
        return {labels[0]: int(value) for labels, value in self.monitor.dropped_rows() if value}


def counted(stick: Yardstick, rows: list[FloatArray]) -> Counts:
    """Count rows directly, without any of the machinery under test."""
    if not rows:
        return np.zeros(stick.layout.cells, np.int64)
    everything = np.concatenate(rows)
    return BlockCounter(stick.layout).count([{"x": everything}], [{"score": score(everything)}], len(everything))


async def settle(replicas: list[Replica], clock: Clock, *, within_s: int = 300) -> None:
    """Let time pass, a second at a time, until every replica has flushed everything."""
    for _ in range(within_s):
        clock.now_s += 1
        for replica in replicas:
            await replica.monitor.flush()
        if not any(replica.monitor.waiting_rows for replica in replicas):
            return
    raise AssertionError(f"not flushed: {[replica.monitor.waiting_rows for replica in replicas]} rows")
