"""REST v1, as TensorFlow Serving and KServe speak it: predict bodies to arrays and back, status, metadata.

Knows no route and no queue; what a predict request becomes goes the same way as any inference request.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import msgspec
import numpy as np
import orjson

from gateway.api.incoming_body import Body
from gateway.api.payload import NO_BINARY, DecodedRequest, Limits, make_array, parse_leniently
from gateway.errors import InvalidInput, InvalidRequest, NotSupported, TooLarge
from gateway.inference.registry import VersionRecord, VersionState
from gateway.inference.signature import Signature
from gateway.messages import Array, TensorSpec

Json = dict[str, object]

PREDICT = ":predict"

_SIGNATURES = ("", "serving_default")
_BINARY_KEY = "b64"
_UNSUPPORTED_VERBS = frozenset({"classify", "regress", "explain"})
_STATES = {
    VersionState.LOADING: "LOADING",
    VersionState.READY: "AVAILABLE",
    VersionState.DRAINING: "UNLOADING",
    VersionState.UNLOADED: "END",
    VersionState.FAILED: "END",
}
_DATATYPES = {
    "BOOL": "DT_BOOL",
    "UINT8": "DT_UINT8",
    "UINT16": "DT_UINT16",
    "UINT32": "DT_UINT32",
    "UINT64": "DT_UINT64",
    "INT8": "DT_INT8",
    "INT16": "DT_INT16",
    "INT32": "DT_INT32",
    "INT64": "DT_INT64",
    "FP16": "DT_HALF",
    "BF16": "DT_BFLOAT16",
    "FP32": "DT_FLOAT",
    "FP64": "DT_DOUBLE",
    "BYTES": "DT_STRING",
}


class PredictBody(msgspec.Struct, forbid_unknown_fields=True):
    """A predict request: rows in `instances`, or columns in `inputs`."""

    signature_name: str | None = None
    instances: Any = None
    inputs: Any = None


class _AnyPredictBody(PredictBody, forbid_unknown_fields=False):
    """A predict request with keys we do not know."""


_decode_known = msgspec.json.Decoder(PredictBody).decode
_decode_any = msgspec.json.Decoder(_AnyPredictBody)


class PredictRequest(DecodedRequest, frozen=True):
    """A predict request in arrays that fits the signature.

    Attributes:
        is_row_form: Whether the answer is to list examples, not tensors.
    """

    is_row_form: bool = True

    def encode(
        self,
        outputs: Mapping[str, Array],
        signature: Signature,
        *,
        model_name: str,  # noqa: ARG002 - the answers of v1 name neither model nor request
        version: str,  # noqa: ARG002 - as above
        request_id: str,  # noqa: ARG002 - as above
    ) -> tuple[bytes, int | None]:
        """Write the answer to this request.

        Returns: The body; None, because there are no binary tensors here.
        Raises: InvalidRequest: an output has no JSON form, or no rows where rows are asked for.
        """
        columns = {name: _json_form(name, array, signature) for name, array in outputs.items()}
        if not self.is_row_form:
            answer: Json = {"outputs": _single_or_all(columns)}
        else:
            _check_rows(outputs)
            if len(columns) == 1:
                answer = {"predictions": _single_or_all(columns)}
            else:
                rows = zip(*columns.values(), strict=True)
                answer = {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}
        return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), None


def split_verb(parts: Sequence[str]) -> tuple[list[str], str]:
    """Take the verb off a path below /v1/models: `m:predict` is model `m` and verb `predict`.

    Raises: NotSupported: a verb or a label of TensorFlow Serving that has no meaning here.
    """
    *before, last = parts
    name, _, verb = last.partition(":")
    if verb in _UNSUPPORTED_VERBS:
        raise NotSupported(f"'{verb}' is not supported, only 'predict' is")
    if len(parts) > 4 and parts[4] == "labels":
        raise NotSupported("labels are not supported: ask for a route by its name, or for a version by its number")
    return [*before, name], verb


def decode_predict(body: Body, signature: Signature, limits: Limits, *, model: str) -> PredictRequest:
    """Read a predict request's body.

    Args:
        body: Inflated, complete.
        model: Whose signature it is, for errors: `fraud:3`.
    Raises:
        InvalidRequest: not the JSON of a predict request.
        InvalidInput: a tensor does not fit.
        TooLarge: a tensor has too many elements.
    """
    try:
        message: PredictBody = _decode_known(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        message = parse_leniently(bytes(body), _decode_any, limits)
    if (message.signature_name or "") not in _SIGNATURES:
        raise InvalidRequest(f"{model}: unknown signature '{message.signature_name}', expected 'serving_default'")
    if (message.instances is None) == (message.inputs is None):
        found = "neither" if message.instances is None else "both"
        raise InvalidRequest(f"{model}: expected one of 'instances' and 'inputs', got {found}")
    if signature.binary_only:
        name = min(signature.binary_only)
        raise InvalidRequest(f"{model}: output '{name}' is BF16, which has no JSON form: ask for it in binary at /v2")
    is_row_form = message.instances is not None
    given = _rows(message.instances, signature, model) if is_row_form else _columns(message.inputs, signature, model)
    inputs = {spec.name: _tensor(given[spec.name], spec, limits, model) for spec in signature.inputs}
    rows = signature.check(inputs, model=model)
    return PredictRequest("", inputs, rows, (), NO_BINARY, {}, is_row_form)


def model_status(name: str, records: Sequence[VersionRecord], *, ready: bool) -> Json:
    """Describe a model's versions as TensorFlow Serving does, and as KServe does, in one body."""
    return {"name": name, "ready": ready, "model_version_status": [_version_status(record) for record in records]}


def model_metadata(name: str, version: int, signature: Signature) -> Json:
    """Describe a model's tensors."""
    described = {
        "inputs": {spec.name: _described(spec) for spec in signature.inputs},
        "outputs": {spec.name: _described(spec) for spec in signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {"serving_default": described}}},
    }


def _version_status(record: VersionRecord) -> Json:
    failed = record.state is VersionState.FAILED
    return {
        "version": str(record.key.version),
        "state": _STATES[record.state],
        "status": {"error_code": "UNKNOWN" if failed else "OK", "error_message": record.reason if failed else ""},
    }


def _described(spec: TensorSpec) -> Json:
    return {
        "dtype": _DATATYPES[spec.datatype],
        "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in spec.shape], "unknown_rank": False},
        "name": spec.name,
    }


# --- what comes in -----------------------------------------------------------------------------------


def _rows(instances: object, signature: Signature, model: str) -> Mapping[str, object]:
    """Turn examples into one list per input."""
    if not isinstance(instances, list) or not instances:
        raise InvalidRequest(f"{model}: 'instances' is not a list of at least one example")
    specs = signature.inputs
    if len(specs) == 1 and all(type(one) is not dict or _is_binary(one, specs[0]) for one in instances):
        return {specs[0].name: instances}
    names = signature.input_by_name.keys()
    for number, instance in enumerate(instances):
        if type(instance) is not dict:
            raise InvalidInput(f"{model}: instance {number} is no object, expected one with {_listed(names)}")
        if instance.keys() != names:
            raise InvalidInput(f"{model}: instance {number} has {_listed(instance)}, expected {_listed(names)}")
    return {name: [instance[name] for instance in instances] for name in names}


def _columns(inputs: object, signature: Signature, model: str) -> Mapping[str, object]:
    """Return whole tensors by input."""
    specs = signature.inputs
    if len(specs) == 1 and (not isinstance(inputs, dict) or _is_binary(inputs, specs[0])):
        return {specs[0].name: inputs}
    if not isinstance(inputs, dict):
        names = _listed(signature.input_by_name)
        raise InvalidInput(f"{model}: 'inputs' is no object, expected one with {names}")
    missing = [spec.name for spec in specs if spec.name not in inputs]
    if missing:
        raise InvalidInput(f"{model}: 'inputs' has {_listed(inputs)}, missing is {_listed(missing)}")
    return inputs


def _tensor(value: object, spec: TensorSpec, limits: Limits, model: str) -> Array:
    """Make a tensor of nested lists, whose shape is that of the first element at each level."""
    where = f"{model}: input '{spec.name}'"
    if spec.datatype == "BF16":
        raise InvalidInput(f"{where}: BF16 has no JSON form, send it as binary data to /v2")
    shape: list[int] = []
    level: list[Any] = [value]
    while level and type(level[0]) is list:
        lengths = {len(inner) if type(inner) is list else -1 for inner in level}
        if len(lengths) > 1:
            raise InvalidInput(f"{where}: the lists at level {len(shape) + 1} are not all of one length")
        shape += lengths
        level = list(chain.from_iterable(level))
        if len(shape) > limits.max_json_depth:
            raise InvalidRequest(f"the JSON is nested deeper than {limits.max_json_depth} levels")
    if len(level) > limits.max_tensor_elements:
        raise TooLarge(f"{where} has shape {shape}, at most {limits.max_tensor_elements} elements are taken")
    if spec.datatype == "BYTES":
        level = [_text(element, where) if type(element) is dict else element for element in level]
    return make_array(level, shape, spec, model)


def _is_binary(value: object, spec: TensorSpec) -> bool:
    """Tell whether an object stands for the bytes of a string, not for an example of named inputs."""
    is_b64 = isinstance(value, dict) and value.keys() == {_BINARY_KEY}
    return is_b64 and spec.datatype == "BYTES" and spec.name != _BINARY_KEY


def _text(element: Mapping[str, object], where: str) -> str:
    encoded = element.get(_BINARY_KEY)
    if len(element) != 1 or not isinstance(encoded, str):
        raise InvalidInput(f'{where}: BYTES elements are strings or {{"b64": "…"}}')
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError) as exc:  # also text that is not ASCII, or bytes that are not UTF-8
        raise InvalidInput(f"{where}: not base64 of UTF-8 text, which ONNX strings are") from exc


def _listed(names: Iterable[object]) -> str:
    return ", ".join(f"'{name}'"[:60] for name in islice(names, 20)) or "no key"


# --- what goes out -----------------------------------------------------------------------------------


def _json_form(name: str, array: Array, signature: Signature) -> object:
    datatype = signature.output_by_name[name].datatype
    if datatype != "BYTES":
        if array.ndim < 2 and array.dtype.kind != "f":  # single numbers are written one by one, not by numpy's names
            return array.tolist()
        return np.ascontiguousarray(array) if array.ndim else array[()]
    if not name.endswith("_bytes"):
        return array.tolist()
    encoded = np.empty(array.shape, dtype=object)
    flat = [{_BINARY_KEY: base64.b64encode(element.encode()).decode()} for element in array.ravel().tolist()]
    encoded.ravel()[:] = flat
    return encoded.tolist()


def _check_rows(outputs: Mapping[str, Array]) -> None:
    sizes = {array.shape[0] if array.ndim else None for array in outputs.values()}
    if len(sizes) > 1 or None in sizes:
        shapes = ", ".join(f"'{name}' has {list(array.shape)}" for name, array in outputs.items())
        raise InvalidRequest(f"the outputs have no rows in common ({shapes}): ask with 'inputs' instead of 'instances'")


def _single_or_all(columns: Mapping[str, object]) -> object:
    return next(iter(columns.values())) if len(columns) == 1 else columns
