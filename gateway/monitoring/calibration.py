"""Calibration: what this deployment's own quiet windows look like, for traffic whose rows depend on each other.

Never chooses its windows: they are declared in control by a person, not by the detector's own verdict.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from gateway.errors import InsufficientBaseline
from gateway.monitoring.bins import FloatArray
from gateway.monitoring.distances import divide
from gateway.monitoring.measurement import Measurement

MIN_WINDOWS = 200
ALPHA = 0.01


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The scale of each feature's statistics in control, and the largest score of each window.

    Attributes:
        ad_scale: 95 % quantile of A² in control, at least its mean under independence, 1; float64, shape (features,).
        chi2_scale: The same of χ² per degree of freedom.
        maxima: Largest score over the features of each in-control window, ascending, float64, shape (windows,).
    """

    ad_scale: FloatArray
    chi2_scale: FloatArray
    maxima: FloatArray

    def p_values(self, measurement: Measurement) -> FloatArray:
        """Rank each feature's score among the in-control windows' largest.

        p_f = (1 + #{windows with maximum ≥ s_f}) / (windows + 1). Held against the maximum over all features, p needs
        no further correction for their number, whatever their dependence.

        Returns: float64, shape (features,); NaN where there is no statistic.
        Source: single-step maxT (Westfall and Young 1993); conformal p-value (Vovk, Gammerman and Shafer 2005).
        """
        scores = _scores(measurement.ad, chi2_per_degree(measurement), self.ad_scale, self.chi2_scale)
        at_least = self.maxima.size - np.searchsorted(self.maxima, scores, side="left")
        return np.where(np.isnan(scores), np.nan, (1 + at_least) / (self.maxima.size + 1))


def calibrate(windows: list[Measurement]) -> Calibration:
    """Learn from windows declared in control.

    Args:
        windows: At least 200 measurements of one reference, tumbling, each with enough rows to be decided.
    Raises: InsufficientBaseline: fewer.
    """
    return calibrate_statistics(
        np.array([window.ad for window in windows]), np.array([chi2_per_degree(window) for window in windows])
    )


def calibrate_statistics(ad: FloatArray, per_degree: FloatArray) -> Calibration:
    """Learn from the statistics of windows declared in control.

    Args:
        ad: A² of each window, float64, shape (windows, features); NaN where there is none.
        per_degree: χ² per degree of freedom, same shape.
    Raises: InsufficientBaseline: fewer than 200 windows.
    """
    if len(ad) < MIN_WINDOWS:
        raise InsufficientBaseline(f"{len(ad)} windows are declared in control, expected at least {MIN_WINDOWS}")
    ad_scale, chi2_scale = _upper_quantile(ad), _upper_quantile(per_degree)
    scores = _scores(ad, per_degree, ad_scale, chi2_scale)
    maxima = np.fmax.reduce(scores, axis=1, initial=0.0)
    return Calibration(ad_scale=ad_scale, chi2_scale=chi2_scale, maxima=np.sort(maxima))


def chi2_per_degree(measurement: Measurement) -> FloatArray:
    """Divide χ² by its degrees of freedom: which bins merge, and so how many are left, varies between windows."""
    degrees = measurement.chi2_degrees
    return divide(measurement.chi2, degrees)


def _upper_quantile(values: FloatArray) -> FloatArray:
    """Give each feature's 95 % quantile over the windows, at least 1.

    Both statistics have mean 1 under independence. Without the floor a feature that hardly ever moves would have no
    scale, and its rare wobbles would drown every other feature's score.
    """
    # Sorting puts NaN last; a feature without any statistic keeps the floor.
    ordered = np.sort(values, axis=0)
    present = np.count_nonzero(~np.isnan(values), axis=0)
    rank = np.maximum(np.ceil(0.95 * present).astype(np.int64) - 1, 0)
    quantile: FloatArray = np.fmax(np.take_along_axis(ordered, rank[None], axis=0)[0], 1.0)
    return quantile


def _scores(ad: FloatArray, chi2: FloatArray, ad_scale: FloatArray, chi2_scale: FloatArray) -> FloatArray:
    scores: FloatArray = np.fmax(ad / ad_scale, chi2 / chi2_scale)
    return scores
