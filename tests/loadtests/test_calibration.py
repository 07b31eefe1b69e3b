"""Holds the calibration run to its parts: windows that follow the right law, other tools' rules, an honest page."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats

from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.reference_builder import build_reference
from loadtests.calibration.__main__ import main
from loadtests.calibration.kinds import KINDS, NAMES, Kind, bin_probabilities, null_windows
from loadtests.calibration.model_days import Tally
from loadtests.calibration.null_rates import null_rates
from loadtests.calibration.other_rules import (
    alibi_detect,
    evidently,
    kolmogorov_smirnov_p_value,
    prepare,
    wasserstein_distance,
)
from loadtests.calibration.power import NOTHING, SCENARIOS, Score
from loadtests.calibration.report import bound, is_within, pooled, render
from loadtests.calibration.results import Calibration, ModelDays, NullRate, Power, joined

EACH_KIND = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


def rate(mean: float, *, level: float = 0.05, seed: int = 1, rows: int = 200, error: float = 0.002) -> NullRate:
    return NullRate(
        seed=seed,
        kind="normal",
        rows=rows,
        reference_rows=10_000,
        level=level,
        mean=mean,
        low=0.03,
        high=0.07,
        standard_error=error,
        windows=1_000,
        references=100,
    )


def cell(rule: str, *, seed: int, runs: int, within_three: float, delay: float, rows: int = 200) -> Power:
    return Power(
        seed=seed,
        scenario="no change",
        rule=rule,
        rows=rows,
        runs=runs,
        windows=5 * runs,
        window_rate=0.5,
        other_rate=0.25,
        within_three=within_three,
        delay=delay,
    )


def small_run(*rates: NullRate) -> Calibration:
    days = ModelDays(
        seed=1,
        traffic="independent",
        mode="iid",
        rows=200,
        days=60,
        alarms=1,
        quality_alarms=0,
        alarm_windows=0.01,
        watch_windows=0.02,
    )
    correlated = [msgspec.structs.replace(days, traffic="0.9", mode=mode) for mode in ("iid", "calibrated")]
    return Calibration(
        versions={"numpy": "2"},
        took_s=60.0,
        null_rates=[*rates, *(msgspec.structs.replace(one, level=0.01, mean=one.mean / 5) for one in rates)],
        model_days=[days, *correlated],
        power=[
            cell(rule, seed=1, runs=20, within_three=0.5, delay=2.0, rows=rows)
            for rule in ("gateway", "Evidently")
            for rows in (200, 1_000)
        ],
    )


# --- windows --------------------------------------------------------------------------------------------


@EACH_KIND
def test_bin_probabilities_are_those_of_a_million_rows(kind: Kind) -> None:
    rng = np.random.default_rng(1)
    reference = build_reference({"x": kind.draw(rng, 10_000)}, {})
    layout = CountLayout(reference.features)
    (feature,) = reference.features
    probabilities = bin_probabilities(kind, feature)
    rows = 200_000
    counted = layout.bin_counts(BlockCounter(layout).count([{"x": kind.draw(rng, rows)}], [], rows))[0]
    counted = counted[: probabilities.size]
    assert probabilities.sum() == pytest.approx(1.0)
    assert counted.sum() == rows
    likely = probabilities > 0
    assert not counted[~likely].any()
    assert stats.chisquare(counted[likely], rows * probabilities[likely]).pvalue > 0.001


def test_null_windows_lie_in_the_layout_as_counted_rows_do() -> None:
    rng = np.random.default_rng(2)
    reference = build_reference({kind.name: kind.draw(rng, 5_000) for kind in KINDS}, {})
    layout = CountLayout(reference.features)
    windows = null_windows(rng, list(KINDS), layout, 300, 400)
    assert windows.shape == (400, layout.cells)
    for window in windows[:20]:
        assert (layout.feature_rows(window) == 300).all()
        assert not layout.null(window).any()
        assert not layout.non_finite(window).any()
    by_rows = BlockCounter(layout).count([{kind.name: kind.draw(rng, 120_000) for kind in KINDS}], [], 120_000)
    assert (np.abs(windows.sum(axis=0) - by_rows) <= 6 * np.sqrt(2 * by_rows + 25)).all()


def test_null_rates_cover_every_kind_size_and_level() -> None:
    found = null_rates(1, references=2, windows=60, say=lambda _: None)
    assert len({(one.kind, one.rows, one.level) for one in found}) == len(found) == 5 * 3 * 2
    assert all(one.rows <= one.reference_rows / 10 for one in found)
    assert all(0 <= one.low <= one.mean <= one.high <= 0.3 for one in found)


# --- other tools' rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_quick_forms_give_what_scipy_gives(seed: int) -> None:
    rng = np.random.default_rng(seed)
    first = np.sort(np.round(rng.normal(size=3_000), 2))
    second = np.sort(np.round(rng.normal(0.1, 1.2, size=400), 2))
    assert wasserstein_distance(first, second) == pytest.approx(stats.wasserstein_distance(first, second), rel=1e-9)
    expected = stats.ks_2samp(first, second, method="asymp").pvalue
    assert kolmogorov_smirnov_p_value(first, second) == pytest.approx(expected, rel=1e-9)


def test_other_tools_flag_what_their_documentation_says() -> None:
    rng = np.random.default_rng(3)
    reference = prepare(
        {
            "same": rng.normal(size=5_000),
            "moved": rng.normal(size=5_000),
            "missing": rng.normal(size=5_000),
            "names": NAMES[rng.choice(20, 5_000)],
            "other names": NAMES[rng.choice(20, 5_000)],
        }
    )
    holes = np.where(rng.random(1_000) < 0.5, np.nan, rng.normal(size=1_000))
    current = prepare(
        {
            "same": rng.normal(size=1_000),
            "moved": rng.normal(0.5, 1.0, size=1_000),
            "missing": holes,
            "names": NAMES[rng.choice(20, 1_000)],
            "other names": NAMES[rng.choice(10, 1_000)],
        }
    )
    assert evidently(reference, current) - {"missing"} == {"moved", "other names"}
    assert alibi_detect(reference, current) == {"moved", "other names"}


# --- scores ---------------------------------------------------------------------------------------------


def test_a_score_knows_when_each_run_found_the_change() -> None:
    subject = Score()
    for found_at in (2, 4, None):
        subject.next_run()
        for window in range(1, 6):
            found = found_at is not None and window >= found_at
            subject.add(window, flagged=found, others=window == 1, found=found)
    result = subject.result(seed=1, scenario="s", rule="r", rows=200)
    assert (result.runs, result.windows, result.delay) == (3, 15, 3.0)
    assert result.within_three == pytest.approx(1 / 3)
    assert result.other_rate == pytest.approx(3 / 15)
    assert result.window_rate == pytest.approx((4 + 2) / 15)


def test_a_score_that_never_found_anything_has_no_delay() -> None:
    subject = Score()
    subject.next_run()
    subject.add(1, flagged=False, others=False, found=False)
    assert subject.result(seed=1, scenario="s", rule="r", rows=200).delay == 0.0


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_change_keeps_the_rows_and_changes_some(scenario: str) -> None:
    rng = np.random.default_rng(4)
    place, change = SCENARIOS[scenario]
    values = NAMES[rng.choice(20, 500)] if place == "categorical" else rng.lognormal(size=500)
    changed = change(rng, values.copy())
    assert changed.shape == values.shape
    assert (changed == values).all() == (scenario == NOTHING)


def test_a_day_begins_without_memory() -> None:
    subject = Tally()
    subject.drifting = {3}
    subject.next_day()
    assert not subject.drifting
    assert not any(subject.memories)


def test_seeds_are_pooled_by_their_runs() -> None:
    power = [
        cell("gateway", seed=1, runs=30, within_three=1.0, delay=2.0),
        cell("gateway", seed=2, runs=10, within_three=0.0, delay=0.0),
    ]
    together = pooled(power, "no change", "gateway", 200)
    assert (together.runs, together.within_three, together.delay) == (40, 0.75, 2.0)


# --- the page -------------------------------------------------------------------------------------------


def test_the_bound_is_simultaneous_over_all_cells() -> None:
    assert bound([rate(0.05)] * 90) == pytest.approx(stats.norm.ppf(1 - 0.01 / 90))
    assert is_within(rate(0.05 + 3 * 0.002), 3.0)
    assert not is_within(rate(0.0561), 3.0)


def test_the_page_names_every_cell_outside_the_bound() -> None:
    page = render(small_run(rate(0.05), rate(0.09, seed=2)))
    outside = "normal, 200 rows, α = 0.05, seed 2: 9.00 %; normal, 200 rows, α = 0.01, seed 2: 1.80 %"
    assert f"Outside: {outside}." in page
    assert "All are inside it." in render(small_run(rate(0.05)))


def test_the_page_claims_a_rate_of_alarms_only_where_it_was_shown() -> None:
    found = small_run(rate(0.05))
    assert "With 95 % confidence the rate is below 0.079 a day, below the promised 0.1." in render(found)
    few = [msgspec.structs.replace(found.model_days[0], days=10)]
    assert "not shown to be below the promised 0.1" in render(msgspec.structs.replace(found, model_days=few))


def test_an_earlier_run_is_rendered_again_with_its_plots(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_bytes(msgspec.json.encode(small_run(rate(0.05), rate(0.04, rows=1_000))))
    assert main(["--render", str(earlier), "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "monitoring-calibration.md").read_text()
    for name in ("false-alarms", "model-days", "power"):
        assert f"images/calibration-{name}.png" in page
        assert (tmp_path / "out" / "images" / f"calibration-{name}.png").read_bytes().startswith(b"\x89PNG")
    assert msgspec.json.decode((tmp_path / "out" / "latest.json").read_bytes(), type=Calibration).took_s == 60.0


def test_parts_of_a_run_make_the_page_of_the_whole(tmp_path: Path) -> None:
    parts = [small_run(rate(0.05, seed=seed)) for seed in (1, 2)]
    files = [tmp_path / f"{number}.json" for number in range(2)]
    for file, part in zip(files, parts, strict=True):
        file.write_bytes(msgspec.json.encode(part))
    assert main(["--render", *map(str, files), "--output", str(tmp_path / "out")]) == 0
    whole = msgspec.json.decode((tmp_path / "out" / "latest.json").read_bytes(), type=Calibration)
    assert (whole.took_s, {one.seed for one in whole.null_rates}) == (120.0, {1, 2})
    with pytest.raises(ValueError, match="parts of one run"):
        joined([parts[0], msgspec.structs.replace(parts[1], versions={"numpy": "3"})])


@pytest.mark.parametrize("part", [["--quick"], ["--seeds", "2"]])
def test_a_part_of_a_run_never_replaces_the_committed_page(part: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(part)
    assert caught.value.code == 2
    assert "--output" in capsys.readouterr().err
