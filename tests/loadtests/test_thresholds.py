import pytest

from loadtests.thresholds import Figures, Thresholds, breaches

THRESHOLDS = Thresholds(max_failure_ratio=0.01, max_p99_ms=50, min_requests_per_s=10)


def figures(*, requests: int = 1000, failures: int = 0, p99_ms: float = 20, requests_per_s: float = 100) -> Figures:
    return Figures(requests=requests, failures=failures, p99_ms=p99_ms, requests_per_s=requests_per_s)


@pytest.mark.parametrize("held", [figures(), figures(failures=10), figures(p99_ms=50), figures(requests_per_s=10)])
def test_a_run_at_its_limits_passes(held: Figures) -> None:
    assert breaches(held, THRESHOLDS) == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (figures(failures=11), "failures: 1.10% (11 of 1000), at most 1.00% allowed"),
        (figures(p99_ms=51), "p99: 51 ms, at most 50 ms allowed"),
        (figures(requests_per_s=9.94), "throughput: 9.9 requests/s, at least 10 expected"),
        (figures(requests=0), "no request was sent"),
    ],
)
def test_a_run_beyond_a_limit_says_which_and_by_how_much(broken: Figures, said: str) -> None:
    assert breaches(broken, THRESHOLDS) == [said]


def test_every_breach_is_named() -> None:
    assert len(breaches(figures(failures=500, p99_ms=900, requests_per_s=1), THRESHOLDS)) == 3
