import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.messages import Array
from gateway.monitoring.bins import (
    FloatArray,
    kind_of,
    numeric_edges,
    point_masses,
    rank_categories,
    text_category,
    upper_edges,
)

FINITE = arrays.arrays(np.float64, st.integers(1, 200), elements=st.floats(-1e9, 1e9, width=32))
QUANTILES = [0.001, 0.01, *np.arange(1, 20) / 20, 0.99, 0.999]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([True, False]), "categorical"),
        (np.array(["a", "b"], dtype=object), "categorical"),
        (np.array([b"a", b"b"]), "categorical"),
        (np.arange(50, dtype=np.int32), "categorical"),
        (np.arange(51, dtype=np.int32), "numeric"),
        (np.arange(51, dtype=np.uint8), "numeric"),
        (np.array([0.0, 1.0]), "numeric"),
        (np.array([0.0, 1.0], dtype=np.float16), "numeric"),
    ],
)
def test_booleans_strings_and_few_integers_are_categorical_and_the_rest_numeric(values: Array, kind: str) -> None:
    assert kind_of(values) == kind


def test_edges_are_numpys_linear_quantiles_when_no_value_repeats() -> None:
    values = np.sort(np.random.default_rng(1).normal(size=5_000))
    edges = numeric_edges(values)
    expected = np.quantile(values, QUANTILES)
    assert edges.size == 23
    np.testing.assert_array_equal(edges[:-1], expected[:-1])
    assert edges[-1] == np.nextafter(expected[-1], np.inf)


def test_a_value_that_holds_over_five_percent_gets_a_bin_of_its_own() -> None:
    values = np.sort(np.concatenate([np.zeros(600), np.linspace(1, 2, 9_400)]))
    edges = numeric_edges(values)
    assert {0.0, np.nextafter(0.0, 1.0)} <= set(edges.tolist())


def test_a_value_that_holds_five_percent_or_less_is_no_point_mass() -> None:
    assert point_masses(np.sort(np.concatenate([np.zeros(500), np.linspace(1, 2, 9_500)]))).size == 0


def test_a_single_row_is_no_point_mass_however_few_rows_there_are() -> None:
    assert point_masses(np.arange(10.0)).size == 0


def test_a_constant_has_one_bin_for_itself_and_one_on_either_side() -> None:
    assert numeric_edges(np.full(100, 7.0)).tolist() == [7.0, np.nextafter(7.0, 8.0)]


def test_no_values_have_no_edges() -> None:
    assert numeric_edges(np.empty(0)).size == 0


@given(FINITE)
def test_edges_ascend_strictly_and_the_outer_bins_hold_what_is_out_of_range(values: FloatArray) -> None:
    ordered = np.sort(values)
    edges = numeric_edges(ordered)
    low, high = np.quantile(ordered, [0.001, 0.999])
    assert (np.diff(edges) > 0).all()
    bins = np.searchsorted(edges, ordered, side="right")
    np.testing.assert_array_equal((bins == 0) | (bins == edges.size), (ordered < low) | (ordered > high))


@given(FINITE)
def test_every_value_with_over_five_percent_of_the_rows_is_found(values: FloatArray) -> None:
    ordered = np.sort(values)
    distinct, counts = np.unique(ordered, return_counts=True)
    np.testing.assert_array_equal(point_masses(ordered), distinct[(counts > 0.05 * ordered.size) & (counts > 1)])


@given(FINITE, st.sampled_from([np.float16, np.float32, np.float64]))
def test_rounding_an_edge_moves_no_value_across_it(edges: FloatArray, precision: type[np.floating]) -> None:
    dtype = np.dtype(precision)
    with np.errstate(over="ignore"):
        values = np.unique(np.concatenate([edges, -edges]).astype(dtype))
        narrow = upper_edges(np.unique(edges), dtype)[1:-2]
    for wide, rounded in zip(np.unique(edges), narrow, strict=True):
        np.testing.assert_array_equal(values.astype(np.float64) < wide, values < rounded)


def test_categories_are_ranked_by_count_and_then_by_name() -> None:
    ranked = rank_categories(np.array(["b", "a", "b", "c", None, "a"], dtype=object))
    assert (ranked.values, ranked.counts, ranked.others) == (("a", "b", "c"), (2, 2, 1), ())
    assert (ranked.other, ranked.unseen, ranked.null) == (0, 1, 1)


def test_over_fifty_categories_are_chosen_by_every_other_row_and_counted_on_the_rest() -> None:
    """The rows that put a category on top by luck must not also say how common it is."""
    choosing = np.repeat([f"c{index:02}" for index in range(60)], np.arange(100, 40, -1))
    counted = np.full(choosing.size, "c00", dtype=object)
    values = np.empty(2 * choosing.size, dtype=object)
    values[::2], values[1::2] = choosing, counted
    ranked = rank_categories(values)
    assert set(ranked.values) == {f"c{index:02}" for index in range(50)}
    assert ranked.counts == (choosing.size, *[0] * 49)
    assert ranked.others == tuple(f"c{index}" for index in range(50, 60))
    assert ranked.other == 0


def test_equally_common_categories_do_not_seem_to_fade_after_the_reference() -> None:
    """Of 2,000 equally common categories the reference's commonest are so by luck alone."""
    rng = np.random.default_rng(3)
    texts = np.array([f"c{index}" for index in range(2_000)], dtype=object)
    ranked = rank_categories(texts[rng.integers(0, 2_000, 20_000)])
    share = sum(ranked.counts) / (sum(ranked.counts) + ranked.other)
    assert len(ranked.values) == 50
    assert share == pytest.approx(50 / 2_000, rel=0.2)


def test_an_identifier_has_no_common_categories_and_nothing_but_unseen_ones_to_come() -> None:
    ranked = rank_categories(np.array([f"user-{index}" for index in range(800)], dtype=object))
    assert ranked.values == ()
    assert ranked.unseen == ranked.other == 400
    assert ranked.others is not None
    assert len(ranked.others) == 800


def test_too_many_categories_to_list_are_never_unseen() -> None:
    ranked = rank_categories(np.array([f"user-{index}" for index in range(3_000)], dtype=object))
    assert (ranked.others, ranked.unseen, ranked.other) == (None, 0, 1_500)


@pytest.mark.parametrize(
    ("value", "category"),
    [
        ("plain", "plain"),
        (b"bytes", "bytes"),
        (b"\xff", "\\xff"),
        ("lone \ud800", "lone \\ud800"),
        ("", ""),
        (3, "3"),
    ],
)
def test_a_string_value_names_its_category(value: object, category: str) -> None:
    assert text_category(value) == category


def test_a_long_text_is_known_by_its_digest() -> None:
    assert text_category("x" * 128) == "x" * 128
    assert text_category("x" * 129).startswith("sha256:")
    assert text_category("x" * 129) != text_category("x" * 130)
