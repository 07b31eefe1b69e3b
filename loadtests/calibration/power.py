"""Measures how soon a change in one feature of 20 is found, by the gateway and by other tools' default rules.

All rules judge the same rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gateway.messages import Array
from gateway.monitoring.counting import BlockCounter
from gateway.monitoring.decision import Cause, CauseMemory, FeatureVerdict, decide_window, next_feature_state
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import WindowMeter
from gateway.monitoring.quality import QualityMeter
from gateway.monitoring.reference_builder import build_reference
from loadtests.calibration.kinds import KINDS, NAMES
from loadtests.calibration.other_rules import RULES, Columns, prepare
from loadtests.calibration.results import Power

WINDOWS = 5
SIZES = ((200, 10_000), (1_000, 10_000))
CHANGED = {"numeric": "normal 0", "positive": "lognormal 0", "categorical": "20 categories 0"}
NOTHING = "no change"

Change = Callable[[np.random.Generator, Array], Array]


def _some(rng: np.random.Generator, values: Array, share: float, other: Array) -> Array:
    return np.where(rng.random(len(values)) < share, other, values)


def _swap(_: np.random.Generator, values: Array) -> Array:
    """Exchange the two commonest categories."""
    swapped = values.copy()
    swapped[values == NAMES[0]], swapped[values == NAMES[1]] = NAMES[1], NAMES[0]
    return swapped


SCENARIOS: dict[str, tuple[str, Change]] = {
    NOTHING: ("numeric", lambda _, values: values),
    "shift 0.1 σ": ("numeric", lambda _, values: values + 0.1),
    "shift 0.25 σ": ("numeric", lambda _, values: values + 0.25),
    "shift 0.5 σ": ("numeric", lambda _, values: values + 0.5),
    "sd × 1.5": ("numeric", lambda _, values: values * 1.5),
    "2 % × 1000": ("positive", lambda rng, values: _some(rng, values, 0.02, values * 1_000)),
    "5 % null": ("numeric", lambda rng, values: _some(rng, values, 0.05, np.full(len(values), np.nan))),
    "50 % null": ("numeric", lambda rng, values: _some(rng, values, 0.5, np.full(len(values), np.nan))),
    "two categories swapped": ("categorical", _swap),
}


@dataclass
class Score:
    """What one rule said in one scenario, run by run."""

    windows: int = 0
    flagged: int = 0
    others: int = 0
    delays: list[int | None] = field(default_factory=list)

    def next_run(self) -> None:
        self.delays.append(None)

    def add(self, window: int, *, flagged: bool, others: bool, found: bool) -> None:
        """Take note of one window.

        Args:
            window: Its number after the change, from 1.
            flagged: Whether the changed feature is flagged in it.
            others: Whether any other is.
            found: Whether the rule as a whole says so by now.
        """
        self.windows += 1
        self.flagged += flagged
        self.others += others
        if found and self.delays[-1] is None:
            self.delays[-1] = window

    def result(self, *, seed: int, scenario: str, rule: str, rows: int) -> Power:
        found = [delay for delay in self.delays if delay is not None]
        return Power(
            seed=seed,
            scenario=scenario,
            rule=rule,
            rows=rows,
            runs=len(self.delays),
            windows=self.windows,
            window_rate=self.flagged / self.windows,
            other_rate=self.others / self.windows,
            within_three=sum(delay <= 3 for delay in found) / len(self.delays),
            delay=float(np.mean(found)) if found else 0.0,
        )


class Gateway:
    """The gateway's rule on raw rows."""

    def __init__(self, drawn: dict[str, Array]) -> None:
        rows = len(next(iter(drawn.values())))
        self._layout = CountLayout(build_reference(drawn, {}).features)
        self._counter = BlockCounter(self._layout)
        self._meter = WindowMeter(self._layout, self._layout.reference_counts(rows))
        self._quality = QualityMeter(self._layout, self._layout.reference_counts(rows))
        self._memory: dict[str, dict[Cause, CauseMemory]] = {}

    def forget(self) -> None:
        """Begin anew with the next scenario."""
        self._memory = {}

    def judge(self, window: dict[str, Array]) -> tuple[set[str], set[str]]:
        """Judge one window.

        Returns: Features that this window alone shows to have drifted, and those in the state drift.
        """
        counts = self._counter.count([window], [], len(next(iter(window.values()))))
        verdicts = decide_window(self._meter.measure(counts), self._quality.measure(counts))
        alone, states = set(), set()
        for feature, verdict in zip(self._layout.features, verdicts, strict=True):
            self._memory[feature.name], state = next_feature_state(self._memory.get(feature.name, {}), verdict)
            if _is_flagged(verdict):
                alone.add(feature.name)
            if state.state == "drift":
                states.add(feature.name)
        return alone, states


def power(seed: int, *, runs: int, say: Callable[[str], None]) -> list[Power]:
    """Measure all scenarios and sizes."""
    found = []
    for rows, reference_rows in SIZES:
        scores = {(scenario, rule): Score() for scenario in SCENARIOS for rule in ("gateway", *RULES)}
        for run in range(runs):
            rng = np.random.default_rng([seed, 3, rows, run])
            drawn = _draw(rng, reference_rows)
            gateway, prepared = Gateway(drawn), prepare(drawn)
            for scenario in SCENARIOS:
                _judge_run(rng, scenario, prepared, gateway, rows, scores)
        say(f"seed {seed}: power at {rows} rows")
        found += [
            score.result(seed=seed, scenario=scenario, rule=rule, rows=rows)
            for (scenario, rule), score in scores.items()
        ]
    return found


def _judge_run(  # noqa: PLR0917 - one place calls it, with the names of its own variables
    rng: np.random.Generator,
    scenario: str,
    reference: Columns,
    gateway: Gateway,
    rows: int,
    scores: dict[tuple[str, str], Score],
) -> None:
    place, change = SCENARIOS[scenario]
    name = CHANGED[place]
    gateway.forget()
    for rule in ("gateway", *RULES):
        scores[scenario, rule].next_run()
    for number in range(1, WINDOWS + 1):
        window = _draw(rng, rows)
        window[name] = change(rng, window[name])
        alone, states = gateway.judge(window)
        scores[scenario, "gateway"].add(
            number, flagged=name in alone, others=bool(alone - {name}), found=name in states
        )
        columns = prepare(window)
        for rule, judge in RULES.items():
            flagged = judge(reference, columns)
            scores[scenario, rule].add(
                number, flagged=name in flagged, others=bool(flagged - {name}), found=name in flagged
            )


def _draw(rng: np.random.Generator, rows: int) -> dict[str, Array]:
    """Draw four features of each kind."""
    return {f"{kind.name} {number}": kind.draw(rng, rows) for kind in KINDS for number in range(4)}


def _is_flagged(verdict: FeatureVerdict) -> bool:
    return verdict.distribution == "drifted" or verdict.quality == "drifted"
