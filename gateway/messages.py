"""The values that travel between the packages: a model version, a request and a response in arrays.

Holds no behaviour beyond names and sizes; never parses, never measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""A tensor of any of the protocol's datatypes; BYTES are object arrays of `str`."""

Tensors = Mapping[str, Array]


class ModelVersion(msgspec.Struct, frozen=True, order=True):
    """One version of one model, written `fraud:3`."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}:{self.version}"


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a model says of one input or output.

    Attributes:
        datatype: A name of the Open Inference Protocol: FP32, INT64, BYTES, …
        shape: One entry per axis: a fixed size, or -1.
        axes: The axis' symbolic name where the file gives one, else "".
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]


class Timings(msgspec.Struct, frozen=True):
    """Where one request's time went, in seconds."""

    queue_s: float
    inference_s: float


class InferenceRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request in arrays, already checked against the signature.

    Attributes:
        inputs: Every input of the model by name.
        rows: Size of the first axis, or 1 where the model has no rows.
        outputs: Names of the outputs to compute, all of them when empty.
        deadline: Event-loop time after which nobody waits for the answer.
        routing_key: Decides the variant; None assigns at random.
        request_id: Echoed, logged, never a metric label.
    """

    inputs: dict[str, Array]
    rows: int
    outputs: tuple[str, ...] = ()
    deadline: float
    routing_key: str | None = None
    request_id: str = ""


class InferenceResponse(msgspec.Struct, frozen=True):
    """The outputs of one request, rows as asked, and who answered."""

    served: ModelVersion
    outputs: dict[str, Array]
    timings: Timings


BYTES = np.dtype(object)
