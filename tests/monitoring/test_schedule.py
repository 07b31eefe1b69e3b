import pytest

from gateway.monitoring.schedule import WindowSchedule

SCHEDULE = WindowSchedule(bucket_s=10, window_buckets=6, buffer_buckets=18)


@pytest.mark.parametrize(("now_s", "bucket"), [(0, 0), (9.99, 0), (10, 10), (1_000_003.5, 1_000_000)])
def test_a_bucket_starts_at_a_multiple_of_its_length(now_s: float, bucket: int) -> None:
    assert SCHEDULE.bucket_start(now_s) == bucket


@pytest.mark.parametrize(("now_s", "due"), [(60, False), (62.9, False), (63, True), (1_000, True)])
def test_a_window_is_due_a_flush_and_two_seconds_after_its_end(now_s: float, due: bool) -> None:  # noqa: FBT001 - a case
    assert SCHEDULE.is_due(0, now_s) is due


def test_every_bucket_that_may_still_be_sent_belongs_to_a_window_that_may_still_change() -> None:
    for now_s in range(600, 800):
        for bucket in range(SCHEDULE.horizon(now_s), now_s, SCHEDULE.bucket_s):
            window = bucket // SCHEDULE.window_s * SCHEDULE.window_s
            assert SCHEDULE.may_change(window, now_s)
            # A row sent at the last moment is decided on within a window's length.
            assert SCHEDULE.may_change(window, now_s + SCHEDULE.window_s - 1)


def test_no_more_windows_may_change_than_are_kept() -> None:
    for now_s in range(6_000, 6_200):
        changing = [start for start in range(0, now_s + 120, 60) if SCHEDULE.may_change(start, now_s)]
        assert len(changing) <= SCHEDULE.kept_windows


@pytest.mark.parametrize(("now_s", "bounds"), [(63, (0, 60)), (72.9, (0, 60)), (73, (10, 70))])
def test_the_last_complete_window_ends_with_a_flushed_bucket(now_s: float, bounds: tuple[int, int]) -> None:
    assert SCHEDULE.last_complete(now_s) == bounds
