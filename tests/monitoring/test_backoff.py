from gateway.monitoring.backoff import Backoff


def test_waits_double_up_to_the_longest_and_are_drawn_from_their_upper_half() -> None:
    subject = Backoff(first_s=0.5, longest_s=8.0, seed=1)
    longest = [0.5, 1, 2, 4, 8, 8, 8]
    for limit_s in longest:
        assert limit_s / 2 <= subject.fail(0.0) <= limit_s
    assert subject.failures == len(longest)


def test_nothing_is_tried_before_the_wait_is_over() -> None:
    subject = Backoff(seed=2)
    assert not subject.is_waiting(100.0)
    wait_s = subject.fail(100.0)
    assert subject.is_waiting(100.0)
    assert subject.is_waiting(100.0 + wait_s - 0.01)
    assert not subject.is_waiting(100.0 + wait_s)


def test_a_success_ends_the_wait() -> None:
    subject = Backoff(seed=3)
    subject.fail(100.0)
    subject.succeed()
    assert not subject.is_waiting(100.0)
    assert subject.failures == 0


def test_a_clock_that_is_set_back_holds_nothing_back() -> None:
    subject = Backoff(seed=4)
    subject.fail(1_000_000.0)
    assert not subject.is_waiting(5_000.0)


def test_replicas_do_not_wait_alike() -> None:
    assert len({Backoff(seed=seed).fail(0.0) for seed in range(20)}) == 20
