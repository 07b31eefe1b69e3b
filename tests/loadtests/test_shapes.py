import itertools

import pytest

from loadtests.shapes import BURSTS, SHAPES, users_at

PEAK, DURATION_S = 20, 60.0


def course(shape: str) -> list[int]:
    """List the users of every tenth of a second."""
    found = [users_at(shape, tenth / 10, peak_users=PEAK, duration_s=DURATION_S) for tenth in range(600)]
    assert None not in found
    return [users for users in found if users is not None]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_stays_within_its_bounds_reaches_its_peak_and_ends(shape: str) -> None:
    users = course(shape)
    assert min(users) >= 1
    assert max(users) == PEAK
    for after in (DURATION_S, DURATION_S + 1):
        assert users_at(shape, after, peak_users=PEAK, duration_s=DURATION_S) is None


def test_steady_is_steady() -> None:
    assert set(course("steady")) == {PEAK}


def test_a_ramp_never_falls() -> None:
    users = course("ramp")
    assert users == sorted(users)
    assert set(users) == set(range(1, PEAK + 1))


def test_a_burst_has_every_user_six_times() -> None:
    users = course("burst")
    rises = sum(later > earlier for earlier, later in itertools.pairwise(users))
    assert rises == BURSTS
    assert set(users) == {4, PEAK}


def test_a_day_is_quiet_at_midnight_and_full_at_noon() -> None:
    users = course("diurnal")
    assert users[0] == 4
    assert users[-1] == 5
    assert max(users[290:310]) == PEAK
    assert users[:300] == sorted(users[:300])
    assert users[300:] == sorted(users[300:], reverse=True)
