"""Holds the estimate of a run's time to its promises: known sizes, sizes beyond them, surprises."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.inference.run_time import RunTime

MICROSECOND = 1e-6
seconds = st.floats(1e-6, 10.0)


def warm(max_rows: int = 64, per_row: float = MICROSECOND) -> RunTime:
    run_time = RunTime(max_rows)
    for power in range((max_rows - 1).bit_length() + 1):
        run_time.start_from(1 << power, per_row * (1 << power), elements=30 << power)
    return run_time


def test_a_size_that_never_ran_is_expected_to_take_for_ever() -> None:
    """The event loop must not be held by a run of which nothing is known."""
    assert RunTime(64).predict(1) == math.inf
    run_time = RunTime(64)
    run_time.learn(4, MICROSECOND)
    assert run_time.predict(4) == MICROSECOND
    assert run_time.predict(64) == math.inf


@pytest.mark.parametrize(
    ("rows", "bucket"), [(0, 1), (1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (33, 64), (63, 64), (64, 64)]
)
def test_rows_cost_what_the_next_power_of_two_costs(rows: int, bucket: int) -> None:
    assert warm().predict(rows) == pytest.approx(bucket * MICROSECOND)


@given(max_rows=st.integers(1, 300), rows=st.integers(1, 5000))
def test_more_rows_than_were_ever_tried_cost_in_proportion(max_rows: int, rows: int) -> None:
    largest = 1 << (max_rows - 1).bit_length()
    run_time = warm(max_rows)
    if rows >= largest:
        assert run_time.predict(rows) == pytest.approx(rows * MICROSECOND)


@given(max_rows=st.integers(1, 100), rows=st.integers(1, 1000), first=seconds, true=seconds)
def test_what_a_run_takes_time_after_time_is_what_is_expected_of_it(
    max_rows: int, rows: int, first: float, true: float
) -> None:
    run_time = RunTime(max_rows)
    run_time.learn(rows, first)
    assert run_time.predict(rows) == pytest.approx(first)
    for _ in range(400):
        run_time.learn(rows, true)
    assert run_time.predict(rows) == pytest.approx(true, rel=1e-3)


def test_one_stolen_time_slice_changes_little() -> None:
    run_time = warm()
    run_time.learn(64, 1.0)
    assert run_time.predict(64) == pytest.approx(64 * MICROSECOND * 1.1)


def test_learning_one_size_leaves_the_others() -> None:
    run_time = warm()
    run_time.learn(64, 1.0)
    assert run_time.predict(32) == pytest.approx(32 * MICROSECOND)


def test_a_run_too_quick_for_the_clock_does_not_stay_free_for_ever() -> None:
    run_time = RunTime(1)
    run_time.start_from(1, 0.0, elements=1)
    run_time.learn(1, MICROSECOND)
    assert run_time.predict(1) == MICROSECOND


@pytest.mark.parametrize(
    ("seconds_by_rows", "efficient"),
    [
        pytest.param([1, 1, 1, 1, 1, 1, 1], 64, id="rows are free"),
        pytest.param([1, 2, 4, 8, 16, 32, 64], 8, id="rows gain nothing, yet a few share a run"),
        pytest.param([8, 8, 8, 8, 16, 32, 64], 8, id="rows gain up to eight"),
        pytest.param([8, 8, 8, 8, 8, 16, 32], 16, id="rows gain up to sixteen"),
        pytest.param([8, 8, 8, 8, 8.79, 16, 32], 16, id="a tenth more a row is hardly more"),
        pytest.param([8, 8, 8, 8, 7.9, 13.5, 24], 64, id="more than a tenth is not"),
        pytest.param([1, 2], 2, id="never more than the largest"),
        pytest.param(
            [8e-6, 9e-6, 11e-6, 16e-6, 28e-6, 55e-6, 108e-6], 64, id="quick runs share what a batch costs besides"
        ),
        pytest.param(
            [238e-6, 241e-6, 245e-6, 305e-6, 348e-6, 592e-6, 1135e-6], 64, id="a perceptron, as a start measured it"
        ),
    ],
)
def test_a_run_grows_no_further_than_rows_gain_something(seconds_by_rows: list[float], efficient: int) -> None:
    run_time = RunTime(1 << (len(seconds_by_rows) - 1))
    for power, taken in enumerate(seconds_by_rows):
        run_time.start_from(1 << power, taken, elements=1 << power)
    assert run_time.efficient_rows() == efficient


def test_while_a_size_is_unknown_runs_may_grow_to_the_largest() -> None:
    run_time = RunTime(64)
    run_time.learn(1, 1.0)
    assert run_time.efficient_rows() == 64


@pytest.mark.parametrize(("elements", "rows"), [(30, 1), (29, 1), (60, 2), (95, 3), (0, 1)])
def test_longer_free_axes_count_as_more_rows(elements: int, rows: int) -> None:
    assert warm().equivalent_rows(elements) == rows


def test_without_a_warm_up_every_request_counts_as_one_row() -> None:
    assert RunTime(64).equivalent_rows(10_000) == 1
