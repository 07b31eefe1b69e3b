"""Measures how many alarms a model version with 20 features and no drift raises in a day of five-minute windows.

Uses the whole rule: tests, false discovery rate, effect floors, quality checks, two of three windows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import lfilter

from gateway.monitoring.bins import Counts, FloatArray
from gateway.monitoring.calibration import MIN_WINDOWS, Calibration, calibrate
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.decision import Cause, CauseMemory, decide_window, next_feature_state
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import WindowMeter
from gateway.monitoring.quality import QualityMeter
from gateway.monitoring.reference_builder import build_reference
from loadtests.calibration.kinds import KINDS, null_windows
from loadtests.calibration.results import ModelDays

FEATURES = 20
WINDOWS_A_DAY = 288
CORRELATED_REFERENCE_ROWS = 20_000
INDEPENDENT_SIZES = ((200, 10_000), (1_000, 10_000))
CORRELATIONS = (0.6, 0.9)
CORRELATED_SIZES = (200, 1_000)


@dataclass
class Tally:
    """What the rule said of a stream of windows."""

    windows: int = 0
    alarms: int = 0
    quality_alarms: int = 0
    alarm_windows: int = 0
    watch_windows: int = 0
    memories: list[dict[Cause, CauseMemory]] = field(default_factory=lambda: [{} for _ in range(FEATURES)])
    drifting: set[int] = field(default_factory=set)

    def next_day(self) -> None:
        """Go on with another model, of which nothing is known."""
        self.memories = [{} for _ in range(FEATURES)]
        self.drifting = set()

    def judge(
        self, meter: WindowMeter, quality: QualityMeter, counts: Counts, calibration: Calibration | None = None
    ) -> None:
        verdicts = decide_window(meter.measure(counts), quality.measure(counts), calibration=calibration)
        states, shifted = [], set()
        for index, verdict in enumerate(verdicts):
            self.memories[index], state = next_feature_state(self.memories[index], verdict)
            states.append(state.state)
            if "distribution" in state.causes:
                shifted.add(index)
        drifting = {index for index, state in enumerate(states) if state == "drift"}
        self.windows += 1
        self.alarms += len(drifting - self.drifting)
        self.quality_alarms += len(drifting - self.drifting - shifted)
        self.alarm_windows += bool(drifting)
        self.watch_windows += bool(drifting) or "watch" in states
        self.drifting = drifting

    def result(self, *, seed: int, traffic: str, mode: str, rows: int, days: int) -> ModelDays:
        return ModelDays(
            seed=seed,
            traffic=traffic,
            mode=mode,
            rows=rows,
            days=days,
            alarms=self.alarms,
            quality_alarms=self.quality_alarms,
            alarm_windows=self.alarm_windows / self.windows,
            watch_windows=self.watch_windows / self.windows,
        )


def independent_days(seed: int, *, days: int, say: Callable[[str], None]) -> list[ModelDays]:
    """Judge independent rows: four features of each kind, every day against a fresh reference."""
    found = []
    kinds = [kind for kind in KINDS for _ in range(FEATURES // len(KINDS))]
    for rows, reference_rows in INDEPENDENT_SIZES:
        tally = Tally()
        for day in range(days):
            rng = np.random.default_rng([seed, 1, rows, day])
            drawn = {f"{number:02}": kind.draw(rng, reference_rows) for number, kind in enumerate(kinds)}
            reference = build_reference(drawn, {})
            layout = CountLayout(reference.features)
            meter, quality = _meters(layout, layout.reference_counts(reference_rows))
            tally.next_day()
            for counts in null_windows(rng, kinds, layout, rows, WINDOWS_A_DAY):
                tally.judge(meter, quality, counts)
        say(f"seed {seed}: {days} days of independent rows, {rows} to a window: {tally.alarms} alarms")
        found.append(tally.result(seed=seed, traffic="independent", mode="iid", rows=rows, days=days))
    return found


def correlated_days(seed: int, *, days: int, say: Callable[[str], None]) -> list[ModelDays]:
    """Judge rows that depend on the ones before them, as independent ones and after calibration."""
    found = []
    for correlation, rows in itertools.product(CORRELATIONS, CORRELATED_SIZES):
        before, after = Tally(), Tally()
        for day in range(days):
            rng = np.random.default_rng([seed, 2, int(100 * correlation), rows, day])
            reference = build_reference({"x": rng.normal(size=(CORRELATED_REFERENCE_ROWS, FEATURES))}, {})
            layout = CountLayout(reference.features)
            meter, quality = _meters(layout, layout.reference_counts(CORRELATED_REFERENCE_ROWS))
            counter = BlockCounter(layout)
            windows = [
                counter.count([{"x": window}], [], rows)
                for window in _stream(rng, correlation, rows, MIN_WINDOWS + WINDOWS_A_DAY)
            ]
            calibration = calibrate(
                [meter.measure(counts) for counts in windows[:MIN_WINDOWS]],
                [quality.measure(counts) for counts in windows[:MIN_WINDOWS]],
            )
            before.next_day()
            after.next_day()
            for counts in windows[MIN_WINDOWS:]:
                before.judge(meter, quality, counts)
                after.judge(meter, quality, counts, calibration)
        say(f"seed {seed}: {days} days at correlation {correlation}: {before.alarms} alarms, then {after.alarms}")
        found += [
            tally.result(seed=seed, traffic=f"{correlation}", mode=mode, rows=rows, days=days)
            for mode, tally in (("iid", before), ("calibrated", after))
        ]
    return found


def _meters(layout: CountLayout, reference: Counts) -> tuple[WindowMeter, QualityMeter]:
    return WindowMeter(layout, reference), QualityMeter(layout, reference)


def _stream(rng: np.random.Generator, correlation: float, rows: int, windows: int) -> Iterable[FloatArray]:
    """Draw one AR(1) series of unit variance for each feature, cut into windows."""
    state: FloatArray = correlation * rng.normal(size=(1, FEATURES))
    scale = np.sqrt(1 - correlation**2)
    for _ in range(windows):
        noise = scale * rng.normal(size=(rows, FEATURES))
        window, state = lfilter([1.0], [1.0, -correlation], noise, axis=0, zi=state)
        yield window
