"""Owns what the gateway's answers are compared with: rows for a model, and what onnxruntime itself says to them.

Never asks the gateway and knows nothing of its code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from tests.support.server import EXAMPLE_MODELS

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(string)": "BYTES"}
NUMPY_TYPES: dict[str, npt.DTypeLike] = {"FP32": np.float32, "INT64": np.int64, "BYTES": np.object_}

_SECOND_AXIS = range(1, 9)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output as the file describes it: -1 stands for every free axis."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Oracle:
    """A model file in an onnxruntime session of its own, and typical rows for it."""

    def __init__(self, model: str, version: int, file: Path, typical: Tensors) -> None:
        self.model = model
        self.version = version
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        self.inputs = [_tensor(node) for node in self._session.get_inputs()]
        self.outputs = [_tensor(node) for node in self._session.get_outputs()]
        self._typical = typical

    def __repr__(self) -> str:
        """Name it as a model version, for the names of tests."""
        return f"{self.model}:{self.version}"

    @property
    def file_datatypes(self) -> dict[str, str]:
        """Datatype of every input and output."""
        return {tensor.name: tensor.datatype for tensor in (*self.inputs, *self.outputs)}

    def draw(self, rows: int, random: np.random.Generator) -> Tensors:
        """Draw rows near the typical ones; a free axis behind the rows gets any size up to that of the typical rows."""
        picked = random.integers(0, len(next(iter(self._typical.values()))), rows)
        drawn: Tensors = {}
        for tensor in self.inputs:
            typical = self._typical[tensor.name]
            values: Array = typical[picked]
            if tensor.datatype == "FP32":
                values = (values * random.normal(1, 0.05, values.shape)).astype(np.float32)
            if -1 in tensor.shape[1:]:
                values = np.ascontiguousarray(values[:, : random.choice(_SECOND_AXIS)])
            drawn[tensor.name] = values
        return drawn

    def answer(self, inputs: Mapping[str, Array]) -> Tensors:
        """Return every output for these rows, run together."""
        names = [tensor.name for tensor in self.outputs]
        return dict(zip(names, self._session.run(None, dict(inputs)), strict=True))


def example_oracles() -> list[Oracle]:
    """Return an oracle for every version of every example model, with the rows of its golden requests."""
    found = []
    for file in sorted(EXAMPLE_MODELS.glob("*/*/model.onnx")):
        version = file.parent
        case = json.loads((version / "golden.json").read_text())["cases"]
        session = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
        typical = {}
        for node in session.get_inputs():
            tensor = _tensor(node)
            rows = [np.array(one["inputs"][tensor.name], NUMPY_TYPES[tensor.datatype]) for one in case]
            longest = max(array.shape[1:] for array in rows)
            typical[tensor.name] = np.concatenate([array for array in rows if array.shape[1:] == longest])
        found.append(Oracle(version.parent.name, int(version.name), file, typical))
    assert found, f"no models in {EXAMPLE_MODELS}"
    return found


def assert_same(expected: Mapping[str, Array], got: Mapping[str, Array], *, what: str = "") -> None:
    """Compare outputs: numbers up to the last bits that another batch size may change, everything else exactly."""
    assert set(got) <= set(expected), what
    for name, array in got.items():
        wanted = expected[name]
        assert array.shape == wanted.shape, f"{what} {name}"
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-5, err_msg=f"{what} {name}")
        else:
            np.testing.assert_array_equal(as_text(array), as_text(wanted), err_msg=f"{what} {name}")


def datatype_of(array: Array) -> str:
    """Return the protocol's name for an array's elements."""
    return {"f": "FP32", "i": "INT64", "O": "BYTES"}[array.dtype.kind]


def as_text(array: Array) -> Array:
    """Turn the bytes that binary clients get for BYTES into text; other arrays stay as they are."""
    if array.dtype.kind not in "OS":
        return array
    flat = [element.decode() if isinstance(element, bytes) else element for element in array.ravel().tolist()]
    return np.array(flat, dtype=object).reshape(array.shape)


def _tensor(node: ort.NodeArg) -> Tensor:
    assert re.fullmatch(r"tensor\(\w+\)", node.type)
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in node.shape)
    return Tensor(node.name, DATATYPES[node.type], shape)
