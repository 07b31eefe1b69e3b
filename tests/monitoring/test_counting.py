import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.errors import WindowMismatch
from gateway.messages import Array
from gateway.monitoring.bins import Counts
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.reference_builder import build_reference
from tests.monitoring.windows import KINDS, Bench, Draw, bench, categorical, numeric

ANY_FLOAT = st.floats(width=32, allow_nan=True, allow_infinity=True)


def counted_one_by_one(subject: Bench, values: Array) -> list[int]:
    """Count as one would by hand: -Inf, bins, +Inf, NaN."""
    edges = numeric(subject.reference).edges
    cells = [0] * (len(edges) + 4)
    for value in values.astype(np.float64).tolist():
        if np.isnan(value):
            cells[-1] += 1
        elif value == -np.inf:
            cells[0] += 1
        elif value == np.inf:
            cells[-2] += 1
        else:
            cells[1 + sum(edge <= value for edge in edges)] += 1
    return [len(values), *cells]


@pytest.mark.parametrize("draw", KINDS.values(), ids=KINDS.keys())
def test_the_reference_rows_counted_as_a_window_are_the_references_own_counts(draw: Draw) -> None:
    values = draw(np.random.default_rng(5), 3_000)
    subject = bench(values)
    np.testing.assert_array_equal(subject.count(values), subject.layout.reference_counts(3_000))


@given(arrays.arrays(np.float32, st.integers(1, 60), elements=ANY_FLOAT))
def test_bins_are_right_open_and_hold_every_value(values: Array) -> None:
    subject = bench(np.array([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 11, 1e20, np.nan], dtype=np.float32))
    assert subject.count(values).tolist() == counted_one_by_one(subject, values)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint64, np.int8])
def test_values_are_counted_exactly_in_every_precision(dtype: type[np.number]) -> None:
    rng = np.random.default_rng(2)
    subject = bench(rng.permutation(np.linspace(-100, 100, 401)).astype(dtype))
    values = rng.permutation(np.linspace(-128, 127, 997)).astype(dtype)
    assert subject.count(values).tolist() == counted_one_by_one(subject, values)


@given(st.lists(st.integers(0, 400), max_size=6), st.integers(0, 99))
def test_any_split_of_the_rows_in_any_order_adds_up_to_the_counts_of_all(cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(8)
    inputs: dict[str, Array] = {
        "wide": rng.normal(size=(400, 5)),
        "text": KINDS["zipf"](rng, 400),
        "flag": rng.random(400) < 0.5,
    }
    outputs: dict[str, Array] = {"score": rng.random((400, 2)).astype(np.float32), "label": rng.integers(0, 3, 400)}
    counter = BlockCounter(CountLayout(build_reference(inputs, outputs).features))
    bounds = [0, *sorted(cuts), 400]
    parts = [
        (
            {name: array[start:stop] for name, array in inputs.items()},
            {name: array[start:stop] for name, array in outputs.items()},
            stop - start,
        )
        for start, stop in itertools.pairwise(bounds)
    ]
    np.random.default_rng(seed).shuffle(parts)
    whole = counter.count([inputs], [outputs], 400)
    one_block = counter.count([part[0] for part in parts], [part[1] for part in parts], 400)
    singly = sum((counter.count([part[0]], [part[1]], part[2]) for part in parts), np.zeros_like(whole))
    np.testing.assert_array_equal(one_block, whole)
    np.testing.assert_array_equal(singly, whole)


def test_columns_of_a_wide_tensor_are_picked_by_position() -> None:
    rng = np.random.default_rng(4)
    wide = rng.normal(size=(500, 4))
    reference = build_reference({"x": wide}, {}, names={"x": ["a", "b", "c", "d"]}, selected=["d", "a"])
    layout = CountLayout(reference.features)
    counts = layout.bin_counts(BlockCounter(layout).count([{"x": wide}], [], 500))
    for row, column in zip(counts, (3, 0), strict=True):
        np.testing.assert_array_equal(row, bench(wide[:, column]).reference_counts[0])


def test_a_strided_view_is_counted_like_its_copy_and_never_reordered() -> None:
    rng = np.random.default_rng(4)
    wide = rng.normal(size=(500, 3))
    subject = bench(wide[:, 1])
    before = wide.copy()
    views = [{"x": wide[start : start + 5, 1]} for start in range(0, 500, 5)]
    np.testing.assert_array_equal(subject.counter.count(views, [], 500), subject.count(wide[:, 1].copy()))
    subject.counter.count([{"x": wide[:, 1]}], [], 500)
    np.testing.assert_array_equal(wide, before)


def test_unseen_other_and_null_categories_are_told_apart() -> None:
    rng = np.random.default_rng(6)
    texts = np.array([f"c{index}" for index in rng.zipf(1.3, 4_000).clip(max=90)], dtype=object)
    subject = bench(texts)
    feature = categorical(subject.reference)
    assert feature.others
    window = np.array([feature.values[0], feature.others[0], "new", None, float("nan")], dtype=object)
    counts = subject.count(window)
    assert counts.tolist() == [5, 1, *[0] * (len(feature.values) - 1), 1, 1, 2]
    assert subject.layout.unseen(counts).tolist() == [1]
    assert subject.layout.null(counts).tolist() == [2]
    assert subject.layout.bin_counts(counts)[0, -1] == 2


def test_unseen_categories_of_an_unlistable_feature_count_as_other() -> None:
    subject = bench(np.array([f"user-{index}" for index in range(3_000)], dtype=object))
    counts = subject.count(np.array(["stranger"], dtype=object))
    assert subject.layout.unseen(counts).tolist() == [0]
    assert subject.layout.bin_counts(counts)[0, -1] == 1


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_an_integer_outside_the_reference_is_unseen(dtype: type[np.integer]) -> None:
    limits = np.iinfo(dtype)
    subject = bench(np.array([limits.max, 1, 2, 2], dtype=dtype))
    counts = subject.count(np.array([limits.max, limits.max - 1, limits.min, 2, 3], dtype=dtype))
    assert subject.layout.unseen(counts).tolist() == [3]


def test_null_and_non_finite_rows_are_in_no_bin() -> None:
    subject = bench(np.arange(100.0))
    counts = subject.count(np.array([np.nan, np.inf, -np.inf, -np.inf, 5.0, 1e6, -1e6]))
    assert subject.layout.null(counts).tolist() == [1]
    assert subject.layout.non_finite(counts).tolist() == [3]
    assert subject.layout.out_of_range(counts).tolist() == [2]
    assert subject.layout.feature_rows(counts).tolist() == [7]
    assert subject.layout.bin_counts(counts).sum() == 3


def test_an_output_that_was_not_asked_for_leaves_its_feature_short_of_rows() -> None:
    rng = np.random.default_rng(3)
    inputs, outputs = {"x": rng.normal(size=(100, 1))}, {"y": rng.normal(size=100)}
    layout = CountLayout(build_reference(inputs, outputs).features)
    counts = BlockCounter(layout).count([inputs, inputs], [{}, outputs], 200)
    assert counts[0] == 200
    assert layout.feature_rows(counts).tolist() == [200, 100]


@pytest.mark.parametrize(
    "window",
    [
        [{"x": np.zeros((3, 1))}],
        [{"x": np.zeros((3, 2))}, {"x": np.zeros((3, 2))}],
        [{"x": np.zeros((2, 2))}, {"x": np.zeros((2, 3))}],
        [{"x": np.zeros((2, 2))}, {"x": np.zeros((2, 2), dtype=np.float32)}, {"x": np.zeros((2, 2))}],
        [{"x": np.zeros(())}],
        [{"x": np.array([[1.0, 2.0]] * 4, dtype=object)}],
    ],
    ids=["too narrow", "too many rows", "uneven", "more rows of two datatypes", "no rows axis", "text"],
)
def test_arrays_that_do_not_fit_are_refused_whole(window: list[dict[str, Array]]) -> None:
    counter = BlockCounter(CountLayout(build_reference({"x": np.zeros((10, 2))}, {}).features))
    with pytest.raises((ValueError, IndexError)):
        counter.count(window, [], 4)


def test_counts_of_another_layout_are_refused() -> None:
    layout = bench(np.arange(100.0)).layout
    with pytest.raises(WindowMismatch):
        layout.bin_counts(np.zeros(3, np.int64))


def test_a_layout_without_features_counts_rows_alone() -> None:
    layout = CountLayout([])
    counts: Counts = BlockCounter(layout).count([{"x": np.zeros(7)}], [], 7)
    assert counts.tolist() == [7]
    assert layout.bin_counts(counts).shape == (0, 1)
    assert layout.feature_rows(counts).shape == (0,)
