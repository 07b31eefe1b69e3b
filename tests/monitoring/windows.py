"""Owns the arrays that the monitoring tests start from: seeded features, and windows counted on their reference.

Never judges anything itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gateway.messages import Array
from gateway.monitoring.bins import Counts, FloatArray
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.reference import CategoricalFeature, NumericFeature, Reference
from gateway.monitoring.reference_builder import build_reference

Draw = Callable[[np.random.Generator, int], Array]

ZIPF: FloatArray = 1 / np.arange(1, 21) / (1 / np.arange(1, 21)).sum()


def zipf_texts(rng: np.random.Generator, rows: int) -> Array:
    return np.array([f"c{index}" for index in rng.choice(20, rows, p=ZIPF)], dtype=object)


def zero_inflated(rng: np.random.Generator, rows: int) -> npt.NDArray[np.float64]:
    return np.where(rng.random(rows) < 0.6, 0.0, rng.exponential(size=rows))


KINDS: dict[str, Draw] = {
    "normal": lambda rng, rows: rng.normal(size=rows),
    "float32": lambda rng, rows: rng.normal(size=rows).astype(np.float32),
    "lognormal": lambda rng, rows: rng.lognormal(size=rows),
    "zero-inflated": zero_inflated,
    "integer": lambda rng, rows: rng.poisson(400, rows),
    "few integers": lambda rng, rows: rng.poisson(3, rows).clip(max=12),
    "boolean": lambda rng, rows: rng.random(rows) < 0.3,
    "zipf": zipf_texts,
}


@dataclasses.dataclass(frozen=True)
class Bench:
    """One reference of a single input `x`, and what counts windows on it."""

    reference: Reference
    layout: CountLayout
    counter: BlockCounter

    def count(self, values: Array) -> Counts:
        return self.counter.count([{"x": values}], [], len(values))

    def bin_counts(self, values: Array) -> Counts:
        return self.layout.bin_counts(self.count(values))

    @property
    def reference_counts(self) -> Counts:
        return self.layout.bin_counts(self.layout.reference_counts(self.reference.rows))


def bench(values: Array) -> Bench:
    reference = build_reference({"x": values}, {})
    layout = CountLayout(reference.features)
    return Bench(reference, layout, BlockCounter(layout))


def numeric(reference: Reference, index: int = 0) -> NumericFeature:
    feature = reference.features[index]
    assert isinstance(feature, NumericFeature)
    return feature


def categorical(reference: Reference, index: int = 0) -> CategoricalFeature:
    feature = reference.features[index]
    assert isinstance(feature, CategoricalFeature)
    return feature
