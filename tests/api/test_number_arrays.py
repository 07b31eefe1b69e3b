"""Holds the quick reading of long arrays to its promise: it is what the other reading would have been, or nothing."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.number_arrays import LONG_BYTES, LONGEST_BYTES, as_floats, cut_numbers
from gateway.api.payload import DecodedRequest, Limits, decode_request
from gateway.errors import GatewayError
from gateway.inference.signature import Signature
from gateway.messages import TensorSpec

PADDING = " " * LONG_BYTES
LIMITS = Limits(max_json_depth=32, max_tensor_elements=1000)


def signature_of(datatype: str) -> Signature:
    inputs = [TensorSpec(name="x", datatype=datatype, shape=(-1, -1), axes=("rows", ""))]
    outputs = [TensorSpec(name="y", datatype="FP32", shape=(-1, 1), axes=("rows", ""))]
    return Signature.of(inputs, outputs)


FP32, FP64, FP16 = (signature_of(datatype) for datatype in ("FP32", "FP64", "FP16"))


def read(text: str | bytes, signature: Signature) -> DecodedRequest | tuple[type[GatewayError], str]:
    body = text.encode() if isinstance(text, str) else text
    try:
        return decode_request(body, None, signature, LIMITS, model="m:1")
    except GatewayError as exc:
        return type(exc), str(exc)


def assert_read_alike(text: str, signature: Signature) -> DecodedRequest | None:
    """Read a body long enough for the quick way, and the same one short enough for the other; return what was read."""
    assert len(text) < LONG_BYTES
    quick, other = read(text + PADDING, signature), read(text, signature)
    if isinstance(other, tuple) or isinstance(quick, tuple):
        assert isinstance(quick, tuple)
        assert isinstance(other, tuple)
        assert quick[0] is other[0]
        return None
    assert (quick.id, quick.rows, quick.outputs, quick.binary, quick.parameters) == (
        other.id,
        other.rows,
        other.outputs,
        other.binary,
        other.parameters,
    )
    assert quick.inputs.keys() == other.inputs.keys()
    for name, array in other.inputs.items():
        assert (quick.inputs[name].dtype, quick.inputs[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(quick.inputs[name], array)
    return quick


def body(data: str, shape: str = "[1, 2]", datatype: str = "FP32", rest: str = "", more: str = "") -> str:
    return f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}{more}}}]{rest}}}'


numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.integers(-(2**70), 2**70),
)
elements = st.one_of(numbers.map(repr), numbers.map(repr), st.sampled_from(["-0", "1e400", "01", "1.", "+1", "0.5e-7"]))


@settings(max_examples=800)
@given(
    st.lists(elements, max_size=6),
    st.sampled_from([FP32, FP64, FP16]),
    st.sampled_from(["[1, {n}]", "[{n}, 1]", "[{n}]", "[1, 3]"]),
    st.sampled_from([",", " , "]),
)
def test_numbers_are_read_as_the_other_way_reads_them(
    found: list[str], signature: Signature, shape: str, comma: str
) -> None:
    datatype = signature.inputs[0].datatype
    assert_read_alike(body(f"[{comma.join(found)}]", shape.format(n=len(found)), datatype), signature)


@pytest.mark.parametrize(
    "text",
    [
        body("[1, 2]"),
        body("[1.5, 2]", rest=',"id":"a","parameters":{"routing_key":"k"},"outputs":[{"name":"y"}]'),
        body("[1, 2]", rest=',"outputs":[{"name":"z"}]'),
        body("[1, 2]", rest=',"surprise":[{"data":[1]}]'),
        body("[1, 2]", rest=',"id":"\\"data\\":[7, 7]"'),
        body("[1, 2]", more=',"data":[3, 4]'),
        body("[1, 2]", more=',"parameters":{"binary_data_size":8}'),
        body("[1, 2]", datatype="FP64"),
        body("[1, 2]", shape="[3]"),
        body("[1, 2]", shape="[1, 2000]"),
        body("[1, 2]", shape="[1, 2, 1]"),
        body("[[1, 2]]"),
        body("[1, [2]]"),
        body("[[1], [2]]"),
        body("[[1, 2]"),
        body("[1, 2"),
        body("[1, null]"),
        body("[1, true]"),
        body('[1, "2"]'),
        body('[1, "]"]'),
        body("[1, NaN]"),
        body("[1, Infinity]"),
        body("[1, 1e39]"),
        body("[1, 3.4028235677973366e38]"),
        body("[]", shape="[1, 0]"),
        body("null"),
        body("{}"),
        body('"[1, 2]"'),
        body("[1, 2,]"),
        body("[1 2]"),
        body("[1, 2]") + "]",
        body("[1, 2]").replace('"data":', '"data" : '),
        body("[1, 2]").replace('"data":', '"data":\n\t'),
        body("[1, 2]").replace('"x"', '"y"'),
        body("[1, 2]").replace('"x"', '"data"'),
        body("[1, 2]").replace('"datatype":"FP32",', ""),
        '{"inputs":[]}',
        '{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32"}]}',
        '"data":[1, 2]',
        "[" * 500,
        "",
    ],
)
def test_whatever_is_not_one_flat_array_goes_the_other_way(text: str) -> None:
    assert_read_alike(text, FP32)


def test_the_quick_way_is_taken_for_what_clients_write() -> None:
    values = np.random.default_rng(5).standard_normal((2, 300)).astype(np.float32)
    tensor = {"name": "x", "shape": [2, 300], "datatype": "FP32", "data": values.ravel().tolist()}
    for text in (json.dumps({"inputs": [tensor]}), json.dumps({"inputs": [tensor]}, separators=(",", ":"))):
        cut = cut_numbers(text.encode())
        assert cut is not None
        assert json.loads(cut[0]) == {"inputs": [tensor | {"data": []}]}
        found = as_floats(cut[1], "FP32")
        assert found is not None
        np.testing.assert_array_equal(found.reshape(2, 300), values)
        whole = read(memoryview(text.encode()).tobytes(), FP32)
        assert isinstance(whole, DecodedRequest)
        np.testing.assert_array_equal(whole.inputs["x"], values)


def test_a_body_too_long_for_the_quick_way_is_read_all_the_same() -> None:
    text = body("[1, 2]").encode()
    for size in (LONGEST_BYTES, LONGEST_BYTES + 1):
        found = read(text + b" " * (size - len(text)), FP32)
        assert isinstance(found, DecodedRequest)
        assert found.inputs["x"].tolist() == [[1, 2]]


def test_numbers_are_rounded_once_to_the_nearest() -> None:
    halfway = 1 + 2**-24  # between two floats of 32 bits
    for number in (halfway, math.nextafter(halfway, 2), 1e-45, 7e-46, 3.4028235677973362e38):
        found = as_floats(np.array([number]), "FP32")
        assert found is not None
        assert found.tobytes() == struct.pack("=f", number)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 31, 64, 511, 512, 10_007])
def test_one_number_out_of_range_is_noticed_wherever_it_stands(size: int) -> None:
    """Rounding goes by several numbers at a time, and the last few by themselves."""
    least = 2.0**128 - 2.0**103  # rounds to the power, which no float of 32 bits can hold
    numbers = np.random.default_rng(6).uniform(-1e38, 1e38, size)
    assert as_floats(numbers, "FP32") is not None
    for place in {0, size // 2, size - 1}:
        for wrong in (least, -least, 1e300):
            spoilt = numbers.copy()
            spoilt[place] = wrong
            assert as_floats(spoilt, "FP32") is None
            spoilt[place] = math.copysign(math.nextafter(least, 0), wrong)
            assert as_floats(spoilt, "FP32") is not None
