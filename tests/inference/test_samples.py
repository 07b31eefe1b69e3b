"""Holds the made-up and the golden tensors to their promises: right datatype, right shape, nothing silently bent."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gateway.errors import InvalidModel
from gateway.inference.manifest import Golden, GoldenCase
from gateway.inference.samples import (
    as_array,
    bfloat16_bits,
    bfloat16_values,
    concatenated,
    golden_inputs,
    has_distinct_rows,
    joined_sample,
    positive,
    random_inputs,
    repeated_rows,
    sample_shape,
)
from gateway.inference.signature import NUMPY_TYPES, Signature, tensor_spec
from gateway.messages import Array, TensorSpec
from tests.support.onnx_models import DATATYPES

NUMBERS = [name for name in DATATYPES if name not in ("BYTES", "BF16", "BOOL")]
RENAMED = {"FP16": "float16", "BF16": "bfloat16", "FP32": "float", "FP64": "double", "BYTES": "string"}


def spec(datatype: str = "FP32", *shape: int | str, name: str = "x") -> TensorSpec:
    return tensor_spec(name, f"tensor({RENAMED.get(datatype, datatype.lower())})", shape or ("rows", 2), role="input")


def fault(nested: object, datatype: str, *shape: int | str) -> str:
    with pytest.raises(InvalidModel) as caught:
        as_array(nested, spec(datatype, *shape), where="golden.json: case 0: 'x'")
    return str(caught.value)


# --- nested lists become arrays -----------------------------------------------------------------------


@pytest.mark.parametrize("datatype", NUMBERS)
@settings(max_examples=25)
@given(data=st.data())
def test_numbers_written_as_lists_are_read_as_they_were(datatype: str, data: st.DataObject) -> None:
    dtype = np.dtype(NUMPY_TYPES[datatype])
    array = data.draw(
        npst.arrays(dtype, (2, 3), elements=npst.from_dtype(dtype, allow_nan=False, allow_infinity=False))
    )
    read = as_array(array.tolist(), spec(datatype), where="golden.json")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, array)


def test_booleans_and_strings_are_read_as_they_were() -> None:
    assert as_array([[True, False]], spec("BOOL"), where="").tolist() == [[True, False]]
    words = as_array([["a", ""], ["ü", "1"]], spec("BYTES"), where="")
    assert words.dtype == object
    assert words.tolist() == [["a", ""], ["ü", "1"]]


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_nan_in_floats(datatype: str) -> None:
    read = as_array([[None, 1]], spec(datatype), where="")
    assert np.isnan(read[0, 0])
    assert read[0, 1] == 1


def test_bfloat16_is_written_as_numbers_and_read_as_bits() -> None:
    read = as_array([[1.0, 2], [None, -1.5]], spec("BF16"), where="")
    assert read.dtype == np.uint16
    assert read[[0, 0, 1], [0, 1, 1]].tolist() == [0x3F80, 0x4000, 0xBFC0]
    assert np.isnan(bfloat16_values(read)[1, 0])


def test_a_scalar_is_a_bare_element() -> None:
    scalar = tensor_spec("x", "tensor(float)", (), role="input")
    assert as_array(1.5, scalar, where="").tolist() == 1.5


@pytest.mark.parametrize(
    ("nested", "datatype"),
    [
        pytest.param([[1.5, 1]], "INT64", id="a fraction among integers"),
        pytest.param([[1.0, 1]], "INT64", id="a whole fraction among integers"),
        pytest.param([[None, 1]], "INT64", id="null among integers"),
        pytest.param([["1", 1]], "INT64", id="a string among integers"),
        pytest.param([[True, 1]], "INT64", id="a boolean among integers"),
        pytest.param([[256, 1]], "UINT8", id="above the range"),
        pytest.param([[-1, 1]], "UINT8", id="below the range"),
        pytest.param([[1 << 63, 1]], "INT64", id="beyond 64 bits"),
        pytest.param([["nan", 1]], "FP32", id="a string among floats"),
        pytest.param([[True, 1]], "FP32", id="a boolean among floats"),
        pytest.param([[70_000, 1]], "FP16", id="beyond FP16"),
        pytest.param([[1e39, 1]], "FP32", id="beyond FP32"),
        pytest.param([[10**400, 1]], "FP64", id="beyond FP64"),
        pytest.param([[1e39, 1]], "BF16", id="beyond BF16"),
        pytest.param([["1", 1]], "BF16", id="a string among BF16"),
        pytest.param([[1, 0]], "BOOL", id="integers for booleans"),
        pytest.param([[None, False]], "BOOL", id="null among booleans"),
        pytest.param([["a", 1]], "BYTES", id="a number among strings"),
        pytest.param([["a", None]], "BYTES", id="null among strings"),
        pytest.param([["a", ["b"]], ["c", "d"]], "BYTES", id="a list among strings"),
        pytest.param([["a", {}]], "BYTES", id="an object among strings"),
        pytest.param([[1], [1, 2]], "FP32", id="ragged"),
        pytest.param([[1, {}]], "FP32", id="an object"),
    ],
)
def test_elements_of_another_kind_are_refused_not_bent(nested: object, datatype: str) -> None:
    assert fault(nested, datatype).startswith(f"golden.json: case 0: 'x': not {datatype} elements: ")


@pytest.mark.parametrize(("nested", "axes"), [([1, 2], 1), ([[[1, 2]]], 3), (1, 0)])
def test_another_number_of_axes_is_refused(nested: object, axes: int) -> None:
    assert fault(nested, "FP32") == f"golden.json: case 0: 'x': has {axes} axes, expected 2"


def test_lists_without_end_are_refused() -> None:
    nested: object = 1
    for _ in range(900):
        nested = [nested]
    for datatype in ("FP32", "BYTES"):
        assert fault(nested, datatype).startswith("golden.json: case 0: 'x': ")


# --- golden requests -------------------------------------------------------------------------------------


def golden(*inputs: dict[str, object]) -> Golden:
    return Golden(cases=[GoldenCase(inputs=case, outputs={}) for case in inputs])


SIGNATURE = Signature.of([spec("FP32", name="x"), spec("INT64", "rows", name="w")], [spec("FP32", name="y")])


def test_golden_inputs_come_in_the_models_datatypes() -> None:
    (first, second) = golden_inputs(SIGNATURE, golden({"w": [1], "x": [[1, 2]]}, {"x": [[1, 2]]}))
    assert {name: array.dtype.name for name, array in first.items()} == {"x": "float32", "w": "int64"}
    assert list(second) == ["x"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"v": [1]}, "golden.json: case 1: the model has no input 'v'"),
        ({"w": [1.5]}, "golden.json: case 1: 'w': not INT64 elements: found 1.5"),
        ({"w": []}, "golden.json: case 1: 'w' is empty, expected at least one element"),
    ],
)
def test_a_golden_input_that_does_not_fit_names_its_case(inputs: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        golden_inputs(SIGNATURE, golden({"w": [1]}, inputs))
    assert str(caught.value) == said


# --- BF16 ----------------------------------------------------------------------------------------------------


def test_all_bfloat16_values_survive_being_widened_and_rounded() -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    numbers = bits[~np.isnan(bfloat16_values(bits))]
    np.testing.assert_array_equal(bfloat16_bits(bfloat16_values(numbers)), numbers)
    np.testing.assert_array_equal(bfloat16_values(bits), bits.view(ml_dtypes.bfloat16).astype(np.float32))


@given(npst.arrays(np.float32, 8, elements=st.floats(width=32, allow_nan=False)))
def test_rounding_to_bfloat16_is_what_everybody_does(values: Array) -> None:
    np.testing.assert_array_equal(bfloat16_bits(values), values.astype(ml_dtypes.bfloat16).view(np.uint16))


@pytest.mark.parametrize("beyond", [0x0001, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_rounding_to_bfloat16_goes_to_the_nearest_and_halves_to_even(beyond: int) -> None:
    values = ((np.arange(1 << 16, dtype=np.uint32) << 16) | np.uint32(beyond)).view(np.float32)
    values = values[~np.isnan(values)]
    np.testing.assert_array_equal(bfloat16_bits(values), values.astype(ml_dtypes.bfloat16).view(np.uint16))


def test_nan_stays_nan_in_bfloat16() -> None:
    assert np.isnan(bfloat16_values(bfloat16_bits(np.array([np.nan, -np.nan], np.float32)))).all()


# --- made-up tensors --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DATATYPES)
def test_made_up_inputs_have_the_models_datatype_and_the_rows_asked_for(datatype: str) -> None:
    signature = Signature.of([spec(datatype, "rows", 2, "length")], [spec("FP32", "rows", name="y")])
    made = random_inputs(signature, 5, np.random.default_rng(0), scale=1.0)["x"]
    assert (made.shape, made.dtype) == ((5, 2, 1), np.dtype(NUMPY_TYPES[datatype]))
    if datatype == "BYTES":
        assert all(isinstance(element, str) for element in made.ravel())


@pytest.mark.parametrize(
    ("datatype", "scale", "below"),
    [
        ("INT64", 0.01, 2),
        ("INT64", 1.0, 2),
        ("INT64", 100.0, 100),
        ("UINT8", 1e6, 127),
        ("INT8", 1e6, 127),
        ("BOOL", 100.0, 2),
    ],
)
def test_made_up_integers_are_small_enough_for_an_index_and_reach_up_to_the_scale(
    datatype: str, scale: float, below: int
) -> None:
    signature = Signature.of([spec(datatype, "rows", 50)], [spec("FP32", "rows", name="y")])
    made = random_inputs(signature, 100, np.random.default_rng(0), scale=scale)["x"].astype(np.int64)
    assert set(np.unique(made)) == set(range(below))


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
def test_made_up_floats_grow_with_the_scale(datatype: str) -> None:
    signature = Signature.of([spec(datatype, "rows", 50)], [spec("FP32", "rows", name="y")])

    def spread(scale: float) -> float:
        made = random_inputs(signature, 20, np.random.default_rng(0), scale=scale)["x"]
        return float(np.std(bfloat16_values(made) if datatype == "BF16" else made.astype(np.float64)))

    assert spread(1.0) == pytest.approx(1.0, rel=0.1)
    assert spread(100.0) == pytest.approx(100.0, rel=0.1)


def test_positive_inputs_have_lost_the_signs_of_their_floats_and_nothing_else() -> None:
    signature = Signature.of(
        [spec("FP32", name="x"), spec("BF16", name="b"), spec("INT64", name="w"), spec("BYTES", name="s")], []
    )
    bits = bfloat16_bits(np.array([[-1.5, 2.0]], np.float32))
    words = np.array([["-1", "a"]], object)
    made = positive(
        signature, {"x": np.array([[-1.5, 2]], np.float32), "b": bits, "w": np.array([[-1, 2]]), "s": words}
    )
    assert made["x"].tolist() == bfloat16_values(made["b"]).tolist() == [[1.5, 2.0]]
    assert (made["x"].dtype, made["b"].dtype) == (np.dtype(np.float32), np.dtype(np.uint16))
    assert (made["w"].tolist(), made["s"].tolist()) == ([[-1, 2]], [["-1", "a"]])


@pytest.mark.parametrize(
    ("rows", "are_distinct"),
    [
        ([[1.0, 2.0]], False),
        ([[1.0, 2.0], [1.0, 2.0]], False),
        ([[1.0, 2.0], [1.0, 2.5]], True),
        ([[1.0, np.nan], [1.0, np.nan]], False),
        ([["a"], ["a"], ["b"]], True),
        ([["a"], ["a"]], False),
    ],
)
def test_rows_are_distinct_when_any_differs_from_the_first(rows: list[list[object]], *, are_distinct: bool) -> None:
    array: Array = np.array(rows, object if isinstance(rows[0][0], str) else np.float32)
    assert has_distinct_rows({"same": np.ones((len(rows), 1)), "x": array}) is are_distinct


def test_a_sample_joins_the_cases_that_fit_to_the_first_up_to_64_rows() -> None:
    signature = Signature.of([spec("FP32", "rows", "length")], [spec("FP32", "rows", name="y")])
    cases = [{"x": np.full((rows, length), rows)} for rows, length in ((1, 2), (2, 3), (3, 2), (90, 2))]
    joined = joined_sample(signature, cases)
    assert joined is not None
    assert joined["x"].shape == (64, 2)
    assert joined["x"][:5, 0].tolist() == [1, 3, 3, 3, 90]
    assert joined_sample(signature, []) is None


@pytest.mark.parametrize("shape", [(4, 3), ()])
def test_cases_of_fixed_or_no_rows_are_not_joined(shape: tuple[int, ...]) -> None:
    tensor = tensor_spec("x", "tensor(float)", shape, role="input")
    signature = Signature.of([tensor], [tensor])
    first = {"x": np.zeros(shape)}
    assert joined_sample(signature, [first, {"x": np.ones(shape)}]) is first


@pytest.mark.parametrize(
    ("shape", "has_rows", "like", "made"),
    [
        (("rows", 3), True, None, (7, 3)),
        (("rows", "length"), True, None, (7, 1)),
        (("rows", "length"), True, (2, 5), (7, 5)),
        ((4, 3), True, None, (7, 3)),
        (("length", 3), False, None, (1, 3)),
        (("length", 3), False, (9, 3), (9, 3)),
    ],
)
def test_free_axes_take_the_sizes_of_the_sample_and_one_without(
    shape: tuple[int | str, ...], like: tuple[int, ...] | None, made: tuple[int, ...], *, has_rows: bool
) -> None:
    sample = None if like is None else {"x": np.zeros(like, np.float32)}
    assert sample_shape(spec("FP32", *shape), 7, has_rows=has_rows, like=sample) == made


def test_a_sample_without_this_input_says_nothing_of_its_sizes() -> None:
    assert sample_shape(spec("FP32", "rows", "length"), 7, has_rows=True, like={"w": np.zeros((2, 5))}) == (7, 1)


@given(st.integers(1, 5), st.integers(1, 12))
def test_rows_of_a_sample_are_cycled(sample_rows: int, rows: int) -> None:
    repeated = repeated_rows({"x": np.arange(sample_rows)}, rows)["x"]
    assert repeated.tolist() == [row % sample_rows for row in range(rows)]


def test_requests_are_joined_along_the_rows() -> None:
    joined = concatenated([{"x": np.ones((1, 2)), "w": np.zeros(1)}, {"x": np.zeros((2, 2)), "w": np.ones(2)}])
    assert {name: array.shape for name, array in joined.items()} == {"x": (3, 2), "w": (3,)}
