import numpy as np
import pytest
from scipy import stats

from gateway.errors import WindowMismatch
from gateway.monitoring.bins import Counts
from gateway.monitoring.chi_square import chi_square, chi_square_test

ORDERED, UNORDERED = np.array([True]), np.array([False])


def test_dense_bins_give_scipys_contingency_test() -> None:
    rng = np.random.default_rng(1)
    reference, current = rng.multinomial(9_000, np.full(12, 1 / 12), 30), rng.multinomial(800, np.full(12, 1 / 12), 30)
    result = chi_square_test(reference, current, ordered=rng.random(30) < 0.5)
    for row, (r, c) in enumerate(zip(reference, current, strict=True)):
        expected = stats.chi2_contingency(np.stack([r, c]), correction=False)
        assert result.statistic[row] == pytest.approx(expected.statistic, rel=1e-12)
        assert result.p_value[row] == pytest.approx(expected.pvalue, rel=1e-12)
        assert result.degrees[row] == expected.dof
    np.testing.assert_allclose(chi_square(reference, current), result.statistic, rtol=1e-12)


@pytest.mark.parametrize(
    ("reference", "current", "merged"),
    [
        ([10, 90, 400, 400, 90, 10], [0, 20, 80, 80, 15, 5], [[100, 400, 400, 100], [20, 80, 80, 20]]),
        ([500, 3, 3, 500], [100, 1, 0, 99], [[500, 506], [100, 100]]),
        ([500, 500, 0, 0], [90, 108, 1, 1], [[500, 500], [90, 110]]),
    ],
    ids=["tails", "a gap", "beyond the end"],
)
def test_sparse_bins_join_their_neighbours_where_bins_are_ordered(
    reference: list[int], current: list[int], merged: list[list[int]]
) -> None:
    result = chi_square_test(np.array([reference]), np.array([current]), ordered=ORDERED)
    expected = stats.chi2_contingency(merged, correction=False)
    assert result.degrees.tolist() == [expected.dof]
    assert result.statistic[0] == pytest.approx(expected.statistic)


def test_sparse_categories_join_each_other() -> None:
    reference, current = np.array([[20, 500, 20, 470, 20]]), np.array([[8, 100, 0, 92, 5]])
    result = chi_square_test(reference, current, ordered=UNORDERED)
    expected = stats.chi2_contingency([[500, 470, 60], [100, 92, 13]], correction=False)
    assert result.degrees.tolist() == [2]
    assert result.statistic[0] == pytest.approx(expected.statistic)


@pytest.mark.parametrize("ordered", [ORDERED, UNORDERED])
def test_the_order_of_categories_does_not_matter_but_that_of_bins_does(ordered: np.ndarray) -> None:
    rng = np.random.default_rng(7)
    reference = rng.multinomial(5_000, rng.dirichlet(np.full(30, 0.3)))[None]
    current = rng.multinomial(300, rng.dirichlet(np.full(30, 0.3)))[None]
    mixed = rng.permutation(30)
    straight = chi_square_test(reference, current, ordered=ordered)
    shuffled = chi_square_test(reference[:, mixed], current[:, mixed], ordered=ordered)
    assert (straight.statistic[0] == pytest.approx(shuffled.statistic[0])) is not ordered[0].item()


def test_every_merged_bin_expects_five_rows_in_the_smaller_window() -> None:
    rng = np.random.default_rng(3)
    for size in (60, 200, 5_000):
        share = rng.dirichlet(np.full(40, 0.2), 50)
        reference, current = rng.multinomial(2_000, share), rng.multinomial(size, share)
        result = chi_square_test(reference, current, ordered=rng.random(50) < 0.5)
        # The rarest group's expectation is at least 5, so there are at most rows / 5 groups.
        assert (result.degrees + 1 <= min(size, 2_000) / 5).all()


@pytest.mark.parametrize(
    ("reference", "current"),
    [([0, 900, 0], [0, 200, 0]), ([0, 900, 0], [1, 198, 1]), ([0, 0, 0], [3, 4, 5]), ([3, 4, 5], [0, 0, 0])],
    ids=["constant", "nearly constant", "no reference", "no window"],
)
def test_one_bin_left_is_no_test(reference: list[int], current: list[int]) -> None:
    result = chi_square_test(np.array([reference]), np.array([current]), ordered=ORDERED)
    assert result.degrees.tolist() == [0]
    assert np.isnan(result.p_value[0])


def test_an_empty_window_has_no_statistic() -> None:
    empty: Counts = np.zeros((1, 3), np.int64)
    assert np.isnan(chi_square(empty, np.ones((1, 3), np.int64))[0])
    assert np.isnan(chi_square(np.ones((1, 3), np.int64), empty)[0])


def test_windows_on_other_bins_are_refused() -> None:
    with pytest.raises(WindowMismatch):
        chi_square(np.ones((2, 3), np.int64), np.ones((2, 4), np.int64))
