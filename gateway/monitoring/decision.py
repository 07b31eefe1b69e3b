"""The decision rule: what one window says of each feature, and what the last windows say together.

Never measures, never waits and never remembers: windows come in, states go out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from gateway.monitoring.bins import BoolArray
from gateway.monitoring.calibration import ALPHA, Calibration
from gateway.monitoring.measurement import Measurement
from gateway.monitoring.multiplicity import benjamini_hochberg
from gateway.monitoring.quality import CHECKS, Check, Quality

State = Literal["ok", "insufficient", "watch", "drift"]
Verdict = Literal["insufficient", "clean", "small", "drifted"]
Cause = Literal["distribution"] | Check

MIN_ROWS = 200
FALSE_DISCOVERY_RATE = 0.01
KS_FLOOR = 0.10
W1_FLOOR = 0.20
TVD_FLOOR = 0.10
WINDOWS = 3
AGREEING = 2

_GRAVITY: dict[State, int] = {"ok": 0, "insufficient": 1, "watch": 2, "drift": 3}


class FeatureVerdict(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What one window alone says of one feature.

    Attributes:
        distribution: "insufficient" below min_rows usable rows; "small" where the difference is significant but under
            every effect floor; "drifted" where it is both significant and large.
        quality: "insufficient" below min_rows rows of any kind, "drifted" where `faults` names a check.
        faults: Quality checks that failed.
    """

    distribution: Verdict
    quality: Verdict
    faults: tuple[Check, ...] = ()


class FeatureState(msgspec.Struct, frozen=True, kw_only=True):
    """What the last windows say of one feature.

    Attributes:
        causes: Why it is in "watch" or "drift": "distribution" or names of quality checks.
    """

    state: State
    causes: tuple[Cause, ...] = ()


def decide_window(
    measurement: Measurement,
    quality: Quality,
    *,
    min_rows: int = MIN_ROWS,
    calibration: Calibration | None = None,
) -> list[FeatureVerdict]:
    """Judge one window.

    Args:
        measurement: Its statistics.
        quality: Its quality, for the same features.
        min_rows: Fewer are "insufficient", never clean.
        calibration: In-control windows; without them rows are assumed independent.
    Returns: One verdict per feature.
    """
    enough = (measurement.rows >= min_rows) & (measurement.reference_rows > 0)
    significant = significant_features(measurement, enough, calibration)
    large = large_effects(measurement)
    verdicts = []
    for feature in range(enough.size):
        faults = tuple(check for check, faulty in zip(CHECKS, quality.faults[:, feature], strict=True) if faulty)
        distribution: Verdict = "clean"
        if not enough[feature]:
            distribution = "insufficient"
        elif significant[feature]:
            distribution = "drifted" if large[feature] else "small"
        if measurement.all_rows[feature] < min_rows:
            verdicts.append(FeatureVerdict(distribution="insufficient", quality="insufficient"))
        else:
            verdicts.append(
                FeatureVerdict(distribution=distribution, quality="drifted" if faults else "clean", faults=faults)
            )
    return verdicts


def significant_features(
    measurement: Measurement, enough: BoolArray, calibration: Calibration | None = None
) -> BoolArray:
    """Say which features differ from the reference by more than chance.

    Independent rows: Benjamini-Hochberg at 1 % over the features with enough rows. Calibrated: each feature's score
    against the in-control windows' largest scores, at 1 %.

    Args:
        measurement: Of one window.
        enough: Features to test, bool, shape (features,); the others are not and do not count.
        calibration: In-control windows, if any.
    Returns: bool, shape (features,).
    """
    if calibration is not None:
        return enough & (calibration.p_values(measurement) <= ALPHA)
    return benjamini_hochberg(np.where(enough, measurement.p_value, np.nan), FALSE_DISCOVERY_RATE)


def large_effects(measurement: Measurement) -> BoolArray:
    """Say where a difference is large enough to act on: with many rows every difference is significant.

    Returns: bool, shape (features,): numeric KS ≥ 0.10 or W1 ≥ 0.20 σ, categorical corrected TVD ≥ 0.10.
    """
    numeric = (measurement.ks >= KS_FLOOR) | (measurement.w1 >= W1_FLOOR)
    return np.where(measurement.numeric, numeric, measurement.tvd_corrected >= TVD_FLOOR)


class CauseMemory(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What must be known of the earlier windows to judge the next one.

    Attributes:
        state: After the last decided window; "insufficient" before the first.
        recent: Verdicts of the last decided windows, at most 3, oldest first.
    """

    state: State = "insufficient"
    recent: tuple[Verdict, ...] = ()

    def after(self, verdict: Verdict) -> CauseMemory:
        """Remember one more window.

        Drift when 2 of the last 3 decided windows drifted; cleared once 3 in a row did not; watch when one of the last
        3 did, or the last one showed a small difference. Windows with too few rows are passed over: they neither raise
        an alarm nor clear one.
        """
        if verdict == "insufficient":
            return self
        recent = (*self.recent, verdict)[-WINDOWS:]
        drifted = recent.count("drifted")
        held = self.state == "drift" and (drifted > 0 or len(recent) < WINDOWS)
        state: State = "ok"
        if drifted >= AGREEING or held:
            state = "drift"
        elif drifted or verdict == "small":
            state = "watch"
        return CauseMemory(state=state, recent=recent)

    def shown(self, verdict: Verdict) -> State:
        """Give the state to report after a window with this verdict, which is remembered already."""
        return "insufficient" if verdict == "insufficient" and self.state != "drift" else self.state

    @property
    def is_blank(self) -> bool:
        """Whether later states would be the same without this memory."""
        return self.state != "drift" and "drifted" not in self.recent


FeatureMemory = Mapping[Cause, CauseMemory]
"""What is remembered of a feature's causes; a cause that is not there has nothing to remember."""


def state_after(verdicts: Iterable[Verdict], *, standing: State = "ok") -> State:
    """Fold one cause's verdicts into its state; see `CauseMemory.after`.

    Args:
        verdicts: Oldest first.
        standing: The state before them.
    """
    memory = CauseMemory(state="drift") if standing == "drift" else CauseMemory()
    last: Verdict = "insufficient"
    for last in verdicts:
        memory = memory.after(last)
    return memory.shown(last)


def next_feature_state(memory: FeatureMemory, verdict: FeatureVerdict) -> tuple[dict[Cause, CauseMemory], FeatureState]:
    """Judge one more window of a feature: the gravest of its causes, each with its own 2 of 3.

    Args:
        memory: Of the windows before.
        verdict: Of this window alone.
    Returns: What to remember from now on, and the state with the causes that put it there.
    """
    said: dict[Cause, Verdict] = {"distribution": verdict.distribution}
    for check in CHECKS:
        said[check] = _of_check(verdict, check)
    remembered = {cause: memory.get(cause, CauseMemory()).after(one) for cause, one in said.items()}
    states = {cause: remembered[cause].shown(one) for cause, one in said.items()}
    state = worst_state(states.values())
    causes = tuple(cause for cause, cause_state in states.items() if cause_state == state)
    kept = {cause: one for cause, one in remembered.items() if not one.is_blank}
    return kept, FeatureState(state=state, causes=causes if state in ("watch", "drift") else ())


def feature_state(verdicts: Sequence[FeatureVerdict], *, standing: FeatureState | None = None) -> FeatureState:
    """Fold the windows of one feature into its state: the gravest of its causes, each with its own 2 of 3.

    Args:
        verdicts: Oldest first.
        standing: The feature's state before them.
    Returns: The state and the causes that put it there.
    """
    before = standing.causes if standing is not None and standing.state == "drift" else ()
    memory: dict[Cause, CauseMemory] = {cause: CauseMemory(state="drift") for cause in before}
    state = FeatureState(state="drift", causes=before) if before else FeatureState(state="insufficient")
    for verdict in verdicts:
        memory, state = next_feature_state(memory, verdict)
    return state


def model_state(states: Iterable[State]) -> State:
    """Give a model version's state: its worst feature's; insufficient only when every feature is."""
    known = list(states)
    decided = [state for state in known if state != "insufficient"]
    return worst_state(decided) if decided else "insufficient"


def worst_state(states: Iterable[State]) -> State:
    """Give the gravest of some states: drift, watch, insufficient, ok; ok when there are none."""
    return max(states, key=_GRAVITY.__getitem__, default="ok")


def _of_check(verdict: FeatureVerdict, check: Check) -> Verdict:
    if verdict.quality == "insufficient":
        return "insufficient"
    return "drifted" if check in verdict.faults else "clean"
