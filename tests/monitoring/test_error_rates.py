"""How often the whole rule is wrong, on seeded traffic: a small version of docs/monitoring-calibration.md.

Never a proof: it is here to notice a change that breaks the calibration.
"""

import numpy as np
import pytest
from scipy import stats

from gateway.messages import Array
from gateway.monitoring.bins import FloatArray
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.decision import FeatureState, decide_window, feature_state
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import WindowMeter
from gateway.monitoring.quality import QualityMeter
from gateway.monitoring.reference_builder import build_reference
from tests.monitoring.windows import KINDS

REFERENCES, WINDOWS = 20, 40


def null_p_values(rows: int, reference_rows: int) -> FloatArray:
    """Judge windows without drift against fresh references; shape (references, windows, kinds)."""
    p_values = np.empty((REFERENCES, WINDOWS, len(KINDS)))
    for index in range(REFERENCES):
        rng = np.random.default_rng([51, rows, index])
        reference = build_reference({kind: draw(rng, reference_rows) for kind, draw in KINDS.items()}, {})
        layout = CountLayout(reference.features)
        counter, meter = BlockCounter(layout), WindowMeter(layout, layout.reference_counts(reference_rows))
        for window in range(WINDOWS):
            drawn = {kind: draw(rng, rows) for kind, draw in KINDS.items()}
            p_values[index, window] = meter.measure(counter.count([drawn], [], rows)).p_value
    return p_values


@pytest.mark.parametrize(("rows", "reference_rows"), [(200, 10_000), (500, 5_000)])
def test_windows_without_drift_are_significant_as_often_as_promised(rows: int, reference_rows: int) -> None:
    """The references are redrawn: on one reference a two-sample test may be off by half its level."""
    p_values = null_p_values(rows, reference_rows)
    for level in (0.05, 0.01):
        rates = (p_values <= level).mean(axis=1)
        standard_error = rates.std(axis=0, ddof=1) / np.sqrt(REFERENCES)
        # Simultaneous over the kinds; a kind without a single alarm has no spread to judge by.
        bound = stats.norm.ppf(1 - 0.01 / len(KINDS)) * np.maximum(standard_error, np.sqrt(level / p_values.size))
        assert (rates.mean(axis=0) <= level + bound).all()


@pytest.mark.parametrize("seed", range(10))
def test_half_a_sigma_in_one_of_twenty_features_is_found_there_and_nowhere_else(seed: int) -> None:
    """Traffic is drawn with replacement from the reference's own rows, 500 to a window."""
    rng = np.random.default_rng(seed)
    rows: Array = rng.multivariate_normal(np.zeros(20), np.full((20, 20), 0.3) + 0.7 * np.eye(20), size=8_000)
    reference = build_reference({"x": rows}, {"score": rows.sum(axis=1)})
    layout = CountLayout(reference.features)
    counter = BlockCounter(layout)
    meter, quality = (
        WindowMeter(layout, layout.reference_counts(reference.rows)),
        QualityMeter(layout, layout.reference_counts(reference.rows)),
    )
    history = []
    for _ in range(3):
        window = rows[rng.integers(0, len(rows), 500)]
        window[:, 7] += 0.5 * rows[:, 7].std()
        counts = counter.count([{"x": window}], [{"score": window.sum(axis=1)}], 500)
        history.append(decide_window(meter.measure(counts), quality.measure(counts)))
    states = [feature_state([window[index] for window in history]) for index in range(20)]
    drifted = [index for index, state in enumerate(states) if state.state == "drift"]
    assert drifted == [7]
    assert states[7] == FeatureState(state="drift", causes=("distribution",))


def test_independent_traffic_without_drift_raises_no_alarm() -> None:
    rng = np.random.default_rng(61)
    rows = rng.normal(size=(10_000, 20))
    layout = CountLayout(build_reference({"x": rows}, {}).features)
    counter = BlockCounter(layout)
    meter, quality = (
        WindowMeter(layout, layout.reference_counts(10_000)),
        QualityMeter(layout, layout.reference_counts(10_000)),
    )
    history = []
    for _ in range(288):
        counts = counter.count([{"x": rng.normal(size=(300, 20))}], [], 300)
        history.append(decide_window(meter.measure(counts), quality.measure(counts)))
    for index in range(20):
        verdicts = [window[index] for window in history]
        assert "drift" not in {feature_state(verdicts[: stop + 1]).state for stop in range(288)}
