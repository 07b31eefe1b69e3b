"""Owns the promises about written answers, and the laws of both ways with tritonclient as the other side."""

from __future__ import annotations

import contextlib
import json
import math

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_st

from gateway.api.payload import decode_request, encode_response
from gateway.errors import InvalidRequest, RequestError
from gateway.inference.signature import NUMPY_TYPES, Signature
from gateway.messages import Array
from tests.api.payloads import FLOATS, INTEGERS, LIMITS, MODEL, X, bits, decode, refusal, request, signature, tensor


def encode(array: Array, datatype: str, *, binary: bool) -> tuple[bytes, int | None]:
    outputs = Signature.of([], [tensor("y", datatype, [-1] * array.ndim)])
    return encode_response(
        "fraud", "3", "id-1", {"y": array}, signature=outputs, binary=frozenset({"y"} if binary else ())
    )


def read_by_triton(body: bytes, length: int | None) -> Array:
    """Read an answer as tritonclient does."""
    array: Array = triton.InferResult.from_response_body(body, header_length=length).as_numpy("y")
    return array


def test_an_answer_names_who_was_asked_and_who_answered() -> None:
    body, length = encode(np.array([1.5], np.float32), "FP32", binary=False)
    assert length is None
    assert json.loads(body) == {
        "id": "id-1",
        "model_name": "fraud",
        "model_version": "3",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [1.5]}],
    }


@pytest.mark.parametrize("datatype", FLOATS)
def test_a_non_finite_output_is_null_in_json_and_itself_in_binary(datatype: str) -> None:
    array = np.array([math.nan, math.inf, -math.inf, 0.5], NUMPY_TYPES[datatype])
    body, _ = encode(array, datatype, binary=False)
    assert json.loads(body)["outputs"][0]["data"] == [None, None, None, 0.5]
    np.testing.assert_array_equal(read_by_triton(*encode(array, datatype, binary=True)), array)


def test_json_data_is_flat_and_row_major_whatever_the_memory_is() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3))[:, ::-1]
    body, _ = encode(array, "INT64", binary=False)
    assert json.loads(body)["outputs"][0]["data"] == [2, 1, 0, 5, 4, 3]
    np.testing.assert_array_equal(read_by_triton(*encode(array, "INT64", binary=True)), array)


def test_a_bf16_output_has_no_json_form() -> None:
    """So that a request for it in JSON is refused before anything runs."""
    wanted = Signature.of([tensor("x", "FP32", (-1, 2))], [tensor("y", "BF16", (-1,)), tensor("z", "FP32", (-1,))])
    for names in ((), ("y",), ("z", "y")):
        asked: dict[str, object] = {"outputs": [{"name": name} for name in names]}
        with refusal(InvalidRequest, "'y' is BF16", '"binary_data": true'):
            decode(request() | asked, wanted=wanted)
    binary: dict[str, object] = {"name": "y", "parameters": {"binary_data": True}}
    allowed: list[dict[str, object]] = [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "z"}]},
        {"outputs": [{"name": "z"}, binary]},
    ]
    for asked in allowed:
        decode(request() | asked, wanted=wanted)


def test_bf16_travels_as_its_bits() -> None:
    body, length = encode(np.array([0x3F80, 0xC000], np.uint16), "BF16", binary=True)
    assert body[length:] == b"\x80\x3f\x00\xc0"
    assert read_by_triton(body, length).astype(float).tolist() == [1.0, -2.0]


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_an_empty_binary_output_is_declared_and_no_bytes_follow(datatype: str) -> None:
    """Then the answer is plain JSON and no header is needed."""
    body, length = encode(np.empty((0,), NUMPY_TYPES[datatype]), datatype, binary=True)
    assert length is None
    assert json.loads(body)["outputs"][0]["parameters"] == {"binary_data_size": 0}


def test_outputs_are_written_in_order_each_in_its_form() -> None:
    outputs = Signature.of([], [tensor(name, "FP32", (-1,)) for name in "abc"])
    arrays: dict[str, Array] = {name: np.array([at], np.float32) for at, name in enumerate("cab")}
    body, length = encode_response("m", "1", "", arrays, signature=outputs, binary=frozenset("ba"))
    described = json.loads(body[:length])["outputs"]
    assert [entry["name"] for entry in described] == ["c", "a", "b"]
    assert described[0]["data"] == [0]
    assert body[length:] == bits([1, 2])
    body, length = encode_response("m", "1", "", arrays, signature=outputs, binary=None)
    assert body[length:] == bits([0, 1, 2])


# --- laws, with tritonclient as the other side -----------------------------------------------------------


SHAPES = numpy_st.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)


def arrays_of(datatype: str) -> st.SearchStrategy[Array]:
    """Draw arrays of a datatype; floats finite or not."""
    if datatype == "BYTES":
        return numpy_st.arrays(object, SHAPES, elements=TEXTS, fill=st.nothing())
    return numpy_st.arrays(np.dtype(NUMPY_TYPES[datatype]), SHAPES)


def as_client_sends(array: Array) -> Array:
    return (
        np.array([text.encode() for text in array.ravel()], object).reshape(array.shape)
        if array.dtype == object
        else array
    )


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("datatype", ["BOOL", *INTEGERS, *FLOATS, "BYTES"])
@given(data=st.data())
def test_what_tritonclient_writes_is_read_as_it_was(datatype: str, binary: bool, data: st.DataObject) -> None:  # noqa: FBT001 - a parameter of the table
    if datatype == "FP16" and not binary:
        return  # tritonclient refuses to write it; numbers are read all the same, see above
    array = data.draw(arrays_of(datatype))
    sent = triton.InferInput("x", list(array.shape), datatype)
    sent.set_data_from_numpy(as_client_sends(array), binary_data=binary)
    body, length = triton.InferenceServerClient.generate_request_body([sent])
    wanted = signature(tensor("x", datatype, [-1] * array.ndim))
    found = decode_request(body, length, wanted, LIMITS, model=MODEL).inputs["x"]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
@pytest.mark.parametrize("datatype", ["BOOL", *INTEGERS, *FLOATS, "BYTES"])
@given(data=st.data())
def test_what_is_written_is_read_by_tritonclient_as_it_was(datatype: str, binary: bool, data: st.DataObject) -> None:  # noqa: FBT001 - a parameter of the table
    array = data.draw(arrays_of(datatype))
    found = read_by_triton(*encode(array, datatype, binary=binary))
    if datatype == "BYTES":
        found = np.array([text if isinstance(text, str) else text.decode() for text in found.ravel()], object)
        found = found.reshape(array.shape)
    elif datatype in FLOATS and not binary:
        array = np.where(np.isfinite(array), array, np.nan).astype(array.dtype)
    assert found.shape == array.shape
    np.testing.assert_array_equal(found.astype(array.dtype), array)


@given(data=st.data())
def test_mixed_tensors_are_read_whatever_their_order(data: st.DataObject) -> None:
    datatypes = data.draw(
        st.lists(st.sampled_from(["BOOL", *INTEGERS, "FP32", "FP64", "BYTES"]), min_size=1, max_size=5)
    )
    arrays = {f"x{at}": data.draw(arrays_of(datatype)) for at, datatype in enumerate(datatypes)}
    sent = []
    for (name, array), datatype in zip(arrays.items(), datatypes, strict=True):
        tensor_sent = triton.InferInput(name, list(array.shape), datatype)
        tensor_sent.set_data_from_numpy(as_client_sends(array), binary_data=data.draw(st.booleans()))
        sent.append(tensor_sent)
    body, length = triton.InferenceServerClient.generate_request_body(data.draw(st.permutations(sent)))
    specs = [tensor(name, datatype, arrays[name].shape) for name, datatype in zip(arrays, datatypes, strict=True)]
    wanted = Signature.of(specs, [tensor("y", "FP32", ())])
    found = decode_request(body, length, wanted, LIMITS, model=MODEL).inputs
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@given(body=st.binary(max_size=200), length=st.none() | st.integers(0, 210))
def test_any_bytes_are_read_or_refused(body: bytes, length: int | None) -> None:
    with contextlib.suppress(RequestError):
        decode_request(body, length, X, LIMITS, model=MODEL)
