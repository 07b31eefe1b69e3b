"""Owns the distributions that features are drawn from, and the law of their counts in a reference's bins.

Never counts and never tests anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gateway.messages import Array
from gateway.monitoring.bins import Counts, FloatArray
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.reference import CategoricalFeature, Feature

CATEGORIES = 20
ZIPF: FloatArray = 1 / np.arange(1, CATEGORIES + 1) / (1 / np.arange(1, CATEGORIES + 1)).sum()
NAMES = np.array([f"c{index:02}" for index in range(CATEGORIES)], dtype=object)
ZERO_SHARE = 0.6
POISSON_MEAN = 400.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One distribution.

    Attributes:
        draw: Values of so many independent rows.
        below: P(X < edge) for each edge; None for categories.
    """

    name: str
    draw: Callable[[np.random.Generator, int], Array]
    below: Callable[[FloatArray], FloatArray] | None


def zipf(rng: np.random.Generator, rows: int) -> Array:
    return NAMES[rng.choice(CATEGORIES, rows, p=ZIPF)]


def _zero_inflated(rng: np.random.Generator, rows: int) -> Array:
    return np.where(rng.random(rows) < ZERO_SHARE, 0.0, rng.exponential(size=rows))


def _zero_inflated_below(edges: FloatArray) -> FloatArray:
    tail: FloatArray = -np.expm1(-np.maximum(edges, 0.0))
    return np.where(edges > 0, ZERO_SHARE + (1 - ZERO_SHARE) * tail, 0.0)


KINDS: tuple[Kind, ...] = (
    Kind("normal", lambda rng, rows: rng.normal(size=rows), stats.norm.cdf),
    Kind("lognormal", lambda rng, rows: rng.lognormal(size=rows), stats.lognorm(1.0).cdf),
    Kind("zero-inflated", _zero_inflated, _zero_inflated_below),
    Kind(
        "integer",
        lambda rng, rows: rng.poisson(POISSON_MEAN, rows),
        lambda edges: stats.poisson.cdf(np.ceil(edges) - 1, POISSON_MEAN),
    ),
    Kind("20 categories", zipf, None),
)


def bin_probabilities(kind: Kind, feature: Feature) -> FloatArray:
    """Give the probability of each bin or listed value of a reference feature; they sum to 1.

    Counts of independent rows in those bins are multinomial with these probabilities: drawing the counts is the same
    as drawing the rows and counting them, and a thousand times faster.
    """
    if isinstance(feature, CategoricalFeature):
        listed: FloatArray = ZIPF[[int(str(value)[1:]) for value in feature.values]]
        return listed
    if kind.below is None:
        raise ValueError(f"{kind.name}: expected a categorical feature, '{feature.name}' is numeric")
    inner = kind.below(np.array(feature.edges))
    return np.diff(np.concatenate([[0.0], inner, [1.0]]))


def null_windows(rng: np.random.Generator, kinds: list[Kind], layout: CountLayout, rows: int, windows: int) -> Counts:
    """Draw the counts of windows without drift; int64, shape (windows, cells) of the layout.

    Args:
        kinds: Of each feature of the layout.
    """
    counts = np.zeros((windows, layout.cells), np.int64)
    counts[:, 0] = rows
    for kind, feature, start in zip(kinds, layout.features, layout.starts.tolist(), strict=True):
        # A numeric feature's first cell is for -Inf.
        first = start + (kind.below is not None)
        probabilities = bin_probabilities(kind, feature)
        counts[:, first : first + probabilities.size] = rng.multinomial(rows, probabilities, windows)
    return counts
