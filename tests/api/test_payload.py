"""Owns the promises about the JSON of an inference request: its values, its nesting, its fields."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gateway.api.payload import NO_BINARY
from gateway.errors import InvalidInput, InvalidRequest
from gateway.inference.signature import NUMPY_TYPES
from tests.api.payloads import (
    FLOATS,
    INTEGERS,
    JSON_DATATYPES,
    MODEL,
    decode,
    one_value,
    refusal,
    request,
    signature,
    tensor,
)


@pytest.mark.parametrize("datatype", INTEGERS)
def test_an_integer_may_be_as_large_as_its_datatype_and_no_larger(datatype: str) -> None:
    """Triton wraps what is too wide without a word."""
    limits = np.iinfo(np.dtype(NUMPY_TYPES[datatype]))
    for value in (limits.min, limits.max, 0):
        array = one_value(datatype, str(value))
        assert array.dtype == NUMPY_TYPES[datatype]
        assert array.tolist() == [value]
    for value in (limits.min - 1, limits.max + 1, 10**30):
        with refusal(InvalidInput, MODEL, "'x'", "out of the range", datatype):
            one_value(datatype, str(value))


@pytest.mark.parametrize(
    ("datatype", "largest", "beyond"),
    [
        ("FP16", "65504", "65520"),
        ("FP32", "3.4028234663852886e38", "3.4028236e38"),
        ("FP64", "1.7976931348623157e308", "1" + "0" * 309),
    ],
)
def test_a_float_may_be_as_large_as_its_datatype_and_no_larger(datatype: str, largest: str, beyond: str) -> None:
    for sign in ("", "-"):
        array = one_value(datatype, sign + largest)
        assert array.dtype == NUMPY_TYPES[datatype]
        assert array[0] == float(sign + largest)
        with refusal(InvalidInput, "out of the range", datatype):
            one_value(datatype, sign + beyond)


@pytest.mark.parametrize("text", ["1e309", "-1e309", "1e999999", "1" + "0" * 400 + ".0"])
@pytest.mark.parametrize("beside", ["", "NaN, "])
def test_a_number_beyond_every_float_is_refused_by_both_parsers(text: str, beside: str) -> None:
    """Python's json would make it infinite."""
    body = f'{{"inputs": [{{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [{beside or "0, "}{text}]}}]}}'
    with refusal(InvalidRequest, "out of range"):
        decode(body.encode())


@pytest.mark.parametrize(
    ("datatype", "text", "value"),
    [
        ("BOOL", "true", True),
        ("BOOL", "false", False),
        ("FP16", "0.1", np.float16(0.1)),
        ("FP32", "0.1", np.float32(0.1)),
        ("FP64", "0.1", 0.1),
        ("FP32", "1", 1.0),
        ("FP32", "-0.0", -0.0),
        ("FP32", "1e-50", 0.0),
        ("FP32", "16777217", np.float32(16777217)),
        ("FP64", "9007199254740993", 9007199254740992.0),
        ("FP64", "123456789012345678901234567890", 123456789012345678901234567890.0),
        ("UINT64", "18446744073709551615", 2**64 - 1),
        ("INT64", "-9223372036854775808", -(2**63)),
        ("BYTES", '"a"', "a"),
        ("BYTES", '""', ""),
        ("BYTES", r'"a\u0000b"', "a\0b"),
        ("BYTES", r'"\u00e9\ud83d\ude00"', "é😀"),
        ("BYTES", '"é日😀"', "é日😀"),
        ("BYTES", r'"\"\\[{"', '"\\[{'),
    ],
)
def test_a_value_arrives_as_it_was_written(datatype: str, text: str, value: object) -> None:
    array = one_value(datatype, text)
    assert array.dtype == NUMPY_TYPES[datatype]
    assert array.tolist() == [value]
    assert not isinstance(value, float) or math.copysign(1, array[0]) == math.copysign(1, value)


@pytest.mark.parametrize("datatype", FLOATS)
def test_null_is_nan_where_there_is_one(datatype: str) -> None:
    assert np.isnan(one_value(datatype, "null")[0])


@pytest.mark.parametrize("datatype", FLOATS)
@pytest.mark.parametrize(("text", "value"), [("NaN", math.nan), ("Infinity", math.inf), ("-Infinity", -math.inf)])
def test_what_python_writes_for_non_finite_floats_is_read(datatype: str, text: str, value: float) -> None:
    np.testing.assert_array_equal(one_value(datatype, text).astype(float), [value])


@pytest.mark.parametrize(
    ("datatype", "text", "kind"),
    [
        *((datatype, text, kind) for datatype in INTEGERS for text, kind in [("1.0", "a fraction"), ("null", "null")]),
        *((datatype, text, kind) for datatype in INTEGERS for text, kind in [("true", "boolean"), ('"1"', "string")]),
        *((datatype, text, kind) for datatype in FLOATS for text, kind in [("true", "boolean"), ('"1"', "string")]),
        *(("BOOL", text, kind) for text, kind in [("1", "a number"), ("null", "null"), ('"true"', "string")]),
        *(("BYTES", text, kind) for text, kind in [("1", "a number"), ("null", "null"), ("true", "boolean")]),
        *((datatype, "{}", "an object") for datatype in JSON_DATATYPES),
        ("INT32", "NaN", "a fraction"),
        ("BYTES", "NaN", "a fraction"),
        ("FP32", 'null, "a"', "a string"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(datatype: str, text: str, kind: str) -> None:
    """No silent coercion: 1.5 is no INT32 and "1" is no number."""
    shape = [text.count(",") + 1]
    body = f'{{"inputs": [{{"name": "x", "shape": {shape}, "datatype": "{datatype}", "data": [{text}]}}]}}'
    with refusal(InvalidInput, MODEL, "'x'", f"{datatype} elements cannot be", kind):
        decode(body.encode(), wanted=signature(tensor("x", datatype, shape)))


def test_bf16_has_no_json_form() -> None:
    with refusal(InvalidInput, "BF16", "binary"):
        one_value("BF16", "1.0")


# --- nesting and shapes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "data", "expected"),
    [
        ([2, 3], [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]),
        ([2, 3], [[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]]),
        ([2, 1, 2], [[[1, 2]], [[3, 4]]], [[[1, 2]], [[3, 4]]]),
        ([2], [1, 2], [1, 2]),
        ([], [7], 7),
        ([0], [], []),
        ([0, 3], [], np.empty((0, 3))),
        ([2, 0], [], np.empty((2, 0))),
        ([2, 0], [[], []], np.empty((2, 0))),
        ([1, 2, 0], [[[], []]], np.empty((1, 2, 0))),
        ([1] * 32, [5], np.full([1] * 32, 5)),
    ],
)
def test_data_is_flat_or_nested_as_its_shape(shape: list[int], data: object, expected: object) -> None:
    found = decode(request(shape=shape, data=data), wanted=signature(tensor("x", "FP32", [-1] * len(shape))))
    np.testing.assert_array_equal(found.inputs["x"], expected)
    assert found.inputs["x"].shape == np.asarray(expected).shape


@pytest.mark.parametrize(
    ("shape", "data", "said"),
    [
        ([2, 3], [1, 2, 3, 4, 5], "has 5 elements, its shape [2, 3] says 6"),
        ([2, 3], [1, 2, 3, 4, 5, 6, 7], "has 7 elements"),
        ([2, 3], [[1, 2, 3], [4, 5]], "axis 1 of 'data' has 2 elements, expected shape [2, 3]"),
        ([2, 3], [[1, 2, 3]], "axis 0 of 'data' has 1 elements"),
        ([2, 3], [[1, 2], [3, 4], [5, 6]], "axis 0 of 'data' has 3 elements"),
        ([2, 3], [[1, 2, 3], 4, 5, 6], "axis 0 of 'data' has 4 elements"),
        ([2, 3], [[1, 2, 3], 4], "nested unevenly"),
        ([2, 3], [[1, 2, 3], "456"], "nested unevenly"),
        ([2, 3], [[[1, 2, 3]], [[4, 5, 6]]], "axis 1 of 'data' has 1 elements"),
        ([2, 3], [[[1], 2, 3], [4, 5, 6]], "cannot be an array"),
        ([2, 1, 1], [[1], [2]], "nested unevenly"),
        ([6], [[1, 2, 3], [4, 5, 6]], "axis 0 of 'data' has 2 elements"),
        ([2], [[1], [2]], "cannot be an array"),
        ([3], [1, 2, [3]], "cannot be an array"),
        ([], [[5]], "cannot be an array"),
        ([], [], "has 0 elements, its shape [] says 1"),
        ([], [1, 2], "has 2 elements"),
        ([0], [[]], "axis 0 of 'data' has 1 elements"),
        ([0], [1], "has 1 elements, its shape [0] says 0"),
        ([1], {}, "'data' is an object, expected an array"),
        ([1], "1", "'data' is a string, expected an array"),
        ([1], 1, "'data' is a number, expected an array"),
        ([1], True, "'data' is a boolean, expected an array"),
        ([1], None, "neither 'data' nor 'binary_data_size'"),
    ],
)
def test_data_that_does_not_fit_its_shape_is_refused(shape: list[int], data: object, said: str) -> None:
    """Ragged data of the right count is no tensor either."""
    with refusal(InvalidInput, MODEL, "'x'", said):
        decode(request(shape=shape, data=data), wanted=signature(tensor("x", "FP32", [-1] * len(shape))))


@pytest.mark.parametrize(
    "shape", [[-1, 2], [1.0, 2], [True, 2], ["1", 2], [None, 2], [[1], 2], [2**31 + 1, 2], [2**70, 2], [1] * 33, 2, {}]
)
def test_a_shape_is_a_list_of_sizes(shape: object) -> None:
    with refusal(InvalidRequest, "shape"):
        decode(request(shape=shape))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"shape": [1, 3], "data": [1, 2, 3]}, "'x' has shape [1, 3], expected [any, 2]"),
        ({"shape": [2], "data": [1, 2]}, "'x' has shape [2]"),
        ({"shape": [1, 1, 2], "data": [1, 2]}, "'x' has shape [1, 1, 2]"),
        ({"name": "w"}, "unexpected input 'w', expected 'x'"),
        ({"name": ""}, "unexpected input ''"),
        ({"datatype": "FP64"}, "'x' has datatype 'FP64', expected 'FP32'"),
        ({"datatype": "fp32"}, "'x' has unknown datatype 'fp32', expected 'FP32'"),
        ({"datatype": "STRING"}, "unknown datatype 'STRING'"),
        ({"datatype": ""}, "unknown datatype ''"),
    ],
)
def test_a_tensor_that_does_not_fit_the_signature_is_refused(changed: dict[str, object], said: str) -> None:
    with refusal(InvalidInput, MODEL, said):
        decode(request(**changed))


# --- the document ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b" ", b"null", b"[]", b'"x"', b"1", b"{", b"{}", b'{"inputs"}', b'{"inputs": null}', b'{"inputs": {}}'),
        *(
            b'{"inputs": [1]}',
            b'{"inputs": [null]}',
            b'{"inputs": [[]]}',
            b'{"inputs": [{}]}',
            b"\x00",
            b"\xff\xfe{\x00}\x00",
        ),
        *(
            b'{"inputs": []} x',
            b'{"inputs": []}{}',
            b'{"inputs": [],}',
            b"{'inputs': []}",
            b'{"a": \xff}',
            b"\xef\xbb\xbf{}",
        ),
        *(b'{"x": NaN}', b'{"x": NaN, "inputs": 1}', b'{"x": nan, "inputs": []}', b'{"x": +Infinity, "inputs": []}'),
        *(
            b'\xef\xbb\xbf{"x": NaN, "inputs": []}',
            b'{"x": NaN, "inputs": [], "y": "\xff"}',
            b'{"x": NaN, "y": ' + b"1" * 5000 + b"}",
        ),
    ],
)
def test_what_is_no_inference_request_is_refused(text: bytes) -> None:
    with refusal(InvalidRequest, "not an inference request"):
        decode(text)


@pytest.mark.parametrize("field", ["name", "shape", "datatype"])
def test_an_input_says_what_it_is(field: str) -> None:
    with refusal(InvalidRequest, "not an inference request", field):
        decode(request(**{field: ...}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 1),
        ("id", []),
        ("id", True),
        ("parameters", []),
        ("parameters", "a"),
        ("parameters", {"a": []}),
        ("parameters", {"a": {}}),
        ("outputs", {}),
        ("outputs", "y"),
        ("outputs", ["y"]),
        ("outputs", [{}]),
        ("outputs", [{"name": 1}]),
        ("outputs", [{"name": "y", "parameters": []}]),
    ],
)
def test_a_field_of_another_kind_is_refused(field: str, value: object) -> None:
    with refusal(InvalidRequest, "not an inference request", field):
        decode(request() | {field: value})


@pytest.mark.parametrize("value", ["\\ud800", "\\udfff", "\\ud800\\ud800", "\\udc00\\ud800", "a\\ud83d"])
@pytest.mark.parametrize("beside", [b"", b'"x": NaN, '])
@pytest.mark.parametrize("place", ["id", "name", "parameter"])
def test_a_lone_surrogate_is_no_text(value: str, beside: bytes, place: str) -> None:
    """Python's json lets it through, and then neither an answer nor a log line can be written."""
    fields = {"id": f'"id": "{value}"', "parameter": f'"parameters": {{"a": "{value}"}}', "name": '"id": ""'}
    name = value if place == "name" else "x"
    tail = f'{fields[place]}, "inputs": [{{"name": "{name}", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}}]}}'
    with refusal(InvalidRequest, "not an inference request"):
        decode(b"{" + beside + tail.encode())


def test_a_whole_surrogate_pair_passes_both_parsers() -> None:
    for beside in (b"", b'"x": NaN, '):
        assert decode(b'{%b"id": "\\ud83d\\ude00", ' % beside + json.dumps(request()).encode()[1:]).id == "😀"


@pytest.mark.parametrize("name", [None, "fraud", 1, {"a": [NotImplemented.__class__.__name__]}, []])
def test_the_models_name_in_the_body_means_nothing(name: object) -> None:
    """KServe's client sends it; the path has said it already."""
    assert decode(request() | {"model_name": name}).rows == 1


def test_unknown_keys_are_ignored_everywhere() -> None:
    message = request(extra=[1]) | {"extra": {"a": [None]}, "outputs": [{"name": "y", "extra": 1}]}
    found = decode(message)
    assert found.rows == 1
    assert found.outputs == ("y",)


@pytest.mark.parametrize(("sent", "read"), [({}, ""), ({"id": ""}, ""), ({"id": None}, ""), ({"id": "a"}, "a")])
def test_an_empty_id_is_no_id(sent: dict[str, object], read: str) -> None:
    """The C++ client always sends one."""
    assert decode(request() | sent).id == read


def test_parameters_pass_through() -> None:
    parameters = {"a": 1, "b": 1.5, "c": "x", "d": True, "e": None, "timeout": 10**400}
    assert decode(request() | {"parameters": parameters}).parameters == parameters
    assert decode(request()).parameters == {}
    assert decode(request() | {"parameters": None}).parameters == {}


def test_of_a_key_that_stands_twice_the_last_one_counts() -> None:
    assert decode(b'{"inputs": [], "id": "a", "id": "b", ' + json.dumps(request()).encode()[1:]).id == "b"


TWO = signature(tensor("x", "FP32", (-1, 2)), tensor("s", "BYTES", (-1,)))
S = {"name": "s", "shape": [1], "datatype": "BYTES", "data": ["a"]}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([], "missing input 'x', 's'"),
        ([request()["inputs"]], "missing input 's'"),
        ([request()["inputs"], request()["inputs"]], "'x' stands twice"),
        ([request()["inputs"], [S], [S]], "'s' stands twice"),
        ([request()["inputs"], [S], [{**S, "name": "t"}]], "unexpected input 't', expected 'x', 's'"),
    ],
)
def test_each_input_stands_in_the_request_once(inputs: list[list[object]], said: str) -> None:
    with refusal(InvalidInput, MODEL, said):
        decode({"inputs": [entry for group in inputs for entry in group]}, wanted=TWO)


@pytest.mark.parametrize(
    ("outputs", "parameters", "names", "binary"),
    [
        (..., None, (), NO_BINARY),
        (None, None, (), NO_BINARY),
        ([], None, (), NO_BINARY),
        ([], {"binary_data_output": True}, (), None),
        (..., {"binary_data_output": True}, (), None),
        (..., {"binary_data_output": False}, (), NO_BINARY),
        (..., {"binary_data_output": 1}, (), NO_BINARY),
        ([{"name": "z"}], None, ("z",), NO_BINARY),
        ([{"name": "z"}, {"name": "y"}], None, ("z", "y"), NO_BINARY),
        ([{"name": "z"}], {"binary_data_output": True}, ("z",), NO_BINARY),  # as Triton: it is not about listed ones
        ([{"name": "z", "parameters": {"binary_data": True}}, {"name": "y"}], None, ("z", "y"), {"z"}),
        ([{"name": "z", "parameters": {"binary_data": False}}], None, ("z",), NO_BINARY),
        ([{"name": "z", "parameters": {"binary_data": 1, "classification": 0, "a": "b"}}], None, ("z",), NO_BINARY),
        ([{"name": "z", "parameters": None}], None, ("z",), NO_BINARY),
    ],
)
def test_outputs_are_those_asked_for_in_the_form_asked_for(
    outputs: object, parameters: object, names: tuple[str, ...], binary: frozenset[str] | None
) -> None:
    asked = request() | {"parameters": parameters} | ({} if outputs is ... else {"outputs": outputs})
    found = decode(asked)
    assert found.outputs == names
    assert found.binary == binary


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ([{"name": "q"}], "unexpected output 'q', expected 'y', 'z'"),
        ([{"name": "y"}, {"name": "y"}], "'y' stands twice"),
        ([{"name": "y", "parameters": {"classification": 3}}], "classification is not supported"),
        ([{"name": "y", "parameters": {"shared_memory_region": "r"}}], "shared memory is not supported"),
    ],
)
def test_an_output_that_cannot_be_had_is_refused(output: object, said: str) -> None:
    with refusal(InvalidInput, MODEL, said):
        decode(request() | {"outputs": output})
