"""Shapes of expressions that many panels share; series and labels come from the caller."""

from __future__ import annotations

from collections.abc import Sequence


def rate(series: str, selected: str, by: Sequence[str] = ()) -> str:
    """Sum a counter's rate over the replicas."""
    return f"sum{_by(by)} (rate({series}{{{selected}}}[$__rate_interval]))"


def ratio(part: str, whole: str) -> str:
    """Divide, with 0 where there is no part, and nothing where there is no whole."""
    return f"({part} or {whole} * 0) / ({whole} > 0)"


def quantile(
    share: float, histogram: str, selected: str, by: Sequence[str] = (), window: str = "$__rate_interval"
) -> str:
    """Estimate a quantile from the buckets of all replicas together."""
    return f"histogram_quantile({share}, sum{_by((*by, 'le'))} (rate({histogram}_bucket{{{selected}}}[{window}])))"


def mean(histogram: str, selected: str, by: Sequence[str] = ()) -> str:
    """Divide a histogram's sum by its count; exact, where a quantile is an estimate."""
    return f"{rate(f'{histogram}_sum', selected, by)} / {rate(f'{histogram}_count', selected, by)}"


def worst(gauge: str, selected: str, by: Sequence[str]) -> str:
    """Take a gauge that all replicas export with the same value, or whose highest value is the one that matters."""
    return f"max{_by(by)} ({gauge}{{{selected}}})"


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
