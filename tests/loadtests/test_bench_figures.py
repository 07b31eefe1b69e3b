import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.bench.figures import Spread, differs, paired_ratios, percentile, same_interval, spread

POSITIVE = st.floats(min_value=1e-3, max_value=1e6)


@given(st.lists(POSITIVE, min_size=1, max_size=300), st.integers(min_value=1, max_value=100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(values: list[float], percent: int) -> None:
    ordered = sorted(values)
    enough = [value for value in ordered if sum(other <= value for other in ordered) * 100 >= percent * len(ordered)]
    assert percentile(ordered, percent) == min(enough)


@pytest.mark.parametrize(("percent", "expected"), [(1, 1), (50, 50), (99, 99), (99.5, 100), (100, 100)])
def test_the_99th_percentile_of_a_hundred_values_is_the_99th_of_them(percent: float, expected: float) -> None:
    assert percentile(range(1, 101), percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 100.1)])
def test_a_percentile_of_nothing_or_outside_the_scale_is_refused(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="expected values and a percentage"):
        percentile(values, percent)


@given(st.lists(POSITIVE, min_size=1, max_size=20))
def test_a_spread_is_the_median_with_its_extremes(values: list[float]) -> None:
    found = spread(values)
    assert found.median == pytest.approx(statistics.median(values))
    assert (found.lowest, found.highest) == (min(values), max(values))


def test_ratios_are_taken_round_by_round_and_not_between_medians() -> None:
    """A machine that slows down for both servers in one round must not show up as a difference."""
    assert paired_ratios([20.0, 40.0, 60.0], [10.0, 20.0, 30.0]) == (2.0, 2.0, 2.0)
    assert paired_ratios([10.0, 40.0, 30.0], [10.0, 20.0, 10.0]) == (2.0, 1.0, 3.0)


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], []), ([1.0], [0.0])])
def test_ratios_without_a_partner_are_refused(above: list[float], below: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        paired_ratios(above, below)


@given(st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=9))
def test_the_interval_of_identical_runs_ignores_which_of_them_came_first(pairs: list[tuple[float, float]]) -> None:
    first, second = ([pair[index] for pair in pairs] for index in (0, 1))
    lowest, highest = same_interval(first, second)
    assert lowest <= 1 <= highest
    assert lowest * highest == pytest.approx(1)
    assert list(same_interval(second, first)) == pytest.approx([lowest, highest])
    for above, below in pairs:
        assert lowest * (1 - 1e-9) <= above / below <= highest * (1 + 1e-9)


def test_an_interval_of_a_server_that_did_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        same_interval([0.0], [1.0])


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Spread(1.2, 1.11, 1.3), True),
        (Spread(0.8, 0.7, 0.89), True),
        (Spread(1.2, 1.05, 1.3), False),
        (Spread(1.0, 0.8, 1.2), False),
    ],
)
def test_a_difference_is_real_only_when_every_round_is_outside_the_identical_runs(
    ratio: Spread,
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert differs(ratio, (0.9, 1.1)) is expected
