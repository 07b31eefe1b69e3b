"""Holds REST v1 bodies to what TensorFlow Serving takes and gives, and to the gateway's own rules for values."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gateway.api.payload import Limits
from gateway.api.v1 import PredictRequest, decode_predict, model_metadata, model_status, split_verb
from gateway.errors import InvalidInput, InvalidRequest, NotSupported, TooLarge
from gateway.inference.registry import VersionRecord, VersionState
from gateway.inference.signature import Signature, tensor_spec
from gateway.messages import Array, ModelVersion

LIMITS = Limits(max_json_depth=16, max_tensor_elements=1000)
KEY = ModelVersion("fraud", 3)

Axes = tuple[int | str | None, ...]
Tensors = Mapping[str, tuple[str, Axes]]


def signature(inputs: Tensors, outputs: Tensors | None = None) -> Signature:
    return Signature.of(
        [tensor_spec(name, f"tensor({kind})", axes, role="input") for name, (kind, axes) in inputs.items()],
        [
            tensor_spec(name, f"tensor({kind})", axes, role="output")
            for name, (kind, axes) in (outputs or {"y": ("float", ("rows", 2))}).items()
        ],
    )


ONE = signature({"x": ("float", ("rows", 2))})
WORDS = signature({"text": ("string", ("rows",))})
PAIR = signature({"x": ("float", ("rows", 2)), "w": ("int64", ("rows",))})
SEVERAL_OUT: Tensors = {"label": ("int64", ("rows",)), "scores": ("float", ("rows", 2))}


def decode(body: object, expected: Signature = ONE) -> PredictRequest:
    return decode_predict(json.dumps(body).encode(), expected, LIMITS, model="fraud:3")


def refusal(body: object, expected: Signature = ONE) -> str:
    with pytest.raises((InvalidInput, InvalidRequest)) as refused:
        decode(body, expected)
    return str(refused.value)


def encoded(outputs: dict[str, Array], declared: Tensors, *, is_row_form: bool = True) -> object:
    request = PredictRequest("", {}, 0, (), frozenset(), {}, is_row_form)
    described = signature({"x": ("float", ("rows",))}, declared)
    body, binary_from = request.encode(outputs, described, model_name="fraud", version="3", request_id="1")
    assert binary_from is None
    return json.loads(body)


# --- rows in -------------------------------------------------------------------------------------------------


def test_rows_of_one_input_are_bare_values_or_named() -> None:
    bare, named = decode({"instances": [[1, 2], [3, 4]]}), decode({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]})
    for request in (bare, named):
        np.testing.assert_array_equal(request.inputs["x"], np.array([[1, 2], [3, 4]], np.float32))
        assert request.inputs["x"].dtype == np.float32
        assert (request.rows, request.outputs, request.is_row_form) == (2, (), True)


def test_rows_of_several_inputs_are_objects() -> None:
    request = decode(
        {"signature_name": "serving_default", "instances": [{"x": [1, 2], "w": 7}, {"w": 8, "x": [3, 4]}]}, PAIR
    )
    np.testing.assert_array_equal(request.inputs["x"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(request.inputs["w"], [7, 8])
    assert list(request.inputs) == ["x", "w"]


def test_rows_of_a_flat_input_are_scalars() -> None:
    request = decode({"instances": [1, 2.5]}, signature({"x": ("double", ("rows",))}))
    np.testing.assert_array_equal(request.inputs["x"], [1, 2.5])


@pytest.mark.parametrize(
    ("instances", "expected", "text"),
    [
        ([], ONE, "'instances' is not a list of at least one example"),
        ({"x": [1, 2]}, ONE, "'instances' is not a list of at least one example"),
        (5, ONE, "'instances' is not a list of at least one example"),
        ([[1, 2], {"x": [1, 2]}], ONE, "instance 0 is no object, expected one with 'x'"),
        ([{"x": [1, 2]}, [1, 2]], ONE, "instance 1 is no object, expected one with 'x'"),
        ([{"y": [1, 2]}], ONE, "instance 0 has 'y', expected 'x'"),
        ([{}], ONE, "instance 0 has no key, expected 'x'"),
        ([{"x": [1, 2], "w": 1}, {"x": [1, 2]}], PAIR, "instance 1 has 'x', expected 'x', 'w'"),
        ([{"x": [1, 2], "w": 1, "more": 1}], PAIR, "instance 0 has 'x', 'w', 'more', expected 'x', 'w'"),
        ([[1, 2]], PAIR, "instance 0 is no object, expected one with 'x', 'w'"),
        ([[1, 2], [3]], ONE, "input 'x': the lists at level 2 are not all of one length"),
        ([[1, [2]], [3, 4]], ONE, "input 'x': FP32 elements cannot be an array"),
        ([[[1], 2]], ONE, "input 'x': the lists at level 3 are not all of one length"),
        ([[1, 2, 3]], ONE, "input 'x' has shape [1, 3], expected [rows, 2]"),
        ([1, 2], ONE, "input 'x' has shape [2], expected [rows, 2]"),
    ],
)
def test_wrong_rows_are_named(instances: object, expected: Signature, text: str) -> None:
    assert refusal({"instances": instances}, expected) == f"fraud:3: {text}"


# --- columns in -----------------------------------------------------------------------------------------------


def test_columns_of_one_input_are_its_tensor_or_named() -> None:
    for inputs in ([[1, 2], [3, 4]], {"x": [[1, 2], [3, 4]]}, {"x": [[1, 2], [3, 4]], "unheard_of": 5}):
        request = decode({"inputs": inputs})
        np.testing.assert_array_equal(request.inputs["x"], [[1, 2], [3, 4]])
        assert (request.rows, request.is_row_form) == (2, False)


def test_columns_of_several_inputs_are_an_object_of_tensors() -> None:
    request = decode({"inputs": {"w": [7], "x": [[1, 2]]}}, PAIR)
    assert {name: array.tolist() for name, array in request.inputs.items()} == {"x": [[1, 2]], "w": [7]}


def test_a_column_may_be_a_scalar() -> None:
    request = decode({"inputs": 3}, signature({"x": ("float", ())}))
    assert request.inputs["x"].shape == ()
    assert request.inputs["x"] == 3


def test_a_model_without_inputs_is_asked_with_an_empty_object() -> None:
    assert decode({"inputs": {}}, signature({})).inputs == {}


@pytest.mark.parametrize(
    ("inputs", "expected", "text"),
    [
        ([[1, 2]], PAIR, "'inputs' is no object, expected one with 'x', 'w'"),
        ({"x": [[1, 2]]}, PAIR, "'inputs' has 'x', missing is 'w'"),
        ({}, ONE, "'inputs' has no key, missing is 'x'"),
        ({"x": [[1, 2]], "w": [1, 2]}, PAIR, "inputs differ in 'rows', expected one size: 'x' has 1, 'w' has 2"),
    ],
)
def test_wrong_columns_are_named(inputs: object, expected: Signature, text: str) -> None:
    assert refusal({"inputs": inputs}, expected) == f"fraud:3: {text}"


# --- the message ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "fraud:3: expected one of 'instances' and 'inputs', got neither"),
        ({"instances": None}, "fraud:3: expected one of 'instances' and 'inputs', got neither"),
        ({"instances": [[1, 2]], "inputs": [[1, 2]]}, "fraud:3: expected one of 'instances' and 'inputs', got both"),
        (
            {"signature_name": "regression", "instances": [[1, 2]]},
            "fraud:3: unknown signature 'regression', expected 'serving_default'",
        ),
        ([], "not an inference request: Expected `object`, got `array`"),
        ({"signature_name": 5, "instances": [[1, 2]]}, "not an inference request: Expected `str | null`, got `int`"),
    ],
)
def test_a_wrong_message_is_named(body: object, text: str) -> None:
    assert refusal(body).startswith(text)


@pytest.mark.parametrize("body", [b"", b"{", b'{"instances": [[1, 2]]', b"\xff", b'{"instances": [[1, 2]]} x'])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not an inference request"):
        decode_predict(body, ONE, LIMITS, model="fraud:3")


def test_unknown_keys_are_ignored_as_tensorflow_serving_does() -> None:
    assert decode({"instances": [[1, 2]], "parameters": {"a": [1]}, "context": 3}).rows == 1


@pytest.mark.parametrize("where", ["instances", "unheard_of"])
def test_nesting_beyond_the_limit_is_refused_wherever_it_is(where: str) -> None:
    nested: object = 1
    for _ in range(20):
        nested = [nested]
    with pytest.raises(InvalidRequest, match="nested deeper than 16 levels"):
        decode({"instances": [[1, 2]], where: nested})


def test_nesting_without_end_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nested deeper than 16 levels"):
        decode_predict(b'{"instances": ' + b"[" * 100_000, ONE, LIMITS, model="fraud:3")


def test_a_tensor_beyond_the_limit_is_too_large() -> None:
    with pytest.raises(TooLarge, match="input 'x' has shape \\[501, 2\\], at most 1000 elements are taken"):
        decode({"instances": [[1, 2]] * 501})


# --- elements ---------------------------------------------------------------------------------------------------


def test_null_and_the_bare_words_of_python_are_numbers_in_floats() -> None:
    body = b'{"instances": [[NaN, Infinity], [-Infinity, 1], [null, 2]]}'
    read = decode_predict(body, ONE, LIMITS, model="fraud:3").inputs["x"]
    np.testing.assert_array_equal(read, [[math.nan, math.inf], [-math.inf, 1], [math.nan, 2]])
    np.testing.assert_array_equal(decode({"instances": [[None, 2]]}).inputs["x"], [[math.nan, 2]])


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("float", "1", "FP32 elements cannot be a string"),
        ("float", True, "FP32 elements cannot be a boolean"),
        ("float", {"a": 1}, "FP32 elements cannot be an object"),
        ("float", {"b64": "AAAA"}, "FP32 elements cannot be an object"),
        ("float", 1e39, "a number is out of the range of FP32"),
        ("float16", 1e6, "a number is out of the range of FP16"),
        ("int64", 1.0, "INT64 elements cannot be a fraction"),
        ("int64", None, "INT64 elements cannot be null"),
        ("int8", 128, "a number is out of the range of INT8"),
        ("uint8", -1, "a number is out of the range of UINT8"),
        ("bool", 1, "BOOL elements cannot be a number"),
        ("string", 1, "BYTES elements cannot be a number"),
        ("string", {"b64": 1}, 'BYTES elements are strings or {"b64": "…"}'),
        ("string", {"b64": "AA==", "more": 1}, 'BYTES elements are strings or {"b64": "…"}'),
        ("string", {"b64": "?"}, "not base64 of UTF-8 text, which ONNX strings are"),
        ("string", {"b64": "é"}, "not base64 of UTF-8 text, which ONNX strings are"),
        ("string", {"b64": base64.b64encode(b"\xff").decode()}, "not base64 of UTF-8 text, which ONNX strings are"),
        ("bfloat16", 1, "BF16 has no JSON form, send it as binary data to /v2"),
    ],
)
def test_a_wrong_element_is_named(kind: str, value: object, text: str) -> None:
    expected = signature({"x": (kind, ("rows", 1))})
    assert refusal({"instances": [[value]]}, expected) == f"fraud:3: input 'x': {text}"
    assert refusal({"inputs": {"x": [[value]]}}, expected) == f"fraud:3: input 'x': {text}"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bool", [True, False]),
        ("uint64", [0, 2**64 - 1]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("float16", [1.5, -2]),
        ("double", [1e300, 5e-324]),
        ("string", ["", "grüße", "a\u0000b"]),
    ],
)
def test_every_datatype_is_read_exactly(kind: str, values: list[object]) -> None:
    request = decode({"instances": values}, signature({"x": (kind, ("rows",))}))
    assert request.inputs["x"].tolist() == values


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"b64": "Z3LDvMOfZQ=="}, {"b64": ""}]},
        {"instances": [{"text": {"b64": "Z3LDvMOfZQ=="}}, {"text": ""}]},
        {"instances": ["grüße", {"b64": ""}]},
        {"inputs": ["grüße", {"b64": ""}]},
        {"inputs": {"text": [{"b64": "Z3LDvMOfZQ=="}, ""]}},
    ],
)
def test_text_may_be_base64(body: object) -> None:
    assert decode(body, WORDS).inputs["text"].tolist() == ["grüße", ""]


def test_one_text_may_be_base64_on_its_own() -> None:
    assert decode({"inputs": {"b64": "YQ=="}}, signature({"text": ("string", ())})).inputs["text"] == "a"


def test_an_input_that_is_called_b64_is_meant_by_its_name() -> None:
    expected = signature({"b64": ("string", ("rows",))})
    assert decode({"instances": [{"b64": "YQ=="}]}, expected).inputs["b64"].tolist() == ["YQ=="]


@given(
    arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=5, max_side=3), elements=st.floats(width=32)),
    st.sampled_from(["instances", "inputs"]),
)
def test_any_tensor_arrives_as_it_was_sent(tensor: npt.NDArray[np.float32], form: str) -> None:
    axes: Axes = ("rows", *tensor.shape[1:])
    body = json.dumps({form: tensor.tolist()}).encode()
    got = decode_predict(body, signature({"x": ("float", axes)}), LIMITS, model="fraud:3")
    np.testing.assert_array_equal(got.inputs["x"], tensor)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["x", "w", "b64", "instances", "inputs", "signature_name"]), inner)
        ),
        max_leaves=20,
    ),
    st.sampled_from(["instances", "inputs", "both"]),
    st.sampled_from([ONE, PAIR, WORDS]),
)
def test_any_json_is_a_tensor_or_a_named_fault(value: object, where: str, expected: Signature) -> None:
    body = value if where == "both" else {where: value}
    with contextlib.suppress(InvalidInput, InvalidRequest, TooLarge):
        assert list(decode(body, expected).inputs) == [spec.name for spec in expected.inputs]


# --- answers ------------------------------------------------------------------------------------------------------


LABEL = np.array([1, 0])
SCORES = np.array([[0.1, 0.9], [6.8, np.nan]], np.float32)


def test_one_output_is_answered_with_bare_values() -> None:
    declared: Tensors = {"scores": ("float", ("rows", 2))}
    assert encoded({"scores": SCORES}, declared) == {"predictions": [[0.1, 0.9], [6.8, None]]}
    assert encoded({"scores": SCORES}, declared, is_row_form=False) == {"outputs": [[0.1, 0.9], [6.8, None]]}


def test_several_outputs_are_answered_by_name() -> None:
    outputs = {"label": LABEL, "scores": SCORES}
    assert encoded(outputs, SEVERAL_OUT) == {
        "predictions": [{"label": 1, "scores": [0.1, 0.9]}, {"label": 0, "scores": [6.8, None]}]
    }
    assert encoded(outputs, SEVERAL_OUT, is_row_form=False) == {
        "outputs": {"label": [1, 0], "scores": [[0.1, 0.9], [6.8, None]]}
    }


def test_numbers_are_written_as_short_as_they_can_be_read_back() -> None:
    request = PredictRequest("", {}, 0, (), frozenset(), {})
    described = signature({"x": ("float", ("rows",))}, {"y": ("float", ("rows",))})
    body, _ = request.encode(
        {"y": np.array([6.8, 1.0], np.float32)}, described, model_name="fraud", version="3", request_id="1"
    )
    assert body == b'{"predictions":[6.8,1.0]}'


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("bool", np.array([[True], [False]])),
        ("uint64", np.array([[2**64 - 1], [0]], np.uint64)),
        ("int64", np.array([[-(2**63)], [0]], np.longlong)),
        ("int8", np.array([[-1], [0]], np.int8)),
        ("float16", np.array([[0.5], [0]], np.float16)),
        ("double", np.array([[1e300], [0]])),
        ("string", np.array([["grüße"], [""]], dtype=object)),
    ],
)
@pytest.mark.parametrize("axes", [("rows",), ("rows", 1)])
def test_every_datatype_is_written_alone_and_in_company(kind: str, array: Array, axes: Axes) -> None:
    shown = array if len(axes) > 1 else array[:, 0]
    declared: Tensors = {"y": (kind, axes), "n": ("int64", ("rows",))}
    company = encoded({"y": shown, "n": LABEL}, declared)
    assert company == {
        "predictions": [{"y": value, "n": n} for value, n in zip(shown.tolist(), LABEL.tolist(), strict=True)]
    }
    assert encoded({"y": shown}, declared) == {"predictions": shown.tolist()}


def test_slices_of_a_shared_run_are_written_like_their_own() -> None:
    together = np.arange(12, dtype=np.float32).reshape(6, 2)
    strided = np.asfortranarray(together)[2:4]
    for rows in (together[2:4], strided):
        assert encoded({"label": LABEL, "scores": rows}, SEVERAL_OUT) == {
            "predictions": [{"label": 1, "scores": [4, 5]}, {"label": 0, "scores": [6, 7]}]
        }


def test_text_whose_name_says_bytes_is_base64() -> None:
    words = np.array([["grüße", ""]], dtype=object)
    declared: Tensors = {"image_bytes": ("string", ("rows", 2))}
    assert encoded({"image_bytes": words}, declared) == {"predictions": [[{"b64": "Z3LDvMOfZQ=="}, {"b64": ""}]]}


def test_an_answer_without_rows_has_no_predictions() -> None:
    assert encoded({"scores": SCORES[:0]}, {"scores": ("float", ("rows", 2))}) == {"predictions": []}
    assert encoded({"label": LABEL[:0], "scores": SCORES[:0]}, SEVERAL_OUT) == {"predictions": []}


def test_outputs_without_common_rows_can_only_be_columns() -> None:
    outputs = {"label": LABEL[:1], "scores": SCORES}
    with pytest.raises(InvalidRequest, match=r"no rows in common \('label' has \[1\], 'scores' has \[2, 2\]\)"):
        encoded(outputs, SEVERAL_OUT)
    assert encoded(outputs, SEVERAL_OUT, is_row_form=False) == {
        "outputs": {"label": [1], "scores": [[0.1, 0.9], [6.8, None]]}
    }
    scalars: Tensors = {"total": ("float", ()), "count": ("int64", ())}
    values = {"total": np.array(2.5, np.float32), "count": np.array(7)}
    with pytest.raises(InvalidRequest, match="no rows in common"):
        encoded(values, scalars)
    assert encoded(values, scalars, is_row_form=False) == {"outputs": {"total": 2.5, "count": 7}}


def test_an_output_without_a_json_form_says_how_to_get_it() -> None:
    unwritable = signature({"x": ("float", ("rows", 2))}, {"y": ("bfloat16", ("rows",))})
    said = refusal({"instances": [[1, 2]]}, unwritable)
    assert said == "fraud:3: output 'y' is BF16, which has no JSON form: ask for it in binary at /v2"


# --- paths, status, metadata --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "parts", "verb"),
    [
        ("/v1/models/fraud:predict", ["", "v1", "models", "fraud"], "predict"),
        ("/v1/models/fraud/versions/3:predict", ["", "v1", "models", "fraud", "versions", "3"], "predict"),
        ("/v1/models/fraud", ["", "v1", "models", "fraud"], ""),
        ("/v1/models/fraud:unheard_of", ["", "v1", "models", "fraud"], "unheard_of"),
    ],
)
def test_the_verb_stands_behind_the_last_colon(path: str, parts: list[str], verb: str) -> None:
    assert split_verb(path.split("/")) == (parts, verb)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/v1/models/fraud:classify", "'classify' is not supported, only 'predict' is"),
        ("/v1/models/fraud:regress", "'regress' is not supported"),
        ("/v1/models/fraud:explain", "'explain' is not supported"),
        ("/v1/models/fraud/labels/stable:predict", "labels are not supported"),
        ("/v1/models/fraud/labels/stable", "labels are not supported"),
    ],
)
def test_what_tensorflow_serving_has_besides_says_that_it_is_not_here(path: str, text: str) -> None:
    with pytest.raises(NotSupported, match=text):
        split_verb(path.split("/"))


@pytest.mark.parametrize(
    ("state", "shown", "code", "message"),
    [
        (VersionState.LOADING, "LOADING", "OK", ""),
        (VersionState.READY, "AVAILABLE", "OK", ""),
        (VersionState.DRAINING, "UNLOADING", "OK", ""),
        (VersionState.UNLOADED, "END", "OK", ""),
        (VersionState.FAILED, "END", "UNKNOWN", "hash differs"),
    ],
)
def test_one_status_serves_both_clients(state: VersionState, shown: str, code: str, message: str) -> None:
    status = model_status("fraud", [VersionRecord(KEY, state, "hash differs")], ready=False)
    assert status == {
        "name": "fraud",
        "ready": False,
        "model_version_status": [
            {"version": "3", "state": shown, "status": {"error_code": code, "error_message": message}}
        ],
    }


def test_metadata_describes_every_datatype() -> None:
    kinds = {
        "bool": "DT_BOOL",
        "uint8": "DT_UINT8",
        "int16": "DT_INT16",
        "int64": "DT_INT64",
        "float16": "DT_HALF",
        "bfloat16": "DT_BFLOAT16",
        "float": "DT_FLOAT",
        "double": "DT_DOUBLE",
        "string": "DT_STRING",
    }
    described = model_metadata("fraud", 3, signature({kind: (kind, ("rows", 4)) for kind in kinds}))
    assert described["model_spec"] == {"name": "fraud", "signature_name": "", "version": "3"}
    inputs = json.loads(json.dumps(described))["metadata"]["signature_def"]["signature_def"]["serving_default"][
        "inputs"
    ]
    assert {name: entry["dtype"] for name, entry in inputs.items()} == kinds
    assert inputs["float"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}], "unknown_rank": False},
        "name": "float",
    }
