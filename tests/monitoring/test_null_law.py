import numpy as np
import pytest
from scipy import stats

from gateway.monitoring.bins import Counts
from gateway.monitoring.chi_square import chi_square
from gateway.monitoring.distances import anderson_darling
from gateway.monitoring.null_law import AndersonDarlingLaw, permutation_p_values

SHARE = np.array([0.001, 0.009, 0.04, *[0.05] * 18, 0.04, 0.009, 0.001])


def dealt_windows(pooled: Counts, rows: int, windows: int, seed: int) -> tuple[Counts, Counts]:
    current = np.random.default_rng(seed).multivariate_hypergeometric(pooled, rows, size=windows)
    return pooled - current, current


@pytest.mark.parametrize("rows", [200, 1_000])
def test_windows_without_drift_have_uniform_p_values_far_into_the_tail(rows: int) -> None:
    reference = np.round(10_000 * SHARE).astype(np.int64)
    law = AndersonDarlingLaw(reference)
    references, windows = dealt_windows(reference + np.round(rows * SHARE).astype(np.int64), rows, 20_000, seed=5)
    p_values = law.p_values(anderson_darling(references, windows))
    for level in (0.05, 0.01, 0.001):
        low, high = stats.binom(20_000, level).ppf([0.001, 0.999]) / 20_000
        # The law is a limit: a tenth is allowed beside the draws' own error.
        assert 0.9 * low <= (p_values <= level).mean() <= 1.1 * high


def test_many_even_bins_have_the_classical_law() -> None:
    """The continuous two-sample law has its 95 and 99 % points at 2.492 and 3.857 (Anderson and Darling 1954)."""
    law = AndersonDarlingLaw(np.full(400, 25))
    assert law.p_values(np.array([2.492, 3.857])) == pytest.approx([0.05, 0.01], rel=0.05)


def test_two_bins_have_the_law_of_a_chi_square() -> None:
    reference = np.array([7_000, 3_000])
    rng = np.random.default_rng(2)
    current = rng.multinomial(500, [0.7, 0.3], 50)
    references = np.broadcast_to(reference, current.shape)
    ours = AndersonDarlingLaw(reference).p_values(anderson_darling(references, current))
    expected = [stats.chi2_contingency(np.stack([reference, window]), correction=False).pvalue for window in current]
    assert ours == pytest.approx(np.array(expected), abs=0.005)


def test_p_values_fall_steadily_and_stay_positive_beyond_the_table() -> None:
    law = AndersonDarlingLaw(np.round(10_000 * SHARE).astype(np.int64))
    statistics = np.linspace(0.0, 300.0, 3_000)
    p_values = law.p_values(statistics)
    assert p_values[0] == pytest.approx(1.0)
    assert (np.diff(p_values) <= 0).all()
    assert p_values[-1] > 0


def test_a_missing_statistic_has_no_p_value() -> None:
    assert np.isnan(AndersonDarlingLaw(np.array([5, 5])).p_values(np.array([np.nan]))).all()


def test_a_constant_reference_has_no_law_for_a_window_that_moved() -> None:
    p_values = AndersonDarlingLaw(np.array([0, 100, 0])).p_values(np.array([0.0, 1.0, np.nan]))
    assert p_values[0] == 1.0
    assert np.isnan(p_values[1:]).all()


def test_the_same_seed_gives_the_same_law() -> None:
    reference = np.array([100, 200, 300, 400])
    statistics = np.linspace(0, 20, 50)
    np.testing.assert_array_equal(
        AndersonDarlingLaw(reference).p_values(statistics), AndersonDarlingLaw(reference).p_values(statistics)
    )


@pytest.mark.parametrize("moved", [1, 2, 3])
def test_permutation_gives_fishers_exact_test_for_two_bins(moved: int) -> None:
    reference, current = np.array([0, 2_000, 0]), np.array([0, 200 - moved, moved])
    expected = stats.hypergeom.sf(moved - 1, 2_200, moved, 200)
    for p_value in permutation_p_values(reference, current, [chi_square, anderson_darling]):
        assert p_value == pytest.approx(expected, abs=4 * np.sqrt(expected / 20_000))
    assert permutation_p_values(reference, current, [chi_square]) == permutation_p_values(
        reference, current, [chi_square]
    )


def test_equal_windows_have_a_permutation_p_value_of_one() -> None:
    reference = np.array([3, 900, 3])
    assert permutation_p_values(reference, reference, [chi_square, anderson_darling]) == [1.0, 1.0]
