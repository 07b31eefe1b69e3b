"""Holds the signature to its promises: what the file's words mean, and which tensors fit.

Opens no model: tensors are described by hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput, InvalidModel
from gateway.inference.signature import FREE_ROWS, NUMPY_TYPES, Signature, display_shape, tensor_spec
from gateway.messages import Array, TensorSpec

Shape = Sequence[int | str | None]


def spec(name: str, *shape: int | str | None, onnx_type: str = "tensor(float)") -> TensorSpec:
    return tensor_spec(name, onnx_type, shape, role="input")


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


# --- one tensor -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("element", "datatype"),
    [
        ("bool", "BOOL"),
        ("uint8", "UINT8"),
        ("uint16", "UINT16"),
        ("uint32", "UINT32"),
        ("uint64", "UINT64"),
        ("int8", "INT8"),
        ("int16", "INT16"),
        ("int32", "INT32"),
        ("int64", "INT64"),
        ("float16", "FP16"),
        ("bfloat16", "BF16"),
        ("float", "FP32"),
        ("double", "FP64"),
        ("string", "BYTES"),
    ],
)
def test_every_onnx_element_has_its_protocol_datatype(element: str, datatype: str) -> None:
    assert spec("x", 1, onnx_type=f"tensor({element})").datatype == datatype
    assert datatype in NUMPY_TYPES


def test_sizes_symbols_and_silence_of_the_file_become_sizes_and_axes() -> None:
    made = spec("x", "rows", 30, None, -1, -7, 0)
    assert made.shape == (-1, 30, -1, -1, -1, 0)
    assert made.axes == ("rows", "", "", "", "", "")


@pytest.mark.parametrize("element", ["complex64", "float8e4m3fn", "uint4"])
def test_elements_without_a_datatype_are_refused_by_name(element: str) -> None:
    with pytest.raises(InvalidModel, match=f"^output 'y' has {element} elements, which the protocol has no datatype"):
        tensor_spec("y", f"tensor({element})", (1,), role="output")


def test_a_zipmap_output_is_refused_with_both_repairs() -> None:
    with pytest.raises(InvalidModel) as caught:
        tensor_spec("probabilities", "seq(map(int64,tensor(float)))", (), role="output")
    text = str(caught.value)
    assert text.startswith("output 'probabilities' is seq(map(int64,tensor(float))), expected a tensor")
    assert "options={'zipmap': False}" in text
    assert "gateway publish --strip-zipmap" in text


@pytest.mark.parametrize("onnx_type", ["seq(tensor(float))", "map(int64,tensor(float))", "sparse_tensor(float)", ""])
def test_other_values_that_are_no_tensors_are_refused_without_a_repair_that_would_not_help(onnx_type: str) -> None:
    with pytest.raises(InvalidModel) as caught:
        tensor_spec("y", onnx_type, (), role="output")
    assert "expected a tensor" in str(caught.value)
    assert "zipmap" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "written"),
    [
        (("rows", 30), "[rows, 30]"),
        ((None, 4), "[any, 4]"),
        ((), "[]"),
        ((0, "length"), "[0, length]"),
    ],
)
def test_a_shape_is_written_with_the_names_of_its_axes(shape: Shape, written: str) -> None:
    assert display_shape(spec("x", *shape)) == written


# --- all tensors: the rows ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "outputs", "rows", "same_rows_axis"),
    [
        pytest.param([("rows", 3)], [("rows", 2)], FREE_ROWS, True, id="one name everywhere"),
        pytest.param([(None, 3)], [(None,)], FREE_ROWS, True, id="no name anywhere"),
        pytest.param([("rows", 3)], [("other", 2)], FREE_ROWS, False, id="names differ"),
        pytest.param([("rows", 3)], [(None, 2)], FREE_ROWS, False, id="one is unnamed"),
        pytest.param([("rows", 3), ("batch", 1)], [("rows", 2)], FREE_ROWS, False, id="inputs differ"),
        pytest.param([(4, 3)], [(4,)], 4, False, id="fixed rows"),
        pytest.param([(4, 3)], [(5,)], None, False, id="fixed rows that differ"),
        pytest.param([("rows", 3)], [(4, 3)], None, False, id="free in, fixed out"),
        pytest.param([()], [()], None, False, id="scalars have no rows"),
        pytest.param([("rows", 3)], [()], None, False, id="a scalar among the outputs"),
        pytest.param([], [(3,)], 3, False, id="no inputs"),
        pytest.param([], [], None, False, id="nothing at all"),
    ],
)
def test_the_rows_are_the_first_axis_that_all_tensors_share(
    inputs: list[Shape], outputs: list[Shape], rows: int | None, *, same_rows_axis: bool
) -> None:
    signature = Signature.of(
        [spec(f"x{number}", *shape) for number, shape in enumerate(inputs)],
        [spec(f"y{number}", *shape) for number, shape in enumerate(outputs)],
    )
    assert (signature.rows, signature.same_rows_axis) == (rows, same_rows_axis)


@pytest.mark.parametrize(
    ("inputs", "is_static"),
    [
        ([("rows", 3)], True),
        ([("rows",)], True),
        ([(4, 3)], True),
        ([("rows", "length")], False),
        ([("rows", 3), ("rows", None)], False),
        ([()], True),
        ([], True),
    ],
)
def test_a_signature_is_static_when_only_the_rows_are_free(inputs: list[Shape], *, is_static: bool) -> None:
    specs = [spec(f"x{number}", *shape) for number, shape in enumerate(inputs)]
    assert Signature.of(specs, [spec("y", *(shape[:1])) for shape in inputs[:1]]).is_static == is_static


def test_a_free_first_axis_is_not_static_when_it_is_no_rows() -> None:
    signature = Signature.of([spec("x", "length")], [spec("y", 3)])
    assert (signature.rows, signature.is_static) == (None, False)


def test_padded_rows_are_shown_to_callers_as_free() -> None:
    signature = Signature.of([spec("x", 4, 3)], [spec("y", 4)]).with_free_rows()
    assert [(tensor.shape, tensor.axes) for tensor in (*signature.inputs, *signature.outputs)] == [
        ((-1, 3), ("rows", "")),
        ((-1,), ("rows",)),
    ]
    assert signature.same_rows_axis
    assert signature.check({"x": zeros(7, 3)}, model="fraud:3") == 7


# --- all tensors: what fits ---------------------------------------------------------------------------


def two_inputs() -> Signature:
    return Signature.of([spec("x", "rows", 30), spec("w", "rows", "length")], [spec("y", "rows")])


def test_tensors_that_fit_are_counted_in_rows() -> None:
    assert two_inputs().check({"x": zeros(5, 30), "w": zeros(5, 9)}, model="fraud:3") == 5


def test_tensors_may_come_in_any_order() -> None:
    assert two_inputs().check({"w": zeros(5, 9), "x": zeros(5, 30)}, model="fraud:3") == 5


def test_a_model_without_inputs_takes_one_row_a_request() -> None:
    assert Signature.of([], [spec("y", 3)]).check({}, model="fraud:3") == 1


def test_a_model_without_a_row_axis_takes_one_row_a_request() -> None:
    signature = Signature.of([spec("x")], [spec("y")])
    assert signature.check({"x": np.float32(3) + zeros()}, model="fraud:3") == 1


@pytest.mark.parametrize("inputs", [["w"], []])
def test_missing_inputs_are_named(inputs: list[str]) -> None:
    with pytest.raises(InvalidInput, match=r"^fraud:3: missing input 'x'.*expected 2 inputs \(x, w\), got"):
        two_inputs().check({name: zeros(1, 9) for name in inputs}, model="fraud:3")


def test_an_unknown_input_does_not_stand_for_a_missing_one() -> None:
    with pytest.raises(InvalidInput, match="missing input 'w'"):
        two_inputs().check({"x": zeros(1, 30), "v": zeros(1, 9)}, model="fraud:3")


def test_an_input_too_many_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        two_inputs().check({"x": zeros(1, 30), "w": zeros(1, 9), "v": zeros(1, 9)}, model="fraud:3")
    assert str(caught.value) == "fraud:3: unknown input 'v'; expected 2 inputs (x, w), got 3"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param((5, 29), "[5, 29], expected [rows, 30]", id="too narrow"),
        pytest.param((5, 31), "[5, 31], expected [rows, 30]", id="too wide"),
        pytest.param((5,), "[5], expected [rows, 30]", id="an axis short"),
        pytest.param((5, 30, 1), "[5, 30, 1], expected [rows, 30]", id="an axis too many"),
        pytest.param((), "[], expected [rows, 30]", id="a scalar"),
    ],
)
def test_a_tensor_of_another_shape_is_refused_with_both_shapes(shape: tuple[int, ...], expected: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        two_inputs().check({"x": zeros(*shape), "w": zeros(5, 9)}, model="fraud:3")
    assert str(caught.value) == f"fraud:3: input 'x' has shape {expected}"


def test_inputs_that_share_an_axis_must_agree_on_its_size() -> None:
    with pytest.raises(InvalidInput) as caught:
        two_inputs().check({"x": zeros(5, 30), "w": zeros(4, 9)}, model="fraud:3")
    assert str(caught.value) == "fraud:3: inputs differ in 'rows', expected one size: 'x' has 5, 'w' has 4"


def test_one_symbol_twice_in_one_input_is_one_size() -> None:
    signature = Signature.of([spec("x", "rows", "n", "n")], [spec("y", "rows")])
    assert signature.check({"x": zeros(2, 3, 3)}, model="fraud:3") == 2
    with pytest.raises(InvalidInput, match="inputs differ in 'n'"):
        signature.check({"x": zeros(2, 3, 4)}, model="fraud:3")


def test_unnamed_rows_of_two_inputs_must_agree_too() -> None:
    signature = Signature.of([spec("x", None, 3), spec("w", None, 1)], [spec("y", None)])
    with pytest.raises(InvalidInput, match="inputs differ in 'rows'"):
        signature.check({"x": zeros(2, 3), "w": zeros(3, 1)}, model="fraud:3")


def test_unnamed_axes_other_than_the_rows_are_free_of_each_other() -> None:
    signature = Signature.of([spec("x", "rows", None), spec("w", "rows", None)], [spec("y", "rows")])
    assert signature.check({"x": zeros(2, 3), "w": zeros(2, 4)}, model="fraud:3") == 2


def test_fixed_rows_that_are_not_padded_must_be_met_exactly() -> None:
    signature = Signature.of([spec("x", 4, 3)], [spec("y", 4)])
    assert signature.check({"x": zeros(4, 3)}, model="fraud:3") == 4
    with pytest.raises(InvalidInput, match=r"has shape \[3, 3\], expected \[4, 3\]"):
        signature.check({"x": zeros(3, 3)}, model="fraud:3")


axes = st.lists(st.sampled_from([None, "a", "b", 0, 1, 2, 3]), max_size=3)


@given(inputs=st.lists(axes, min_size=1, max_size=3), sizes=st.data())
def test_a_tensor_fits_exactly_when_every_axis_does(inputs: list[Shape], sizes: st.DataObject) -> None:
    specs = [spec(f"x{number}", *shape) for number, shape in enumerate(inputs)]
    signature = Signature.of(specs, [spec("y", *inputs[0][:1])])
    shapes = [
        tuple(
            sizes.draw(st.integers(0, 3) if axis is None or isinstance(axis, str) else st.just(axis)) for axis in shape
        )
        for shape in inputs
    ]
    offered = sizes.draw(st.sampled_from([shapes, [(*shapes[0], 1), *shapes[1:]], [(2,) * len(s) for s in shapes]]))
    named: dict[str, set[int]] = {}
    fits = [len(shape) for shape in offered] == [len(shape) for shape in inputs]
    for wanted, got in zip(inputs, offered, strict=True):
        for axis, size in zip(wanted, got, strict=False):
            fits = fits and (not isinstance(axis, int) or axis == size)
            if isinstance(axis, str):
                named.setdefault(axis, set()).add(size)
    if signature.rows is not None and not any(isinstance(wanted[0], str) for wanted in inputs):
        named["first"] = {got[0] for got in offered if got}
    fits = fits and all(len(found) == 1 for found in named.values())
    arrays = {f"x{number}": zeros(*shape) for number, shape in enumerate(offered)}
    if fits:
        assert signature.check(arrays, model="fraud:3") == (1 if signature.rows is None else offered[0][0])
    else:
        with pytest.raises(InvalidInput):
            signature.check(arrays, model="fraud:3")
