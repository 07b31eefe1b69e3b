"""A model's inputs and outputs, and whether given tensors fit them.

Knows no model file and no runtime: sessions describe themselves in these terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.errors import InvalidInput, InvalidModel
from gateway.messages import Array, TensorSpec

NUMPY_TYPES: dict[str, npt.DTypeLike] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": np.uint16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""The protocol's datatypes in numpy; BF16 travels as its bits, BYTES as objects."""

JSON_FLOATS = frozenset({"FP16", "FP32", "FP64"})
"""Floating-point datatypes that have a JSON form."""

_ONNX_ELEMENTS = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_TENSOR = re.compile(r"tensor\((\w+)\)")

FREE_ROWS = -1
"""The first axis takes any number of rows."""


def tensor_spec(name: str, onnx_type: str, shape: Iterable[int | str | None], *, role: str) -> TensorSpec:
    """Describe one input or output from the words of the ONNX file.

    Args:
        onnx_type: Such as `tensor(float)`.
        shape: Per axis a size, a symbolic name, or None.
        role: "input" or "output", for the error.
    Raises: InvalidModel: not a tensor, or elements the protocol has no datatype for.
    """
    match = _TENSOR.fullmatch(onnx_type)
    if match is None:
        repair = (
            "; convert again with options={'zipmap': False}, or repair the file with `gateway publish --strip-zipmap`"
            if onnx_type.startswith("seq(map(")
            else ""
        )
        raise InvalidModel(f"{role} '{name}' is {onnx_type}, expected a tensor{repair}")
    datatype = _ONNX_ELEMENTS.get(match[1])
    if datatype is None:
        raise InvalidModel(f"{role} '{name}' has {match[1]} elements, which the protocol has no datatype for")
    axes = tuple(shape)
    return TensorSpec(
        name=name,
        datatype=datatype,
        shape=tuple(axis if isinstance(axis, int) and axis >= 0 else -1 for axis in axes),
        axes=tuple(axis if isinstance(axis, str) else "" for axis in axes),
    )


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """All inputs and outputs of one model version, in the file's order.

    Attributes:
        rows: Size of the first axis that all tensors share: FREE_ROWS, a fixed size, or None when they share none.
        same_rows_axis: Whether that free axis carries one symbolic name (or none at all) everywhere.
        is_static: Whether every axis but the rows is fixed, so that all requests have one shape.
        takes_floats: Whether every input has floating-point numbers that JSON can write.
        binary_only: Outputs that JSON cannot write.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rows: int | None
    same_rows_axis: bool
    is_static: bool
    takes_floats: bool
    binary_only: frozenset[str]
    input_by_name: Mapping[str, TensorSpec]
    output_by_name: Mapping[str, TensorSpec]
    shared_axes: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]
    """Symbolic axes that stand in more than one place: name, and (input, axis) of each place."""
    forms: tuple[tuple[str, int, tuple[int, ...] | None], ...]
    """Per input its name, its rank, and its sizes after a free first axis: equal sizes need no closer look."""

    @classmethod
    def of(cls, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
        """Derive the row axis and the constraints from the tensors alone."""
        tensors = [*inputs, *outputs]
        sizes = {spec.shape[0] if spec.shape else None for spec in tensors}
        names = {spec.axes[0] if spec.axes else None for spec in tensors}
        rows = sizes.pop() if len(sizes) == 1 else None
        places: dict[str, list[tuple[str, int]]] = {}
        for spec in inputs:
            for axis, name in enumerate(spec.axes):
                if name:
                    places.setdefault(name, []).append((spec.name, axis))
        if rows is not None and all(spec.axes[0] == "" for spec in inputs):
            places["rows"] = [(spec.name, 0) for spec in inputs]
        return cls(
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            rows=rows,
            same_rows_axis=rows == FREE_ROWS and len(names) == 1,
            is_static=all(size >= 0 for spec in inputs for size in spec.shape[1 if rows is not None else 0 :]),
            takes_floats=all(spec.datatype in JSON_FLOATS for spec in inputs),
            binary_only=frozenset(spec.name for spec in outputs if spec.datatype == "BF16"),
            input_by_name={spec.name: spec for spec in inputs},
            output_by_name={spec.name: spec for spec in outputs},
            forms=tuple(
                (spec.name, len(spec.shape), spec.shape[1:] if spec.shape[:1] == (FREE_ROWS,) else None)
                for spec in inputs
            ),
            shared_axes=tuple((name, tuple(found)) for name, found in places.items() if len(found) > 1),
        )

    def with_free_rows(self) -> Signature:
        """Return the signature callers see when fixed rows are padded: the first axis takes any size."""
        return Signature.of([_free(spec) for spec in self.inputs], [_free(spec) for spec in self.outputs])

    def check(self, inputs: Mapping[str, Array], *, model: str) -> int:
        """Check names and shapes; datatypes were checked where the arrays were made.

        Args:
            model: Whose signature this is, for the error: `fraud:3`.
        Returns: The rows of the request; 1 for a model without a row axis.
        Raises: InvalidInput: a tensor is missing, unknown or of a wrong shape.
        """
        if len(inputs) != len(self.inputs):
            self._refuse_names(inputs, model)
        rows = None
        for name, rank, tail in self.forms:
            array = inputs.get(name)
            if array is None:
                self._refuse_names(inputs, model)
            shape = array.shape
            if len(shape) != rank or (shape[1:] != tail and not _fits(shape, self.input_by_name[name])):
                wanted = display_shape(self.input_by_name[name])
                raise InvalidInput(f"{model}: input '{name}' has shape {list(shape)}, expected {wanted}")
            if rows is None and shape:
                rows = shape[0]
        for name, places in self.shared_axes:
            sizes = {inputs[tensor].shape[axis] for tensor, axis in places}
            if len(sizes) > 1:
                where = ", ".join(f"'{tensor}' has {inputs[tensor].shape[axis]}" for tensor, axis in places)
                raise InvalidInput(f"{model}: inputs differ in '{name}', expected one size: {where}")
        return 1 if rows is None or self.rows is None else rows

    def _refuse_names(self, inputs: Mapping[str, Array], model: str) -> NoReturn:
        missing = [name for name in self.input_by_name if name not in inputs]
        unknown = [name for name in inputs if name not in self.input_by_name]
        raise InvalidInput(
            f"{model}: {'missing' if missing else 'unknown'} input {', '.join(map(repr, missing or unknown))}; "
            f"expected {len(self.inputs)} inputs ({', '.join(self.input_by_name)}), got {len(inputs)}"
        )


def display_shape(spec: TensorSpec) -> str:
    """Write a shape with its symbolic names: `[rows, 30]`."""
    sizes = (str(size) if size >= 0 else name or "any" for size, name in zip(spec.shape, spec.axes, strict=True))
    return f"[{', '.join(sizes)}]"


def _fits(shape: Sequence[int], spec: TensorSpec) -> bool:
    return all(want in (-1, got) for want, got in zip(spec.shape, shape, strict=True))


def _free(spec: TensorSpec) -> TensorSpec:
    return msgspec.structs.replace(spec, shape=(FREE_ROWS, *spec.shape[1:]), axes=("rows", *spec.axes[1:]))
