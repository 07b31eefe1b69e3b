"""The report of a version: its last decided window in names and words, as `/admin/v1/drift` answers it.

Decides nothing; NaN is null in JSON.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.messages import ModelVersion
from gateway.monitoring.bins import Category, Counts
from gateway.monitoring.decision import State
from gateway.monitoring.measurement import MAX_WINDOW_SHARE
from gateway.monitoring.quality import CHECKS
from gateway.monitoring.reference import CategoricalFeature, Feature, NumericFeature, Role
from gateway.monitoring.result import STATISTICS, Baseline, FeatureResult, Mode, WindowResult
from gateway.monitoring.yardstick import Yardstick
from gateway.store.windows import Traffic

NO_REFERENCE = "no reference"
NOT_DECIDED = "no window decided yet"
NOT_WATCHED = "switched off by [monitoring] enabled"
IID_ASSUMPTION = (
    "rows are independent of each other: traffic that comes in runs of similar rows raises more alarms than promised, "
    "until at least 200 windows are declared in control"
)


class WindowReport(msgspec.Struct, frozen=True, kw_only=True):
    """A window: RFC 3339 bounds, its rows, and how often it was decided."""

    start: str
    end: str
    rows: int
    attempt: int


class BinReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rows per bin of a feature: of the reference, and of the window.

    Attributes:
        edges: Inner edges of a numeric feature's right-open bins: there is one bin more.
        values: Listed values of a categorical feature: all others come last.
    """

    edges: tuple[float, ...] | UnsetType = UNSET
    values: tuple[Category, ...] | UnsetType = UNSET
    reference: list[int]
    current: list[int]


class FeatureReport(msgspec.Struct, frozen=True, kw_only=True):
    """A feature or prediction in one window.

    Attributes:
        rows: Rows with a usable value.
        p_value: Before Benjamini-Hochberg.
        statistics: By name; null where there is none.
        w1_is_lower_bound: Whether rows beyond the reference's range make w1 too small.
        quality: Share of rows that fail each check; null where a check does not apply.
        reason: Why it is in watch, drift or insufficient; else empty.
        bins: What it was measured on, when asked for.
    """

    name: str
    role: Role
    kind: Literal["numeric", "categorical"]
    state: State
    rows: int
    p_value: float
    statistics: dict[str, float]
    w1_is_lower_bound: bool
    quality: dict[str, float]
    reason: str
    bins: BinReport | UnsetType = UNSET


class HistoryReport(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier window."""

    state: State
    mode: Mode
    window: WindowReport
    features: list[FeatureReport]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A model version's last decided window.

    Attributes:
        role: Whether it is about rows answered to callers, or rows seen as a shadow.
        reference: Hash of the reference as published; null without one.
        window: Null before the first decided window.
        features: Left out of the list of all reports.
        reason: Why there is nothing to say; else empty.
        assumptions: What the states rest on.
        warnings: What makes them less sure.
        history: Earlier windows, newest first, when asked for.
    """

    model: str
    version: int
    role: Traffic
    state: State
    mode: Mode
    reference: str | None
    window: WindowReport | None
    features: list[FeatureReport] | UnsetType = UNSET
    reason: str = ""
    assumptions: list[str] = []
    warnings: list[str] = []
    history: list[HistoryReport] | UnsetType = UNSET

    def with_history(self, earlier: list[HistoryReport]) -> Report:
        """Add earlier windows, newest first."""
        return msgspec.structs.replace(self, history=earlier)

    def with_bins(self, bins: list[BinReport]) -> Report:
        """Add the counts of every feature, in their order."""
        if not self.features:
            return self
        replace = msgspec.structs.replace
        return replace(
            self, features=[replace(feature, bins=one) for feature, one in zip(self.features, bins, strict=True)]
        )


def report_version(
    key: ModelVersion,
    role: Traffic,
    yardstick: Yardstick | None,
    result: WindowResult | None,
    *,
    baseline: Baseline | None = None,
    features: bool = True,
    reason: str = NO_REFERENCE,
) -> Report:
    """Write the report of a version.

    Args:
        yardstick: None without a reference.
        result: Of the last decided window.
        baseline: The windows declared in control, if any.
        features: Whether each feature is listed.
        reason: Why there is no yardstick.
    """
    if yardstick is None or result is None:
        return Report(
            model=key.model,
            version=key.version,
            role=role,
            state="insufficient",
            mode="iid" if baseline is None else "calibrated",
            reference=yardstick.hash if yardstick else None,
            window=None,
            features=[] if features else UNSET,
            reason=_nothing_decided(yardstick) if yardstick else reason,
        )
    return Report(
        model=key.model,
        version=key.version,
        role=role,
        state=result.state,
        mode=result.mode,
        reference=yardstick.hash,
        window=_window(result),
        features=_features(yardstick, result) if features else UNSET,
        assumptions=_assumptions(result.mode, baseline),
        warnings=_warnings(yardstick, result),
    )


def report_window(yardstick: Yardstick, result: WindowResult) -> HistoryReport:
    """Write one window of the history."""
    return HistoryReport(
        state=result.state, mode=result.mode, window=_window(result), features=_features(yardstick, result)
    )


def report_bins(yardstick: Yardstick, counts: Counts) -> list[BinReport]:
    """Write the counts of every feature of a window beside those of the reference.

    Args:
        counts: int64, shape (cells,) of the yardstick's layout.
    """
    layout, features = yardstick.layout, yardstick.reference.features
    reference = layout.bin_counts(layout.reference_counts(yardstick.reference.rows))
    current = layout.bin_counts(counts)
    reports = []
    for index, feature in enumerate(features):
        # A categorical feature has one bin more, of all other values.
        bins = len(feature.counts) + isinstance(feature, CategoricalFeature)
        reports.append(
            BinReport(
                edges=feature.edges if isinstance(feature, NumericFeature) else UNSET,
                values=UNSET if isinstance(feature, NumericFeature) else feature.values,
                reference=reference[index, :bins].tolist(),
                current=current[index, :bins].tolist(),
            )
        )
    return reports


def rfc3339(seconds: float) -> str:
    """Write a time since the epoch as RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def kind_of_feature(feature: Feature) -> Literal["numeric", "categorical"]:
    """Say how a feature is counted."""
    return "categorical" if isinstance(feature, CategoricalFeature) else "numeric"


def _nothing_decided(yardstick: Yardstick) -> str:
    return NOT_DECIDED if yardstick.options.enabled else NOT_WATCHED


def _window(result: WindowResult) -> WindowReport:
    return WindowReport(
        start=rfc3339(result.start_s), end=rfc3339(result.end_s), rows=result.rows, attempt=result.attempt
    )


def _features(yardstick: Yardstick, result: WindowResult) -> list[FeatureReport]:
    return [
        FeatureReport(
            name=feature.name,
            role=feature.role,
            kind=kind_of_feature(feature),
            state=found.state,
            rows=found.rows,
            p_value=found.p_value,
            statistics=dict(zip(STATISTICS, found.statistics, strict=True)),
            w1_is_lower_bound=found.w1_is_lower_bound,
            quality=dict(zip(CHECKS, found.quality, strict=True)),
            reason=_reason(found, yardstick.options.min_rows),
        )
        for feature, found in zip(yardstick.reference.features, result.features, strict=True)
    ]


def _reason(found: FeatureResult, min_rows: int) -> str:
    if found.state == "insufficient":
        return f"{found.rows} usable rows, expected at least {min_rows}"
    return ", ".join(found.causes)


def _assumptions(mode: Mode, baseline: Baseline | None) -> list[str]:
    if mode == "iid":
        return [IID_ASSUMPTION]
    if baseline is None:
        return ["windows declared in control look like the ones without drift"]
    period = f"from {rfc3339(baseline.from_s)} to {rfc3339(baseline.to_s)}"
    return [f"the {baseline.windows} windows declared in control, {period}, look like the ones without drift"]


def _warnings(yardstick: Yardstick, result: WindowResult) -> list[str]:
    found = []
    rows = yardstick.reference.rows
    if result.rows > MAX_WINDOW_SHARE * rows:
        found.append(
            f"the window has {result.rows} rows, over a tenth of the reference's {rows}, whose own sampling error shows"
        )
    if yardstick.options.sampling < 1:
        found.append(f"{yardstick.options.sampling:.3g} of the rows are counted")
    if yardstick.capped:
        found.append(f"{yardstick.capped} columns are not watched: they are too many")
    return found
