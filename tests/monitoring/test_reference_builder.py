import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.errors import InvalidReference
from gateway.messages import Array
from gateway.monitoring.bins import FloatArray
from gateway.monitoring.reference import Reference
from gateway.monitoring.reference_builder import build_reference, feature_names
from tests.monitoring.windows import KINDS, bench, categorical, numeric


def names(reference: Reference) -> list[str]:
    return [feature.name for feature in reference.features]


@pytest.mark.parametrize(
    ("inputs", "given_names", "expected"),
    [
        ({"x": np.zeros((4, 2))}, {}, ["x_0", "x_1"]),
        ({"x": np.zeros((4, 1))}, {}, ["x"]),
        ({"x": np.zeros(4)}, {}, ["x"]),
        ({"x": np.zeros((4, 2, 2))}, {}, ["x_0", "x_1", "x_2", "x_3"]),
        ({"x": np.zeros((4, 2))}, {"x": ["age", "income"]}, ["age", "income"]),
        ({"x": np.zeros(4), "y": np.zeros((4, 1))}, {"y": ["weight"]}, ["x", "weight"]),
        ({"x": np.zeros((4, 0)), "y": np.zeros(4)}, {}, ["y"]),
    ],
)
def test_features_are_named_by_the_manifest_or_by_tensor_and_column(
    inputs: dict[str, Array], given_names: dict[str, list[str]], expected: list[str]
) -> None:
    assert names(build_reference(inputs, {}, names=given_names)) == expected


def test_predictions_follow_the_inputs_under_the_same_names() -> None:
    reference = build_reference({"x": np.zeros((4, 2))}, {"p": np.zeros((4, 2)), "label": np.zeros(4, np.int64)})
    assert [(feature.name, feature.role) for feature in reference.features] == [
        ("x_0", "input"),
        ("x_1", "input"),
        ("p_0", "prediction"),
        ("p_1", "prediction"),
        ("label", "prediction"),
    ]
    assert [feature.name for feature in reference.predictions] == ["p_0", "p_1", "label"]
    assert reference.columns == {"x": 2, "p": 2, "label": 1}


def test_a_prediction_named_like_an_input_says_that_it_is_one() -> None:
    """Series are told apart by the feature's name alone."""
    assert names(build_reference({"x": np.zeros(4)}, {"y": np.zeros(4)}, names={"y": ["x"]})) == ["x", "prediction_x"]


def test_a_selection_keeps_its_order_and_every_prediction() -> None:
    reference = build_reference({"x": np.zeros((4, 3))}, {"y": np.zeros(4)}, selected=["x_2", "x_0"])
    assert names(reference) == ["x_2", "x_0", "y"]
    assert reference.capped == 0


def test_columns_beyond_256_are_counted_as_capped() -> None:
    reference = build_reference({"x": np.zeros((4, 300))}, {"y": np.zeros((4, 260)), "label": np.zeros(4)})
    assert reference.capped == 44 + 5
    assert names(reference)[:256] == [f"x_{index}" for index in range(256)]
    assert names(reference)[256:] == [f"y_{index}" for index in range(256)]


@pytest.mark.parametrize(
    ("inputs", "given_names", "selected", "message"),
    [
        ({}, {}, None, "at least one row"),
        ({"x": np.zeros((0, 2))}, {}, None, "at least one row"),
        ({"x": np.zeros(())}, {}, None, "at least one row"),
        ({"x": np.zeros(4), "y": np.zeros(5)}, {}, None, "as many"),
        ({"x": np.zeros((4, 2))}, {"x": ["age"]}, None, "1 names"),
        ({"x": np.zeros((4, 2)), "x_1": np.zeros(4)}, {}, None, "both have"),
        ({"x": np.zeros((4, 2))}, {}, ["x_7"], "did you mean"),
    ],
)
def test_data_that_does_not_fit_is_refused_with_its_reason(
    inputs: dict[str, Array], given_names: dict[str, list[str]], selected: list[str] | None, message: str
) -> None:
    with pytest.raises(InvalidReference, match=message):
        build_reference(inputs, {}, names=given_names, selected=selected)


def test_given_names_must_be_as_many_as_columns() -> None:
    assert feature_names("x", 2, ["a", "b"]) == ["a", "b"]
    with pytest.raises(InvalidReference):
        feature_names("x", 3, ["a", "b"])


def test_moments_are_those_of_the_finite_values() -> None:
    values = np.array([1.0, 2.0, 4.0, np.nan, np.inf, -np.inf])
    feature = numeric(build_reference({"x": values}, {}))
    finite = values[:3]
    assert (feature.mean, feature.sigma) == pytest.approx((finite.mean(), finite.std()))
    assert (feature.minimum, feature.median, feature.maximum) == (1.0, 2.0, 4.0)
    assert (feature.null, feature.non_finite, feature.rows) == (1, 2, 6)


def test_centroids_are_the_means_of_their_bins() -> None:
    values = KINDS["lognormal"](np.random.default_rng(3), 5_000)
    feature = numeric(build_reference({"x": values}, {}))
    bins = np.searchsorted(feature.edges, values, side="right")
    expected = [values[bins == index].mean() for index in range(len(feature.counts))]
    assert feature.centroids == pytest.approx(expected)


@given(arrays.arrays(np.float64, st.integers(1, 120), elements=st.floats(-1e30, 1e30)))
def test_any_column_gives_a_reference_that_holds_its_own_rows(values: FloatArray) -> None:
    subject = bench(values)
    feature = numeric(subject.reference)
    low, high = np.quantile(values, [0.001, 0.999])
    assert feature.out_of_range == ((values < low) | (values > high)).sum()
    np.testing.assert_array_equal(subject.count(values), subject.layout.reference_counts(values.size))
    bounds = [-np.inf, *feature.edges, np.inf]
    for index, (count, centroid) in enumerate(zip(feature.counts, feature.centroids, strict=True)):
        assert bounds[index] <= centroid <= bounds[index + 1] or not count


def test_huge_values_do_not_overflow_the_moments() -> None:
    feature = numeric(build_reference({"x": np.array([1e200, 2e200, 3e200])}, {}))
    assert feature.mean == pytest.approx(2e200)
    assert feature.sigma == pytest.approx(np.sqrt(2 / 3) * 1e200)


def test_an_outlier_does_not_swallow_the_centroids_of_the_other_bins() -> None:
    values = np.append(np.random.default_rng(3).normal(size=2_000), -1e25)
    feature = numeric(build_reference({"x": values}, {}))
    assert np.ptp(feature.centroids[2:]) > 3


@pytest.mark.parametrize("constant", [0.1, 7.0, -3e-5, 0.0])
def test_a_constant_has_no_spread(constant: float) -> None:
    feature = numeric(build_reference({"x": np.full(1_000, constant)}, {}))
    assert (feature.sigma, feature.counts) == (0.0, (0, 1_000, 0))
    assert feature.centroids[1] == constant


def test_a_column_without_values_has_one_empty_bin() -> None:
    feature = numeric(build_reference({"x": np.full(9, np.nan)}, {}))
    assert (feature.edges, feature.counts, feature.null, feature.out_of_range) == ((), (0,), 9, 0)


def test_categories_keep_their_type() -> None:
    inputs = {"flag": np.array([True, False, True]), "code": np.array([7, 7, 9]), "text": np.array(["7", "9", "7"])}
    reference = build_reference(inputs, {})
    assert [categorical(reference, index).values for index in range(3)] == [(True, False), (7, 9), ("7", "9")]
    assert type(categorical(reference, 0).values[0]) is bool
