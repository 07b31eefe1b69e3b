"""Sample-ratio mismatch: whether the variants of one revision get the shares that their weights promise.

Pure; made anew for each revision. Never counts a request that was pinned, overridden or answered by a fallback: the
caller leaves those out, so a variant that keeps failing shows here as one that gets too little.

The test is the sequential multinomial test of Lindon and Malek, Anytime-Valid Inference for Multinomial Count Data
(NeurIPS 2022): the Bayes factor of a Dirichlet mixture around the promised shares against the shares themselves,

    E = Γ(k) / Γ(k + n) × Π Γ(k θ_i + n_i) / Γ(k θ_i) / θ_i^{n_i},

is a martingale of mean 1 where the shares hold, so that by Ville's inequality it ever reaches 1/α with probability of
at most α, however often one looks.

Requests of one key are not independent, so keys are counted once each. Memory is bounded by sampling keys, not by
forgetting them: while at most 32,768 are held all are kept; then those whose hash ends in a 0 bit, then in two, and so
on. The sample does not depend on the variant (its bits are not those that choose the slot), each level is a sequence of
distinct keys of its own, and level l is held to α/2^(l+1), so that all levels together keep α. A set that only stopped
when full would never see what begins to fail after the first busy hour, and HyperLogLog's errors are larger than the
differences looked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from gateway.routing.route import WHOLE_BP

SIGNIFICANCE = 0.001
"""Probability of a false alarm over the whole life of a revision, on one replica."""

CONCENTRATION = 1000.0
"""The k of the formula: expects deviations of a percent or two; 10 to 10,000 change the time to an alarm by a third."""

KEPT_KEYS = 32_768


class BalanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the shares.

    Attributes:
        is_mismatch: Whether the shares were refuted, now or earlier in this revision.
        p_value: Valid at any time; the smallest one so far of the two tests, both counted.
        sticky: Distinct keys in the sample by variant.
        sampled: Share of the keys that the sample holds: 1, 1/2, 1/4, …
        random: Requests without a key by variant.
    """

    is_mismatch: bool
    p_value: float
    sticky: tuple[int, ...]
    sampled: float
    random: tuple[int, ...]


class SampleBalance:
    """Counts who answered, and tests the counts against the weights.

    Args:
        weights_bp: Of the variants in the order of the document, summing to 10,000.
        kept_keys: Keys held at most; about 100 bytes each.
    """

    def __init__(
        self, weights_bp: Sequence[int], *, significance: float = SIGNIFICANCE, kept_keys: int = KEPT_KEYS
    ) -> None:
        self._shares = tuple(weight / WHOLE_BP for weight in weights_bp)
        self._significance = significance
        self._kept_keys = kept_keys
        self._variants: dict[int, int] = {}  # by the hash of the key
        self._sticky = [0] * len(self._shares)
        self._random = [0] * len(self._shares)
        self._level = 0
        self._mask = 0
        self._p_value = 1.0

    def count_key(self, key_hash: int, variant: int) -> None:
        """Count an answer to a request with a key.

        Args:
            key_hash: As `Splitter.hash_key` gives it, uniform over 64 bits.
            variant: Index of the variant that answered.
        """
        if key_hash & self._mask or key_hash in self._variants:
            return
        self._variants[key_hash] = variant
        self._sticky[variant] += 1
        if len(self._variants) > self._kept_keys:
            self._thin_out()

    def count_random(self, variant: int) -> None:
        """Count an answer to a request without a key."""
        self._random[variant] += 1

    def status(self) -> BalanceStatus:
        """Test the counts as they stand; looking often costs no confidence.

        Call it every few seconds: what was refuted once stays so for the revision.
        """
        sticky = log_evidence(self._sticky, self._shares) - (self._level + 1) * math.log(2)
        random = log_evidence(self._random, self._shares)
        # Half of the significance for each test: twice the smaller p-value.
        p_value = 2 * math.exp(-max(sticky, random)) if max(sticky, random) > 0 else 1.0
        self._p_value = min(self._p_value, p_value)
        return BalanceStatus(
            is_mismatch=self._p_value <= self._significance,
            p_value=self._p_value,
            sticky=tuple(self._sticky),
            sampled=1 / (1 << self._level),
            random=tuple(self._random),
        )

    def _thin_out(self) -> None:
        self._level += 1
        self._mask = (1 << self._level) - 1
        kept = {key: variant for key, variant in self._variants.items() if not key & self._mask}
        self._variants = kept
        self._sticky = [0] * len(self._shares)
        for variant in kept.values():
            self._sticky[variant] += 1


def log_evidence(counts: Sequence[int], shares: Sequence[float], *, concentration: float = CONCENTRATION) -> float:
    """Natural logarithm of the evidence E against the shares.

    Args:
        counts: Observations by category.
        shares: Promised probabilities, summing to 1; a count where 0 was promised is infinite evidence.
    Source: Lindon and Malek (2022), arXiv:2011.03567, with the prior Dirichlet(k θ).
    """
    if any(count and not share for count, share in zip(counts, shares, strict=True)):
        return math.inf
    total = math.lgamma(concentration) - math.lgamma(concentration + sum(counts))
    for count, share in zip(counts, shares, strict=True):
        if count:
            prior = concentration * share
            total += math.lgamma(prior + count) - math.lgamma(prior) - count * math.log(share)
    return total
