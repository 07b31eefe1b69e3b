"""Owns the statistics of the split, over 200,000 keys with fixed seeds."""

import math
import random

import numpy as np
import pytest

from gateway.routing.route import WHOLE_BP, route_salt
from gateway.routing.splitter import Splitter, deal_slots, move_slots

KEYS = 200_000
SPLITS = [{"stable": 9999, "b": 1}, {"stable": 9000, "b": 1000}, {"stable": 6000, "b": 3000, "c": 1000}]


def keys_of(kind: str) -> list[str]:
    generator = random.Random(20_240_607)
    if kind == "counter":
        return [f"user-{number}" for number in range(KEYS)]
    if kind == "short":
        return [format(number, "x") for number in range(KEYS)]
    return [f"{generator.getrandbits(128):032x}" for _ in range(KEYS)]


def assert_binomial(counts: list[int], shares_bp: list[int], total: int) -> None:
    for count, share_bp in zip(counts, shares_bp, strict=True):
        share = share_bp / WHOLE_BP
        assert abs(count - total * share) <= 3 * math.sqrt(total * share * (1 - share)), (count, share, total)


@pytest.mark.parametrize("kind", ["counter", "short", "random"])
@pytest.mark.parametrize("weights", SPLITS, ids=str)
def test_observed_shares_stand_inside_the_binomial_band(weights: dict[str, int], kind: str) -> None:
    splitter = Splitter(route_salt("fraud"), deal_slots(weights))
    variants = np.fromiter((splitter.variant_of(key) for key in keys_of(kind)), dtype=np.uint8, count=KEYS)
    assert_binomial(np.bincount(variants, minlength=len(weights)).tolist(), list(weights.values()), KEYS)


@pytest.mark.parametrize("weights", SPLITS, ids=str)
def test_requests_without_a_key_stand_inside_the_band_too(weights: dict[str, int]) -> None:
    draw = random.Random(7).random
    splitter = Splitter(route_salt("fraud"), deal_slots(weights))
    variants = np.fromiter((splitter.variant_at(draw()) for _ in range(KEYS)), dtype=np.uint8, count=KEYS)
    assert_binomial(np.bincount(variants, minlength=len(weights)).tolist(), list(weights.values()), KEYS)


def test_a_raise_moves_the_smallest_share_of_keys_and_only_to_the_raised_variant() -> None:
    before = deal_slots({"stable": 8000, "b": 1000, "c": 1000})
    after = move_slots(before, {"stable": 7000, "b": 2000, "c": 1000})
    old, new = Splitter(route_salt("fraud"), before), Splitter(route_salt("fraud"), after)
    moves = [(old.variant_of(key), new.variant_of(key)) for key in keys_of("counter")]
    moved = [move for move in moves if move[0] != move[1]]
    assert set(moved) == {(0, 1)}
    assert_binomial([len(moved)], [1000], KEYS)


@pytest.mark.parametrize("sample_bp", [100, 1000, 5000])
def test_shadow_sampling_is_independent_of_the_split_and_of_other_shadows(sample_bp: int) -> None:
    weights = {"stable": 7000, "b": 3000}
    samples_bp = {"next": sample_bp, "other": sample_bp}
    splitter = Splitter(route_salt("fraud"), deal_slots(weights), samples_bp)
    table = np.zeros((2, 2, 2), dtype=np.int64)
    for key in keys_of("counter"):
        cell = (splitter.variant_of(key), int(splitter.is_sampled(0, key)), int(splitter.is_sampled(1, key)))
        table[cell] += 1
    sample = sample_bp / WHOLE_BP
    for variant, share in enumerate((0.7, 0.3)):
        for first in (0, 1):
            for second in (0, 1):
                chance = share * (sample if first else 1 - sample) * (sample if second else 1 - sample)
                expected, spread = KEYS * chance, math.sqrt(KEYS * chance * (1 - chance))
                assert abs(table[variant, first, second] - expected) <= 3.5 * spread


def test_two_routes_split_the_same_keys_independently() -> None:
    weights = {"stable": 5000, "b": 5000}
    first, second = (Splitter(route_salt(name), deal_slots(weights)) for name in ("fraud", "churn"))
    both = sum(first.variant_of(key) == second.variant_of(key) == 1 for key in keys_of("counter"))
    assert_binomial([both], [2500], KEYS)


def test_neither_does_the_hash_tell_the_slot_in_its_low_bits() -> None:
    """The sample-ratio test samples keys by the low bits of the hash that the slot was made of."""
    splitter = Splitter(route_salt("fraud"), deal_slots({"stable": 9000, "b": 1000}))
    hashes = [splitter.hash_key(key) for key in keys_of("counter")]
    kept = [splitter.variant_of_hash(key_hash) for key_hash in hashes if key_hash & 7 == 0]
    assert_binomial([len(kept)], [1250], KEYS)
    assert_binomial([sum(kept)], [1000], len(kept))
