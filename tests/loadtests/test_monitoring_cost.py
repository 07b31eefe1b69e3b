"""What watching costs is measured on real parts, and told with its A/A interval beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loadtests.monitoring_cost.__main__ import Cost, median_interval, summary
from loadtests.monitoring_cost.redis_cost import RedisCost, measure_day, private_redis


@pytest.mark.redis
async def test_a_day_in_redis_is_small_and_its_script_is_short(tmp_path: Path) -> None:
    with private_redis(tmp_path) as url:
        found = await measure_day(url, minutes=240)
    assert (found.features, found.buckets, found.replicas) == (20, 240, 3)
    assert found.scripts == 240 * 5 * 3
    assert 0 < found.bytes_a_day <= 10e6
    assert found.script_us <= 1_000


def test_the_table_has_the_ratio_beside_what_identical_servers_showed() -> None:
    redis = RedisCost(
        version="7", features=20, replicas=3, buckets=1_440, bytes_a_day=5_000_000, script_us=113, scripts=21_600
    )
    cost = Cost(
        processors="a processor",
        connections=64,
        watched_ms=[10.2, 10.4, 10.6],
        unwatched_ms=[10.0, 10.0, 10.0],
        control_ms=[10.1, 9.6, 10.0],
        judging_resident_bytes=150_000_000,
        unwatched_resident_bytes=120_000_000,
        redis=redis,
    )
    table = summary(cost)
    assert "| watched / not watched, median of 3 starts | 1.040, with 95 % probability 1.020 to 1.060 |" in table
    assert "| two that do not watch (A/A), likewise | 1.000, with 95 % probability 0.960 to 1.010 |" in table
    assert "| one EVALSHA, mean of 21,600 | 0.113 ms |" in table


def test_the_interval_of_a_median_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = [low <= 0 <= high for low, high in (median_interval(rng.standard_cauchy(30).tolist()) for _ in range(2_000))]
    assert 0.93 <= np.mean(held) <= 0.995
