"""Owns the promise that drift is found where it is, within three windows, and nowhere else.

Traffic is drawn with replacement from the reference's own rows, 500 rows to a window of five seconds.
"""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from gateway.monitoring.bins import FloatArray
from gateway.monitoring.gauges import drift_states
from gateway.store.memory_windows import MemoryWindowStore
from gateway.store.windows import WindowStore
from tests.monitoring.replicas import Clock, Replica, reference_rows, yardstick

WINDOW_S = 5
ROWS_A_SECOND = 100


async def stream(replica: Replica, rows: FloatArray, rng: np.random.Generator, *, windows: int, shift_s: float) -> None:
    """Answer requests of a few rows each, second by second; column 2 is shifted by so many standard deviations."""
    for _ in range(windows * WINDOW_S):
        batch = rows[rng.integers(0, len(rows), ROWS_A_SECOND)]
        batch[:, 2] += shift_s * rows[:, 2].std()
        for part in np.array_split(batch, 20):
            replica.record(part)
        replica.clock.now_s += 1
        await replica.monitor.flush()
        await replica.monitor.evaluate()


async def pass_time(replica: Replica, seconds: int) -> None:
    for _ in range(seconds):
        replica.clock.now_s += 1
        await replica.monitor.flush()
        await replica.monitor.evaluate()


@pytest.mark.parametrize("seed", range(10))
async def test_half_a_sigma_reaches_drift_within_three_windows_and_no_other_input_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = reference_rows(100 + seed, features=6)
    replica = Replica(MemoryWindowStore(), Clock(), yardstick(rows), seed=seed)
    await stream(replica, rows, rng, windows=2, shift_s=0.0)
    await pass_time(replica, 5)
    before = await replica.monitor.report("fraud", 3)
    await stream(replica, rows, rng, windows=3, shift_s=0.5)
    # The last window is decided three seconds after its end, by a replica that looks four times a second.
    await pass_time(replica, 5)
    report = await replica.monitor.report("fraud", 3, history=5)
    assert before is not None
    assert report is not None
    assert before.state == "ok"
    assert report.state == "drift"
    assert isinstance(report.features, list)
    states = {feature.name: (feature.state, feature.reason) for feature in report.features if feature.role == "input"}
    assert states.pop("x_2") == ("drift", "distribution")
    assert {state for state, _ in states.values()} <= {"ok", "watch"}
    gauge = {labels: value for labels, value in drift_states(replica.monitor.watches) if labels[3] == "drift"}
    assert gauge["fraud", "3", "x_2", "drift"] == 1
    assert sum(value for labels, value in gauge.items() if labels[2].startswith("x_")) == 1


async def test_drift_is_found_in_rows_that_three_replicas_share(store: WindowStore) -> None:
    """No replica alone has the 200 rows that a window needs."""
    rng = np.random.default_rng(21)
    rows = reference_rows(21)
    clock, stick = Clock(), yardstick(rows)
    replicas = [Replica(store, clock, stick, seed=seed) for seed in range(3)]
    for _ in range(5 * WINDOW_S):
        for replica in replicas:
            batch = rows[rng.integers(0, len(rows), 30)]
            batch[:, 1] += 0.8
            replica.record(batch)
        clock.now_s += 1
        for replica in replicas:
            await replica.monitor.flush()
            await replica.monitor.evaluate()
    reports = [await replica.monitor.report("fraud", 3) for replica in replicas]
    for report in reports:
        assert report is not None
        assert report.window is not None
        assert (report.state, report.window.rows, report.window.attempt) == ("drift", 450, 1)
        assert isinstance(report.features, list)
        assert [feature.name for feature in report.features if feature.state == "drift"] == ["x_1"]
    assert len({msgspec.json.encode(report) for report in reports}) == 1
