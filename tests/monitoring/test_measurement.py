import subprocess
import sys

import numpy as np
import pytest

from gateway.errors import WindowMismatch
from gateway.messages import Array
from gateway.monitoring import distances
from gateway.monitoring.chi_square import chi_square_test
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import Measurement, WindowMeter
from gateway.monitoring.null_law import AndersonDarlingLaw
from gateway.monitoring.prediction_comparison import DRAWS
from gateway.monitoring.reference_builder import build_reference
from tests.monitoring.windows import KINDS, bench, numeric


def measured(reference: Array, window: Array) -> Measurement:
    subject = bench(reference)
    return WindowMeter(subject.layout, subject.layout.reference_counts(subject.reference.rows)).measure(
        subject.count(window)
    )


def test_every_feature_is_measured_as_if_it_were_alone() -> None:
    """Features of all kinds share padded matrices; none may feel its neighbours."""
    rng = np.random.default_rng(9)
    reference = {kind: draw(rng, 3_000) for kind, draw in KINDS.items()}
    window = {kind: draw(rng, 300) for kind, draw in KINDS.items()}
    layout = CountLayout(build_reference(reference, {}).features)
    together = WindowMeter(layout, layout.reference_counts(3_000)).measure(
        BlockCounter(layout).count([window], [], 300)
    )
    for index, kind in enumerate(KINDS):
        alone = measured(reference[kind], window[kind])
        for name in ("ad", "chi2", "chi2_degrees", "ks", "w1", "psi", "js", "tvd", "tvd_corrected", "p_value", "rows"):
            np.testing.assert_allclose(getattr(together, name)[index], getattr(alone, name)[0], rtol=1e-9, err_msg=kind)


def test_a_numeric_features_p_value_is_twice_the_smaller_of_its_two_tests() -> None:
    rng = np.random.default_rng(1)
    values, window = rng.normal(size=5_000), rng.normal(0.1, 1, 400)
    subject = bench(values)
    reference, current = subject.reference_counts, subject.bin_counts(window)
    p_ad = AndersonDarlingLaw(reference[0]).p_values(distances.anderson_darling(reference, current))[0]
    p_chi2 = chi_square_test(reference, current, ordered=np.array([True])).p_value[0]
    assert measured(values, window).p_value[0] == pytest.approx(min(1.0, 2 * min(p_ad, p_chi2)), rel=1e-9)


def test_a_categorical_feature_has_the_chi_square_p_value_and_no_ordered_statistics() -> None:
    rng = np.random.default_rng(2)
    values, window = KINDS["zipf"](rng, 5_000), KINDS["zipf"](rng, 400)
    subject = bench(values)
    result = measured(values, window)
    test = chi_square_test(subject.reference_counts, subject.bin_counts(window), ordered=np.array([False]))
    assert result.p_value[0] == test.p_value[0]
    assert np.isnan([result.ad[0], result.ks[0], result.w1[0]]).all()
    assert not result.w1_lower_bound[0]


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [
        (np.full(400, 7.0), 1.0, 1.0),
        (np.array([*[7.0] * 399, 8.0]), 0.05, 0.3),
        (np.array([*[7.0] * 395, *[8.0] * 5]), 0.0, 1e-3),
        (np.full(400, 8.0), 0.0, 1e-9),
    ],
    ids=["unmoved", "one row", "five rows", "all rows"],
)
def test_a_constant_feature_is_tested_exactly(window: Array, low: float, high: float) -> None:
    result = measured(np.full(4_000, 7.0), window)
    assert low <= result.p_value[0] <= high


def test_a_window_without_usable_rows_has_no_statistics_and_no_p_value() -> None:
    result = measured(np.arange(1_000.0), np.full(300, np.nan))
    assert (result.rows[0], result.all_rows[0]) == (0, 300)
    for name in ("ad", "ks", "w1", "psi", "js", "tvd", "tvd_corrected", "p_value"):
        assert np.isnan(getattr(result, name)[0])


def test_a_reference_without_values_measures_nothing() -> None:
    result = measured(np.full(1_000, np.nan), np.arange(300.0))
    assert (result.rows[0], result.reference_rows[0]) == (300, 0)
    assert np.isnan(result.p_value[0])


def test_a_window_over_a_tenth_of_the_reference_is_oversized() -> None:
    values = np.random.default_rng(1).normal(size=3_000)
    assert measured(values, values[:300]).oversized.tolist() == [False]
    assert measured(values, values[:301]).oversized.tolist() == [True]


def test_rows_beyond_the_references_range_mark_w1_as_a_lower_bound() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=3_000)
    far = rng.normal(size=300)
    far[:30] = 1_000.0
    assert measured(values, rng.normal(size=300)).w1_lower_bound.tolist() == [False]
    assert measured(values, far).w1_lower_bound.tolist() == [True]


def test_w1_is_in_reference_standard_deviations() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(100, 20, 20_000)
    sigma = numeric(bench(values).reference).sigma
    assert sigma == pytest.approx(values.std())
    assert measured(values, rng.normal(110, 20, 5_000)).w1[0] == pytest.approx(0.5, abs=0.05)


def test_two_variants_are_compared_on_the_bins_of_the_first() -> None:
    rng = np.random.default_rng(6)
    subject = bench(rng.random(5_000))
    first, same, other = (subject.count(rng.beta(*shape, 2_000)) for shape in ((1, 1), (1, 1), (2, 1)))
    meter = WindowMeter(subject.layout, first)
    assert meter.measure(same).p_value[0] > 0.01
    assert meter.measure(other).p_value[0] < 1e-9
    assert meter.measure(other).reference_rows[0] == 2_000


def test_the_quick_null_law_of_a_comparison_moves_p_values_by_a_few_percent() -> None:
    rng = np.random.default_rng(7)
    subject = bench(rng.random(5_000))
    first, other = (subject.count(rng.beta(slope, 1, 2_000)) for slope in (1, 1.05))
    exact, quick = (WindowMeter(subject.layout, first, draws=draws).measure(other) for draws in (20_000, DRAWS))
    assert quick.p_value[0] == pytest.approx(exact.p_value[0], rel=0.05)


def test_counts_of_another_reference_are_refused() -> None:
    subject, other = bench(np.arange(100.0)), bench(np.zeros(100))
    with pytest.raises(WindowMismatch):
        WindowMeter(subject.layout, subject.layout.reference_counts(100)).measure(other.count(np.zeros(3)))


def test_importing_and_counting_never_imports_scipy() -> None:
    """It costs a second and 50 MB; only a judged window may ask for it, and never for scipy.stats."""
    script = (
        "import sys, numpy as np\n"
        "from gateway.monitoring import calibration, decision, measurement, quality, recorder, reference_summary\n"
        "from gateway.monitoring.layout import CountLayout\n"
        "from gateway.monitoring.reference_builder import build_reference\n"
        "values = np.random.default_rng(1).normal(size=(1000, 2))\n"
        "reference = build_reference({'x': values}, {})\n"
        "layout = CountLayout(reference.features)\n"
        "recorder = recorder.Recorder(layout, row_values=2)\n"
        "recorder.record({'x': values[:300] + 1}, {}, 300, 0)\n"
        "(delta,) = recorder.take_deltas()\n"
        "print('scipy' in sys.modules)\n"
        "measurement.WindowMeter(layout, layout.reference_counts(1000)).measure(delta.counts)\n"
        "quality.QualityMeter(layout, layout.reference_counts(1000)).measure(delta.counts)\n"
        "print('scipy.special' in sys.modules, 'scipy.stats' in sys.modules)\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "True", "False"]
