"""Owns the arithmetic of the benchmark: percentiles, medians, paired ratios, the interval of identical runs.

Never reads a file or a clock: numbers in, numbers out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """A median with the lowest and the highest of the values behind it."""

    median: float
    lowest: float
    highest: float


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of values in ascending order: the least value that `percent` % do not exceed.

    Raises: ValueError: no values, or `percent` outside (0, 100].
    """
    if not ordered or not 0 < percent <= 100:
        raise ValueError(f"expected values and a percentage in (0, 100], got {len(ordered)} values, {percent} %")
    return ordered[math.ceil(len(ordered) * percent / 100) - 1]


def spread(values: Sequence[float]) -> Spread:
    """Return median, minimum and maximum; the median of an even count is the mean of the middle two.

    Raises: ValueError: no values.
    """
    if not values:
        raise ValueError("expected at least one value")
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return Spread(median, ordered[0], ordered[-1])


def paired_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
    """Return the spread of round-by-round ratios: what two servers did minutes apart is never compared.

    Raises: ValueError: the sequences differ in length, are empty, or a denominator is not positive.
    """
    if len(numerators) != len(denominators) or any(value <= 0 for value in denominators):
        raise ValueError(f"expected as many positive denominators as numerators, got {numerators} / {denominators}")
    return spread([above / below for above, below in zip(numerators, denominators, strict=True)])


def same_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Return the interval of ratios that two measurements of the same server gave, made symmetric around 1.

    Which of the two is called first is arbitrary, so a ratio r is evidence for 1/r as well.

    Raises: as `paired_ratios`, and for a ratio of 0.
    """
    ratios = paired_ratios(first, second)
    if ratios.lowest <= 0:
        raise ValueError(f"expected positive figures, got {first} / {second}")
    widest = max(ratios.highest, 1 / ratios.lowest)
    return 1 / widest, widest


def differs(ratio: Spread, same: tuple[float, float]) -> bool:
    """Say whether every round's ratio stands outside what identical servers showed in this run."""
    return ratio.lowest > same[1] or ratio.highest < same[0]
