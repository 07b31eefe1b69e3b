"""Tensors that fit a signature, for the self-test and the warm-up: from golden requests, else made up.

Never used to answer anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from gateway.errors import InvalidModel
from gateway.inference.manifest import Golden
from gateway.inference.signature import FREE_ROWS, NUMPY_TYPES, Signature
from gateway.messages import Array, TensorSpec

Inputs = dict[str, Array]

_SAMPLE_ROWS = 64
_INTEGERS: frozenset[type] = frozenset({int})
_FLOATS: frozenset[type] = frozenset({int, float, type(None)})
_JSON_TYPES: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    "BYTES": frozenset({str}),
    "FP16": _FLOATS,
    "BF16": _FLOATS,
    "FP32": _FLOATS,
    "FP64": _FLOATS,
}
"""What stands for an element in JSON, where that is not an integer."""


def golden_inputs(signature: Signature, golden: Golden) -> list[Inputs]:
    """Turn the golden cases' nested lists into arrays.

    Raises: InvalidModel: a case does not fit the signature.
    """
    cases = []
    for number, case in enumerate(golden.cases):
        unknown = case.inputs.keys() - signature.input_by_name.keys()
        if unknown:
            raise InvalidModel(f"golden.json: case {number}: the model has no input '{min(unknown)}'")
        arrays = {
            spec.name: as_array(case.inputs[spec.name], spec, where=f"golden.json: case {number}: '{spec.name}'")
            for spec in signature.inputs
            if spec.name in case.inputs
        }
        for name, array in arrays.items():
            if not array.size:
                raise InvalidModel(f"golden.json: case {number}: '{name}' is empty, expected at least one element")
        cases.append(arrays)
    return cases


def as_array(nested: object, spec: TensorSpec, *, where: str) -> Array:
    """Make an array of the tensor's datatype from nested lists; null in floats is NaN.

    Raises: InvalidModel: ragged lists, elements of another kind or out of the datatype's range.
    """
    is_bfloat16 = spec.datatype == "BF16"
    try:
        with np.errstate(over="raise"):
            array: Array = np.array(nested, dtype=np.float32 if is_bfloat16 else NUMPY_TYPES[spec.datatype])
    except (TypeError, ValueError, ArithmeticError) as exc:
        raise InvalidModel(f"{where}: not {spec.datatype} elements: {exc}") from exc
    if array.ndim != len(spec.shape):
        raise InvalidModel(f"{where}: has {array.ndim} axes, expected {len(spec.shape)}")
    allowed = _JSON_TYPES.get(spec.datatype, _INTEGERS)
    for element in array.flat if spec.datatype == "BYTES" else _elements(nested):
        if type(element) not in allowed:
            raise InvalidModel(f"{where}: not {spec.datatype} elements: found {element!r}")
    return bfloat16_bits(array) if is_bfloat16 else array


def bfloat16_bits(values: Array) -> Array:
    """Round float32 to BF16, half to even, and return the bits as uint16."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bfloat16_values(bits: Array) -> Array:
    """Widen the bits of BF16 to float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _elements(nested: object) -> Iterator[object]:
    if isinstance(nested, list):
        for item in nested:
            yield from _elements(item)
    else:
        yield nested


def random_inputs(
    signature: Signature, rows: int, random: np.random.Generator, *, scale: float, like: Inputs | None = None
) -> Inputs:
    """Draw inputs of the given rows: normal floats times `scale`, integers below it (0 and 1 at least), short strings.

    Args:
        like: Inputs whose sizes stand in for the free axes; 1 without.
    """
    made = {}
    for spec in signature.inputs:
        shape = sample_shape(spec, rows, has_rows=signature.rows is not None, like=like)
        if spec.datatype == "BYTES":
            array: Array = random.choice(np.array(["a", "b", "c", "1"], dtype=object), size=shape)
        elif spec.datatype in ("FP16", "FP32", "FP64"):
            array = (random.standard_normal(shape) * scale).astype(NUMPY_TYPES[spec.datatype])
        elif spec.datatype == "BF16":
            array = bfloat16_bits((random.standard_normal(shape) * scale).astype(np.float32))
        else:
            below = 2 if spec.datatype == "BOOL" else max(2, min(int(scale), 127))
            array = random.integers(0, below, size=shape).astype(NUMPY_TYPES[spec.datatype])
        made[spec.name] = array
    return made


def positive(signature: Signature, inputs: Inputs) -> Inputs:
    """Return the inputs without the signs of their floats."""
    made = {}
    for name, array in inputs.items():
        datatype = signature.input_by_name[name].datatype
        made[name] = array & 0x7FFF if datatype == "BF16" else np.abs(array) if array.dtype.kind == "f" else array
    return made


def joined_sample(signature: Signature, cases: Sequence[Inputs]) -> Inputs | None:
    """Return the first case, with the rows of those that fit to it where rows are free; None without any."""
    if not cases:
        return None
    first = cases[0]
    if signature.rows != FREE_ROWS:
        return first
    alike = [case for case in cases if all(case[name].shape[1:] == array.shape[1:] for name, array in first.items())]
    return {name: array[:_SAMPLE_ROWS] for name, array in concatenated(alike).items()}


def has_distinct_rows(inputs: Inputs) -> bool:
    """Tell whether any row differs from the first."""
    return not all(
        np.array_equal(array[1:], np.broadcast_to(array[:1], array[1:].shape), equal_nan=array.dtype.kind == "f")
        for array in inputs.values()
    )


def repeated_rows(inputs: Inputs, rows: int) -> Inputs:
    """Cycle the rows of a sample up to the given number."""
    return {name: np.take(array, np.arange(rows) % len(array), axis=0) for name, array in inputs.items()}


def concatenated(parts: Sequence[Inputs]) -> Inputs:
    """Join requests along the rows: a ⊕ b."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def sample_shape(spec: TensorSpec, rows: int, *, has_rows: bool, like: Inputs | None) -> tuple[int, ...]:
    """Fill the free axes of a tensor with sizes."""
    sizes = [
        size if size >= 0 else like[spec.name].shape[axis] if like is not None and spec.name in like else 1
        for axis, size in enumerate(spec.shape)
    ]
    if has_rows:
        sizes[0] = rows
    return tuple(sizes)
