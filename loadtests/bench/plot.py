"""Owns bench.png: one row for each cell, one mark for each server, three panels that share the rows.

Never computes a figure that the report does not show.
"""

import itertools
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from loadtests.bench.figures import spread
from loadtests.bench.report import CPU, P99, RATE, Metric
from loadtests.bench.results import CellResult, Run
from loadtests.bench.servers import YARDSTICK

# Okabe and Ito's colours, told apart by colour-blind readers; the shapes differ as well, for print.
_YARDSTICK_MARK = ("#555555", "|")
_MARKS = (
    ("#0072B2", "o"),
    ("#E69F00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#D55E00", "v"),
    ("#56B4E9", "P"),
    ("#F0E442", "X"),
    ("#999999", "h"),
    ("#222222", "*"),
)
_INK = "#222222"
_FAINT = "#E4E4E4"
_ROW_INCHES = 0.30
_LEGEND_COLUMNS = 5
_LEGEND_ROW_INCHES = 0.24
_MANY_DECADES = 150  # wider axes have room for two ticks in each decade, narrower ones for three
_PANELS: tuple[tuple[str, str, Metric], ...] = (
    ("Requests per second", "more is better →", RATE),
    ("99th percentile latency, ms", "← less is better", P99),
    ("Server CPU, ms per 1,000 requests", "← less is better", CPU),
)


def draw(run: Run, file: Path) -> None:
    """Draw the medians of every cell on logarithmic axes, with a line from the lowest to the highest round."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    mpl.rcParams["svg.hashsalt"] = "bench"
    positions, groups = _rows(run.cells)
    depth = max(positions) + 1
    legend_rows = -(-len(run.titles) // _LEGEND_COLUMNS)
    top = 0.81 + _LEGEND_ROW_INCHES * legend_rows
    height = 0.95 + top + _ROW_INCHES * depth
    figure = Figure(figsize=(12.5, height), dpi=150, facecolor="white")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (title, direction, metric) in zip(panels, _PANELS, strict=True):
        _draw_panel(axes, run, positions, metric)
        axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=_INK, pad=20)
        axes.text(0, 1, direction, transform=axes.transAxes, fontsize=8.5, color="#666666", va="bottom")
    first = panels[0]
    first.set_ylim(depth - 0.4, -0.7)
    first.set_yticks(positions, [_connections(cell) for cell in run.cells], fontsize=9, color=_INK)
    for label, position in groups:
        first.text(
            -0.02,
            position,
            label,
            transform=first.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=9.5,
            fontweight="bold",
            color=_INK,
        )
    handles = [
        Line2D([], [], color=color, marker=shape, linestyle="", markersize=8, markeredgewidth=_edge(shape), label=title)
        for (color, shape), title in zip(_marks(run).values(), run.titles.values(), strict=True)
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.012, 1 - 0.12 / height),
        ncols=min(len(handles), _LEGEND_COLUMNS),
        frameon=False,
        fontsize=10,
        handletextpad=0.3,
        columnspacing=1.8,
    )
    figure.text(
        0.018,
        0.12 / height,
        f"Median of {run.plan.rounds} rounds, thin line from the lowest to the highest. {run.machine.processor}, "
        f"server cores: {len(run.plan.server_cores)}; {run.machine.at[:10]}, commit {run.machine.commit}.",
        fontsize=8,
        color="#666666",
    )
    figure.subplots_adjust(left=0.155, right=0.985, top=1 - top / height, bottom=0.62 / height, wspace=0.07)
    figure.savefig(file, metadata={"Software": None})


def _marks(run: Run) -> dict[str, tuple[str, str]]:
    """Give every server a colour and a shape; the yardstick is always the same grey bar."""
    others = itertools.cycle(_MARKS)
    return {key: _YARDSTICK_MARK if key == YARDSTICK else next(others) for key in run.titles}


def _rows(cells: list[CellResult]) -> tuple[list[float], list[tuple[str, float]]]:
    """Place one row for each cell, with a heading row above each body; return the rows and the headings."""
    positions: list[float] = []
    headings: list[tuple[str, float]] = []
    row = 0.0
    last = ""
    for cell in cells:
        rows = "" if cell.rows == 1 else f" ×{cell.rows}"
        label = f"{cell.body}{rows}, {cell.encoding}"
        if label != last:
            headings.append((label, row))
            row += 1
            last = label
        positions.append(row)
        row += 1
    return positions, headings


def _draw_panel(axes: Axes, run: Run, positions: list[float], metric: Metric) -> None:
    axes.set_xscale("log")
    # Backwards, so that the first server lies on top where marks meet.
    for key, (color, shape) in reversed(_marks(run).items()):
        for cell, position in zip(run.cells, positions, strict=True):
            if key not in cell.measurements:
                continue
            found = spread([metric(one) for one in cell.measurements[key]])
            axes.plot([found.lowest, found.highest], [position, position], color=color, linewidth=1.2, zorder=2)
            axes.plot(
                [found.median],
                [position],
                color=color,
                marker=shape,
                markersize=11 if shape == "|" else 6.5,
                markeredgewidth=_edge(shape),
                zorder=3,
            )
    axes.set_axisbelow(True)
    axes.hlines(positions, 0, 1, transform=axes.get_yaxis_transform(), color=_FAINT, linewidth=0.8, zorder=0)
    axes.grid(visible=True, axis="x", which="major", color="#CFCFCF", linewidth=0.7)
    lowest, highest = axes.get_xlim()
    steps = (1.0, 3.0) if highest / lowest > _MANY_DECADES else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=9, colors=_INK, length=0, which="both")
    axes.tick_params(axis="y", length=0)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#999999")


def _connections(cell: CellResult) -> str:
    return "1 connection" if cell.connections == 1 else f"{cell.connections} connections"


def _edge(shape: str) -> float:
    return 2.4 if shape == "|" else 0.0
