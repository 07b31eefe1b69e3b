"""Bins: the fixed cells into which a feature's values are counted, taken once from its reference values.

Never counts live traffic and never changes an edge: counts merge exactly only because the bins stand still.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.messages import Array

Counts = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

Kind = Literal["numeric", "categorical"]
Category = bool | int | str

LOWEST_QUANTILE, HIGHEST_QUANTILE = 0.001, 0.999
QUANTILES: FloatArray = np.array([LOWEST_QUANTILE, 0.01, *(k / 20 for k in range(1, 20)), 0.99, HIGHEST_QUANTILE])
POINT_MASS_SHARE = 0.05
MAX_CATEGORIES = 50
MAX_INTEGER_CATEGORIES = 50
MIN_CHOOSING_ROWS = 5
MAX_OTHERS = 1_000
MAX_OTHERS_CHARS = 16_384
MAX_CATEGORY_CHARS = 128


def kind_of(values: Array) -> Kind:
    """Say how a column is watched: by bins of its values, or by category.

    Booleans, strings and integers with at most 50 distinct values are categorical, the rest is numeric.

    Args:
        values: One column of the reference data, in the model's own datatype, shape (rows,).
    """
    if values.dtype.kind in "bOSU":
        return "categorical"
    if values.dtype.kind in "iu" and np.unique(values).size <= MAX_INTEGER_CATEGORIES:
        return "categorical"
    return "numeric"


def numeric_edges(ordered: FloatArray) -> FloatArray:
    """Place the inner edges of right-open bins: bin k holds edges[k-1] <= x < edges[k].

    The edges are the distinct linear quantiles at 0.1, 1, 5, 10 … 95, 99 and 99.9 %, and a bin of its own for each
    value that holds more than 5 % of the rows. The topmost edge is the next number after its quantile, so that the
    first and the last bin together hold exactly the values outside the 0.1–99.9 % range.

    Args:
        ordered: The finite reference values in ascending order, float64, shape (rows,).
    Returns: float64, strictly ascending; empty when there are no values.
    Source: Hyndman and Fan 1996, definition 7 (numpy's linear quantiles).
    """
    if not ordered.size:
        return np.empty(0)
    quantiles = np.quantile(ordered, QUANTILES)
    quantiles[-1] = np.nextafter(quantiles[-1], np.inf)
    masses = point_masses(ordered)
    return np.unique(np.concatenate([quantiles, masses, np.nextafter(masses, np.inf)]))


def point_masses(ordered: FloatArray) -> FloatArray:
    """Find the values that hold more than 5 % of the rows each, and more than one row.

    Args:
        ordered: Ascending values, shape (rows,).
    Returns: At most 19 values, ascending.
    """
    # A value with that many rows covers at least one position in every stride of as many positions.
    stride = max(1, int(POINT_MASS_SHARE * ordered.size))
    candidates = np.unique(ordered[::stride])
    held = np.searchsorted(ordered, candidates, side="right") - np.searchsorted(ordered, candidates, side="left")
    return candidates[held > max(1.0, POINT_MASS_SHARE * ordered.size)]


def upper_edges(edges: FloatArray, dtype: np.dtype[np.floating]) -> npt.NDArray[np.floating]:
    """Give the exclusive upper edge of every cell of a numeric column, in the column's own precision.

    Cells in order: -Inf, the bins, +Inf; NaN comes last and needs no edge. An edge is rounded up to the precision of
    the values, which moves no value across it: x < edge holds for the rounded edge exactly when it held before.

    Args:
        edges: Ascending inner edges, float64, shape (bins - 1,).
        dtype: A floating dtype.
    Returns: Shape (bins + 2,), ascending, NaN last (NaN sorts after +Inf).
    """
    narrow = edges.astype(dtype)
    too_low = narrow < edges
    narrow[too_low] = np.nextafter(narrow[too_low], np.array(np.inf, dtype))
    return np.concatenate([np.array([np.finfo(dtype).min], dtype), narrow, np.array([np.inf, np.nan], dtype)])


class RankedCategories(msgspec.Struct, frozen=True, kw_only=True):
    """The categories of one reference column that get a cell of their own, and the rows of the column's cells.

    Attributes:
        values: At most 50 categories, by falling count, then by value.
        counts: Rows of each of them.
        others: The rarer ones by name, or None when they are too many to list: then unseen counts as other.
        other: Rows of the rarer ones.
        unseen: Rows, out of as many fresh ones, that would show a category which the reference lacks: an estimate.
        null: Rows without a value.
    """

    values: tuple[Category, ...]
    counts: tuple[int, ...]
    others: tuple[Category, ...] | None
    other: int
    unseen: int
    null: int


def rank_categories(values: Array) -> RankedCategories:
    """Choose the categories that get a cell of their own, and count them.

    With more than 50 categories, every other row chooses and the rest are counted: the categories that came out on top
    by luck would otherwise seem to lose rows in every later window.

    Args:
        values: One reference column of booleans, integers or strings, shape (rows,).
    Source: Good 1953: the share of categories that the data lacks is about the share of rows that are the only one of
        their category.
    """
    tally, null = tally_categories(values)
    unseen = sum(count == 1 for count in tally.values())
    listed = _by_count(tally)
    counted = tally
    if len(tally) > MAX_CATEGORIES:
        chooser, _ = tally_categories(values[::2])
        listed = [category for category in _by_count(chooser) if chooser[category] >= MIN_CHOOSING_ROWS]
        counted, null = tally_categories(values[1::2])
        unseen //= 2
    cells = {category: counted.get(category, 0) for category in listed[:MAX_CATEGORIES]}
    rare = [category for category in tally if category not in cells]
    listable = len(rare) <= MAX_OTHERS and sum(len(str(category)) for category in rare) <= MAX_OTHERS_CHARS
    ranked = _by_count(cells)
    return RankedCategories(
        values=tuple(ranked),
        counts=tuple(cells[category] for category in ranked),
        others=tuple(sorted(rare)) if listable else None,
        other=sum(counted.values()) - sum(cells.values()),
        unseen=unseen if listable else 0,
        null=null,
    )


def _by_count(tally: dict[Category, int]) -> list[Category]:
    return sorted(tally, key=lambda category: (-tally[category], category))


def tally_categories(values: Array) -> tuple[dict[Category, int], int]:
    """Count the rows of every category of a column, and the rows without a value.

    None and NaN among strings are null; bytes are read as UTF-8; a text over 128 characters is known by its digest.
    """
    if values.dtype.kind in "biu":
        distinct, counts = np.unique(values, return_counts=True)
        return dict(zip(distinct.tolist(), counts.tolist(), strict=True)), 0
    return tally_texts(values.tolist())


def tally_texts(values: Iterable[object]) -> tuple[dict[Category, int], int]:
    """Count the rows of every text, and the rows without one, as `tally_categories` does."""
    tally: dict[Category, int] = {}
    null = 0
    for value, count in Counter(values).items():
        # NaN alone differs from itself; the value may be of any type.
        if value is None or value != value:  # noqa: PLR0124
            null += count
        else:
            text = text_category(value)
            tally[text] = tally.get(text, 0) + count
    return tally, null


def text_category(value: object) -> str:
    """Name the category of one string value, bounded in length."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    # A lone surrogate cannot be written as JSON.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= MAX_CATEGORY_CHARS:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
