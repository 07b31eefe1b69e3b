"""Counts blocks of rows into the cells of a layout, whole columns at a time.

Never keeps a value and never moves an edge; counts of any split of the rows add up to the counts of all.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from operator import attrgetter, itemgetter
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gateway.messages import Array, Tensors
from gateway.monitoring.bins import Category, Counts, tally_texts, upper_edges
from gateway.monitoring.layout import ROWS_CELL, CountLayout
from gateway.monitoring.reference import CategoricalFeature, NumericFeature, Role

Column = npt.NDArray[Any]
"""One feature's values; numbers in ascending order, NaN last."""

_DTYPE = attrgetter("dtype")


class BlockCounter:
    """Counts the inputs and outputs of many requests at once on one reference's bins.

    A block is sorted column by column (numpy sorts with SIMD), then each edge is looked up in the sorted column: the
    rows before an edge, less those before the edge to its left, are a bin's rows. Measured on two cores with AVX-512,
    30 float32 features: 0.35 microseconds a row for 1,000 requests of one row, 0.14 where 30 rows came as one batch.
    """

    def __init__(self, layout: CountLayout) -> None:
        self._layout = layout
        self._tensors: dict[tuple[Role, str], _TensorCells] = {}
        columns: defaultdict[tuple[Role, str], list[_NumericCells | _IntegerCells | _TextCells]] = defaultdict(list)
        for start, feature in zip(layout.starts.tolist(), layout.features, strict=True):
            columns[feature.role, feature.tensor].append(_cells_of(feature, start))
        for key, cells in columns.items():
            self._tensors[key] = _TensorCells(key[1], cells)

    def count(self, inputs: Sequence[Tensors], outputs: Sequence[Tensors], rows: int) -> Counts:
        """Count a block.

        Args:
            inputs: Per request its input tensors, first axis rows.
            outputs: Per request its output tensors; a tensor that is absent leaves its features uncounted.
            rows: Rows of all requests together.
        Returns: int64, shape (cells,) of the layout.
        Raises: Any numpy or Python error where an array does not fit the reference; nothing is counted then.
        """
        counts = np.zeros(self._layout.cells, np.int64)
        for (role, _), tensor in self._tensors.items():
            tensor.count(inputs if role == "input" else outputs, rows, counts)
        counts[ROWS_CELL] = rows
        return counts


class _TensorCells:
    """One input or output: its watched columns and their cells."""

    def __init__(self, name: str, cells: Sequence[_NumericCells | _IntegerCells | _TextCells]) -> None:
        self._name = name
        self._pick = itemgetter(name)
        self._cells = tuple(cells)
        columns = [cell.column for cell in cells]
        first = columns[0]
        contiguous = columns == list(range(first, first + len(columns)))
        self._columns: slice | list[int] = slice(first, first + len(columns)) if contiguous else columns
        self._last_column = max(columns)
        self._holds_text = isinstance(cells[0], _TextCells)

    def count(self, requests: Sequence[Tensors], rows: int, counts: Counts) -> None:
        name = self._name
        arrays: list[Array]
        try:
            arrays = list(map(self._pick, requests))
        except KeyError:
            arrays = [request[name] for request in requests if name in request]
        if not arrays:
            return
        block = _join(arrays)
        if len(arrays) == len(requests) and block.shape[0] != rows:
            raise ValueError(f"'{name}' has {block.shape[0]} rows, expected {rows}")
        if block.shape[1] <= self._last_column:
            raise ValueError(f"'{name}' has {block.shape[1]} columns, expected more than {self._last_column}")
        if (block.dtype.kind in "OSU") is not self._holds_text:
            raise ValueError(f"'{name}' has datatype {block.dtype}, not that of the reference")
        watched = block[:, self._columns].T
        if not self._holds_text:
            # The copy is ours to sort: the block may be the caller's own array.
            watched = np.array(watched, order="C")
            watched.sort(axis=1)
        for cells, values in zip(self._cells, watched, strict=True):
            cells.count(values, counts)


def _join(arrays: Sequence[Array]) -> Array:
    """Stack the rows of many requests; shape (rows, columns).

    Joining bytes takes half the time of np.concatenate on arrays of one row.
    """
    first = arrays[0]
    width = math.prod(first.shape[1:])
    if len(arrays) > 1 and first.dtype.kind in "biuf" and set(map(_DTYPE, arrays)) == {first.dtype}:
        try:
            joined = np.frombuffer(b"".join(cast("Sequence[memoryview]", arrays)), first.dtype)
        except TypeError:
            pass  # A view with gaps has no bytes to join.
        else:
            if joined.size != sum(map(len, arrays)) * width:
                raise ValueError(f"expected {width} values in every row")
            return joined.reshape(-1, width)
    block = first if len(arrays) == 1 else np.concatenate(arrays)
    return block.reshape(block.shape[0], width)


class _NumericCells:
    """The cells of a numeric feature: -Inf, bins, +Inf, NaN."""

    def __init__(self, feature: NumericFeature, start: int) -> None:
        self.column = feature.column
        self._edges = np.array(feature.edges, dtype=np.float64)
        self._uppers: dict[np.dtype[Any], npt.NDArray[np.floating]] = {}
        self._start = start
        self._stop = start + len(feature.counts) + 3

    def count(self, ordered: Column, counts: Counts) -> None:
        uppers = self._uppers.get(ordered.dtype)
        if uppers is None:
            precise = ordered.dtype if ordered.dtype.kind == "f" else np.dtype(np.float64)
            uppers = self._uppers[ordered.dtype] = upper_edges(self._edges, precise)
        below = counts[self._start : self._stop]
        below[:-1] = ordered.searchsorted(uppers)
        below[-1] = ordered.size
        below[1:] -= below[:-1].copy()


class _IntegerCells:
    """The cells of a feature of integers or booleans: listed values, other, unseen, null.

    At most 50 distinct integers make a category each, so that every value is listed and none is other.
    """

    def __init__(self, feature: CategoricalFeature, start: int) -> None:
        self.column = feature.column
        # Numbers on both sides of 2^63 would otherwise meet as floats.
        values = [int(value) for value in feature.values]
        self._known = np.array(values, dtype=np.uint64 if max(values) >= 2**63 else np.int64)
        self._start = start
        self._unseen = start + len(feature.values) + 1

    def count(self, ordered: Column, counts: Counts) -> None:
        known = self._known.astype(ordered.dtype, copy=False)
        held = ordered.searchsorted(known, side="right") - ordered.searchsorted(known)
        counts[self._start : self._start + known.size] = held
        counts[self._unseen] = ordered.size - int(held.sum())


class _TextCells:
    """The cells of a feature of strings: listed values, other, unseen, null."""

    def __init__(self, feature: CategoricalFeature, start: int) -> None:
        self.column = feature.column
        listed = len(feature.values)
        self._cell: dict[Category, int] = {value: start + index for index, value in enumerate(feature.values)}
        self._cell.update(dict.fromkeys(feature.others or (), start + listed))
        # Where the rarer values were too many to list, an unknown one may be one of them.
        self._unknown = start + listed + (feature.others is not None)
        self._null = start + listed + 2

    def count(self, values: Column, counts: Counts) -> None:
        tally, null = tally_texts(values.tolist())
        for text, rows in tally.items():
            counts[self._cell.get(text, self._unknown)] += rows
        counts[self._null] += null


def _cells_of(feature: NumericFeature | CategoricalFeature, start: int) -> _NumericCells | _IntegerCells | _TextCells:
    if isinstance(feature, NumericFeature):
        return _NumericCells(feature, start)
    # A column without any value can only have held strings: integers and booleans know no null.
    whole = feature.values and not isinstance(feature.values[0], str)
    return _IntegerCells(feature, start) if whole else _TextCells(feature, start)
