"""Owns the promises about binary tensors and raw bodies."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest

from gateway.api.payload import decode_request
from gateway.errors import InvalidInput, InvalidRequest
from gateway.inference.signature import NUMPY_TYPES, Signature
from gateway.messages import TensorSpec
from tests.api.payloads import (
    FLOATS,
    INTEGERS,
    LIMITS,
    MODEL,
    X,
    binary_request,
    bits,
    decode,
    refusal,
    request,
    signature,
    strings,
    tensor,
)


@pytest.mark.parametrize("datatype", ["BOOL", *INTEGERS, *FLOATS, "BF16"])
def test_a_binary_tensor_is_its_bytes_wherever_they_start(datatype: str) -> None:
    """Nothing is padded: a tensor may start at any offset, and arrays come aligned all the same."""
    kind = np.dtype(NUMPY_TYPES[datatype])
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind) if kind.kind == "f" else None
    expected = np.array([[0, 1], [limits.min, limits.max]] if limits else [[0, 1], [1, 0]], kind)
    wanted = signature(tensor("x", datatype, (-1, 2)))
    for spaces in range(8):
        text = b" " * spaces + json.dumps(binary_request(expected.nbytes, shape=[2, 2], datatype=datatype)).encode()
        array = decode(text, wanted=wanted, data=expected.tobytes()).inputs["x"]
        assert array.dtype == kind
        assert array.flags.aligned
        np.testing.assert_array_equal(array, expected)


def test_a_binary_float_may_be_any_float() -> None:
    array = decode(binary_request(8), data=bits([math.nan, -math.inf])).inputs["x"]
    np.testing.assert_array_equal(array, np.array([[math.nan, -math.inf]], np.float32))


@pytest.mark.parametrize("chunk", [b"\x02\x00", b"\x00\xff"])
def test_a_binary_boolean_is_0_or_1(chunk: bytes) -> None:
    wanted = signature(tensor("x", "BOOL", (-1,)))
    with refusal(InvalidInput, "'x'", "BOOL bytes are 0 or 1"):
        decode(binary_request(2, shape=[2], datatype="BOOL"), wanted=wanted, data=chunk)


@pytest.mark.parametrize("data", [..., None])
def test_an_empty_tensor_may_be_declared_with_no_bytes(data: object) -> None:
    """KServe's client sends "data": null beside a size of 0, and no header with the length."""
    wanted = signature(tensor("x", "FP32", (-1, 2)), tensor("b", "BOOL", (-1,)), tensor("s", "BYTES", (-1,)))
    none = {"parameters": {"binary_data_size": 0}} | ({} if data is ... else {"data": data})
    inputs = [
        {"name": "x", "shape": [0, 2], "datatype": "FP32"} | none,
        {"name": "b", "shape": [0], "datatype": "BOOL"} | none,
        {"name": "s", "shape": [0], "datatype": "BYTES"} | none,
    ]
    found = decode({"inputs": inputs}, wanted=wanted)
    assert [array.shape for array in found.inputs.values()] == [(0, 2), (0,), (0,)]
    assert found.rows == 0


@pytest.mark.parametrize(
    "texts", [[b""], [b"", b""], [b"a\0b"], ["é日😀".encode()], [b"\0", b"abc", b""], [b"x" * 70_000]]
)
def test_binary_strings_are_counted_bytes(texts: list[bytes]) -> None:
    wanted = signature(tensor("s", "BYTES", (-1,)))
    chunk = strings(*texts)
    message = binary_request(len(chunk), name="s", shape=[len(texts)], datatype="BYTES")
    array = decode(message, wanted=wanted, data=chunk).inputs["s"]
    assert array.dtype == object
    assert array.tolist() == [text.decode() for text in texts]


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        (strings(b"a"), "has 1 strings, its shape says 2"),
        (b"", "has 0 strings, its shape says 2"),
        (strings(b"a", b"b", b"c"), "bytes are left after 2 strings"),
        (strings(b"a", b"b") + b"\0", "bytes are left after 2 strings"),
        (strings(b"a") + b"\1\0\0", "bytes are left after 1 strings"),
        (strings(b"a") + struct.pack("<I", 2) + b"b", "string 1 runs past"),
        (struct.pack("<I", 2**32 - 1), "string 0 runs past"),
        (strings(b"a", b"\xff"), "string 1 is not UTF-8"),
        (strings(b"\xed\xa0\x80", b""), "string 0 is not UTF-8"),
    ],
)
def test_binary_strings_that_are_framed_wrongly_are_refused(chunk: bytes, said: str) -> None:
    wanted = signature(tensor("s", "BYTES", (-1,)))
    message = binary_request(len(chunk), name="s", shape=[2], datatype="BYTES")
    with refusal(InvalidInput, MODEL, "'s'", said):
        decode(message, wanted=wanted, data=chunk)


@pytest.mark.parametrize(
    ("size", "data", "said"),
    [
        (7, bytes(7), "'x' has 7 bytes of FP32, its shape [1, 2] takes 8"),
        (12, bytes(12), "'x' has 12 bytes of FP32"),
        (0, b"", "'x' has 0 bytes of FP32"),
        (9, bytes(8), "'x' is said to have 9 bytes, 8 are left in the body"),
        (2**70, bytes(8), "are left in the body"),
        (-1, bytes(8), "binary_data_size is not a size: -1"),
        (8.0, bytes(8), "binary_data_size is not a size: 8.0"),
        ("8", bytes(8), "binary_data_size is not a size: '8'"),
        (True, bytes(8), "binary_data_size is not a size: True"),
    ],
)
def test_a_declared_size_that_does_not_fit_is_refused(size: object, data: bytes, said: str) -> None:
    with refusal(InvalidInput, MODEL, said):
        decode(binary_request(size), data=data)


@pytest.mark.parametrize("data", [[], [1, 2], 0, ""])
def test_a_tensor_is_sent_one_way(data: object) -> None:
    with refusal(InvalidInput, "'x'", "both 'data' and 'binary_data_size'"):
        decode(binary_request(8, data=data), data=bytes(8))


@pytest.mark.parametrize("parameters", [{}, {"a": 1}, {"binary_data_size": None}, None])
def test_other_parameters_of_an_input_mean_nothing(parameters: object) -> None:
    assert decode(request(parameters=parameters)).rows == 1
    with refusal(InvalidInput, "neither 'data' nor 'binary_data_size'"):
        decode(request(parameters=parameters, data=...))


def test_shared_memory_is_refused_by_name() -> None:
    with refusal(InvalidInput, "'x'", "shared memory is not supported"):
        decode(request(data=..., parameters={"shared_memory_region": "r", "shared_memory_byte_size": 8}))


def test_json_and_binary_tensors_may_stand_in_any_order() -> None:
    wanted = signature(*(tensor(name, "FP32", (-1,)) for name in "abcd"))
    binary = {"parameters": {"binary_data_size": 4}}
    inputs = [
        {"name": "c", "shape": [1], "datatype": "FP32"} | binary,
        {"name": "a", "shape": [1], "datatype": "FP32", "data": [1]},
        {"name": "d", "shape": [1], "datatype": "FP32"} | binary,
        {"name": "b", "shape": [1], "datatype": "FP32", "data": [2]},
    ]
    found = decode({"inputs": inputs}, wanted=wanted, data=bits([3, 4]))
    assert {name: float(array[0]) for name, array in found.inputs.items()} == {"a": 1, "b": 2, "c": 3, "d": 4}


@pytest.mark.parametrize("message", [request(), binary_request(8)])
def test_bytes_that_belong_to_no_input_are_refused(message: dict[str, object]) -> None:
    with refusal(InvalidRequest, MODEL, "of the body belong to no input"):
        decode(message, data=bytes(9))


def test_the_json_part_is_as_long_as_the_header_says() -> None:
    text = json.dumps(request()).encode()
    assert decode_request(text, len(text), X, LIMITS, model=MODEL).rows == 1
    with refusal(InvalidRequest, f"said to have {len(text) + 1} bytes, the body has {len(text)}"):
        decode_request(text, len(text) + 1, X, LIMITS, model=MODEL)
    with refusal(InvalidRequest, "not an inference request"):
        decode_request(text, len(text) - 1, X, LIMITS, model=MODEL)


# --- raw bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "elements", "read"),
    [
        ((-1, 2), 6, (3, 2)),
        ((-1, 2), 0, (0, 2)),
        ((-1,), 5, (5,)),
        ((3, 2), 6, (3, 2)),
        ((), 1, ()),
        ((-1, -1, 2), 6, (1, 3, 2)),
        ((-1, -1), 0, (1, 0)),
        ((4, -1), 8, (4, 2)),
        ((-1, 0), 0, (0, 0)),
    ],
)
def test_a_raw_body_is_the_one_input_and_its_free_axis_follows_from_its_size(
    shape: tuple[int, ...], elements: int, read: tuple[int, ...]
) -> None:
    values = np.arange(elements, dtype=np.float32)
    wanted = Signature.of([tensor("x", "FP32", shape)], [tensor("y", "FP32", shape[:1])])
    found = decode_request(values.tobytes(), 0, wanted, LIMITS, model=MODEL)
    np.testing.assert_array_equal(found.inputs["x"], values.reshape(read))
    assert found.binary is None
    assert found.outputs == ()
    assert found.id == ""
    assert found.parameters == {}


@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        ((-1, 2), 9, "has 9 bytes of FP32"),
        ((-1, 2), 12, "has 12 bytes of FP32, its shape [1, 2] takes 8"),
        ((3, 2), 20, "its shape [3, 2] takes 24"),
        ((), 8, "its shape [] takes 4"),
        ((-1, 0), 4, "has 4 bytes of FP32"),
    ],
)
def test_a_raw_body_of_no_whole_rows_is_refused(shape: tuple[int, ...], size: int, said: str) -> None:
    with refusal(InvalidInput, MODEL, "'x'", said):
        decode_request(bytes(size), 0, signature(tensor("x", "FP32", shape)), LIMITS, model=MODEL)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "this one has 0"),
        ([tensor("x", "FP32", (-1,)), tensor("w", "FP32", (-1,))], "this one has 2"),
        ([tensor("x", "FP32", (-1, -1, -1))], "'x' has 2 free axes"),
        ([tensor("x", "FP32", (2, -1, -1))], "'x' has 2 free axes"),
        ([tensor("x", "BYTES", (-1, 2))], "the input has another shape"),
    ],
)
def test_a_raw_body_whose_shape_is_open_is_refused(inputs: list[TensorSpec], said: str) -> None:
    with refusal(InvalidRequest, MODEL, said):
        decode_request(bytes(8), 0, signature(*inputs), LIMITS, model=MODEL)


def test_a_raw_body_without_rows_leaves_no_axis_to_guess() -> None:
    """Inputs and outputs share no first axis: both axes are free and neither is the rows."""
    wanted = Signature.of([tensor("x", "FP32", (-1, -1))], [tensor("y", "FP32", ())])
    with refusal(InvalidRequest, "'x' has 2 free axes"):
        decode_request(bytes(8), 0, wanted, LIMITS, model=MODEL)


@pytest.mark.parametrize("shape", [(), (-1,), (1,), (-1, 1)])
@pytest.mark.parametrize("text", [b"", b"abc", "é\0".encode()])
def test_a_raw_body_of_text_is_one_string_without_its_length(shape: tuple[int, ...], text: bytes) -> None:
    wanted = Signature.of([tensor("x", "BYTES", shape)], [tensor("y", "FP32", shape[:1])])
    array = decode_request(text, 0, wanted, LIMITS, model=MODEL).inputs["x"]
    assert array.shape == (1,) * len(shape)
    assert array.ravel().tolist() == [text.decode()]


def test_a_raw_body_of_text_must_be_text() -> None:
    with refusal(InvalidInput, "not UTF-8"):
        decode_request(b"\xff", 0, signature(tensor("x", "BYTES", (-1,))), LIMITS, model=MODEL)
