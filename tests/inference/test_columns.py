"""Every column of data finds its place in the inputs or is named; every value that does not fit, too."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.errors import InvalidData
from gateway.inference.columns import fill_input, naming_faults, plan_columns
from gateway.inference.samples import bfloat16_values
from gateway.inference.signature import Signature
from gateway.messages import Array, TensorSpec


def spec(name: str = "x", datatype: str = "FP32", shape: tuple[int, ...] = (-1, 3)) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape, axes=("",) * len(shape))


def signature(*inputs: TensorSpec) -> Signature:
    return Signature.of(inputs, [spec("y")])


def scalars(*names: str) -> dict[str, bool]:
    return dict.fromkeys(names, True)


def objects(*values: object) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


AGE_AND_BMI = signature(spec("age", shape=(-1, 1)), spec("bmi", shape=(-1,)))


# --- which column goes where --------------------------------------------------------------------------


def test_the_only_input_takes_all_columns_in_their_order() -> None:
    plan = plan_columns(signature(spec()), scalars("b", "a", "x"), in_order=True)
    assert plan.sources == {"x": ("b", "a", "x")}
    assert plan.features == {"x": ["b", "a", "x"]}


def test_an_input_of_any_width_takes_what_there_is() -> None:
    assert plan_columns(signature(spec(shape=(-1, -1))), scalars("a", "b"), in_order=True).sources == {"x": ("a", "b")}


def test_an_input_of_one_value_a_row_takes_the_only_column_whatever_its_name() -> None:
    assert plan_columns(signature(spec(shape=(-1,))), scalars("a"), in_order=True).sources == {"x": ("a",)}


def test_inputs_of_one_column_each_take_theirs_by_name_in_any_order() -> None:
    plan = plan_columns(AGE_AND_BMI, scalars("bmi", "age"), in_order=True)
    assert plan.sources == {"age": ("age",), "bmi": ("bmi",)}
    assert plan.features == {"age": ["age"], "bmi": ["bmi"]}


def test_a_wide_input_among_others_takes_its_numbered_columns() -> None:
    """`<input>_<index>` is what its features are called where nobody names them."""
    plan = plan_columns(signature(spec("a", shape=(-1,)), spec("x")), scalars("x_2", "x_0", "a", "x_1"), in_order=True)
    assert plan.sources == {"a": ("a",), "x": ("x_0", "x_1", "x_2")}
    assert plan.features["x"] == ["x_0", "x_1", "x_2"]


def test_whole_tensors_go_by_name_and_name_no_features() -> None:
    plan = plan_columns(signature(spec("image", shape=(-1, 1, 8, 8))), {"image": False}, in_order=True)
    assert plan.sources == {"image": ("image",)}
    assert plan.features == {}


@pytest.mark.parametrize(
    ("inputs", "columns", "in_order", "said"),
    [
        (
            signature(spec()),
            scalars("a", "b", "c", "label"),
            True,
            "takes 3 columns in their order, got 4 ('a', 'b', 'c', 'label'): leave out what is no feature with --drop",
        ),
        (signature(spec()), scalars("a", "b"), True, "takes 3 columns in their order, got 2 ('a', 'b')"),
        (
            signature(spec(shape=(-1, 9))),
            scalars(*map(str, range(12))),
            True,
            "got 12 ('0', '1', '2', '3', …, '9', '10', '11')",
        ),
        (AGE_AND_BMI, scalars("age", "bmi", "sex"), True, "column 'sex' fits no input ('age', 'bmi')"),
        (AGE_AND_BMI, scalars("age", "bmi", "sex", "bp"), True, "columns 'sex', 'bp' fit no input ('age', 'bmi')"),
        (AGE_AND_BMI, scalars("age"), True, "input 'bmi' [any] finds no column of its name among 'age'"),
        (signature(spec()), scalars("a", "b", "c"), False, "input 'x' [any, 3] finds no column of its name"),
        (signature(spec(shape=(-1, 1, 8, 8))), scalars("p0", "p1"), True, "finds no column of its name"),
        (signature(spec()), scalars("", "a", "b"), True, "a column has no name (a row number, perhaps)"),
        (signature(spec(shape=())), scalars("a"), True, "input 'x' has no rows to fill"),
    ],
)
def test_what_does_not_fit_is_named(inputs: Signature, columns: dict[str, bool], *, in_order: bool, said: str) -> None:
    with pytest.raises(InvalidData) as raised:
        plan_columns(inputs, columns, in_order=in_order)
    assert said in str(raised.value)


# --- as which datatype -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datatype", "values", "expected"),
    [
        ("FP32", objects("1.5", "", " 2 ", "nan"), [1.5, None, 2, None]),
        ("FP32", objects("True", "false", "1e3"), [1, 0, 1000]),
        ("FP32", objects(None, 1, 2.5, True), [None, 1, 2.5, 1]),
        ("FP64", np.array([1, 2], np.int64), [1, 2]),
        ("FP16", np.array([0.5, -2], np.float64), [0.5, -2]),
        ("FP32", np.array(["inf", "-1"], np.str_), [np.inf, -1]),
        ("FP32", np.array([b"0.25", b""], np.bytes_), [0.25, None]),
        ("INT64", objects("9007199254740993", "-3", "4.0", "true"), [9007199254740993, -3, 4, 1]),
        ("INT64", objects(2**62 + 1, 7.0), [2**62 + 1, 7]),
        ("UINT64", objects("18446744073709551615"), [2**64 - 1]),
        ("INT8", np.array([-128.0, 127.0]), [-128, 127]),
        ("UINT8", np.array([True, False]), [1, 0]),
        ("BOOL", objects("True", "0", "false", "1"), [True, False, False, True]),
        ("BOOL", np.array([1, 0], np.int64), [True, False]),
        ("BYTES", objects("Dream", ""), ["Dream", ""]),
        ("BYTES", np.array(["Dream"], np.str_), ["Dream"]),
        ("BYTES", np.array([10115], np.int64), ["10115"]),
        ("BYTES", np.array(["größe".encode()], np.bytes_), ["größe"]),
    ],
)
def test_values_become_the_inputs_datatype(datatype: str, values: Array, expected: list[object]) -> None:
    array = fill_input(spec(datatype=datatype, shape=(-1,)), [("a", values)])
    got = [None if value != value else value for value in array.tolist()]  # noqa: PLR0124 - NaN alone differs from itself
    assert got == expected


def test_bf16_is_filled_with_its_bits() -> None:
    array = fill_input(spec(datatype="BF16", shape=(-1, 1)), [("a", objects("1.5", "-2"))])
    assert array.dtype == np.uint16
    assert bfloat16_values(array).tolist() == [[1.5], [-2]]


@pytest.mark.parametrize(
    ("datatype", "values", "said"),
    [
        ("FP32", objects("1", "Dream"), "column 'a', row 12: 'Dream' is not a number"),
        ("FP32", objects("1", "1e39"), "column 'a', row 12: 1e+39 is out of FP32's range"),
        ("FP16", np.array([1, 70000.0]), "row 12: 70000.0 is out of FP16's range"),
        ("FP32", objects("1", ["2"]), "row 12: ['2'] is not a number"),
        ("INT64", objects("1", "1.5"), "row 12: '1.5' is not a whole number"),
        ("INT64", objects("1", ""), "row 12: '' is not a whole number"),
        ("INT64", objects(1, None), "row 12: null is not a whole number"),
        ("INT64", np.array([1, np.nan]), "row 12: nan is not a whole number"),
        ("INT64", np.array([1, np.inf]), "row 12: inf is not a whole number"),
        ("INT64", objects(1, 2**63), "row 12: 9223372036854775808 is out of INT64's range"),
        ("UINT8", np.array([1, -1], np.int64), "row 12: -1 is out of UINT8's range"),
        ("INT8", np.array([1, 128.0]), "row 12: 128.0 is out of INT8's range"),
        ("BOOL", objects("1", "2"), "row 12: 2 is out of BOOL's range"),
        ("BOOL", objects("1", "yes"), "row 12: 'yes' is not true or false"),
        ("BYTES", objects("a", None), "row 12: null is not text"),
        ("BYTES", objects("a", True), "row 12: True is not text"),
        ("BYTES", np.array([1.5, 2]), "column 'a' holds float64 numbers, expected text"),
        ("FP32", np.array(["2026-11-21"], "datetime64[D]"), "column 'a' holds datetime64[D] values"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_column_and_row(datatype: str, values: Array, said: str) -> None:
    with pytest.raises(InvalidData) as raised:
        fill_input(spec(datatype=datatype, shape=(-1,)), [("a", values)], first_row=11)
    assert said in str(raised.value)


def test_columns_are_set_side_by_side() -> None:
    array = fill_input(spec(), [("a", objects("1", "4")), ("b", objects("2", "5")), ("c", objects("3", ""))])
    assert array.dtype == np.float32
    assert array[0].tolist() == [1, 2, 3]
    assert np.isnan(array[1, 2])


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ((-1, 2), np.array([[1, 2], [3, 4]])),
        ((-1, -1), objects([1, 2], [3, 4])),
        ((4, 2), objects([1, 2], [3, 4])),
    ],
)
def test_one_column_may_hold_whole_tensors(shape: tuple[int, ...], values: Array) -> None:
    assert fill_input(spec(shape=shape), [("x", values)]).tolist() == [[1, 2], [3, 4]]


def test_null_in_a_tensor_of_floats_is_nan() -> None:
    assert np.isnan(fill_input(spec(), [("x", objects([1, None, 3]))])[0, 1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((2, 64)), "column 'x' has shape [rows, 64], input 'x' takes [any, 3]"),
        (np.zeros(2), "column 'x' has shape [rows], input 'x' takes [any, 3]"),
        (objects([1, 2], [3]), "not FP32 elements"),
        (objects([1, 2, 3], [1, 2, "3"]), "not FP32 elements"),
    ],
)
def test_a_tensor_of_another_shape_is_named(values: Array, said: str) -> None:
    with pytest.raises(InvalidData) as raised:
        fill_input(spec(), [("x", values)])
    assert said in str(raised.value)


# --- names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "one", "role", "fault"),
    [
        ({"x": ["a", "b", "c"]}, spec(), "input", ""),
        ({"x": ["a"]}, spec(shape=(-1, -1)), "input", ""),
        ({"x": ["a"]}, spec(shape=(-1,)), "input", ""),
        ({"x": ["a", "b"]}, spec(), "input", "has 2 names, input 'x' [any, 3] has 3 columns"),
        ({"x": ["a", "b", "a"]}, spec(), "input", "a name stands twice: 'a'"),
        ({"w": ["a"]}, spec(), "input", "the model has no input 'w', expected one of 'x'"),
        ({"x": ["no", "yes"]}, spec(shape=(-1,)), "output", ""),
        ({"x": ["no", "yes"]}, spec(shape=(-1, 1)), "output", ""),
        ({"x": ["no", "yes"]}, spec(), "output", "has 2 names, output 'x' [any, 3] has 3 columns"),
        ({"w": ["no"]}, spec(), "output", "the model has no output 'w', expected one of 'x'"),
    ],
)
def test_names_that_stand_for_nothing_are_found(
    names: dict[str, list[str]], one: TensorSpec, role: str, fault: str
) -> None:
    found = naming_faults(names, {one.name: one}, role=role)
    assert list(found.values()) == ([fault] if fault else [])
    assert found.keys() <= names.keys()
