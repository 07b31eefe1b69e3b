"""Owns images/performance.png: one column for each cell, bars for the gateway, the yardstick and each peer at its best.

Never computes a figure that the page does not show.
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtests.bench.figures import spread
from loadtests.bench.performance import best, title
from loadtests.bench.report import P99, RATE, Metric
from loadtests.bench.results import CellResult, Run
from loadtests.bench.servers import GATEWAY, YARDSTICK

_INK = "#222222"
_COLORS = {GATEWAY: "#0072B2", YARDSTICK: "#E3E7EA"}
_OTHER_COLOR = "#B8C4CC"
_BAR_INCHES = 0.30
_HEAD_INCHES = 0.66
_PANELS: tuple[tuple[str, Metric], ...] = (
    ("requests per second, more is better", RATE),
    ("99th percentile latency in ms, less is better", P99),
)


def shown(run: Run, cell: CellResult) -> list[str]:
    """Return the servers that get a bar: ours, and of each peer the configuration with the most requests a second."""
    bests = {best(run, cell, peer.name, RATE) for peer in run.peers.values()}
    return [key for key in run.titles if key in cell.measurements and (key not in run.peers or key in bests)]


def draw(run: Run, file: Path) -> None:
    """Draw the medians of every cell with a line from the lowest to the highest round."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    bars = [len(shown(run, cell)) for cell in run.cells]
    bars_inches = _BAR_INCHES * sum(bars)
    height = 0.5 + _HEAD_INCHES * len(bars) + bars_inches
    figure = Figure(figsize=(11.0, height), dpi=150, facecolor="white")
    panels = figure.subplots(len(bars), len(_PANELS), squeeze=False, height_ratios=bars)
    for row, cell in zip(panels, run.cells, strict=True):
        for axes, (label, metric) in zip(row, _PANELS, strict=True):
            _draw_panel(axes, run, cell, metric)
            axes.set_title(label, loc="left", fontsize=8.5, color="#666666", pad=3)
        row[0].annotate(
            title(cell),
            (-0.6, 1),
            xytext=(0, 17),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=10.5,
            fontweight="bold",
            color=_INK,
        )
        row[1].set_yticklabels([])
    figure.text(
        0.012,
        0.1 / height,
        f"Median of {run.plan.rounds} rounds, line from the lowest to the highest; one core for each server. "
        f"{run.machine.processor}, {run.machine.at[:10]}, commit {run.machine.commit}.",
        fontsize=8,
        color="#666666",
    )
    figure.subplots_adjust(
        left=0.235,
        right=0.975,
        top=1 - 0.52 / height,
        bottom=0.42 / height,
        wspace=0.06,
        hspace=_HEAD_INCHES * len(bars) / bars_inches,
    )
    figure.savefig(file, metadata={"Software": None})


def _draw_panel(axes: Axes, run: Run, cell: CellResult, metric: Metric) -> None:
    keys = shown(run, cell)
    spreads = [spread([metric(one) for one in cell.measurements[key]]) for key in keys]
    positions = range(len(keys))
    medians = [found.median for found in spreads]
    axes.barh(
        positions,
        medians,
        height=0.66,
        color=[_COLORS.get(key, _OTHER_COLOR) for key in keys],
    )
    farthest = max(found.highest for found in spreads)
    for position, found in zip(positions, spreads, strict=True):
        axes.plot([found.lowest, found.highest], [position, position], color=_INK, linewidth=1)
        text = f"{found.median:,.0f}" if found.median >= 100 else f"{found.median:.2g}"
        axes.text(found.highest + farthest * 0.012, position, text, va="center", fontsize=8.5, color=_INK)
    axes.set_xlim(0, farthest * 1.14)
    axes.set_ylim(len(keys) - 0.45, -0.55)
    names = [f"{run.titles[key]} (no model)" if key == YARDSTICK else run.titles[key] for key in keys]
    axes.set_yticks(positions, names, fontsize=9, color=_INK)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color("#999999")
