"""v2 inference bodies: bytes to arrays and arrays to bytes, JSON and binary tensors mixed.

Knows no status, no route and no queue. Every size is checked before memory of that size is taken.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
import orjson
from msgspec import Meta
from numpy import ndarray

from gateway.api.incoming_body import Body
from gateway.api.number_arrays import LONG_BYTES, LONGEST_BYTES, as_floats, cut_numbers
from gateway.errors import InvalidInput, InvalidRequest, TooLarge
from gateway.inference.signature import JSON_FLOATS, NUMPY_TYPES, Signature
from gateway.messages import Array, TensorSpec

BodyT = TypeVar("BodyT")
Parameter = str | int | float | bool | None
Parameters = dict[str, Parameter]

_STRUCT_CODES = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_ELEMENT_TYPES = {datatype: frozenset({int}) for datatype in _STRUCT_CODES} | {
    "BOOL": frozenset({bool}),
    "FP16": frozenset({int, float}),
    "FP32": frozenset({int, float}),
    "FP64": frozenset({int, float}),
    "BYTES": frozenset({str}),
}
_DTYPES = {datatype: np.dtype(kind) for datatype, kind in NUMPY_TYPES.items()}
_ITEM_BYTES = {datatype: kind.itemsize for datatype, kind in _DTYPES.items()}
_DEPTH_OF_DATA = 3  # {"inputs": [{"data": …
_LENGTH_PREFIX = struct.Struct("<I")
_BLOCK_BYTES = 65_536
_QUOTE = ord('"')
_NO_MARKS = bytes(code for code in range(256) if code not in b'[]{}"')
_STEPS = np.zeros(256, dtype=np.int64)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1

Shape = Annotated[list[Annotated[int, Meta(ge=0, le=2**31)]], Meta(max_length=32)]


class Tensor(msgspec.Struct, forbid_unknown_fields=True):
    """An input as the client wrote it."""

    name: str
    shape: Shape
    datatype: str
    data: Any = None
    parameters: Parameters | None = None


class WantedOutput(msgspec.Struct, forbid_unknown_fields=True):
    """An output the client asked for by name."""

    name: str
    parameters: Parameters | None = None


class InferBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON part of an inference request with the keys clients send; KServe's adds the model's name."""

    inputs: Sequence[Tensor]
    id: str | None = None
    outputs: Sequence[WantedOutput] | None = None
    parameters: Parameters | None = None
    model_name: str | None = None


class _FloatTensor(Tensor):
    """An input of numbers in a flat list."""

    data: list[float] | None = None


class _FloatBody(InferBody):
    """A request all of whose tensors are numbers in flat lists, or binary."""

    inputs: Sequence[_FloatTensor]


class _AnyTensor(Tensor, forbid_unknown_fields=False):
    """An input with keys we do not know."""


class _AnyOutput(WantedOutput, forbid_unknown_fields=False):
    """An output with keys we do not know."""


class _AnyBody(InferBody, forbid_unknown_fields=False):
    """A request with keys we do not know: they are ignored, once their depth is known to be harmless."""

    inputs: Sequence[_AnyTensor]
    outputs: Sequence[_AnyOutput] | None = None
    model_name: Any = None


class DecodedRequest(msgspec.Struct, frozen=True):
    """A request in arrays that fits the signature.

    Attributes:
        outputs: Names asked for, all when empty.
        binary: Outputs to answer in binary; None for all of them.
    """

    id: str
    inputs: dict[str, Array]
    rows: int
    outputs: tuple[str, ...]
    binary: frozenset[str] | None
    parameters: Parameters

    def encode(
        self, outputs: Mapping[str, Array], signature: Signature, *, model_name: str, version: str, request_id: str
    ) -> tuple[bytes, int | None]:
        """Write the answer to this request; see encode_response."""
        return encode_response(
            model_name, version, self.id or request_id, outputs, signature=signature, binary=self.binary
        )


_decode_floats = msgspec.json.Decoder(_FloatBody).decode
_decode_known = msgspec.json.Decoder(InferBody).decode
_decode_any = msgspec.json.Decoder(_AnyBody)
NO_BINARY: frozenset[str] = frozenset()


class Limits(msgspec.Struct, frozen=True):
    """What a body may hold."""

    max_json_depth: int
    max_tensor_elements: int


def decode_request(
    body: Body, header_length: int | None, signature: Signature, limits: Limits, *, model: str
) -> DecodedRequest:
    """Read a request's body.

    Args:
        body: Inflated, complete.
        header_length: Of the JSON part (`Inference-Header-Content-Length`); None when all is JSON, 0 for a raw body.
        model: Whose signature it is, for errors: `fraud:3`.
    Raises:
        InvalidRequest: not the JSON of an inference request.
        InvalidInput: a tensor does not fit.
        TooLarge: a tensor has too many elements.
    """
    if header_length == 0:
        return _decode_raw(body, signature, limits, model)
    size = len(body)
    end = size if header_length is None else header_length
    if end > size:
        raise InvalidRequest(f"the JSON part is said to have {end} bytes, the body has {size}")
    if (
        LONG_BYTES <= size <= LONGEST_BYTES
        and header_length is None
        and signature.takes_floats
        and len(signature.inputs) == 1
    ):
        request = _decode_numbers(bytes(body), signature, limits, model)
        if request is not None:
            return request
    message = _parse(body if end == size else body[:end], limits, of_floats=signature.takes_floats)
    inputs: dict[str, Array] = {}
    offset = end
    for tensor in message.inputs:
        name, shape = tensor.name, tensor.shape
        spec = signature.input_by_name.get(name)
        if spec is None or name in inputs or tensor.datatype != spec.datatype:
            raise _misfit(tensor, inputs, signature, model)
        elements = math.prod(shape)
        if not 0 < elements <= limits.max_tensor_elements:
            _check_extent(tensor, limits, model)
        binary_bytes = _binary_bytes(tensor, model) if tensor.parameters else None
        if binary_bytes is None:
            if type(tensor) is _FloatTensor and tensor.data is not None and len(tensor.data) == elements:
                inputs[name] = _pack(tensor.data, shape, spec, model)
            else:
                inputs[name] = _from_json(tensor, elements, spec, limits, model)
            continue
        if offset + binary_bytes > size:
            raise InvalidInput(
                f"{model}: input '{tensor.name}' is said to have {binary_bytes} bytes, "
                f"{size - offset} are left in the body"
            )
        inputs[name] = _from_binary(memoryview(body)[offset : offset + binary_bytes], shape, elements, spec, model)
        offset += binary_bytes
    if offset != size:
        raise InvalidRequest(f"{model}: {size - offset} bytes of the body belong to no input")
    return _decoded(message, inputs, signature, model)


def _decode_numbers(text: bytes, signature: Signature, limits: Limits, model: str) -> DecodedRequest | None:
    """Read a request of one long flat input; None where it is anything else, or something is wrong with it."""
    cut = cut_numbers(text)
    if cut is None:
        return None
    rest, numbers = cut
    try:
        message = _decode_floats(rest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    tensor = message.inputs[0]  # the key `data` stands nowhere else in what could be read
    spec = signature.input_by_name.get(tensor.name)
    if len(message.inputs) > 1 or tensor.parameters or spec is None or tensor.datatype != spec.datatype:
        return None
    if not len(numbers) == math.prod(tensor.shape) <= limits.max_tensor_elements:
        return None
    array = as_floats(numbers, spec.datatype)
    return None if array is None else _decoded(message, {spec.name: array.reshape(tensor.shape)}, signature, model)


def _decoded(message: InferBody, inputs: dict[str, Array], signature: Signature, model: str) -> DecodedRequest:
    """Check the inputs together, and what the client wants of the outputs."""
    rows = signature.check(inputs, model=model)
    outputs: tuple[str, ...] = ()
    binary: frozenset[str] | None = NO_BINARY
    if message.outputs or message.parameters:
        outputs, binary = _wanted(message, signature, model)
    if signature.binary_only and binary is not None:
        _check_binary(outputs, binary, signature)
    return DecodedRequest(message.id or "", inputs, rows, outputs, binary, message.parameters or {})


def encode_response(
    model_name: str,
    model_version: str,
    request_id: str,
    outputs: Mapping[str, Array],
    *,
    signature: Signature,
    binary: frozenset[str] | None,
) -> tuple[bytes, int | None]:
    """Write an inference response.

    Args:
        binary: Outputs to write in binary; None for all.
    Returns: The body, and the length of its JSON part when binary data follows it.
    """
    described: list[dict[str, object]] = []
    chunks: list[bytes] = []
    specs = signature.output_by_name
    for name, array in outputs.items():
        datatype = specs[name].datatype
        if binary is None or name in binary:
            chunk = _to_binary(array, datatype)
            chunks.append(chunk)
            size = {"binary_data_size": len(chunk)}
            described.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": size})
        else:
            data = array.ravel().tolist() if datatype == "BYTES" else array.ravel()
            described.append({"name": name, "datatype": datatype, "shape": array.shape, "data": data})
    message = orjson.dumps(
        {"id": request_id, "model_name": model_name, "model_version": model_version, "outputs": described},
        option=orjson.OPT_SERIALIZE_NUMPY,
    )
    if not any(chunks):
        return message, None
    return b"".join((message, *chunks)), len(message)


def _parse(text: Body, limits: Limits, *, of_floats: bool) -> InferBody:
    """Parse the JSON part; unknown keys and what Python clients write for NaN and infinities go a slower way.

    Args:
        of_floats: Whether to expect flat lists of numbers, which are parsed faster than lists of anything.
    """
    if of_floats:
        try:
            return _decode_floats(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            pass  # nested lists, nulls, or something wrong: say what below
    try:
        return _decode_known(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return parse_leniently(bytes(text), _decode_any, limits)


def parse_leniently(text: bytes, decoder: msgspec.json.Decoder[BodyT], limits: Limits) -> BodyT:
    """Parse a body that the quick way refused: one with unknown keys, or with the NaN and infinities of Python.

    Args:
        decoder: One that ignores unknown keys.
    Raises: InvalidRequest: it is neither.
    """
    check_depth(text, limits.max_json_depth)
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        if isinstance(exc, msgspec.ValidationError) or (b"NaN" not in text and b"Infinity" not in text):
            raise InvalidRequest(f"not an inference request: {exc}") from exc
    try:
        return _parse_slowly(text, decoder.type)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest(f"not an inference request: {exc}") from exc


def _parse_slowly(text: bytes, into: type[BodyT]) -> BodyT:
    """Parse with the standard library, which takes NaN and infinities, and some things that must not pass."""
    document = json.loads(text.decode(), parse_float=_finite)
    if b"\\ud" in text.lower():  # a lone surrogate is no text: no answer and no log line could repeat it
        json.dumps(document, ensure_ascii=False).encode()
    return msgspec.convert(document, into)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("number out of range")
    return number


def check_depth(text: bytes, limit: int) -> None:
    """Refuse JSON that is nested deeper than `limit`; brackets inside strings do not count.

    Linear in time and block by block in memory: nothing has been checked before it.
    Raises: InvalidRequest: it is.
    """
    unescaped = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    depth = quotes = 0
    for start in range(0, len(unescaped), _BLOCK_BYTES):
        block = unescaped[start : start + _BLOCK_BYTES].translate(None, _NO_MARKS)
        if not block:
            continue
        marks = np.frombuffer(block, dtype=np.uint8)
        quoted = quotes + (marks == _QUOTE).cumsum()
        levels = depth + np.where(quoted & 1, 0, _STEPS[marks]).cumsum()
        if levels.max() > limit:
            raise InvalidRequest(f"the JSON is nested deeper than {limit} levels")
        depth, quotes = int(levels[-1]), int(quoted[-1])


def _misfit(tensor: Tensor, seen: Mapping[str, Array], signature: Signature, model: str) -> InvalidInput:
    """Say why a tensor is none that the signature asks for."""
    name = tensor.name
    spec = signature.input_by_name.get(name)
    if spec is None:
        expected = ", ".join(map(repr, signature.input_by_name))
        return InvalidInput(f"{model}: unexpected input '{name}', expected {expected}")
    if name in seen:
        return InvalidInput(f"{model}: input '{name}' stands twice in the request")
    what = "datatype" if tensor.datatype in NUMPY_TYPES else "unknown datatype"
    return InvalidInput(f"{model}: input '{name}' has {what} '{tensor.datatype}', expected '{spec.datatype}'")


def _check_extent(tensor: Tensor, limits: Limits, model: str) -> None:
    """Bound the axes of an empty tensor, too: numpy multiplies those that are not 0."""
    if math.prod(filter(None, tensor.shape)) > limits.max_tensor_elements:
        raise TooLarge(
            f"{model}: input '{tensor.name}' has shape {tensor.shape}, "
            f"at most {limits.max_tensor_elements} elements are taken"
        )


def _binary_bytes(tensor: Tensor, model: str) -> int | None:
    """Return the size of the tensor's binary data, or None when it stands in the JSON part."""
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        raise InvalidInput(f"{model}: input '{tensor.name}': shared memory is not supported")
    size = parameters.get("binary_data_size")
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise InvalidInput(f"{model}: input '{tensor.name}': binary_data_size is not a size: {size!r}")
    if tensor.data is not None:
        raise InvalidInput(f"{model}: input '{tensor.name}' has both 'data' and 'binary_data_size'")
    return size


def _from_json(tensor: Tensor, elements: int, spec: TensorSpec, limits: Limits, model: str) -> Array:
    where = f"{model}: input '{tensor.name}'"
    if spec.datatype == "BF16":
        raise InvalidInput(f"{where}: BF16 has no JSON form, send it as binary data")
    if tensor.data is None:
        raise InvalidInput(f"{where} has neither 'data' nor 'binary_data_size'")
    flat = _flatten(tensor.data, tensor.shape, where)
    if flat is not tensor.data and len(tensor.shape) > limits.max_json_depth - _DEPTH_OF_DATA:
        raise InvalidRequest(f"the JSON is nested deeper than {limits.max_json_depth} levels")
    if len(flat) != elements:
        raise InvalidInput(f"{where} has {len(flat)} elements, its shape {tensor.shape} says {elements}")
    return make_array(flat, tensor.shape, spec, model)


def make_array(flat: list[Any], shape: Sequence[int], spec: TensorSpec, model: str) -> Array:
    """Make a tensor of JSON elements.

    Args:
        flat: As many as the shape says, in row-major order.
        spec: Of any datatype but BF16.
        model: For errors: `fraud:3`.
    Raises: InvalidInput: an element is of another kind, or out of the datatype's range.
    """
    datatype = spec.datatype
    found = set(map(type, flat))
    if not found <= _ELEMENT_TYPES[datatype]:
        if datatype in JSON_FLOATS and found <= {int, float, type(None)}:
            flat = [math.nan if element is None else element for element in flat]
        else:
            wrong = ", ".join(sorted(map(_json_name, found - _ELEMENT_TYPES[datatype])))
            raise InvalidInput(f"{model}: input '{spec.name}': {datatype} elements cannot be {wrong}")
    if datatype == "BYTES":
        return _strings(flat, shape)
    return _pack(flat, shape, spec, model)


def _pack(flat: list[Any], shape: Sequence[int], spec: TensorSpec, model: str) -> Array:
    """Make a tensor of numbers that are of the datatype's kind; see make_array."""
    datatype = spec.datatype
    try:
        packed = _packer(datatype, len(flat))(*flat)
    except (struct.error, OverflowError) as exc:
        raise InvalidInput(f"{model}: input '{spec.name}': a number is out of the range of {datatype}") from exc
    return ndarray(shape, _DTYPES[datatype], packed)


def _flatten(data: Any, shape: Sequence[int], where: str) -> list[Any]:  # noqa: ANN401 - any JSON value
    """Accept the nested form of `shape`, or a flat list."""
    if type(data) is not list:
        raise InvalidInput(f"{where}: 'data' is {_json_name(type(data))}, expected an array")
    if not data or type(data[0]) is not list:
        return data
    level: list[Any] = data
    for axis, size in enumerate(shape):
        if axis and any(type(inner) is not list for inner in level):
            raise InvalidInput(f"{where}: 'data' is nested unevenly, expected shape {list(shape)}")
        lengths = {len(level)} if not axis else set(map(len, level))
        if lengths - {size}:
            raise InvalidInput(
                f"{where}: axis {axis} of 'data' has {max(lengths - {size})} elements, expected shape {list(shape)}"
            )
        if axis:
            level = list(chain.from_iterable(level))
    return level


def _strings(flat: list[str], shape: Sequence[int]) -> Array:
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def _from_binary(chunk: memoryview, shape: Sequence[int], elements: int, spec: TensorSpec, model: str) -> Array:
    where = f"{model}: input '{spec.name}'"
    if spec.datatype == "BYTES":
        return _strings(_split_strings(bytes(chunk), elements, where), shape)
    item_bytes = _ITEM_BYTES[spec.datatype]
    if len(chunk) != elements * item_bytes:
        raise InvalidInput(
            f"{where} has {len(chunk)} bytes of {spec.datatype}, its shape {list(shape)} takes {elements * item_bytes}"
        )
    if spec.datatype == "BOOL" and np.frombuffer(chunk, dtype=np.uint8).max(initial=0) > 1:
        raise InvalidInput(f"{where}: BOOL bytes are 0 or 1")
    array: Array = np.frombuffer(chunk, dtype=_DTYPES[spec.datatype])
    if not array.flags.aligned:
        array = array.copy()  # operators may assume aligned elements
    return array.reshape(shape)


def _split_strings(chunk: bytes, elements: int, where: str) -> list[str]:
    found: list[str] = []
    offset = 0
    while offset < len(chunk):
        start = offset + _LENGTH_PREFIX.size
        if start > len(chunk) or len(found) == elements:
            raise InvalidInput(f"{where}: bytes are left after {len(found)} strings, expected {elements} strings")
        offset = start + _LENGTH_PREFIX.unpack_from(chunk, offset)[0]
        if offset > len(chunk):
            raise InvalidInput(f"{where}: string {len(found)} runs past the tensor's end")
        try:
            found.append(chunk[start:offset].decode())
        except UnicodeDecodeError as exc:
            raise InvalidInput(f"{where}: string {len(found)} is not UTF-8, and ONNX strings are") from exc
    if len(found) != elements:
        raise InvalidInput(f"{where} has {len(found)} strings, its shape says {elements}")
    return found


def _decode_raw(body: Body, signature: Signature, limits: Limits, model: str) -> DecodedRequest:
    """Read a body that is nothing but the one input's data; free axes are found from its size."""
    if len(signature.inputs) != 1:
        raise InvalidRequest(
            f"{model}: a raw request is for models with one input, this one has {len(signature.inputs)}"
        )
    spec = signature.inputs[0]
    if spec.datatype == "BYTES":
        if any(size not in (-1, 1) for size in spec.shape):
            raise InvalidRequest(f"{model}: a raw request for BYTES is one string, the input has another shape")
        array = _strings(
            _split_strings(b"".join((_LENGTH_PREFIX.pack(len(body)), body)), 1, model), [1] * len(spec.shape)
        )
    else:
        shape = _raw_shape(len(body) // _ITEM_BYTES[spec.datatype], spec, signature, model)
        elements = math.prod(shape)
        if elements > limits.max_tensor_elements:
            raise TooLarge(
                f"{model}: input '{spec.name}' has {elements} elements, at most {limits.max_tensor_elements} are taken"
            )
        array = _from_binary(memoryview(body), shape, elements, spec, model)
    inputs = {spec.name: array}
    return DecodedRequest("", inputs, signature.check(inputs, model=model), (), None, {})


def _raw_shape(elements: int, spec: TensorSpec, signature: Signature, model: str) -> list[int]:
    """Fill the one free axis beyond the rows from the number of elements; without such an axis, the rows."""
    shape = list(spec.shape)
    free = [axis for axis, size in enumerate(shape) if size < 0]
    if signature.rows is not None and len(free) > 1 and free[0] == 0:
        shape[0] = 1
        free = free[1:]
    if len(free) > 1:
        raise InvalidRequest(
            f"{model}: the shape of a raw request is open: input '{spec.name}' has {len(free)} free axes"
        )
    if free:
        shape[free[0]] = elements // max(1, math.prod(size for size in shape if size >= 0))
    return shape


def _wanted(message: InferBody, signature: Signature, model: str) -> tuple[tuple[str, ...], frozenset[str] | None]:
    if not message.outputs:
        all_binary = (message.parameters or {}).get("binary_data_output") is True
        return (), None if all_binary else NO_BINARY
    names: list[str] = []
    binary = set()
    for output in message.outputs:
        if output.name not in signature.output_by_name:
            raise InvalidInput(
                f"{model}: unexpected output '{output.name}', expected {', '.join(map(repr, signature.output_by_name))}"
            )
        if output.name in names:
            raise InvalidInput(f"{model}: output '{output.name}' stands twice in the request")
        names.append(output.name)
        for parameter, value in (output.parameters or {}).items():
            if parameter == "binary_data" and value is True:
                binary.add(output.name)
            elif parameter == "classification" and value:
                raise InvalidInput(f"{model}: output '{output.name}': classification is not supported")
            elif parameter == "shared_memory_region":
                raise InvalidInput(f"{model}: output '{output.name}': shared memory is not supported")
    return tuple(names), frozenset(binary)


def _check_binary(outputs: Collection[str], binary: Collection[str], signature: Signature) -> None:
    """Refuse now what could not be written later.

    Args:
        outputs: Names asked for, all when empty.
        binary: Those asked for in binary.
    """
    for name in outputs or signature.output_by_name:
        if name in signature.binary_only and name not in binary:
            raise InvalidRequest(
                f"output '{name}' is BF16, which has no JSON form: ask for it with \"binary_data\": true"
            )


def _to_binary(array: Array, datatype: str) -> bytes:
    if datatype != "BYTES":
        return array.tobytes()
    encoded = [element.encode() for element in array.ravel().tolist()]
    return b"".join(chain.from_iterable((_LENGTH_PREFIX.pack(len(text)), text) for text in encoded))


@lru_cache(maxsize=256)
def _packer(datatype: str, elements: int) -> Callable[..., bytes]:
    return struct.Struct(f"={elements}{_STRUCT_CODES[datatype]}").pack


def _json_name(kind: type) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        type(None): "null",
        float: "a fraction",
    }
    return names.get(kind, "a number")
