"""Owns docs/monitoring-calibration.md: the tables, what they were measured on, and what the promises make of them.

Never measures: every figure comes from the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from scipy import stats

from loadtests.calibration.results import Calibration, ModelDays, NullRate, Power

CONFIDENCE = 0.99
ALARMS_A_DAY = 0.1

_INTRODUCTION = """
    Made by `python -m loadtests.calibration`; everything is drawn from seeds, and the same command makes the same
    figures again. Seeds {seeds}; {versions}; {minutes:.0f} minutes on one core of a busy machine.

    Rows are independent unless said otherwise. Counts of independent rows in the bins of a reference are multinomial,
    so null windows are drawn as counts, with the exact probabilities of the bins; what needs rows (correlated traffic,
    changes, other tools) draws rows and counts them with the gateway's own counter. Tests, null laws and rules are the
    gateway's own code throughout.
    """
_NULL_RATES = """
    How often a feature without drift has p ≤ α (before Benjamini-Hochberg), over {windows:,} windows for each of
    {references} fresh references. A two-sample test holds its level over references, not on each one, the less so the
    larger the window is beside the reference. So each cell gives the mean over references and, in brackets, the range
    of the middle nine tenths of them. The standard error of a mean comes from the spread of the references' rates.
    """
_BOUND = """
    Simultaneous bound: if every rate were its level or lower, all {cells} means would lie below level + {errors:.2f}
    standard errors with {confidence:.0%} probability (Bonferroni, one-sided). {verdict}
    """
_MODEL_DAYS = """
    The whole rule (tests, false discovery rate, effect floors, quality checks, two of three windows) on a model with 20
    features and 288 windows a day. An alarm is a feature that enters the state `drift`.

    Independent rows, four features of each kind, every day against a fresh reference of 10,000 rows:
    """
_RATE = """
    Alarms together: {alarms} in {days} model-days. With 95 % confidence the rate is below {upper:.3f} a day, {kept} the
    promised {promised:g}.
    """
_CORRELATED = """
    Rows that depend on the ones before them: AR(1) in each of 20 normal features, a reference of 20,000 independent
    rows. `iid` assumes independent rows and is wrong here; `calibrated` ranks each window against the 200 before that
    day, declared in control. Runs of extreme rows also show as `out_of_range`: alarms that only a quality check raised
    are counted apart.
    """
_POWER = """
    One of 20 features changes; {runs} runs (seeds {seeds} together), each with a fresh reference of 10,000 rows and
    {windows} windows after the change. The gateway says `drift` when two of the last three windows agree, so never
    after one; the other tools' default rules look at one batch at a time and say nothing of how batches combine, so
    here one flagged batch is a finding. In *no change* nothing changes, and every finding is a false alarm.

    The other tools' rules are written anew from their documentation, neither tool was run. Evidently: Wasserstein
    distance ≥ 0.1 σ, Jensen-Shannon distance ≥ 0.1, for references over 1,000 rows; nulls are dropped first.
    alibi-detect's TabularDrift: Kolmogorov-Smirnov and χ² at 0.05 with Bonferroni; a column with nulls has no p-value.
    Both let their users choose other tests and thresholds; these are the defaults.
    """


def render(found: Calibration) -> str:
    """Write the whole page in Markdown."""
    introduction = _prose(
        _INTRODUCTION,
        seeds=_listed({rate.seed for rate in found.null_rates}),
        versions=", ".join(f"{name} {version}" for name, version in found.versions.items()),
        minutes=found.took_s / 60,
    )
    parts = [
        "# How often the drift rules are wrong",
        introduction,
        "## False alarms of one feature in one window",
        *_null_rates(found.null_rates),
        "## Alarms of a model in a day without drift",
        *_model_days(found.model_days),
        "## How soon a change is found, and what other tools' default rules make of the same rows",
        *_power(found.power),
        "Every seed by itself is in `loadtests/calibration/results/latest.json`.",
    ]
    return "\n\n".join(parts) + "\n"


def bound(rates: Sequence[NullRate]) -> float:
    """Give the standard errors that all means together stay within, with 99 % probability if the rates are nominal."""
    return float(stats.norm.ppf(1 - (1 - CONFIDENCE) / len(rates)))


def is_within(rate: NullRate, errors: float) -> bool:
    """Say whether a rate is compatible with its level or lower."""
    return rate.mean <= rate.level + errors * rate.standard_error


# --- false alarms ---------------------------------------------------------------------------------------


def _null_rates(rates: list[NullRate]) -> list[str]:
    errors = bound(rates)
    outside = [
        f"{rate.kind}, {rate.rows} rows, α = {rate.level:g}, seed {rate.seed}: {_percent(rate.mean)}"
        for rate in rates
        if not is_within(rate, errors)
    ]
    verdict = f"Outside: {'; '.join(outside)}." if outside else "All are inside it."
    levels = sorted({rate.level for rate in rates}, reverse=True)
    return [
        _prose(_NULL_RATES, windows=rates[0].windows, references=rates[0].references),
        *(_null_table([rate for rate in rates if rate.level == level], level) for level in levels),
        _prose(_BOUND, cells=len(rates), errors=errors, confidence=CONFIDENCE, verdict=verdict),
        "![False alarms by kind, size and seed](images/calibration-false-alarms.png)",
    ]


def _null_table(rates: list[NullRate], level: float) -> str:
    seeds = sorted({rate.seed for rate in rates})
    rows = []
    for kind, size, reference in dict.fromkeys((rate.kind, rate.rows, rate.reference_rows) for rate in rates):
        cells = [
            f"{_percent(rate.mean)} ± {_percent(rate.standard_error)} [{_percent(rate.low)}, {_percent(rate.high)}]"
            for rate in sorted(rates, key=lambda rate: rate.seed)
            if (rate.kind, rate.rows) == (kind, size)
        ]
        rows.append([kind, f"{size:,}", f"{reference:,}", *cells])
    head = ["feature", "window rows", "reference rows", *(f"seed {seed}: mean ± SE [5 %, 95 %]" for seed in seeds)]
    return f"α = {100 * level:g} %\n\n" + _table(head, rows)


# --- model days -----------------------------------------------------------------------------------------


def _model_days(days: list[ModelDays]) -> list[str]:
    independent = [entry for entry in days if entry.traffic == "independent"]
    correlated = [entry for entry in days if entry.traffic != "independent"]
    total = sum(entry.days for entry in independent)
    alarms = sum(entry.alarms for entry in independent)
    upper = float(stats.chi2.ppf(0.95, 2 * (alarms + 1)) / 2 / total)
    kept = "below" if upper < ALARMS_A_DAY else "not shown to be below"
    return [
        _prose(_MODEL_DAYS),
        _days_table(independent),
        _prose(_RATE, alarms=alarms, days=total, upper=upper, kept=kept, promised=ALARMS_A_DAY),
        _prose(_CORRELATED),
        _days_table(correlated),
        "![Alarms in a day without drift](images/calibration-model-days.png)",
    ]


def _days_table(days: list[ModelDays]) -> str:
    rows = [
        [
            traffic_name(entry.traffic),
            f"{entry.rows:,}",
            entry.mode,
            f"{entry.seed}",
            f"{entry.days}",
            f"{entry.alarms / entry.days:.2f}",
            f"{entry.quality_alarms / entry.days:.2f}",
            _percent(entry.alarm_windows),
            _percent(entry.watch_windows),
        ]
        for entry in sorted(days, key=lambda entry: (entry.traffic, entry.rows, entry.mode != "iid", entry.seed))
    ]
    measured = ["model-days", "alarms a day", "of them by a quality check", "windows in drift", "in watch or drift"]
    return _table(["rows", "window rows", "mode", "seed", *measured], rows)


def traffic_name(traffic: str) -> str:
    """Name the traffic of a simulated day."""
    return traffic if traffic == "independent" else f"AR(1), ρ = {traffic}"


# --- power ----------------------------------------------------------------------------------------------


def _power(power: list[Power]) -> list[str]:
    runs = sum({entry.seed: entry.runs for entry in power}.values())
    seeds = _listed({entry.seed for entry in power})
    sizes = sorted({entry.rows for entry in power})
    return [
        _prose(_POWER, runs=runs, seeds=seeds, windows=power[0].windows // power[0].runs),
        *(
            table
            for rows in sizes
            for table in (
                f"### {rows:,} rows to a window",
                "Runs in which the change is found within three windows (and after how many, on average):",
                _power_table(power, rows, _found),
                "Windows in which the changed feature is flagged / in which any unchanged feature is:",
                _power_table(power, rows, _flagged),
            )
        ),
        "![Found within three windows, and unchanged features flagged](images/calibration-power.png)",
    ]


def pooled(power: Iterable[Power], scenario: str, rule: str, rows: int) -> Power:
    """Put the seeds of one cell together, weighted by their runs."""
    cells = [entry for entry in power if (entry.scenario, entry.rule, entry.rows) == (scenario, rule, rows)]
    weights = [cell.runs for cell in cells]
    delays = [cell.delay for cell in cells if cell.delay > 0]

    def mean(name: str) -> float:
        return float(np.average([getattr(cell, name) for cell in cells], weights=weights))

    return Power(
        seed=0,
        scenario=scenario,
        rule=rule,
        rows=rows,
        runs=sum(weights),
        windows=sum(cell.windows for cell in cells),
        window_rate=mean("window_rate"),
        other_rate=mean("other_rate"),
        within_three=mean("within_three"),
        delay=float(np.mean(delays)) if delays else 0.0,
    )


def _found(cell: Power) -> str:
    return _percent(cell.within_three) + (f" ({cell.delay:.1f})" if cell.delay else "")


def _flagged(cell: Power) -> str:
    return f"{_percent(cell.window_rate)} / {_percent(cell.other_rate)}"


def _power_table(power: list[Power], rows: int, shown: Callable[[Power], str]) -> str:
    rules = list(dict.fromkeys(entry.rule for entry in power))
    lines = [
        [scenario, *(shown(pooled(power, scenario, rule, rows)) for rule in rules)]
        for scenario in dict.fromkeys(entry.scenario for entry in power)
    ]
    return _table(["change", *rules], lines)


# --- small things ---------------------------------------------------------------------------------------


def _prose(text: str, **facts: object) -> str:
    """Fill in the facts, and put each paragraph on one line."""
    paragraphs = text.format(**facts).strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rows))


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
