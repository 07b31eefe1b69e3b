"""What is remembered of a shadow's comparisons: counts, histograms, and the requests that differed most.

Pure and bounded; never keeps an input or an output, only request ids.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import numpy.typing as npt

from gateway.routing.comparison import Comparison, FloatArray

DIFFERENCE_EDGES: tuple[float, ...] = tuple(10.0**exponent for exponent in range(-9, 4))
"""Upper edges of the histograms of differences, a decade each; the last bin takes what is above, and NaN."""

LATENCY_RATIO_EDGES: tuple[float, ...] = tuple(2.0**exponent for exponent in range(-4, 5))
"""Upper edges of the histogram of shadow run time over primary run time."""

KEPT_WORST = 20


class WorstRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose answers differed.

    Attributes:
        difference: Largest absolute difference; None where there is no distance: NaN, strings, shapes, errors.
    """

    request_id: str
    at: float
    reason: str
    class_flips: int
    difference: float | None


class Agreement:
    """How far one shadow agrees with the answers that callers got, since it was created."""

    def __init__(self) -> None:
        self.matches = 0
        self.mismatches = 0
        self.errors = 0
        self.rows = 0
        self.class_flips = 0
        self.absolute = np.zeros(len(DIFFERENCE_EDGES) + 1, dtype=np.int64)
        self.relative = np.zeros(len(DIFFERENCE_EDGES) + 1, dtype=np.int64)
        self.latency_ratio = np.zeros(len(LATENCY_RATIO_EDGES) + 1, dtype=np.int64)
        self._worst: list[tuple[tuple[int, float, float], WorstRequest]] = []

    def add(self, comparison: Comparison, *, request_id: str, at: float, latency_ratio: float | None = None) -> None:
        """Count one comparison.

        Args:
            at: Seconds since 1970, shown with the request.
            latency_ratio: Run time of the shadow over that of the primary; None when either is missing.
        """
        if comparison.result == "match":
            self.matches += 1
        elif comparison.result == "mismatch":
            self.mismatches += 1
        else:
            self.errors += 1
        self.rows += comparison.rows
        self.class_flips += comparison.class_flips
        self.absolute += histogram(comparison.absolute, DIFFERENCE_EDGES)
        self.relative += histogram(comparison.relative, DIFFERENCE_EDGES)
        if latency_ratio is not None and math.isfinite(latency_ratio):
            self.latency_ratio += histogram(np.array([latency_ratio]), LATENCY_RATIO_EDGES)
        if comparison.result != "match" or comparison.class_flips:
            self._keep(comparison, request_id, at)

    @property
    def worst(self) -> list[WorstRequest]:
        """The requests that differed most: class flips first, then no distance at all, then the largest distance."""
        return [request for _, request in self._worst]

    def summary(self) -> dict[str, object]:
        """Write it as the JSON object of the admin API."""
        return {
            "matches": self.matches,
            "mismatches": self.mismatches,
            "errors": self.errors,
            "rows": self.rows,
            "class_flips": self.class_flips,
            "absolute": {"edges": list(DIFFERENCE_EDGES), "rows": self.absolute.tolist()},
            "relative": {"edges": list(DIFFERENCE_EDGES), "rows": self.relative.tolist()},
            "latency_ratio": {"edges": list(LATENCY_RATIO_EDGES), "requests": self.latency_ratio.tolist()},
            "worst": [msgspec.to_builtins(request) for request in self.worst],
        }

    def _keep(self, comparison: Comparison, request_id: str, at: float) -> None:
        difference = None
        if comparison.absolute.size and not np.isnan(comparison.absolute).any():
            largest = float(comparison.absolute.max())
            difference = largest if largest > 0 else None
        # The newest of equals stands first, so that an incident's requests replace those of last week.
        rank = (-comparison.class_flips, -math.inf if difference is None else -difference, -at)
        request = WorstRequest(
            request_id=request_id,
            at=at,
            reason=comparison.reason,
            class_flips=comparison.class_flips,
            difference=difference,
        )
        self._worst.append((rank, request))
        self._worst.sort(key=lambda item: item[0])
        del self._worst[KEPT_WORST:]


def histogram(values: FloatArray, edges: tuple[float, ...]) -> npt.NDArray[np.int64]:
    """Count values by upper edge, edges included; the last bin takes what is above them all, and NaN.

    Returns: int64, shape (edges + 1,).
    """
    bins = np.searchsorted(np.asarray(edges), values, side="left")  # NaN sorts above everything
    return np.bincount(bins, minlength=len(edges) + 1).astype(np.int64)
