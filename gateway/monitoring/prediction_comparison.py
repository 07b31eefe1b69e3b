"""The comparison of variants: what each predicts, counted on the bins of the first variant's reference.

Decides nothing: the same tests as for drift, with the first variant's window in the place of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from gateway.messages import ModelVersion
from gateway.monitoring.bins import Category, Counts
from gateway.monitoring.layout import ROWS_CELL, CountLayout
from gateway.monitoring.measurement import Measurement, WindowMeter
from gateway.monitoring.reference import Feature, NumericFeature
from gateway.monitoring.report import kind_of_feature
from gateway.monitoring.result import STATISTICS
from gateway.monitoring.yardstick import Yardstick

DRAWS = 2_000
"""Behind each null law: another window is another law, made for one look at it, which decides nothing."""


class VariantPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction of one version.

    Attributes:
        counts: Rows per bin, or per listed value and then all others.
        p_value, statistics: Against the first version; null for the first itself.
    """

    model: str
    version: int
    rows: int
    counts: list[int]
    p_value: float
    statistics: dict[str, float]


class PredictionComparison(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction of all versions.

    Attributes:
        edges: Inner edges of a numeric prediction's bins.
        values: Listed values of a categorical prediction.
    """

    name: str
    kind: str
    edges: list[float]
    values: list[Category]
    variants: list[VariantPrediction]


class ComparisonReport(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions of several versions in one window: RFC 3339 bounds, the first version first."""

    start: str
    end: str
    predictions: list[PredictionComparison]


def compare_predictions(
    yardstick: Yardstick, first: ModelVersion, first_counts: Counts, others: Mapping[ModelVersion, Counts]
) -> list[PredictionComparison]:
    """Compare what other versions predict with what the first one predicts.

    Args:
        yardstick: Of the first version.
        first: The version all others are compared with.
        first_counts: Its window, int64, shape (cells,) of the yardstick's layout.
        others: The other versions' windows, int64, shape (cells,) of the layout of predictions.
    """
    layout = yardstick.predictions
    own = prediction_counts(yardstick, first_counts)
    meter = WindowMeter(layout, own, draws=DRAWS)
    nothing: Counts = np.zeros_like(own)
    measured = {first: (own, meter.measure(nothing))}
    measured |= {key: (counts, meter.measure(counts)) for key, counts in others.items()}
    bins = {key: layout.bin_counts(counts) for key, (counts, _) in measured.items()}
    return [
        PredictionComparison(
            name=feature.name,
            kind=kind_of_feature(feature),
            edges=list(feature.edges) if isinstance(feature, NumericFeature) else [],
            values=[] if isinstance(feature, NumericFeature) else list(feature.values),
            variants=[
                _variant(key, bins[key][index, : _columns(feature)], measurement, index)
                for key, (_, measurement) in measured.items()
            ],
        )
        for index, feature in enumerate(layout.features)
    ]


def prediction_counts(yardstick: Yardstick, counts: Counts) -> Counts:
    """Cut the predictions out of a version's own counts: they come last.

    Returns: int64, shape (cells,) of the layout of predictions.
    """
    layout: CountLayout = yardstick.layout
    first = len(layout.features) - len(yardstick.predictions.features)
    start = int(layout.starts[first]) if first < len(layout.features) else layout.cells
    return np.concatenate([counts[: ROWS_CELL + 1], counts[start:]])


def _columns(feature: Feature) -> int:
    return len(feature.counts) if isinstance(feature, NumericFeature) else len(feature.counts) + 1


def _variant(key: ModelVersion, bins: Counts, measurement: Measurement, index: int) -> VariantPrediction:
    return VariantPrediction(
        model=key.model,
        version=key.version,
        rows=int(bins.sum()),
        counts=bins.tolist(),
        p_value=float(measurement.p_value[index]),
        statistics={name: float(getattr(measurement, name)[index]) for name in STATISTICS},
    )
