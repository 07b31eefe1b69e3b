"""Null laws: how large the binned Anderson-Darling statistic grows when nothing has drifted.

Never looks at a current window before it is asked for a p-value; scipy.special is imported on first use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gateway.monitoring.bins import Counts, FloatArray
from gateway.monitoring.distances import anderson_darling_weights, shares

DRAWS = 20_000
SEED = 20_260_801
_GRID = 96

Statistic = Callable[[Counts, Counts], FloatArray]


class AndersonDarlingLaw:
    """The law of A² for one reference: a table of log p over A², and its tail beyond the table.

    Under the null the window's shares less the reference's are about Z / √n_e, Z ~ N(0, diag(p) - pp'), so A² is
    Σ λ_i χ²₁ with the eigenvalues λ of the weighted covariance of Z's running sum: one table serves every window size.
    20,000 seeded draws of all terms but the largest are averaged over the exact law of that largest one, which keeps
    the tail smooth where counting draws would end at 1 in 20,000.

    Source: Choulakian, Lockhart and Stephens 1994 (weighted χ² limits of discrete statistics).
    """

    def __init__(self, reference: Counts, *, draws: int = DRAWS, seed: int = SEED) -> None:
        """Build the table.

        Args:
            reference: Rows per bin of one feature, int64, shape (bins,).
            draws: Size of the Monte-Carlo sample.
            seed: Of that sample.
        """
        eigenvalues = _eigenvalues(reference)
        self._largest = float(eigenvalues[-1]) if eigenvalues.size else 0.0
        self._grid, self._log_p = np.zeros(0), np.zeros(0)
        if self._largest > 0:
            normal = np.random.default_rng(seed).standard_normal((draws, eigenvalues.size - 1))
            rest = normal**2 @ eigenvalues[:-1]
            # Even steps of √A², out to where the largest term alone has p below e^-30.
            far = np.sqrt(self._largest) * 7.6 + np.sqrt(float(eigenvalues.sum()))
            self._grid = np.linspace(0.0, far, _GRID)
            self._log_p = np.array([_log_mean_survival(root**2 - rest, self._largest) for root in self._grid])

    def p_values(self, statistics: FloatArray) -> FloatArray:
        """Give the probability of at least these statistics when nothing has drifted.

        Args:
            statistics: A², float64, any shape.
        Returns: float64, same shape; 1 at or below 0, NaN for NaN. A reference with fewer than two filled bins has no
            law: NaN for a positive statistic.
        """
        if not self._grid.size:
            return np.where(statistics > 0, np.nan, np.where(np.isnan(statistics), np.nan, 1.0))
        root = np.sqrt(np.maximum(statistics, 0.0))
        log_p = np.interp(root, self._grid, self._log_p)
        # Beyond the table the largest term decides: Zolotarev 1961, whose constant cancels in the ratio.
        beyond = root > self._grid[-1]
        last = self._grid[-1] ** 2
        tail = _log_survival(np.where(beyond, statistics, last), self._largest)
        log_p = np.where(beyond, self._log_p[-1] + tail - _log_survival(np.array(last), self._largest), log_p)
        return np.exp(log_p)


def permutation_p_values(
    reference: Counts, current: Counts, statistics: Sequence[Statistic], *, draws: int = DRAWS, seed: int = SEED
) -> list[float]:
    """Give exact p-values by dealing the pooled rows anew: the law of the window's counts given both windows.

    For bins so sparse that no approximation holds. The smallest possible value is 1 / (draws + 1).

    Args:
        reference: Rows per bin of one feature, int64, shape (bins,).
        current: Same shape.
        statistics: Functions of counts of shape (draws, bins), large when the windows differ.
        draws: Windows dealt from the multivariate hypergeometric law.
        seed: Of those draws; the same on every replica.
    Source: permutation test (Pitman 1937), p = (1 + #{T* ≥ T}) / (draws + 1) (Phipson and Smyth 2010).
    """
    filled = (reference + current) > 0
    reference, current = reference[filled], current[filled]
    pooled = reference + current
    dealt = np.random.default_rng(seed).multivariate_hypergeometric(pooled, int(current.sum()), size=draws)
    p_values = []
    for statistic in statistics:
        observed = statistic(reference[None], current[None])[0]
        # Equal windows dealt in another order may differ in the last bit.
        at_least = np.count_nonzero(statistic(pooled - dealt, dealt) >= observed * (1 - 1e-12))
        p_values.append(float((1 + at_least) / (draws + 1)))
    return p_values


def _eigenvalues(reference: Counts) -> FloatArray:
    """Weights of the χ²₁ terms of A² under the null, ascending, shape (filled bins,)."""
    share = shares(reference[reference > 0][None])[0]
    if share.size < 2:
        return np.zeros(0)
    running = np.tril(np.ones((share.size, share.size))) - np.eye(share.size) / 2
    middle = np.sqrt(anderson_darling_weights(share[None])[0])[:, None] * running
    covariance = np.diag(share) - np.outer(share, share)
    return np.maximum(np.linalg.eigvalsh(middle @ covariance @ middle.T), 0.0)


def _log_survival(values: FloatArray, scale: float) -> FloatArray:
    """Give log P(scale · χ²₁ > value)."""
    from scipy.special import log_ndtr  # on first use: it is slow to import

    log_p: FloatArray = np.log(2.0) + log_ndtr(-np.sqrt(np.maximum(values, 0.0) / scale))
    return log_p


def _log_mean_survival(values: FloatArray, scale: float) -> float:
    logs = _log_survival(values, scale)
    highest = logs.max()
    return float(highest + np.log(np.exp(logs - highest).mean()))
