"""One window measured against its reference: every statistic of every feature, with p-values.

Never says whether something drifted: `decision.py` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from gateway.monitoring import distances
from gateway.monitoring.bins import BoolArray, Counts, FloatArray
from gateway.monitoring.chi_square import ChiSquare, chi_square, chi_square_test
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.null_law import DRAWS, AndersonDarlingLaw, permutation_p_values
from gateway.monitoring.reference import Feature, NumericFeature

MAX_WINDOW_SHARE = 0.1


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The statistics of one window; arrays of shape (features,), float64 unless said; NaN where there is none.

    Attributes:
        numeric: Whether a feature's bins are ordered, bool.
        rows: Rows with a usable value, which the statistics are about, int64.
        all_rows: Rows with or without one, int64.
        reference_rows: Usable rows of the reference, int64.
        ad: Anderson-Darling; numeric features only, like ks and w1.
        chi2: Two-sample χ² of merged bins.
        chi2_degrees: Its degrees of freedom, int64.
        ks: Kolmogorov-Smirnov.
        w1: First Wasserstein distance in reference standard deviations.
        w1_lower_bound: Whether the outer bins filled, so that w1 is too small, bool.
        psi: In nats.
        js: Jensen-Shannon distance, base 2.
        tvd: Total variation distance.
        tvd_corrected: The same less what chance gives.
        p_value: min(1, 2 · min(p_AD, p_χ²)) for numeric features, p_χ² for categorical ones; before any correction for
            the number of features. It assumes independent rows.
    """

    numeric: BoolArray
    rows: Counts
    all_rows: Counts
    reference_rows: Counts
    ad: FloatArray
    chi2: FloatArray
    chi2_degrees: Counts
    ks: FloatArray
    w1: FloatArray
    w1_lower_bound: BoolArray
    psi: FloatArray
    js: FloatArray
    tvd: FloatArray
    tvd_corrected: FloatArray
    p_value: FloatArray

    @property
    def oversized(self) -> BoolArray:
        """Say where the window is over a tenth of the reference, whose own sampling error then shows."""
        return self.rows > MAX_WINDOW_SHARE * self.reference_rows


class WindowMeter:
    """Measures windows against one reference; the tables of its null laws are built once, on first use."""

    def __init__(self, layout: CountLayout, reference: Counts, *, draws: int = DRAWS) -> None:
        """Lay out the reference.

        Args:
            layout: Of the counts that will be measured.
            reference: What to measure against, int64, shape (cells,): `layout.reference_counts`, or another window's
                counts on the same bins, for comparing two variants.
            draws: Behind each null law; a tenth of them takes a tenth of the time and moves p-values by 2 %.
        """
        self._draws = draws
        self._layout = layout
        self._reference = layout.bin_counts(reference)
        self._bins: Counts = np.array([_bins(feature) for feature in layout.features], dtype=np.int64)
        self._centroids = _centroids(layout.features, layout.bins)
        self._sigma: FloatArray = np.array(
            [feature.sigma if isinstance(feature, NumericFeature) else 0.0 for feature in layout.features]
        )
        self._lawless = _alike(self._reference, layout.numeric)
        self._laws: list[tuple[AndersonDarlingLaw, Counts]] = []

    def prepare(self) -> bool:
        """Build one null law that is lacking: a twentieth of a second each, and up to one for every numeric feature.

        To be called until nothing is lacking, so that whoever measures may stop in between; `measure` builds the rest.

        Returns: Whether others are lacking.
        """
        if self._lawless:
            features = self._lawless[-1]
            self._laws.append((AndersonDarlingLaw(self._reference[features[0]], draws=self._draws), features))
            self._lawless.pop()
        return bool(self._lawless)

    def measure(self, counts: Counts) -> Measurement:
        """Measure one window.

        Args:
            counts: Its merged counts, int64, shape (cells,) of the layout.
        Raises: WindowMismatch: the counts are not of this layout.
        """
        reference, current = self._reference, self._layout.bin_counts(counts)
        numeric = self._layout.numeric
        test = chi_square_test(reference, current, ordered=numeric)
        ad = _where(numeric, distances.anderson_darling(reference, current))
        return Measurement(
            numeric=numeric,
            rows=current.sum(axis=1),
            all_rows=self._layout.feature_rows(counts),
            reference_rows=reference.sum(axis=1),
            ad=ad,
            chi2=test.statistic,
            chi2_degrees=test.degrees,
            ks=_where(numeric, distances.kolmogorov_smirnov(reference, current)),
            w1=_where(numeric, distances.wasserstein(reference, current, self._centroids, self._sigma)),
            w1_lower_bound=numeric & distances.outer_bins_fill(reference, current, self._bins),
            psi=distances.psi(reference, current),
            js=distances.jensen_shannon(reference, current),
            tvd=distances.total_variation(reference, current),
            tvd_corrected=distances.total_variation_corrected(reference, current),
            p_value=self._p_values(current, ad, test),
        )

    def _p_values(self, current: Counts, ad: FloatArray, test: ChiSquare) -> FloatArray:
        numeric = self._layout.numeric
        doubled = np.minimum(1.0, 2 * np.fmin(self._ad_p_values(ad), test.p_value))
        p_value = np.where(numeric, doubled, test.p_value)
        # Too few rows outside the fullest bin for any approximation: constant and nearly constant features.
        measurable = (self._reference.sum(axis=1) > 0) & (current.sum(axis=1) > 0)
        for feature in np.flatnonzero(measurable & (test.degrees == 0)).tolist():
            p_value[feature] = _exact_p_value(self._reference[feature], current[feature], ordered=numeric[feature])
        return np.where(measurable, p_value, np.nan)

    def _ad_p_values(self, ad: FloatArray) -> FloatArray:
        while self.prepare():
            pass
        p_values = np.full(ad.shape, np.nan)
        for law, features in self._laws:
            p_values[features] = law.p_values(ad[features])
        return p_values


def _alike(reference: Counts, numeric: BoolArray) -> list[Counts]:
    """Part the numeric features into those that have one null law together.

    Continuous features of one data set have the same shares in their quantile bins.
    """
    alike: dict[bytes, list[int]] = {}
    for feature in np.flatnonzero(numeric).tolist():
        filled = reference[feature][reference[feature] > 0]
        alike.setdefault(filled.tobytes(), []).append(feature)
    return [np.array(features) for features in alike.values()]


def _exact_p_value(reference: Counts, current: Counts, *, ordered: bool) -> float:
    if np.count_nonzero(reference + current) < 2:
        return 1.0
    statistics = [chi_square, distances.anderson_darling] if ordered else [chi_square]
    p_values = permutation_p_values(reference, current, statistics)
    return min(1.0, len(p_values) * min(p_values))


def _bins(feature: Feature) -> int:
    return len(feature.counts) if isinstance(feature, NumericFeature) else len(feature.counts) + 1


def _centroids(features: Sequence[Feature], bins: int) -> FloatArray:
    """Stack the centroids, the last one repeated where a feature has fewer bins; shape (features, bins)."""
    matrix = np.zeros((len(features), bins))
    for row, feature in zip(matrix, features, strict=True):
        if isinstance(feature, NumericFeature):
            row[:] = feature.centroids[-1]
            row[: len(feature.centroids)] = feature.centroids
    return matrix


def _where(numeric: BoolArray, values: FloatArray) -> FloatArray:
    return np.where(numeric, values, np.nan)
