"""Owns what a calibration run found, as it is kept beside the report.

Never holds anything that the report does not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class NullRate(msgspec.Struct, frozen=True, kw_only=True):
    """How often one feature without drift was called significant.

    Attributes:
        rows, reference_rows: Sizes of a window and of the reference.
        level: The nominal rate.
        mean: Over all windows of all references.
        low, high: 5 and 95 % quantile of the rate over references.
        standard_error: Of the mean, from the spread of the references' rates.
        windows, references: How many.
    """

    seed: int
    kind: str
    rows: int
    reference_rows: int
    level: float
    mean: float
    low: float
    high: float
    standard_error: float
    windows: int
    references: int


class ModelDays(msgspec.Struct, frozen=True, kw_only=True):
    """Alarms of a model version with 20 features without drift.

    Attributes:
        traffic: "independent", or the correlation of neighbouring rows.
        mode: "iid" or "calibrated".
        days: Simulated days of 288 windows.
        alarms: Times that a feature entered the state drift.
        quality_alarms: Of those, the ones that only a quality check raised.
        alarm_windows: Share of windows in which a feature was in the state drift.
        watch_windows: Share of windows in which a feature was in watch or drift.
    """

    seed: int
    traffic: str
    mode: str
    rows: int
    days: int
    alarms: int
    quality_alarms: int
    alarm_windows: float
    watch_windows: float


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule makes of windows in which one feature of 20 has changed.

    Attributes:
        rule: "gateway" or the name of the other tool.
        runs: Fresh references, each with some windows after the change.
        window_rate: Share of windows in which the changed feature is flagged.
        other_rate: Share of windows in which any other feature is flagged.
        within_three: Share of runs in which the feature was flagged (for the gateway: reached drift) within 3 windows.
        delay: Mean number of windows until then, over the runs in which it happened; 0 if it never did.
    """

    seed: int
    scenario: str
    rule: str
    rows: int
    runs: int
    windows: int
    window_rate: float
    other_rate: float
    within_three: float
    delay: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    versions: dict[str, str]
    took_s: float
    null_rates: list[NullRate]
    model_days: list[ModelDays]
    power: list[Power]


def joined(parts: Sequence[Calibration]) -> Calibration:
    """Put the parts of a run together, each of some seeds: the same as one run of all of them.

    Raises: ValueError: they were measured with different libraries.
    """
    if any(part.versions != parts[0].versions for part in parts):
        raise ValueError(f"expected parts of one run, got versions {[part.versions for part in parts]}")
    return Calibration(
        versions=parts[0].versions,
        took_s=round(sum(part.took_s for part in parts), 1),
        null_rates=[rate for part in parts for rate in part.null_rates],
        model_days=[days for part in parts for days in part.model_days],
        power=[power for part in parts for power in part.power],
    )
