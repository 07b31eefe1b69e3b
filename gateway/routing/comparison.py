"""Comparing what a shadow answered with what the caller got.

Pure; never runs a model, and holds no history (`agreement.py` does).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.messages import Array, Tensors

Result = Literal["match", "mismatch", "error"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """How two answers to one request differ.

    Attributes:
        result: "match" when every value of every compared output is equal within the tolerance.
        reason: Why it is no match, "" when it is one: the first output that differs, and how.
        rows: Rows compared.
        class_flips: Rows whose predicted class differs: the label where an output holds one, else the highest score.
        absolute: Largest absolute difference of each row, float64, shape (rows,); NaN where NaN or infinity stands
            against another value; empty when no output is of floating point.
        relative: The same, divided by the larger of the two magnitudes.
    """

    result: Result
    reason: str = ""
    rows: int = 0
    class_flips: int = 0
    absolute: FloatArray
    relative: FloatArray


_NOTHING: FloatArray = np.empty(0, dtype=np.float64)


def failed_comparison(reason: str) -> Comparison:
    """Say that the shadow gave no answer to compare."""
    return Comparison(result="error", reason=reason, absolute=_NOTHING, relative=_NOTHING)


def compare_outputs(
    primary: Tensors,
    shadow: Tensors,
    *,
    tolerance: float,
    rows: int,
    names: Sequence[str] | None = None,
    label: str | None = None,
    score: str | None = None,
) -> Comparison:
    """Compare two answers to the same request.

    Values of floating point are equal when they differ by at most `tolerance`, absolutely or relative to the larger
    magnitude; NaN equals NaN, an infinity equals itself. Integers, booleans and strings are equal or not: the
    distance of two class numbers means nothing.

    Args:
        primary: Outputs by name, the caller's answer.
        shadow: Outputs by name.
        rows: Rows of the request; outputs whose first axis is of another size are compared as one row.
        names: Outputs to compare, those both models have with the same shape; None: those that both answered.
        label: The output that holds the predicted class; None: the first one of integers, booleans or strings.
        score: The output whose highest column is the predicted class; None: the first of floats with columns.
    Returns: "error" when there is nothing to compare.
    """
    chosen = [name for name in (primary if names is None else names) if name in primary and name in shadow]
    if not chosen:
        return failed_comparison("the two answers have no output in common")
    if all(_is_identical(primary[name], shadow[name]) for name in chosen):  # the common case costs a tenth of the rest
        nowhere = _zeros_for([primary[name] for name in chosen], rows)
        return Comparison(result="match", rows=rows, absolute=nowhere, relative=nowhere)
    reason = ""
    absolute: FloatArray = _NOTHING
    relative: FloatArray = _NOTHING
    for name in chosen:
        first, second = primary[name], shadow[name]
        if first.shape != second.shape:
            reason = reason or f"output '{name}' has shape {second.shape}, the answer had {first.shape}"
            continue
        if _is_floating(first) and _is_floating(second):
            row_absolute, row_relative, is_equal = _float_differences(first, second, tolerance, rows)
            absolute = row_absolute if absolute.size == 0 else np.maximum(absolute, row_absolute)
            relative = row_relative if relative.size == 0 else np.maximum(relative, row_relative)
        else:
            is_equal = bool(np.array_equal(_comparable(first), _comparable(second)))
        if not is_equal:
            reason = reason or f"output '{name}' differs"
    return Comparison(
        result="mismatch" if reason else "match",
        reason=reason,
        rows=rows,
        class_flips=_class_flips(primary, shadow, chosen, label=label, score=score, rows=rows),
        absolute=absolute,
        relative=relative,
    )


def _is_identical(first: Array, second: Array) -> bool:
    """Tell whether two outputs have the same shape and bits; objects have none to speak of."""
    return (
        first.dtype == second.dtype
        and first.dtype != object
        and first.shape == second.shape
        and first.tobytes() == second.tobytes()
    )


def _zeros_for(outputs: Sequence[Array], rows: int) -> FloatArray:
    """Return the differences of answers without any: one for each row, none where nothing is of floating point."""
    floats = [output for output in outputs if _is_floating(output)]
    if not floats:
        return _NOTHING
    return np.zeros(rows if any(output.ndim and output.shape[0] == rows for output in floats) else 1)


def _float_differences(first: Array, second: Array, tolerance: float, rows: int) -> tuple[FloatArray, FloatArray, bool]:
    """Measure the largest difference of each row, and whether all are within the tolerance."""
    left, right = _by_row(first.astype(np.float64), rows), _by_row(second.astype(np.float64), rows)
    same: BoolArray = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        absolute = np.where(same, 0.0, np.abs(left - right))
        relative = np.where(same, 0.0, absolute / np.maximum(np.abs(left), np.abs(right)))
    # A value against NaN or another infinity has no distance: neither 0 nor large, and never within a tolerance.
    incomparable = ~same & ~(np.isfinite(left) & np.isfinite(right))
    absolute[incomparable] = np.nan
    relative[incomparable] = np.nan
    is_equal = bool(np.all((absolute <= tolerance) | (relative <= tolerance)))
    if left.shape[1] == 0:
        return np.zeros(left.shape[0]), np.zeros(left.shape[0]), is_equal
    return absolute.max(axis=1), relative.max(axis=1), is_equal


def _class_flips(
    primary: Tensors, shadow: Tensors, names: Sequence[str], *, label: str | None, score: str | None, rows: int
) -> int:
    alike = [name for name in names if primary[name].shape == shadow[name].shape]
    labels = [name for name in alike if name == label or (label is None and _is_label(primary[name], rows))]
    if labels:
        first, second = primary[labels[0]], shadow[labels[0]]
        return int(np.any(_by_row(_comparable(first), rows) != _by_row(_comparable(second), rows), axis=1).sum())
    scores = [name for name in alike if name == score or (score is None and _is_score(primary[name], rows))]
    if scores:
        first, second = primary[scores[0]], shadow[scores[0]]
        if _is_score(first, rows) and _is_score(second, rows):
            return int((np.argmax(first, axis=1) != np.argmax(second, axis=1)).sum())
    return 0


def _is_label(output: Array, rows: int) -> bool:
    return not _is_floating(output) and output.shape in ((rows,), (rows, 1))


def _is_score(output: Array, rows: int) -> bool:
    return _is_floating(output) and output.ndim == 2 and output.shape[0] == rows and output.shape[1] >= 2


def _is_floating(output: Array) -> bool:
    return bool(np.issubdtype(output.dtype, np.floating))


def _by_row(output: Array, rows: int) -> Array:
    count = rows if output.ndim and output.shape[0] == rows else 1
    return output.reshape(count, -1) if output.size else output.reshape(count, 0)


def _comparable(output: Array) -> Array:
    """Bring strings to one form: a tensor of BYTES holds `str` or `bytes`."""
    if output.dtype != object:
        return output
    texts = [value.encode() if isinstance(value, str) else value for value in output.ravel().tolist()]
    plain = np.empty(len(texts), dtype=object)
    plain[:] = texts
    return plain.reshape(output.shape)
