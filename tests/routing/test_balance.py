"""Owns the promises of the sample-ratio test: false alarms as rare as promised however often one looks, and power."""

import math
import random

import numpy as np
import pytest
from scipy.special import gammaln
from scipy.stats import dirichlet_multinomial

from gateway.routing.balance import CONCENTRATION, SIGNIFICANCE, SampleBalance, log_evidence


def keys(seed: int, count: int) -> list[int]:
    return [int(key) for key in np.random.default_rng(seed).integers(0, 2**64, size=count, dtype=np.uint64)]


def test_the_evidence_is_the_ratio_of_two_likelihoods() -> None:
    """Of one sequence of answers: under the Dirichlet mixture, over the promised shares. scipy is the oracle."""
    shares = np.array([0.7, 0.2, 0.1])
    for counts in ([0, 0, 0], [1, 0, 0], [70, 20, 10], [500, 400, 100], [0, 0, 30]):
        observed = np.array(counts)
        orders = gammaln(observed.sum() + 1) - gammaln(observed + 1).sum()
        mixture = dirichlet_multinomial.logpmf(observed, CONCENTRATION * shares, observed.sum()) - orders
        promised = (observed * np.log(shares)).sum()
        assert log_evidence(counts, shares.tolist()) == pytest.approx(mixture - promised, abs=1e-7)


@pytest.mark.parametrize("weights_bp", [[9000, 1000], [5000, 5000], [9990, 10], [6000, 3000, 1000]], ids=str)
def test_false_alarms_are_as_rare_as_promised_however_often_one_looks(weights_bp: list[int]) -> None:
    """2,000 revisions of 30,000 keyless requests, looked at 300 times each; 5 and 1 % promised, to be measured."""
    generator = np.random.default_rng(41)
    runs, looks, requests = 2000, 300, 100
    shares = np.array(weights_bp) / 10_000
    counts = np.cumsum(generator.multinomial(requests, shares, size=(runs, looks)), axis=1)
    prior = CONCENTRATION * shares
    evidence = (
        gammaln(CONCENTRATION)
        - gammaln(CONCENTRATION + counts.sum(axis=2))
        + (gammaln(prior + counts) - gammaln(prior) - counts * np.log(shares)).sum(axis=2)
    )
    assert evidence[0, -1] == pytest.approx(log_evidence(counts[0, -1].tolist(), shares.tolist()), abs=1e-7)
    for significance in (0.05, 0.01):
        alarms = (evidence.max(axis=1) >= math.log(1 / significance)).sum()
        assert alarms <= runs * significance + 3 * math.sqrt(runs * significance)


def test_false_alarms_over_keys_stay_rare_while_the_sample_is_thinned_out() -> None:
    """400 revisions of 4,000 keys each, asked for again and again, with room for 200; 5 % promised."""
    alarms = 0
    for run in range(400):
        balance = SampleBalance([9000, 1000], significance=0.05, kept_keys=200)
        is_mismatch = False
        for number, key in enumerate(keys(run, 4000)):
            variant = int(key * 10_000 >> 64 >= 9000)
            balance.count_key(key, variant)
            balance.count_key(key, variant)
            if number % 100 == 0:
                is_mismatch = balance.status().is_mismatch
        alarms += is_mismatch
    assert alarms <= 400 * 0.05 + 3 * math.sqrt(400 * 0.05)


@pytest.mark.parametrize("is_keyed", [True, False])
def test_a_variant_that_loses_a_tenth_of_its_answers_is_found(is_keyed: bool) -> None:  # noqa: FBT001  a parameter
    """90/10, every tenth answer of the second variant is missing: as when one replica cannot run it."""
    generator = random.Random(5)
    balance = SampleBalance([9000, 1000])
    found_after = None
    for number, key in enumerate(keys(6, 60_000)):
        variant = int(generator.random() >= 0.9)
        if variant == 1 and generator.random() < 0.1:
            continue
        if is_keyed:
            balance.count_key(key, variant)
        else:
            balance.count_random(variant)
        if number % 500 == 0 and balance.status().is_mismatch:
            found_after = number
            break
    assert found_after is not None
    assert found_after < 50_000


def test_a_key_counts_once_however_often_it_asks() -> None:
    balance = SampleBalance([5000, 5000])
    for _ in range(100_000):
        balance.count_key(12345, 1)
    status = balance.status()
    assert status.sticky == (0, 1)
    assert not status.is_mismatch


def test_memory_is_bounded_and_the_sample_stays_fair() -> None:
    balance = SampleBalance([7000, 3000], kept_keys=1000)
    for key in keys(3, 50_000):
        balance.count_key(key, int(key * 10_000 >> 64 >= 7000))
    status = balance.status()
    assert 500 <= sum(status.sticky) <= 1000
    assert status.sampled == 1 / 64
    spread = math.sqrt(sum(status.sticky) * 0.21)
    assert abs(status.sticky[1] - 0.3 * sum(status.sticky)) <= 3 * spread
    assert not status.is_mismatch


def test_an_answer_of_a_variant_without_weight_is_a_mismatch_at_once() -> None:
    balance = SampleBalance([10_000, 0])
    balance.count_random(0)
    assert not balance.status().is_mismatch
    balance.count_random(1)
    assert balance.status().is_mismatch
    assert balance.status().p_value == 0.0


def test_what_was_refuted_stays_refuted() -> None:
    balance = SampleBalance([5000, 5000])
    for _ in range(200):
        balance.count_random(0)
    assert balance.status().is_mismatch
    for _ in range(200):
        balance.count_random(1)
    status = balance.status()
    assert status.is_mismatch
    assert status.p_value <= SIGNIFICANCE
    assert status.random == (200, 200)


def test_one_variant_alone_is_never_a_mismatch() -> None:
    balance = SampleBalance([10_000])
    for key in keys(1, 1000):
        balance.count_key(key, 0)
        balance.count_random(0)
    assert balance.status().p_value == 1.0


def test_nothing_counted_is_no_evidence() -> None:
    assert SampleBalance([9000, 1000]).status().p_value == 1.0
