"""Owns the plots of docs/monitoring-calibration.md.

Never computes a figure that the page does not show.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.calibration.report import pooled, traffic_name
from loadtests.calibration.results import Calibration, ModelDays, NullRate

# Okabe and Ito's colours, told apart by colour-blind readers; the shapes differ as well, for print.
_MARKS = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"))
_INK, _FAINT = "#222222", "#E4E4E4"
_SOFTWARE = {"Software": "matplotlib"}


def draw(found: Calibration, folder: Path) -> None:
    """Draw all three into a folder."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in {
        "false-alarms": _false_alarms(found.null_rates),
        "model-days": _model_days(found.model_days),
        "power": _power(found),
    }.items():
        # Without the version of the library the same figures give the same bytes for longer.
        figure.savefig(folder / f"calibration-{name}.png", bbox_inches="tight", metadata=_SOFTWARE)


def _false_alarms(rates: list[NullRate]) -> Figure:
    figure = Figure(figsize=(11, 4.6), dpi=110, facecolor="white")
    cells = list(dict.fromkeys((rate.kind, rate.rows) for rate in rates))
    kinds = list(dict.fromkeys(kind for kind, _ in cells))
    cells.sort(key=lambda cell: (kinds.index(cell[0]), cell[1]))
    for axes, level in zip(figure.subplots(1, 2, sharey=True), (0.05, 0.01), strict=True):
        for position, (kind, rows) in enumerate(cells):
            here = [rate for rate in rates if (rate.kind, rate.rows, rate.level) == (kind, rows, level)]
            for number, rate in enumerate(sorted(here, key=lambda rate: rate.seed)):
                colour, shape = _MARKS[number % len(_MARKS)]
                place = position + 0.22 * (number - 1)
                axes.plot([100 * rate.low, 100 * rate.high], [place, place], color=colour, linewidth=1.1, alpha=0.55)
                axes.plot(
                    100 * rate.mean,
                    place,
                    shape,
                    color=colour,
                    markersize=4.5,
                    label=f"seed {rate.seed}" if position == 0 else None,
                )
        axes.axvline(100 * level, color=_INK, linewidth=1, linestyle="--")
        axes.set_xlim(left=0)
        _style(axes, f"α = {100 * level:g} %", "false alarms, % (mean, and 5–95 % over references)")
    first = figure.axes[0]
    first.set_yticks(range(len(cells)), [f"{kind}, {rows:,} rows" for kind, rows in cells], fontsize=8.5)
    first.invert_yaxis()
    first.legend(fontsize=8, frameon=False, loc="lower right")
    figure.tight_layout()
    return figure


def _model_days(days: list[ModelDays]) -> Figure:
    figure = Figure(figsize=(9.5, 4.0), dpi=110, facecolor="white")
    axes = figure.subplots()
    groups = list(dict.fromkeys((entry.traffic, entry.rows, entry.mode) for entry in days))
    groups.sort(key=lambda group: (group[0] != "independent", group[0], group[1], group[2] != "iid"))
    for position, group in enumerate(groups):
        here = [entry for entry in days if (entry.traffic, entry.rows, entry.mode) == group]
        for number, entry in enumerate(sorted(here, key=lambda entry: entry.seed)):
            colour, shape = _MARKS[number % len(_MARKS)]
            axes.plot(
                entry.alarms / entry.days,
                position + 0.15 * (number - 1),
                shape,
                color=colour,
                markersize=5.5,
                label=f"seed {entry.seed}" if position == 0 else None,
            )
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xlim(left=-0.005)
    axes.axvline(0.1, color=_INK, linewidth=1, linestyle="--")
    labels = [f"{traffic_name(traffic)}, {rows:,} rows, {mode}" for traffic, rows, mode in groups]
    axes.set_yticks(range(len(groups)), labels, fontsize=8.5)
    axes.invert_yaxis()
    axes.legend(fontsize=8, frameon=False, loc="center")
    _style(axes, "Alarms in a day without drift, 20 features, 288 windows", "alarms a day (linear below 0.1)")
    figure.tight_layout()
    return figure


def _power(found: Calibration) -> Figure:
    figure = Figure(figsize=(11, 6.4), dpi=110, facecolor="white")
    scenarios = list(dict.fromkeys(entry.scenario for entry in found.power))
    rules = list(dict.fromkeys(entry.rule for entry in found.power))
    sizes = sorted({entry.rows for entry in found.power})
    for axes_pair, rows in zip(figure.subplots(2, 2, sharex=True, sharey=True), sizes, strict=True):
        for axes, value, title in zip(
            axes_pair,
            ("within_three", "other_rate"),
            ("found within 3 windows", "unchanged features flagged"),
            strict=True,
        ):
            for number, rule in enumerate(rules):
                colour, shape = _MARKS[number % len(_MARKS)]
                shares = [getattr(pooled(found.power, scenario, rule, rows), value) for scenario in scenarios]
                axes.plot(
                    100 * np.array(shares),
                    np.arange(len(scenarios)) + 0.24 * (number - 1),
                    shape,
                    color=colour,
                    markersize=5,
                    label=rule,
                )
            _style(axes, f"{title}, {rows:,} rows", "% of runs" if value == "within_three" else "% of windows")
            axes.set_yticks(range(len(scenarios)), scenarios, fontsize=8)
    first = figure.axes[0]
    first.invert_yaxis()
    first.set_xlim(-3, 103)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    figure.legend(*first.get_legend_handles_labels(), fontsize=9, frameon=False, loc="upper center", ncols=len(rules))
    return figure


def _style(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=_INK)
    axes.set_xlabel(label, fontsize=8.5, color=_INK)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
