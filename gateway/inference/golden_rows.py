"""Golden requests made of rows of data and of the model's own answers to them: a guard against later change.

Never judges an answer; whoever publishes says that the model is right today.
"""

from __future__ import annotations

import numpy as np
import orjson

from gateway.errors import InvalidData
from gateway.inference.samples import Inputs, bfloat16_values
from gateway.inference.session import Session
from gateway.inference.signature import Signature
from gateway.messages import Array, TensorSpec

_TOLERANCES = {"FP16": 1e-2, "BF16": 2e-2, "FP32": 1e-4, "FP64": 1e-6}
"""How far an answer may be off on another processor, per datatype: rounding, not a change."""


def encode_golden(session: Session, inputs: Inputs) -> bytes:
    """Ask one request and write it with its answer as golden.json.

    Raises:
        InvalidData: a value is infinite, which JSON cannot hold.
        InvalidInput, InferenceFailed: the model refuses the rows.
    """
    signature = session.signature
    outputs = dict(zip(signature.output_by_name, session.run(inputs, ()), strict=True))
    case = {
        "inputs": {name: _plain(signature.input_by_name[name], array) for name, array in inputs.items()},
        "outputs": {name: _plain(signature.output_by_name[name], array) for name, array in outputs.items()},
        "tolerance": _tolerance(signature),
    }
    return orjson.dumps({"cases": [case]}, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)


def _tolerance(signature: Signature) -> float:
    return max((_TOLERANCES[spec.datatype] for spec in signature.outputs if spec.datatype in _TOLERANCES), default=0.0)


def _plain(spec: TensorSpec, array: Array) -> object:
    """Return what orjson writes in the fewest digits; NaN becomes null."""
    if spec.datatype == "BYTES":
        return array.tolist()
    values = bfloat16_values(array) if spec.datatype == "BF16" else array
    if np.issubdtype(values.dtype, np.inexact) and np.isinf(values).any():
        raise InvalidData(f"'{spec.name}' holds an infinity, which golden.json cannot; take other rows")
    return np.ascontiguousarray(values) if values.ndim else values.item()
