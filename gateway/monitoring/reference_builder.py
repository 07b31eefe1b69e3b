"""Builds a reference window from arrays: names the features, places their bins and counts their rows.

Never reads a file and never runs the model: it is given the inputs and the predictions made on them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from gateway.errors import InvalidReference, unknown_name
from gateway.messages import Array, Tensors
from gateway.monitoring.bins import FloatArray, kind_of, numeric_edges, rank_categories
from gateway.monitoring.reference import (
    MAX_FEATURES,
    CategoricalFeature,
    Feature,
    NumericFeature,
    Reference,
    Role,
    seal_reference,
)


def build_reference(
    inputs: Tensors,
    predictions: Tensors,
    *,
    names: Mapping[str, Sequence[str]] | None = None,
    selected: Sequence[str] | None = None,
) -> Reference:
    """Summarise reference data and the predictions the model made on it.

    Args:
        inputs: Every input in the model's own datatype (an edge of float64 data would not fit float32 traffic),
            first axis rows.
        predictions: Every output for the same rows.
        names: Feature names of a tensor's columns, by tensor; without them a column is `<tensor>_<index>`, and the
            only column of a tensor has the tensor's name.
        selected: Names of the inputs to watch, in this order; all when None. Predictions are always watched.
    Returns: A sealed reference; at most 256 inputs and 256 predictions, the rest counted as capped.
    Raises: InvalidReference: no rows, row counts that differ, or names that do not fit.
    """
    rows = _common_rows({**inputs, **predictions})
    taken = _columns_of(inputs, names or {})
    if selected is not None:
        if unknown := [name for name in selected if name not in taken]:
            raise InvalidReference(unknown_name("[monitoring] features", unknown[0], taken))
        taken = {name: taken[name] for name in selected}
    made = {
        f"prediction_{name}" if name in taken else name: place
        for name, place in _columns_of(predictions, names or {}).items()
    }
    roles: list[tuple[Role, Tensors, dict[str, tuple[str, int]]]] = [
        ("input", inputs, taken),
        ("prediction", predictions, made),
    ]
    features = [
        summarise_column(_columns(tensors[tensor])[:, column], name=name, role=role, tensor=tensor, column=column)
        for role, tensors, places in roles
        for name, (tensor, column) in list(places.items())[:MAX_FEATURES]
    ]
    return seal_reference(
        Reference(
            rows=rows,
            columns={
                tensor: _columns(array).shape[1]
                for tensor, array in {**inputs, **predictions}.items()
                if any(feature.tensor == tensor for feature in features)
            },
            capped=len(taken) + len(made) - len(features),
            features=tuple(features),
        )
    )


def feature_names(tensor: str, columns: int, given: Sequence[str] | None = None) -> list[str]:
    """Name the columns of a tensor.

    Args:
        tensor: Name of the input or output.
        columns: Values per row.
        given: Names from the manifest, which win.
    Raises: InvalidReference: as many names as columns were expected.
    """
    if given is not None:
        if len(given) != columns:
            raise InvalidReference(f"'{tensor}' has {columns} columns, but {len(given)} names are given")
        return list(given)
    return [tensor] if columns == 1 else [f"{tensor}_{index}" for index in range(columns)]


def summarise_column(values: Array, *, name: str, role: Role, tensor: str, column: int) -> Feature:
    """Summarise one column of reference data.

    Args:
        values: Shape (rows,), in the model's own datatype.
    """
    if kind_of(values) == "numeric":
        return _numeric_feature(values, name=name, role=role, tensor=tensor, column=column)
    ranked = rank_categories(values)
    return CategoricalFeature(
        name=name,
        role=role,
        tensor=tensor,
        column=column,
        values=ranked.values,
        counts=ranked.counts,
        others=ranked.others,
        other=ranked.other,
        unseen=ranked.unseen,
        null=ranked.null,
    )


def _numeric_feature(values: Array, *, name: str, role: Role, tensor: str, column: int) -> NumericFeature:
    wide = values.astype(np.float64)
    ordered = np.sort(wide[np.isfinite(wide)])
    null = int(np.count_nonzero(np.isnan(wide)))
    edges = numeric_edges(ordered)
    starts = np.searchsorted(ordered, edges, side="left")
    bounds = np.concatenate([[0], starts, [ordered.size]])
    # Sums and squares of very large values overflow; a power of two divides without rounding.
    scale = math.ldexp(1.0, max(math.frexp(float(np.max(np.abs(ordered), initial=1.0)))[1], 1) - 1)
    unit = ordered / scale
    return NumericFeature(
        name=name,
        role=role,
        tensor=tensor,
        column=column,
        edges=tuple(edges.tolist()),
        counts=tuple(np.diff(bounds).tolist()),
        centroids=tuple(_centroids(ordered, bounds, edges, scale).tolist()),
        mean=float(unit.mean() * scale) if ordered.size else 0.0,
        # The rounding of a mean would lend a constant a spread.
        sigma=float(unit.std() * scale) if ordered.size and ordered[0] < ordered[-1] else 0.0,
        minimum=float(ordered[0]) if ordered.size else 0.0,
        median=float(np.median(ordered)) if ordered.size else 0.0,
        maximum=float(ordered[-1]) if ordered.size else 0.0,
        null=null,
        non_finite=values.shape[0] - null - ordered.size,
    )


def _centroids(ordered: FloatArray, bounds: Array, edges: FloatArray, scale: float) -> FloatArray:
    """Average the values of each bin.

    Args:
        ordered: Ascending values, shape (rows,).
        bounds: Position of each bin's first value, then the row count, shape (bins + 1,).
        edges: Inner edges, shape (bins - 1,).
        scale: What to divide by before summing.
    Returns: Shape (bins,), not descending; an empty bin has the middle of its edges, or its only edge.
    """
    if not edges.size:
        return np.zeros(1)
    held = np.diff(bounds) > 0
    means = np.concatenate([edges[:1], edges[:-1] / 2 + edges[1:] / 2, edges[-1:]])
    means[held] = np.add.reduceat(ordered / scale, bounds[:-1][held]) / np.diff(bounds)[held] * scale
    # A rounded mean may fall out of its bin, and before the one to its left.
    low = np.concatenate([np.minimum(ordered[:1], edges[:1]), edges])
    high = np.concatenate([edges, np.maximum(ordered[-1:], edges[-1:])])
    return np.maximum.accumulate(np.clip(means, low, high))


def _columns(tensor: Array) -> Array:
    """View a tensor as rows of values."""
    return tensor.reshape(tensor.shape[0], math.prod(tensor.shape[1:]))


def _columns_of(tensors: Tensors, names: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, int]]:
    """Name every column: feature name to tensor and position."""
    places: dict[str, tuple[str, int]] = {}
    for tensor, array in tensors.items():
        for column, name in enumerate(feature_names(tensor, _columns(array).shape[1], names.get(tensor))):
            if name in places:
                raise InvalidReference(f"'{tensor}' and '{places[name][0]}' both have a feature '{name}'")
            places[name] = (tensor, column)
    return places


def _common_rows(tensors: Tensors) -> int:
    rows = {tensor: array.shape[0] if array.ndim else 0 for tensor, array in tensors.items()}
    if not rows or min(rows.values()) == 0:
        raise InvalidReference(f"reference data has rows {rows}, expected at least one row in every tensor")
    if len(set(rows.values())) > 1:
        raise InvalidReference(f"reference data has rows {rows}, expected as many in every tensor")
    return next(iter(rows.values()))
