import dataclasses

import numpy as np
import pytest

from gateway.errors import InsufficientBaseline
from gateway.monitoring.bins import FloatArray
from gateway.monitoring.calibration import MIN_WINDOWS, calibrate
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.decision import decide_window
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import Measurement, WindowMeter
from gateway.monitoring.quality import QualityMeter
from gateway.monitoring.reference_builder import build_reference

FEATURES, ROWS = 5, 300


def correlated(rng: np.random.Generator, rows: int, rho: float = 0.9) -> FloatArray:
    """Draw an AR(1) series per feature, of unit variance."""
    noise: FloatArray = rng.normal(size=(rows, FEATURES)) * np.sqrt(1 - rho**2)
    noise[0] /= np.sqrt(1 - rho**2)
    series: FloatArray = np.empty_like(noise)
    level = np.zeros(FEATURES)
    for row, step in enumerate(noise):
        level = rho * level + step
        series[row] = level
    return series


class Stream:
    """Windows of correlated traffic, measured against a reference of the same traffic."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._layout = CountLayout(build_reference({"x": correlated(self._rng, 20_000)}, {}).features)
        self._counter = BlockCounter(self._layout)
        self._meter = WindowMeter(self._layout, self._layout.reference_counts(20_000))
        self.quality = QualityMeter(self._layout, self._layout.reference_counts(20_000)).measure(
            self._layout.reference_counts(20_000)
        )

    def measure(self, windows: int, shift: float = 0.0) -> list[Measurement]:
        series = correlated(self._rng, windows * ROWS)
        series[:, 0] += shift
        return [
            self._meter.measure(self._counter.count([{"x": window}], [], ROWS)) for window in np.split(series, windows)
        ]


@pytest.fixture(scope="module")
def stream() -> Stream:
    return Stream(seed=4)


@pytest.fixture(scope="module")
def in_control(stream: Stream) -> list[Measurement]:
    return stream.measure(MIN_WINDOWS)


def test_correlated_rows_alarm_far_less_often_once_calibrated(stream: Stream, in_control: list[Measurement]) -> None:
    """Rows that resemble their neighbours hold less information than their number says."""
    calibration = calibrate(in_control)
    fresh = stream.measure(150)
    naive = [decide_window(window, stream.quality) for window in fresh]
    ranked = [decide_window(window, stream.quality, calibration=calibration) for window in fresh]
    rates = [
        np.mean([any(verdict.distribution != "clean" for verdict in verdicts) for verdicts in windows])
        for windows in (naive, ranked)
    ]
    assert rates[0] > 0.5
    assert rates[1] <= 0.04


def test_a_large_shift_is_still_found_in_the_feature_that_moved(stream: Stream, in_control: list[Measurement]) -> None:
    calibration = calibrate(in_control)
    for window in stream.measure(5, shift=3.0):
        verdicts = decide_window(window, stream.quality, calibration=calibration)
        assert [verdict.distribution == "drifted" for verdict in verdicts] == [True, *[False] * (FEATURES - 1)]


def test_the_p_value_is_the_rank_among_the_largest_scores(in_control: list[Measurement]) -> None:
    calibration = calibrate(in_control)
    p_values = np.array([calibration.p_values(window) for window in in_control])
    # A window that calibrated counts itself among those at least as large; two may tie at a feature's own scale.
    ranks = np.sort(p_values.min(axis=1)) * (MIN_WINDOWS + 1)
    assert (ranks >= np.arange(2, MIN_WINDOWS + 2) - 1e-9).all()
    np.testing.assert_allclose(ranks, np.arange(2, MIN_WINDOWS + 2), atol=FEATURES)


def test_fewer_than_200_windows_are_refused(in_control: list[Measurement]) -> None:
    with pytest.raises(InsufficientBaseline, match="199"):
        calibrate(in_control[1:])


def test_a_feature_that_never_moved_in_control_has_a_finite_scale() -> None:
    values = np.stack([np.random.default_rng(2).normal(size=3_000), np.full(3_000, 7.0)], axis=1)
    layout = CountLayout(build_reference({"x": values}, {}).features)
    counter, meter = BlockCounter(layout), WindowMeter(layout, layout.reference_counts(3_000))
    rng = np.random.default_rng(3)
    windows = []
    for index in range(MIN_WINDOWS):
        window = np.stack([rng.normal(size=200), np.full(200, 7.0)], axis=1)
        window[: index < 3, 1] = 8.0
        windows.append(meter.measure(counter.count([{"x": window}], [], 200)))
    calibration = calibrate(windows)
    assert np.isfinite(calibration.maxima).all()
    assert calibration.ad_scale[1] == calibration.chi2_scale[1] == 1.0


def test_a_feature_without_a_statistic_has_no_p_value(stream: Stream, in_control: list[Measurement]) -> None:
    (window,) = stream.measure(1)
    missing = np.full(FEATURES, np.nan)
    empty = dataclasses.replace(window, ad=missing, chi2=missing)
    assert np.isnan(calibrate(in_control).p_values(empty)).all()
