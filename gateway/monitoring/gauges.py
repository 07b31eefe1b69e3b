"""What the metrics read of the watches: plain pairs of label values and a number.

Declares no series and keeps nothing: a version that is no longer watched has no pairs. Rows seen as a shadow are in
reports, not here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import get_args

from gateway.monitoring.decision import State
from gateway.monitoring.quality import CHECKS
from gateway.monitoring.reference import Feature
from gateway.monitoring.report import kind_of_feature
from gateway.monitoring.result import STATISTICS, FeatureResult, WindowResult
from gateway.monitoring.watch import SeriesWatch

Sample = tuple[tuple[str, ...], float]

STATES: tuple[State, ...] = get_args(State)
MAX_SCORED_FEATURES = 64
"""Features of a version whose scores and qualities are exported, predictions first; states and p-values are of all."""


def drift_scores(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `drift_score{model,version,feature,statistic}`."""
    return [
        ((*labels, feature.name, name), value)
        for labels, result, features in _decided(watches)
        for feature, found in _scored(features, result)
        for name, value in zip(STATISTICS, found.statistics, strict=True)
        if not math.isnan(value)
    ]


def drift_p_values(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `drift_p_value{model,version,feature}`."""
    return [
        ((*labels, feature.name), found.p_value)
        for labels, result, features in _decided(watches)
        for feature, found in zip(features, result.features, strict=True)
        if not math.isnan(found.p_value)
    ]


def drift_states(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `drift_state{model,version,feature,state}`: 1 for the state a feature is in, 0 for the others."""
    return [
        ((*labels, feature.name, state), float(found.state == state))
        for labels, result, features in _decided(watches)
        for feature, found in zip(features, result.features, strict=True)
        for state in STATES
    ]


def feature_infos(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `drift_feature_info{model,version,feature,role,kind}`: what is watched, decided or not."""
    return [
        ((*_labels(watch), feature.name, feature.role, kind_of_feature(feature)), 1.0)
        for watch in watches
        if watch.traffic == "primary"
        for feature in watch.yardstick.reference.features
    ]


def drift_window_rows(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `drift_window_rows{model,version}` of the last decided window."""
    return [(labels, float(result.rows)) for labels, result, _ in _decided(watches)]


def drift_evaluated_timestamps(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `drift_evaluated_timestamp_seconds{model,version}`: when the last window was decided."""
    return [(labels, result.decided_at_s) for labels, result, _ in _decided(watches)]


def feature_quality_ratios(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `feature_quality_ratio{model,version,feature,check}`."""
    return [
        ((*labels, feature.name, check), ratio)
        for labels, result, features in _decided(watches)
        for feature, found in _scored(features, result)
        for check, ratio in zip(CHECKS, found.quality, strict=True)
        if not math.isnan(ratio)
    ]


def capped_features(watches: Iterable[SeriesWatch]) -> list[Sample]:
    """Read `monitoring_capped_features{model,version}`."""
    return [(_labels(watch), float(watch.yardstick.capped)) for watch in watches if watch.traffic == "primary"]


def _decided(
    watches: Iterable[SeriesWatch],
) -> Iterator[tuple[tuple[str, str], WindowResult, tuple[Feature, ...]]]:
    for watch in watches:
        if watch.traffic == "primary" and watch.current is not None:
            yield _labels(watch), watch.current, watch.yardstick.reference.features


def _scored(features: tuple[Feature, ...], result: WindowResult) -> list[tuple[Feature, FeatureResult]]:
    pairs = list(zip(features, result.features, strict=True))
    pairs.sort(key=lambda pair: pair[0].role != "prediction")
    return pairs[:MAX_SCORED_FEATURES]


def _labels(watch: SeriesWatch) -> tuple[str, str]:
    return watch.key.model, str(watch.key.version)
