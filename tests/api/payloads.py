"""Owns what tests of inference bodies are made of: signatures, requests with one thing changed, expected refusals.

Decodes through the gateway's own functions and never looks inside them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

import pytest

from gateway.api.payload import DecodedRequest, Limits, decode_request
from gateway.errors import RequestError
from gateway.inference.signature import Signature
from gateway.messages import Array, TensorSpec

LIMITS = Limits(max_json_depth=64, max_tensor_elements=100_000)
MODEL = "fraud:3"
INTEGERS = ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"]
FLOATS = ["FP16", "FP32", "FP64"]
JSON_DATATYPES = ["BOOL", *INTEGERS, *FLOATS, "BYTES"]


def tensor(name: str, datatype: str, shape: Sequence[int]) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=tuple(shape), axes=("",) * len(shape))


def signature(*inputs: TensorSpec) -> Signature:
    """Return a signature of these inputs, and two outputs that nobody looks at."""
    return Signature.of(inputs, [tensor("y", "FP32", (-1,)), tensor("z", "FP32", (-1,))])


X = signature(tensor("x", "FP32", (-1, 2)))
"""What most tests ask of: rows of two floats."""


def decode(message: object, *, wanted: Signature = X, data: bytes = b"", limits: Limits = LIMITS) -> DecodedRequest:
    """Decode a document, or text, with binary data behind it if there is any."""
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    length = len(text) if data else None
    return decode_request(text + data, length, wanted, limits, model=MODEL)


def request(**changed: object) -> dict[str, object]:
    """Return a good request with some fields of its one input changed; those set to ... are left out."""
    fields: dict[str, object] = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2], **changed}
    return {"inputs": [{name: value for name, value in fields.items() if value is not ...}]}


def binary_request(size: object, **changed: object) -> dict[str, object]:
    """Return a request whose input is to follow in binary."""
    return request(**{"data": ..., "parameters": {"binary_data_size": size}, **changed})


def one_value(datatype: str, value: str) -> Array:
    """Decode a request of one element, given as JSON text."""
    text = f'{{"inputs": [{{"name": "x", "shape": [1], "datatype": "{datatype}", "data": [{value}]}}]}}'
    return decode(text.encode(), wanted=signature(tensor("x", datatype, (1,)))).inputs["x"]


def bits(values: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def strings(*texts: bytes) -> bytes:
    """Write strings as the protocol frames them."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def refusal(error: type[RequestError], *said: str) -> pytest.RaisesExc[RequestError]:
    """Expect exactly this error, and all these words in its text."""

    def fits(raised: RequestError) -> bool:
        return type(raised) is error and all(word in str(raised) for word in said)

    return pytest.RaisesExc(error, check=fits)
