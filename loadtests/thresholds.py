"""Owns what a load test must reach to pass, and says in words where it did not.

Never measures; figures go in, sentences come out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a whole run measured."""

    requests: int
    failures: int
    p99_ms: float
    requests_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """What a run must reach.

    Attributes:
        max_failure_ratio: Of all requests, 0 to 1.
        max_p99_ms: Of all requests' response times.
        min_requests_per_s: Over the whole run.
    """

    max_failure_ratio: float = 0.01
    max_p99_ms: float = 500.0
    min_requests_per_s: float = 1.0


def breaches(figures: Figures, thresholds: Thresholds) -> list[str]:
    """Return a sentence for each threshold that was not held; empty when the run passes."""
    if figures.requests == 0:
        return ["no request was sent"]
    found = []
    ratio = figures.failures / figures.requests
    if ratio > thresholds.max_failure_ratio:
        found.append(
            f"failures: {ratio:.2%} ({figures.failures} of {figures.requests}), "
            f"at most {thresholds.max_failure_ratio:.2%} allowed"
        )
    if figures.p99_ms > thresholds.max_p99_ms:
        found.append(f"p99: {figures.p99_ms:g} ms, at most {thresholds.max_p99_ms:g} ms allowed")
    if figures.requests_per_s < thresholds.min_requests_per_s:
        found.append(
            f"throughput: {figures.requests_per_s:.1f} requests/s, at least {thresholds.min_requests_per_s:g} expected"
        )
    return found
