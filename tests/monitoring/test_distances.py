import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.spatial.distance import jensenshannon

from gateway.errors import WindowMismatch
from gateway.monitoring import distances
from gateway.monitoring.bins import Counts, FloatArray
from tests.monitoring.windows import KINDS, bench, numeric

TABLES = arrays.arrays(
    np.int64, st.tuples(st.just(2), st.integers(1, 4), st.integers(2, 12)), elements=st.integers(0, 500)
)


def drawn_tables(seed: int, features: int = 40, bins: int = 24) -> tuple[Counts, Counts]:
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(bins), features)
    return rng.multinomial(10_000, share), rng.multinomial(700, rng.dirichlet(np.ones(bins), features))


def bin_numbers(counts: Counts) -> FloatArray:
    return np.repeat(np.arange(counts.size, dtype=np.float64), counts)


def standardised_anderson_darling(first: FloatArray, second: FloatArray) -> float:
    """Give scipy's (A² - 1) / s, where s depends on the sample sizes alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="p-value (capped|floored)")
        return float(stats.anderson_ksamp([first, second], variant="midrank", method=None).statistic)


def test_anderson_darling_is_the_midrank_statistic_of_the_bin_numbers() -> None:
    rng = np.random.default_rng(4)
    scales = []
    for _ in range(20):
        reference = rng.multinomial(900, rng.dirichlet(np.ones(15)))
        current = rng.multinomial(140, reference / reference.sum())
        ours = distances.anderson_darling(reference[None], current[None])[0]
        scales.append((ours - 1) / standardised_anderson_darling(bin_numbers(reference), bin_numbers(current)))
    np.testing.assert_allclose(scales, scales[0], rtol=1e-9)


def test_binned_anderson_darling_ranks_windows_as_the_raw_one_does() -> None:
    rng = np.random.default_rng(11)
    raw, binned = [], []
    for _ in range(500):
        values, window = rng.normal(size=1_000), rng.normal(rng.uniform(0, 0.3), rng.uniform(0.8, 1.25), 150)
        subject = bench(values)
        binned.append(distances.anderson_darling(subject.reference_counts, subject.bin_counts(window))[0])
        raw.append(standardised_anderson_darling(values, window))
    assert stats.spearmanr(raw, binned).statistic >= 0.95


def test_psi_is_the_direct_formula() -> None:
    reference, current = drawn_tables(1)
    p = (reference + 0.5) / (reference + 0.5).sum(axis=1, keepdims=True)
    q = (current + 0.5) / (current + 0.5).sum(axis=1, keepdims=True)
    filled = reference + current > 0
    assert filled.all()
    np.testing.assert_allclose(
        distances.psi(reference, current), ((q - p) * np.log(q / p)).sum(axis=1), rtol=1e-12, atol=1e-12
    )


def test_jensen_shannon_is_scipys_distance_to_base_2() -> None:
    reference, current = drawn_tables(2)
    expected = [jensenshannon(r, c, base=2) for r, c in zip(reference, current, strict=True)]
    np.testing.assert_allclose(distances.jensen_shannon(reference, current), expected, rtol=1e-12, atol=1e-12)


def test_total_variation_is_half_the_absolute_difference() -> None:
    reference, current = drawn_tables(3)
    expected = [np.abs(r / r.sum() - c / c.sum()).sum() / 2 for r, c in zip(reference, current, strict=True)]
    np.testing.assert_allclose(distances.total_variation(reference, current), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows", [200, 1_000, 5_000])
def test_corrected_total_variation_is_near_zero_without_drift_and_near_the_truth_with_it(rows: int) -> None:
    rng = np.random.default_rng(5)
    share = 1 / np.arange(1, 21)
    share /= share.sum()
    swapped = share.copy()
    swapped[[0, 2]] = swapped[[2, 0]]
    truth = np.abs(share - swapped).sum() / 2
    reference = rng.multinomial(10_000, share, 400)
    still = distances.total_variation_corrected(reference, rng.multinomial(rows, share, 400))
    moved = distances.total_variation_corrected(reference, rng.multinomial(rows, swapped, 400))
    assert still.mean() < 0.01
    assert moved.mean() == pytest.approx(truth, abs=0.025)


@pytest.mark.parametrize("kind", ["normal", "lognormal", "zero-inflated", "integer"])
@pytest.mark.parametrize("shift", [0.0, 0.25, 1.0])
def test_binned_ks_falls_short_of_the_raw_one_by_at_most_the_largest_bin(kind: str, shift: float) -> None:
    rng = np.random.default_rng(13)
    draw = KINDS[kind]
    for _ in range(10):
        values, window = draw(rng, 2_000), draw(rng, 400) + shift
        subject = bench(values)
        reference, current = subject.reference_counts, subject.bin_counts(window)
        largest = max((reference / reference.sum()).max(), (current / current.sum()).max())
        gap = stats.ks_2samp(values, window).statistic - distances.kolmogorov_smirnov(reference, current)[0]
        assert -1e-12 <= gap <= largest + 1e-12


@pytest.mark.parametrize(("kind", "tolerance"), [("normal", 0.01), ("lognormal", 0.03)])
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.25, 0.5])
def test_wasserstein_is_near_the_raw_one(kind: str, tolerance: float, shift: float) -> None:
    rng = np.random.default_rng(17)
    for _ in range(5):
        values = KINDS[kind](rng, 20_000)
        feature = numeric((subject := bench(values)).reference)
        window = KINDS[kind](rng, 5_000) + shift * feature.sigma
        ours = distances.wasserstein(
            subject.reference_counts,
            subject.bin_counts(window),
            np.array([feature.centroids]),
            np.array([feature.sigma]),
        )[0]
        assert ours == pytest.approx(stats.wasserstein_distance(values, window) / feature.sigma, abs=tolerance)


def test_wasserstein_is_exact_for_rows_that_sit_on_the_centroids() -> None:
    reference, current = drawn_tables(6)
    centroids = np.sort(np.random.default_rng(6).normal(size=reference.shape), axis=1)
    expected = [
        stats.wasserstein_distance(x, x, r, c) / 2 for x, r, c in zip(centroids, reference, current, strict=True)
    ]
    ours = distances.wasserstein(reference, current, centroids, np.full(len(reference), 2.0))
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_wasserstein_of_a_constant_is_zero_until_something_moves() -> None:
    reference, centroids = np.array([[0, 9, 0], [0, 9, 0]]), np.array([[7.0, 7.0, 7.5], [7.0, 7.0, 7.5]])
    w1 = distances.wasserstein(reference, np.array([[0, 5, 0], [0, 4, 1]]), centroids, np.zeros(2))
    assert w1[0] == 0
    assert np.isnan(w1[1])


def test_rows_in_an_outer_bin_mark_wasserstein_as_a_lower_bound() -> None:
    reference = np.array([[10, 980, 10, 0]] * 4)
    current = np.array([[2, 196, 2, 0], [2, 194, 4, 0], [2, 193, 5, 0], [5, 193, 2, 0]])
    marked = distances.outer_bins_fill(reference, current, np.full(4, 3))
    assert marked.tolist() == [False, False, True, True]


@given(TABLES)
def test_distances_stay_in_their_ranges_and_vanish_for_equal_shares(tables: Counts) -> None:
    reference, current = tables
    both = (reference.sum(axis=1) > 0) & (current.sum(axis=1) > 0)
    for distance in (distances.kolmogorov_smirnov, distances.jensen_shannon, distances.total_variation):
        there, back = distance(reference, current), distance(current, reference)
        np.testing.assert_array_equal(np.isnan(there), ~both)
        np.testing.assert_allclose(there, back, atol=1e-9)
        assert ((there[both] >= 0) & (there[both] <= 1 + 1e-12)).all()
        np.testing.assert_allclose(distance(reference, 3 * reference)[reference.sum(axis=1) > 0], 0, atol=1e-7)
    for distance in (distances.anderson_darling, distances.psi, distances.total_variation_corrected):
        there = distance(reference, current)
        np.testing.assert_array_equal(np.isnan(there), ~both)
        assert (there[both] >= -1e-12).all()
    np.testing.assert_allclose(
        distances.anderson_darling(reference, 3 * reference)[reference.sum(axis=1) > 0], 0, atol=1e-9
    )


@given(TABLES)
def test_empty_bins_at_the_end_change_no_distance(tables: Counts) -> None:
    """Features with few bins share a matrix with features that have many."""
    padded = np.pad(tables, ((0, 0), (0, 0), (0, 3)))
    for distance in (
        distances.anderson_darling,
        distances.kolmogorov_smirnov,
        distances.psi,
        distances.jensen_shannon,
        distances.total_variation,
        distances.total_variation_corrected,
    ):
        np.testing.assert_allclose(distance(*padded), distance(*tables), rtol=1e-9, atol=1e-9)


def test_windows_on_other_bins_are_refused() -> None:
    for distance in (distances.anderson_darling, distances.psi, distances.jensen_shannon, distances.total_variation):
        with pytest.raises(WindowMismatch):
            distance(np.ones((2, 3), np.int64), np.ones((2, 4), np.int64))
