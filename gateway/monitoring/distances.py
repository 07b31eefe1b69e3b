"""Distances between a reference window and a current window, every feature at once, from counts alone.

Decides nothing, keeps nothing and draws no random numbers; an empty window has no distance and gives NaN.
"""

from __future__ import annotations

import numpy as np

from gateway.errors import WindowMismatch
from gateway.monitoring.bins import BoolArray, Counts, FloatArray

OUTER_FILL_SHARE = 0.01


def shares(counts: Counts) -> FloatArray:
    """Divide counts by their sum.

    Args:
        counts: Rows per bin, int64, shape (features, bins).
    Returns: float64, same shape; NaN where a feature has no rows.
    """
    return divide(counts, counts.sum(axis=1, keepdims=True))


def divide(
    dividend: Counts | FloatArray, divisor: Counts | FloatArray, *, otherwise: FloatArray | float = np.nan
) -> FloatArray:
    """Divide where the divisor is positive, and give `otherwise` elsewhere; float64, broadcast to one shape."""
    shape = np.broadcast_shapes(dividend.shape, divisor.shape)
    quotient: FloatArray = np.divide(dividend, divisor, out=np.full(shape, otherwise), where=divisor > 0)
    return quotient


def effective_rows(reference: Counts, current: Counts) -> FloatArray:
    """Give the size n_e = n·m / (n + m) that scales two-sample statistics; float64, shape (features,), 0 when empty."""
    _check(reference, current)
    m, n = _totals(reference), _totals(current)
    rows: FloatArray = m * (n / np.maximum(m + n, 1))
    return rows


def anderson_darling(reference: Counts, current: Counts) -> FloatArray:
    """Two-sample Anderson-Darling statistic of counts in ordered bins.

    A² = (N-1)/N · n_e · Σ_j h_j D_j² / (H_j (1 - H_j) - h_j / 4), over bins j with pooled share h_j > 0, where H_j is
    the pooled distribution function and D_j the difference of the two at the middle of bin j. Bins are ties: this is
    the k-sample midrank statistic of the bin numbers.

    Args:
        reference: Rows per bin, int64, shape (features, bins); trailing empty bins do not matter.
        current: Same shape, same bins.
    Returns: float64, shape (features,); 0 when the shares are equal.
    Raises: WindowMismatch: the shapes differ.
    Source: Scholz and Stephens 1987, equation 7, for two samples.
    """
    rows = effective_rows(reference, current)
    pooled = reference + current
    total = _totals(pooled)
    pooled_share = shares(pooled)
    difference = _middle(shares(current) - shares(reference))
    weight = anderson_darling_weights(pooled_share)
    scale = (total - 1) / np.maximum(total, 1) * rows
    return scale * _summed(weight * difference**2)


def anderson_darling_weights(pooled_share: FloatArray) -> FloatArray:
    """Weigh the squared difference of the distribution functions at the middle of each bin.

    Args:
        pooled_share: Share of each bin in both windows together, float64, shape (features, bins).
    Returns: h / (H (1 - H) - h / 4), same shape; 0 for an empty bin and for one that holds everything.
    """
    middle = _middle(pooled_share)
    spread = middle * (1 - middle) - pooled_share / 4
    # A single full bin leaves a rounding error instead of zero.
    return divide(pooled_share, np.where(spread > 1e-15, spread, 0.0), otherwise=0.0)


def kolmogorov_smirnov(reference: Counts, current: Counts) -> FloatArray:
    """Largest difference of the two distribution functions at a bin edge, float64, shape (features,), 0 to 1.

    A lower bound of the statistic of the raw rows, short of it by at most the largest bin's share.
    Source: Kolmogorov 1933, Smirnov 1939, two-sample form.
    """
    largest: FloatArray = np.abs(_difference(reference, current)).max(axis=1, initial=0.0)
    return largest


def wasserstein(reference: Counts, current: Counts, centroids: FloatArray, sigma: FloatArray) -> FloatArray:
    """First Wasserstein distance in reference standard deviations, all rows of a bin put at its reference centroid.

    W1 = ∫ |F_current - F_reference| dx / σ. Rows beyond the reference's range still count at the outer centroids, so
    the value is a lower bound when the outer bins fill: see `outer_bins_fill`.

    Args:
        reference: Rows per bin, int64, shape (features, bins).
        current: Same shape, same bins.
        centroids: Mean reference value of each bin, ascending, shape (features, bins).
        sigma: Reference standard deviation, shape (features,).
    Returns: float64, shape (features,); a feature without spread gives 0 when nothing moved and NaN when rows did.
    Source: Vallender 1974.
    """
    gap = np.diff(centroids, axis=1)
    moved = _summed(np.abs(_difference(reference, current))[:, :-1] * gap)
    return divide(moved, sigma, otherwise=np.where(moved > 0, np.nan, moved))


def outer_bins_fill(reference: Counts, current: Counts, bins: Counts) -> BoolArray:
    """Say where Wasserstein is only a lower bound: an outermost bin holds a percentage point more than it did.

    Args:
        reference: Rows per bin, int64, shape (features, bins).
        current: Same shape, same bins.
        bins: Bins of each feature, int64, shape (features,).
    Returns: bool, shape (features,); False for an empty window.
    """
    _check(reference, current)
    gained = shares(current) - shares(reference)
    last = np.take_along_axis(gained, np.maximum(bins - 1, 0)[:, None], axis=1)[:, 0]
    return (bins > 1) & (np.fmax(gained[:, 0], last) > OUTER_FILL_SHARE)


def psi(reference: Counts, current: Counts, *, smoothing: float = 0.5) -> FloatArray:
    """Compute the population stability index of each feature, in nats.

    Σ (q - p) ln(q / p), with `smoothing` added to each count of a bin that either window fills.

    Args:
        reference: Rows per bin, int64, shape (features, bins).
        current: Same shape, same bins.
        smoothing: Added to every count, so that empty bins stay finite.
    Returns: float64, shape (features,); 0 when the shares are equal and both windows are of one size.
    Raises: WindowMismatch: the shapes differ.
    Source: symmetric Kullback-Leibler divergence (Jeffreys 1946).
    """
    _check(reference, current)
    # A bin that nobody fills says nothing, but smoothed it would differ between windows of different size.
    filled = (reference + current) > 0
    p, q = (np.where(filled, counts + smoothing, 0.0) for counts in (reference, current))
    p, q = (divide(part, part.sum(axis=1, keepdims=True), otherwise=0.0) for part in (p, q))
    return _unless_empty(_summed((q - p) * np.log(divide(q, p, otherwise=1.0))), reference, current)


def jensen_shannon(reference: Counts, current: Counts) -> FloatArray:
    """Jensen-Shannon distance: the square root of the divergence in bits, float64, shape (features,), 0 to 1.

    Source: Lin 1991; the root is a metric (Endres and Schindelin 2003).
    """
    _check(reference, current)
    p, q = shares(reference), shares(current)
    middle = (p + q) / 2
    # An empty bin adds nothing: p log p goes to 0 with p.
    to_middle = (part * np.log2(np.where(part > 0, divide(part, middle), 1.0)) for part in (p, q))
    # Rounding may leave the divergence of equal shares below zero.
    divergence = np.maximum(_summed(sum(to_middle, np.zeros(p.shape))) / 2, 0.0)
    return _unless_empty(np.sqrt(divergence), reference, current)


def total_variation(reference: Counts, current: Counts) -> FloatArray:
    """Total variation distance ½ Σ |q - p|, the share of rows that moved, float64, shape (features,)."""
    _check(reference, current)
    return _summed(np.abs(shares(current) - shares(reference))) / 2


def total_variation_corrected(reference: Counts, current: Counts) -> FloatArray:
    """Total variation distance less what chance alone gives when nothing moved, at least 0.

    Chance gives ½ Σ √(2 h (1 - h) / (π n_e)), h being the pooled share of a bin: 0.10 for 20 categories in a window of
    200 rows, so that the raw distance of a small window is mostly noise.

    Returns: float64, shape (features,).
    Source: mean of a folded normal variable (Leone, Nelson and Nottingham 1961).
    """
    rows = effective_rows(reference, current)[:, None]
    pooled = shares(reference + current)
    chance = _summed(np.sqrt(divide(2 / np.pi * pooled * (1 - pooled), rows))) / 2
    return np.maximum(total_variation(reference, current) - chance, 0.0)


def _difference(reference: Counts, current: Counts) -> FloatArray:
    """Difference of the distribution functions at each bin's upper edge."""
    _check(reference, current)
    return np.cumsum(shares(current) - shares(reference), axis=1)


def _middle(share: FloatArray) -> FloatArray:
    """Distribution function at the middle of each bin."""
    return np.cumsum(share, axis=1) - share / 2


def _totals(counts: Counts) -> Counts:
    totals: Counts = counts.sum(axis=1)
    return totals


def _summed(terms: FloatArray) -> FloatArray:
    summed: FloatArray = terms.sum(axis=1)
    return summed


def _unless_empty(values: FloatArray, reference: Counts, current: Counts) -> FloatArray:
    return np.where((_totals(reference) > 0) & (_totals(current) > 0), values, np.nan)


def _check(reference: Counts, current: Counts) -> None:
    if reference.ndim != 2 or reference.shape != current.shape:
        raise WindowMismatch(f"counts have shape {current.shape}, the reference's are {reference.shape}")
