"""Owns the promises of the breaker: when it opens, how long, how it is tried again, and what it never counts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from scipy.stats import binomtest

from gateway.routing.breaker import Breaker, BreakerSettings, wilson_lower_bound


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        ticket = breaker.admit(now)
        assert ticket is not None
        breaker.record(ticket, failed=True, now=now)


def succeed(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        ticket = breaker.admit(now)
        assert ticket is not None
        breaker.record(ticket, failed=False, now=now)


def reopen(breaker: Breaker, now: float) -> float:
    """Let a probe fail as soon as one is admitted; return when the next one would be."""
    now += breaker.status(now).retry_in_s
    fail(breaker, now)
    return now


def test_it_opens_at_the_fifth_error_in_a_row() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, times=4)
    assert breaker.status(0.0).state == "closed"
    fail(breaker, 0.0)
    assert breaker.admit(0.0) is None
    assert breaker.status(0.0).reason == "5 errors in a row"


def test_a_success_ends_the_row() -> None:
    breaker = Breaker()
    for second in range(20):
        fail(breaker, 60.0 * second, times=4)
        succeed(breaker, 60.0 * second)
    assert breaker.status(1200.0).state == "closed"


def test_it_opens_when_the_error_ratio_is_too_high_with_confidence() -> None:
    breaker = Breaker()
    now = 0.0
    while not breaker.is_open:
        now += 0.05
        succeed(breaker, now)
        succeed(breaker, now)
        fail(breaker, now)
    status = breaker.status(now)
    assert status.window_requests >= 50
    assert status.window_errors / status.window_requests == pytest.approx(1 / 3, abs=0.02)
    assert f"{status.window_errors} errors in {status.window_requests} requests" in status.reason


def test_fewer_than_fifty_requests_are_no_evidence() -> None:
    breaker = Breaker()
    for _ in range(12):
        fail(breaker, 0.0, times=3)
        succeed(breaker, 0.0)
    assert breaker.status(0.0).window_requests == 48
    assert not breaker.is_open


def test_errors_older_than_the_window_are_forgotten() -> None:
    breaker = Breaker()
    for second in range(0, 400, 11):
        for _ in range(12):
            fail(breaker, float(second), times=3)
            succeed(breaker, float(second))
    assert not breaker.is_open
    assert breaker.status(500.0).window_requests == 0


def test_an_error_ratio_below_the_limit_rarely_opens_it() -> None:
    """Looked at after every error for 100,000 requests of 5 % errors: half of what is allowed."""
    generator = random.Random(11)
    opened = 0
    for run in range(20):
        breaker = Breaker(BreakerSettings(consecutive_errors=1000))
        for request in range(5000):
            now = 1e6 * run + request / 100
            ticket = breaker.admit(now)
            if ticket is None:
                opened += 1
                break
            breaker.record(ticket, failed=generator.random() < 0.05, now=now)
    assert opened == 0


def test_it_stays_open_longer_each_time_up_to_five_minutes() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, times=5)
    now = 0.0
    waits = []
    for _ in range(12):
        waits.append(breaker.status(now).retry_in_s)
        assert breaker.admit(now + waits[-1] - 0.001) is None
        now = reopen(breaker, now)
    assert waits == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]


def test_one_probe_at_a_time_and_three_good_ones_close_it() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, times=5)
    for _ in range(3):
        probe = breaker.admit(30.0)
        assert probe is not None
        assert breaker.admit(30.0) is None
        assert breaker.status(30.0).state == "half_open"
        breaker.record(probe, failed=False, now=30.0)
    assert breaker.status(30.0).state == "closed"
    succeed(breaker, 30.0, times=10)


def test_a_probe_that_is_never_answered_gives_way_to_the_next() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, times=5)
    lost = breaker.admit(30.0)
    assert lost is not None
    assert breaker.admit(59.9) is None
    probe = breaker.admit(60.0)
    assert probe is not None
    breaker.record(lost, failed=True, now=60.0)
    assert breaker.status(60.0).state == "half_open"


def test_a_probe_given_back_is_handed_out_again_at_once() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, times=5)
    probe = breaker.admit(30.0)
    assert probe is not None
    breaker.abandon(probe)
    assert breaker.admit(30.0) is not None


def test_answers_of_an_earlier_state_are_passed_over() -> None:
    """Requests that were under way when it opened say nothing about the variant half a minute later."""
    breaker = Breaker()
    late = [breaker.admit(0.0) for _ in range(10)]
    fail(breaker, 0.0, times=5)
    succeed_at = 30.0
    probe = breaker.admit(succeed_at)
    assert probe is not None
    for ticket in late:
        assert ticket is not None
        breaker.record(ticket, failed=True, now=succeed_at)
        breaker.abandon(ticket)
    assert breaker.status(succeed_at).state == "half_open"
    assert breaker.admit(succeed_at) is None
    breaker.record(probe, failed=False, now=succeed_at)
    breaker.record(probe, failed=False, now=succeed_at)
    breaker.record(probe, failed=False, now=succeed_at)
    assert breaker.status(succeed_at).state == "half_open"


def test_each_healthy_half_minute_forgives_one_opening() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, times=5)
    now = reopen(breaker, reopen(breaker, 0.0))
    assert breaker.status(now).times_opened == 3
    now += breaker.status(now).retry_in_s
    succeed(breaker, now, times=3)
    fail(breaker, now + 61.0, times=5)
    assert breaker.status(now + 61.0).retry_in_s == 60.0
    now += 61.0 + 60.0
    succeed(breaker, now, times=3)
    fail(breaker, now + 3600.0, times=5)
    assert breaker.status(now + 3600.0).retry_in_s == 30.0


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([1.96, 3.0]))
def test_the_lower_bound_is_wilsons(counts: tuple[int, int], z: float) -> None:
    errors, requests = counts
    confidence = {1.96: 0.950004209703559, 3.0: 0.9973002039367398}[z]
    oracle = binomtest(errors, requests).proportion_ci(confidence_level=confidence, method="wilson").low
    assert wilson_lower_bound(errors, requests, z) == pytest.approx(oracle, abs=1e-6)


class BreakerMachine(RuleBasedStateMachine):
    """Any sequence of requests, answers, losses and pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.tickets: list[int] = []

    @rule()
    def admit(self) -> None:
        ticket = self.breaker.admit(self.now)
        if ticket is not None:
            self.tickets.append(ticket)
        else:
            assert self.breaker.is_open

    @precondition(lambda self: bool(self.tickets))
    @rule(failed=st.booleans(), newest=st.booleans())
    def answer(self, *, failed: bool, newest: bool) -> None:
        self.breaker.record(self.tickets.pop(-1 if newest else 0), failed=failed, now=self.now)

    @precondition(lambda self: bool(self.tickets))
    @rule()
    def abandon(self) -> None:
        self.breaker.abandon(self.tickets.pop())

    @rule(seconds=st.sampled_from([0.1, 5.0, 31.0, 301.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def it_is_never_closed_for_good(self) -> None:
        status = self.breaker.status(self.now)
        assert 0 <= status.retry_in_s <= 300
        assert status.window_errors <= status.window_requests
        assert (status.state == "closed") != self.breaker.is_open


TestBreakerMachine = BreakerMachine.TestCase
