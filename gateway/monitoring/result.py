"""The result of one window as it is stored: what was measured, what it means, and what the next window must know.

Never names a feature: the reference under whose hash it is stored does.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import msgspec
import numpy as np

from gateway.monitoring.bins import FloatArray
from gateway.monitoring.calibration import Calibration
from gateway.monitoring.decision import Cause, CauseMemory, FeatureVerdict, State
from gateway.store.windows import ResultHead

Mode = Literal["iid", "calibrated"]
STATISTICS = ("ad", "chi2", "ks", "w1", "psi", "js", "tvd")


class FeatureResult(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One feature of one window; NaN where there is no such statistic.

    Attributes:
        rows: Rows with a usable value.
        p_value: Before any correction for the number of features.
        statistics: In the order of `STATISTICS`.
        chi2_degrees: Degrees of freedom of χ².
        w1_is_lower_bound: Whether the outer bins filled, so that W1 is too small.
        quality: Ratios in the order of `quality.CHECKS`.
        verdict: What this window alone says.
        state, causes: What it says together with the ones before.
        memory: What the next window must know.
    """

    rows: int
    p_value: float
    statistics: tuple[float, ...]
    chi2_degrees: int
    w1_is_lower_bound: bool
    quality: tuple[float, ...]
    verdict: FeatureVerdict
    state: State
    causes: tuple[Cause, ...]
    memory: dict[Cause, CauseMemory]


class Announcement(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What the outside was told last.

    Attributes:
        state: Of the model version.
        drifting: Positions of its features in drift.
    """

    state: State = "ok"
    drifting: tuple[int, ...] = ()


class WindowResult(msgspec.Struct, frozen=True, kw_only=True):
    """The current result of one window.

    Attributes:
        start_s, end_s: Bounds of the window, seconds since the epoch.
        rows: Rows it was decided on.
        attempt: 1 for the first decision.
        after: Start and attempt of the result it follows; zeros for none.
        mode: Whether rows were assumed independent, or windows ranked against those declared in control.
        state: Of the model version.
        announced: What the outside was told last; a result that replaces another one tells nothing.
        decided_at_s: Seconds since the epoch.
        features: In the order of the reference.
    """

    start_s: int
    end_s: int
    rows: int
    attempt: int
    after: tuple[int, int]
    mode: Mode
    state: State
    announced: Announcement
    decided_at_s: float
    features: tuple[FeatureResult, ...]

    @property
    def head(self) -> ResultHead:
        """What the store must know of it."""
        return ResultHead(rows=self.rows, attempt=self.attempt, after=self.after)


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Windows declared in control, as what calibration learnt from them.

    Attributes:
        from_s, to_s: The declared period, seconds since the epoch.
        windows: Windows in it that had enough rows.
        declared_at_s: Seconds since the epoch.
        ad_scale, chi2_scale, maxima: See `Calibration`.
    """

    from_s: int
    to_s: int
    windows: int
    declared_at_s: float
    ad_scale: tuple[float, ...]
    chi2_scale: tuple[float, ...]
    maxima: tuple[float, ...]

    @classmethod
    def of(cls, calibration: Calibration, *, from_s: int, to_s: int, declared_at_s: float) -> Baseline:
        """Write down what was learnt."""
        arrays: dict[str, FloatArray] = {
            field.name: getattr(calibration, field.name) for field in dataclasses.fields(calibration)
        }
        return cls(
            from_s=from_s,
            to_s=to_s,
            windows=calibration.maxima.size,
            declared_at_s=declared_at_s,
            **{name: tuple(array.tolist()) for name, array in arrays.items()},
        )

    @property
    def calibration(self) -> Calibration:
        """What was learnt."""
        return Calibration(
            ad_scale=np.array(self.ad_scale), chi2_scale=np.array(self.chi2_scale), maxima=np.array(self.maxima)
        )


def encode(document: WindowResult | Baseline) -> bytes:
    """Write a document for the store."""
    return msgspec.msgpack.encode(document)


def decode_result(body: bytes) -> WindowResult:
    """Read a result.

    Raises: msgspec.MsgspecError: another release wrote something else there.
    """
    return msgspec.msgpack.decode(body, type=WindowResult)


def decode_baseline(body: bytes) -> Baseline:
    """Read a baseline.

    Raises: msgspec.MsgspecError: another release wrote something else there.
    """
    return msgspec.msgpack.decode(body, type=Baseline)
