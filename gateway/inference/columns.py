"""How named columns of data become a model's inputs: which column goes where, and as which datatype.

Never opens a file; every value that does not fit is named with its column and row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.errors import InvalidData, InvalidModel
from gateway.inference.samples import as_array, bfloat16_bits
from gateway.inference.signature import NUMPY_TYPES, Signature, display_shape
from gateway.messages import Array, TensorSpec

_FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
_WORDS = {"true": 1, "false": 0}


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """Which columns fill which input, in the order of its own columns.

    Attributes:
        sources: Input → columns; one column may hold whole tensors, several are set side by side.
        features: Input → names for its columns, where the data names them.
    """

    sources: dict[str, tuple[str, ...]]
    features: dict[str, list[str]]


def plan_columns(signature: Signature, columns: Mapping[str, bool], *, in_order: bool) -> ColumnPlan:
    """Find every input its columns.

    The only input of a model, where it is a table ([rows, n] or [rows]), takes all columns in their order. Otherwise
    an input takes the column of its name, or, for [rows, n], the columns `<input>_0` … `<input>_<n-1>`.

    Args:
        columns: Name → whether it holds one value a row (and not a whole tensor).
        in_order: Whether the order of columns means anything; not so in .npz.
    Raises: InvalidData: an input finds no column, or a column no input.
    """
    for spec in signature.inputs:
        if not spec.shape:
            raise InvalidData(f"input '{spec.name}' has no rows to fill: its shape is []")
    if "" in columns:
        raise InvalidData("a column has no name (a row number, perhaps): leave it out with --drop ''")
    if len(signature.inputs) == 1 and in_order and all(columns.values()) and len(signature.inputs[0].shape) <= 2:
        sources = {signature.inputs[0].name: _all_in_order(signature.inputs[0], list(columns))}
    else:
        sources = {spec.name: _by_name(spec, columns) for spec in signature.inputs}
    used = {name for names in sources.values() for name in names}
    if left := [name for name in columns if name not in used]:
        fits = "column {} fits" if len(left) == 1 else "columns {} fit"
        names = _shown([spec.name for spec in signature.inputs])
        raise InvalidData(f"{fits.format(_shown(left))} no input ({names}): leave out what is no feature with --drop")
    return ColumnPlan(
        sources=sources,
        features={
            spec.name: list(sources[spec.name])
            for spec in signature.inputs
            if len(spec.shape) <= 2 and all(columns[name] for name in sources[spec.name])
        },
    )


def fill_input(spec: TensorSpec, columns: Sequence[tuple[str, Array]], *, first_row: int = 1) -> Array:
    """Make one input's tensor of its columns.

    Args:
        columns: Name and values of each, rows first; text stands for what it reads as, "" for NaN.
        first_row: Number of the first row here, for errors.
    Raises: InvalidData: a value is not of the input's datatype, or a shape does not fit.
    """
    if len(columns) > 1:
        return np.stack([_converted(spec, name, values, first_row) for name, values in columns], axis=1)
    (name, values) = columns[0]
    array = _converted(spec, name, values, first_row)
    if array.ndim == 1 and spec.shape[1:] in ((1,), (-1,)):
        array = array.reshape(-1, 1)
    if array.ndim != len(spec.shape) or any(
        want not in (-1, got) for want, got in zip(spec.shape[1:], array.shape[1:], strict=True)
    ):
        rows = ", ".join(["rows", *map(str, array.shape[1:])])
        raise InvalidData(f"column '{name}' has shape [{rows}], input '{spec.name}' takes {display_shape(spec)}")
    return array


def naming_faults(names: Mapping[str, Sequence[str]], specs: Mapping[str, TensorSpec], *, role: str) -> dict[str, str]:
    """Find names of columns that stand for no column of the model.

    Args:
        names: Input or output → names, as `[features]` and `[labels]` of a manifest hold them.
        specs: The model's inputs or outputs.
        role: "input" or "output".
    Returns: What is wrong, by input or output.
    """
    faults = {}
    for tensor, given in names.items():
        spec = specs.get(tensor)
        if spec is None:
            faults[tensor] = f"the model has no {role} '{tensor}', expected one of {', '.join(map(repr, specs))}"
        elif len(set(given)) != len(given):
            faults[tensor] = f"a name stands twice: {next(name for name in given if given.count(name) > 1)!r}"
        elif role == "input" and (columns := _columns_of(spec)) not in (None, len(given)):
            faults[tensor] = f"has {len(given)} names, {role} '{tensor}' {display_shape(spec)} has {columns} columns"
        elif role == "output" and len(spec.shape) == 2 and spec.shape[1] > 1 and spec.shape[1] != len(given):
            faults[tensor] = (
                f"has {len(given)} names, {role} '{tensor}' {display_shape(spec)} has {spec.shape[1]} columns"
            )
    return faults


# --- which column goes where --------------------------------------------------------------------------


def _all_in_order(spec: TensorSpec, columns: list[str]) -> tuple[str, ...]:
    wanted = _columns_of(spec)
    if wanted is None:
        return tuple(columns)
    if len(columns) != wanted:
        hint = ": leave out what is no feature with --drop" if len(columns) > wanted else ""
        raise InvalidData(
            f"input '{spec.name}' {display_shape(spec)} takes {wanted} columns in their order, "
            f"got {len(columns)} ({_shown(columns)}){hint}"
        )
    return tuple(columns)


def _by_name(spec: TensorSpec, columns: Mapping[str, bool]) -> tuple[str, ...]:
    if spec.name in columns:
        return (spec.name,)
    wanted = _columns_of(spec) if len(spec.shape) == 2 else 1
    if wanted is not None and wanted > 1 and all(f"{spec.name}_{number}" in columns for number in range(wanted)):
        return tuple(f"{spec.name}_{number}" for number in range(wanted))
    raise InvalidData(
        f"input '{spec.name}' {display_shape(spec)} finds no column of its name among {_shown(list(columns))}"
    )


def _columns_of(spec: TensorSpec) -> int | None:
    """Count the values of a row; None when any number fits."""
    count = 1
    for size in spec.shape[1:]:
        if size < 0:
            return None
        count *= size
    return count


def _shown(columns: list[str]) -> str:
    """Name columns; of many the first and the last, where what is no feature mostly stands."""
    names = [repr(name) for name in columns]
    return ", ".join(names if len(names) <= 8 else [*names[:4], "…", *names[-3:]])


# --- as which datatype -----------------------------------------------------------------------------------


def _converted(spec: TensorSpec, name: str, values: Array, first_row: int) -> Array:
    kind = values.dtype.kind
    where = f"column '{name}'"
    if kind not in "biufUSO":
        raise InvalidData(f"{where} holds {values.dtype} values, input '{spec.name}' takes {spec.datatype}")
    if kind == "O" and len(values) and isinstance(values[0], list):
        return _nested(spec, values, where)
    if kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if spec.datatype == "BYTES":
        return _text(values, where, first_row)
    if values.dtype.kind in "UO":
        values = _numbers(spec, values, where, first_row)
    return _cast(spec, values, where, first_row)


def _nested(spec: TensorSpec, values: Array, where: str) -> Array:
    """Make a tensor of a list a row, as the JSON of a request is read."""
    try:
        return as_array(list(values), spec, where=where)
    except InvalidModel as exc:
        raise InvalidData(str(exc)) from exc


def _text(values: Array, where: str, first_row: int) -> Array:
    if values.dtype.kind == "f":
        raise InvalidData(f"{where} holds {values.dtype} numbers, expected text")
    made = np.empty(values.shape, object)
    for index, value in np.ndenumerate(values):
        if isinstance(value, bool) or not isinstance(value, (str, int, np.integer)):
            raise InvalidData(f"{where}, row {first_row + index[0]}: {_quoted(value)} is not text")
        made[index] = str(value)
    return made


def _numbers(spec: TensorSpec, values: Array, where: str, first_row: int) -> Array:
    """Read numbers that came as text or as Python objects."""
    is_float = spec.datatype in _FLOATS
    if is_float and values.ndim == 1:
        try:
            return np.array(["nan" if value == "" else value for value in values], np.float64)
        except (ValueError, TypeError):
            pass  # some are words or no numbers at all: one by one
    made = np.empty(values.shape, np.float64 if is_float else object)
    for index, value in np.ndenumerate(values):
        number = _number(value, is_float=is_float)
        if number is None:
            raise InvalidData(f"{where}, row {first_row + index[0]}: {_quoted(value)} is not {_article(spec.datatype)}")
        made[index] = number
    return made


def _number(value: object, *, is_float: bool) -> float | int | None:
    """Read one value; None when it is no number of that kind."""
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        try:
            value = int(word) if not is_float else float(word or "nan")
        except ValueError:
            try:
                value = float(word)
            except ValueError:
                return None
    if isinstance(value, (bool, int, np.integer, np.bool_)):
        return int(value)
    if value is None and is_float:
        return float("nan")
    if isinstance(value, (float, np.floating)):
        return float(value) if is_float else int(value) if float(value).is_integer() else None
    return None


def _cast(spec: TensorSpec, values: Array, where: str, first_row: int) -> Array:
    """Turn numbers into the input's datatype, refusing those it cannot hold."""
    if spec.datatype in _FLOATS:
        wide = values.astype(np.float64)
        with np.errstate(over="ignore"):
            narrow = wide.astype(np.float32 if spec.datatype == "BF16" else NUMPY_TYPES[spec.datatype])
        lost = np.isfinite(wide) & ~np.isfinite(narrow)
        _refuse_first(lost, values, f"is out of {spec.datatype}'s range", where, first_row)
        return bfloat16_bits(narrow) if spec.datatype == "BF16" else narrow
    if values.dtype.kind == "f":
        _refuse_first(values != np.floor(values), values, f"is not {_article(spec.datatype)}", where, first_row)
        _refuse_first(~np.isfinite(values), values, f"is not {_article(spec.datatype)}", where, first_row)
    low, high = (0, 1) if spec.datatype == "BOOL" else _range(spec.datatype)
    if values.dtype.kind != "b":
        _refuse_first((values < low) | (values > high), values, f"is out of {spec.datatype}'s range", where, first_row)
    return values.astype(NUMPY_TYPES[spec.datatype])


def _range(datatype: str) -> tuple[int, int]:
    limits = np.iinfo(np.dtype(NUMPY_TYPES[datatype]))
    return int(limits.min), int(limits.max)


def _refuse_first(bad: Array, values: Array, reason: str, where: str, first_row: int) -> None:
    if bad.any():
        index = np.argwhere(bad)[0]
        raise InvalidData(f"{where}, row {first_row + int(index[0])}: {values[tuple(index)]} {reason}")


def _quoted(value: object) -> str:
    return "null" if value is None else repr(value)[:80]


def _article(datatype: str) -> str:
    return {"BOOL": "true or false"}.get(datatype, "a number" if datatype in _FLOATS else "a whole number")
