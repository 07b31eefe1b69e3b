"""Owns the promises of the comparison: what is equal, what differs and by how much, and what cannot be compared."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.messages import Array
from gateway.routing.comparison import compare_outputs, failed_comparison

NAN, INF = math.nan, math.inf


def floats(*values: object) -> npt.NDArray[np.float32]:
    return np.array(values, dtype=np.float32)


def texts(*values: object) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    ("primary", "shadow", "tolerance", "result"),
    [
        (floats(1, 2), floats(1, 2), 0, "match"),
        (floats(1, 2), floats(1, 2.0005), 0.001, "match"),
        (floats(0, 0), floats(0.0005, 0), 0.001, "match"),
        (floats(1, 2), floats(1, 2.005), 0.001, "mismatch"),
        (floats(1e6), floats(1e6 + 900), 0.001, "match"),
        (floats(1e6), floats(1e6 + 1100), 0.001, "mismatch"),
        (floats(NAN, 1), floats(NAN, 1), 0, "match"),
        (floats(NAN, 1), floats(1, 1), 1e9, "mismatch"),
        (floats(1, 1), floats(NAN, 1), 1e9, "mismatch"),
        (floats(INF, -INF), floats(INF, -INF), 0, "match"),
        (floats(INF), floats(-INF), 1e9, "mismatch"),
        (floats(INF), floats(1), 1e9, "mismatch"),
        (floats(0.0), floats(-0.0), 0, "match"),
        (np.array([1, 2]), np.array([1, 2]), 0, "match"),
        (np.array([1000]), np.array([1001]), 0.5, "mismatch"),
        (np.array([True]), np.array([False]), 1, "mismatch"),
        (texts("no", "yes"), texts(b"no", b"yes"), 0, "match"),
        (texts("no", "yes"), texts("no", "no"), 1, "mismatch"),
        (floats(1, 2), floats(1, 2, 3), 1e9, "mismatch"),
        (floats([1, 2]), floats(1, 2), 1e9, "mismatch"),
        (floats(1), np.array([1.0]), 0, "match"),
        (np.float64(1.0).reshape(()), np.float64(1.0).reshape(()), 0, "match"),
        (floats(), floats(), 0, "match"),
    ],
    ids=str,
)
def test_equal_is_within_absolute_or_relative_tolerance(
    primary: Array, shadow: Array, tolerance: float, result: str
) -> None:
    comparison = compare_outputs({"y": primary}, {"y": shadow}, tolerance=tolerance, rows=len(np.atleast_1d(primary)))
    assert comparison.result == result
    assert (comparison.reason == "") == (result == "match")


def test_the_difference_of_a_row_is_its_largest() -> None:
    primary = {"y": floats([0, 10], [1, 1], [NAN, 4]), "z": floats(0, 0, 0)}
    shadow = {"y": floats([0.5, 11], [1, 1], [NAN, 2]), "z": floats(0, 3, 0)}
    comparison = compare_outputs(primary, shadow, tolerance=0.1, rows=3)
    assert comparison.absolute.tolist() == [1.0, 3.0, 2.0]
    assert comparison.relative == pytest.approx([1.0, 1.0, 0.5])
    assert comparison.rows == 3


def test_a_value_against_nan_has_no_distance() -> None:
    comparison = compare_outputs({"y": floats([1, 2], [3, 4])}, {"y": floats([1, NAN], [3, 5])}, tolerance=9, rows=2)
    assert np.isnan(comparison.absolute).tolist() == [True, False]
    assert np.isnan(comparison.relative).tolist() == [True, False]


def test_huge_values_do_not_overflow_into_equality() -> None:
    comparison = compare_outputs({"y": np.array([1e308])}, {"y": np.array([-1e308])}, tolerance=0.5, rows=1)
    assert comparison.result == "mismatch"


def test_only_outputs_of_both_are_compared() -> None:
    primary = {"y": floats(1), "mine": floats(1)}
    assert compare_outputs(primary, {"y": floats(1), "other": floats(2)}, tolerance=0, rows=1).result == "match"
    assert compare_outputs(primary, {"mine": floats(2)}, tolerance=0, rows=1, names=["y"]).result == "error"
    both = {"y": floats(1), "mine": floats(2)}
    assert compare_outputs(primary, both, tolerance=0, rows=1, names=["y"]).result == "match"
    assert compare_outputs(primary, {"other": floats(2)}, tolerance=0, rows=1).reason == (
        "the two answers have no output in common"
    )


def test_a_shape_that_differs_is_a_mismatch_that_says_so() -> None:
    comparison = compare_outputs(
        {"y": floats(1, 2), "z": floats(1, 2)}, {"y": floats([1], [2]), "z": floats(1, 5)}, tolerance=0, rows=2
    )
    assert comparison.reason == "output 'y' has shape (2, 1), the answer had (2,)"
    assert comparison.absolute.tolist() == [0.0, 3.0]


SCORES = floats([0.9, 0.1], [0.4, 0.6], [0.5, 0.5])
FLIPPED = floats([0.9, 0.1], [0.6, 0.4], [0.5, 0.5])


@pytest.mark.parametrize(
    ("primary", "shadow", "options", "flips"),
    [
        ({"p": SCORES}, {"p": FLIPPED}, {}, 1),
        ({"p": SCORES}, {"p": SCORES}, {}, 0),
        ({"label": np.array([0, 1, 1]), "p": SCORES}, {"label": np.array([1, 0, 1]), "p": SCORES}, {}, 2),
        ({"p": SCORES, "label": texts("a", "b", "b")}, {"p": FLIPPED, "label": texts("a", "b", "b")}, {}, 0),
        ({"p": SCORES, "label": texts("a", "b", "b")}, {"p": FLIPPED, "label": texts(b"a", b"b", b"c")}, {}, 1),
        ({"n": np.array([1, 2, 3]), "p": SCORES}, {"n": np.array([9, 9, 9]), "p": FLIPPED}, {"label": "none"}, 1),
        ({"a": FLIPPED, "p": SCORES}, {"a": SCORES, "p": SCORES}, {"score": "p"}, 0),
        ({"label": np.array([[0], [1], [1]])}, {"label": np.array([[0], [0], [0]])}, {}, 2),
        ({"y": floats(1, 2, 3)}, {"y": floats(3, 2, 1)}, {}, 0),
        ({"y": floats([1], [2], [3])}, {"y": floats([3], [2], [1])}, {}, 0),
        ({"p": SCORES}, {"p": FLIPPED[:2]}, {}, 0),
        ({"p": floats([NAN, 1], [0, 1], [0, 1])}, {"p": floats([NAN, 1], [0, 1], [1, 0])}, {}, 1),
    ],
    ids=lambda value: None,
)
def test_a_class_flips_where_label_or_highest_score_differs(
    primary: dict[str, Array], shadow: dict[str, Array], options: dict[str, str], flips: int
) -> None:
    label, score = options.get("label"), options.get("score")
    comparison = compare_outputs(primary, shadow, tolerance=0, rows=3, label=label, score=score)
    assert comparison.class_flips == flips


def test_a_flip_within_the_tolerance_is_counted_and_is_a_match() -> None:
    comparison = compare_outputs({"p": floats([0.5001, 0.4999])}, {"p": floats([0.4999, 0.5001])}, tolerance=1, rows=1)
    assert (comparison.result, comparison.class_flips) == ("match", 1)


def test_an_output_without_rows_is_compared_as_one() -> None:
    comparison = compare_outputs({"y": floats(1, 2, 3, 4)}, {"y": floats(1, 2, 3, 9)}, tolerance=0, rows=2)
    assert comparison.absolute.tolist() == [5.0]


def test_no_answer_is_an_error_with_nothing_measured() -> None:
    comparison = failed_comparison("the queue was full")
    assert (comparison.result, comparison.reason, comparison.absolute.size) == ("error", "the queue was full", 0)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 4)).flatmap(
        lambda shape: st.tuples(hnp.arrays(np.float32, shape), hnp.arrays(np.float32, shape))
    ),
    st.floats(0, 10),
)
def test_the_verdict_is_numpys_and_the_same_in_both_directions(pair: tuple[Array, Array], tolerance: float) -> None:
    first, second = (array.astype(np.float64) for array in pair)
    with np.errstate(all="ignore"):
        distance = np.abs(first - second)
        larger = np.maximum(np.abs(first), np.abs(second))
        close = (distance <= tolerance) | (distance / larger <= tolerance)
        finite = np.isfinite(first) & np.isfinite(second)
        oracle = bool(np.all((first == second) | (np.isnan(first) & np.isnan(second)) | (close & finite)))
    one_way = compare_outputs({"y": pair[0]}, {"y": pair[1]}, tolerance=tolerance, rows=len(first))
    other_way = compare_outputs({"y": pair[1]}, {"y": pair[0]}, tolerance=tolerance, rows=len(first))
    assert (one_way.result == "match") == oracle
    assert one_way.result == other_way.result
    assert np.array_equal(one_way.absolute, other_way.absolute, equal_nan=True)
    assert one_way.absolute.shape == one_way.relative.shape == (len(first),)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)), st.integers(0, 4))
def test_identical_answers_are_reported_as_if_they_had_been_measured(output: Array, rows: int) -> None:
    """Equal bits take a short cut; the same numbers of another width do not."""
    short = compare_outputs({"y": output}, {"y": output.copy()}, tolerance=0, rows=rows)
    long = compare_outputs({"y": output}, {"y": output.astype(np.float64)}, tolerance=0, rows=rows)
    assert (short.result, short.reason, short.rows, short.class_flips) == ("match", "", rows, 0)
    assert (long.result, long.class_flips) == ("match", 0)
    np.testing.assert_array_equal(short.absolute, long.absolute)
    np.testing.assert_array_equal(short.relative, long.relative)
