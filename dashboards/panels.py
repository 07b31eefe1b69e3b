"""How a panel of these dashboards looks: a unit, a description that says what to do, and a link to the runbook.

Names no series: what is shown stands in the dashboards' own files.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from grafana_foundation_sdk.builders import common as build
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from dashboards.runbook import section_link

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#808080"
Steps = Sequence[tuple[float, str]]
"""From which value on which colour; below the first it is green."""

Panel = Builder[dashboard.Panel]

P = TypeVar("P", stat.Panel, timeseries.Panel, statetimeline.Panel, table.Panel, heatmap.Panel)


@dataclass(frozen=True, slots=True)
class Query:
    """An expression and what its series are called: `{{label}}` is replaced."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is written on a panel.

    Attributes:
        says: What it shows, and what to do about it.
        alert: The alert whose runbook section goes on from here.
    """

    title: str
    says: str
    alert: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table, one value for each row's labels."""

    title: str
    expression: str
    unit: str
    steps: Steps = ()
    names: Mapping[int, tuple[str, str]] | None = None


DRIFT_STATES = {0: ("ok", GREEN), 1: ("insufficient", BLUE), 2: ("watch", YELLOW), 3: ("drift", RED)}
VERSION_STATES = {
    0: ("UNLOADED", GREY),
    1: ("READY", GREEN),
    2: ("DRAINING", BLUE),
    3: ("LOADING", YELLOW),
    4: ("FAILED", RED),
}
YES_IS_BAD = {0: ("no", GREEN), 1: ("yes", RED)}
NO_IS_BAD = {0: ("no", RED), 1: ("yes", GREEN)}


def number(words: Words, query: Query, *, unit: str, steps: Steps = (), trend: bool = True) -> Panel:
    """Show one number, large, coloured by its thresholds; with its trend behind it."""
    panel = _described(stat.Panel(), words, unit, steps).span(4).height(4)
    panel.with_target(_range(query, "A") if trend else _range(query, "A").instant())
    panel.graph_mode(common.BigValueGraphMode.AREA if trend else common.BigValueGraphMode.NONE)
    panel.color_mode(common.BigValueColorMode.BACKGROUND if steps else common.BigValueColorMode.NONE)
    return panel.reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]))


def lines(
    words: Words,
    *queries: Query,
    unit: str,
    steps: Steps = (),
    width: int = 8,
    most: float | None = None,
    log: bool = False,
    stack: Literal["normal", "percent"] | None = None,
    dashed: str = "",
) -> Panel:
    """Show series over time.

    Args:
        steps: Drawn as dashed lines.
        most: Upper end of the axis.
        log: Whether the axis is logarithmic.
        stack: Add the series up, or show their shares of the sum.
        dashed: Regular expression of the series that are drawn dashed and in steps: what ought to be, beside what is.
    """
    panel = _described(timeseries.Panel(), words, unit, steps).span(width).height(8)
    for letter, query in zip(string.ascii_uppercase, queries, strict=False):
        panel.with_target(_range(query, letter))
    panel.color_scheme(board.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    panel.line_width(1).fill_opacity(25 if stack else 5).show_points(common.VisibilityMode.NEVER)
    panel.tooltip(build.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    legend = build.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.TABLE)
    panel.legend(legend.placement(common.LegendPlacement.BOTTOM).calcs(["lastNotNull", "max"]))
    if log:
        scale = build.ScaleDistributionConfig().type(common.ScaleDistribution.LOG).log(10)
        panel.scale_distribution(scale)
    else:
        panel.min(0)
    if most is not None:
        panel.max(most)
    if steps:
        style = common.GraphTresholdsStyleMode.DASHED
        panel.thresholds_style(build.GraphThresholdsStyleConfig().mode(style))
    if stack:
        panel.stacking(build.StackingConfig().mode(common.StackingMode(stack)).group("A"))
    if dashed:
        style_of_line = {"fill": "dash", "dash": [8, 6]}
        panel.override_by_regexp(
            dashed,
            [
                dashboard.DynamicConfigValue("custom.lineStyle", style_of_line),
                dashboard.DynamicConfigValue("custom.lineInterpolation", "stepAfter"),
                dashboard.DynamicConfigValue("custom.fillOpacity", 0),
            ],
        )
    return panel


def timeline(
    words: Words, *queries: Query, names: Mapping[int, tuple[str, str]], width: int = 24, height: int = 8
) -> Panel:
    """Show which state each series was in, a bar each.

    Args:
        names: Of the states by number, each with its colour.
    """
    panel = _described(statetimeline.Panel(), words, "none", ()).span(width).height(height)
    for letter, query in zip(string.ascii_uppercase, queries, strict=False):
        panel.with_target(_range(query, letter))
    panel.mappings([_mapping(names)]).merge_values(True).row_height(0.85).line_width(0).fill_opacity(80)
    panel.show_value(common.VisibilityMode.NEVER)
    legend = build.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST)
    return panel.legend(legend.placement(common.LegendPlacement.BOTTOM).calcs([]))


def grid(
    words: Words,
    *columns: Column,
    rows: Sequence[str],
    sort: str,
    opens: Mapping[str, tuple[str, Sequence[str]]] | None = None,
    width: int = 24,
    height: int = 9,
) -> Panel:
    """Show a table: a row for each combination of the labels `rows`, a column for each expression, worst on top.

    Args:
        rows: Labels, each a column of its own before the others.
        sort: Title of the column that orders it, largest first.
        opens: Dashboard that a click on such a label opens, and the labels of the row that are chosen there.
    """
    panel = _described(table.Panel(), words, "none", ()).span(width).height(height)
    names = {label: label for label in rows}
    for letter, column in zip(string.ascii_uppercase, columns, strict=False):
        query = _range(Query(column.expression), letter).instant().format(PromQueryFormat.TABLE)
        panel.with_target(query)
        names[f"Value #{letter}" if len(columns) > 1 else "Value"] = column.title
        panel.override_by_name(column.title, _cell(column))
    for label, (uid, chosen) in (opens or {}).items():
        parameters = [*(f"var-{one}=${{__data.fields.{one}}}" for one in chosen), "${__url_time_range}"]
        link = {"title": f"Open {uid}", "url": f"/d/{uid}?{'&'.join(parameters)}"}
        panel.override_by_name(label, [dashboard.DynamicConfigValue("links", [link])])
    order = {name: position for position, name in enumerate(names)}
    panel.with_transformation(dashboard.DataTransformerConfig("merge", options={}))
    panel.with_transformation(
        dashboard.DataTransformerConfig("filterFieldsByName", options={"include": {"names": list(names)}})
    )
    renamed = {name: title for name, title in names.items() if name != title}
    organize = {"excludeByName": {}, "indexByName": order, "renameByName": renamed}
    panel.with_transformation(dashboard.DataTransformerConfig("organize", options=organize))
    return panel.sort_by([build.TableSortByFieldState().display_name(sort).desc(True)]).show_header(True)


def heat(words: Words, query: Query, *, unit: str, width: int = 8) -> Panel:
    """Show how a histogram's buckets fill over time; the query sums by le."""
    panel = _described(heatmap.Panel(), words, unit, ()).span(width).height(8)
    panel.with_target(_range(query, "A").format(PromQueryFormat.HEATMAP))
    panel.scale_distribution(build.ScaleDistributionConfig().type(common.ScaleDistribution.LINEAR))
    panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64).exponent(0.5))
    return panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit)).cell_gap(1).show_tooltip().hide_y_histogram()


def prose(title: str, markdown: str) -> Panel:
    """Show text over the whole width; taller the longer it is."""
    panel = text.Panel().title(title).description("The same section of docs/runbook.md.").span(24)
    return panel.height(max(6, 2 + len(markdown.splitlines()) * 3 // 4)).content(markdown)


def _described(panel: P, words: Words, unit: str, steps: Steps) -> P:
    described = panel.title(words.title).description(words.says).datasource(SOURCE).unit(unit)
    described.links([section_link(words.alert)])
    colours = [dashboard.Threshold(None, GREEN), *(dashboard.Threshold(value, colour) for value, colour in steps)]
    limits = board.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(colours)
    return described.thresholds(limits)


def _range(query: Query, letter: str) -> prometheus.Dataquery:
    found = prometheus.Dataquery().expr(query.expression).ref_id(letter).range().editor_mode(QueryEditorMode.CODE)
    return found.datasource(SOURCE).legend_format(query.legend or "__auto")


def _mapping(names: Mapping[int, tuple[str, str]]) -> dashboard.ValueMap:
    results = {
        str(value): dashboard.ValueMappingResult(text=name, color=colour, index=position)
        for position, (value, (name, colour)) in enumerate(names.items())
    }
    return dashboard.ValueMap(results)


def _cell(column: Column) -> list[dashboard.DynamicConfigValue]:
    looks = [dashboard.DynamicConfigValue("unit", column.unit)]
    if column.names:
        looks.append(dashboard.DynamicConfigValue("mappings", [_mapping(column.names)]))
    if column.steps:
        steps: list[dict[str, object]] = [{"value": None, "color": "transparent"}]
        steps += [{"value": value, "color": colour} for value, colour in column.steps]
        looks.append(dashboard.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}))
    if column.names or column.steps:
        looks.append(dashboard.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"}))
    return looks
