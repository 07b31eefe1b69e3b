"""What all dashboards have in common: variables, annotations, links to each other, and ids and places of panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard

from dashboards.panels import SOURCE, Panel

TAG = "onnx-gateway"
ROUTE = 'route=~"$route", instance=~"$replica"'
VERSION = 'model=~"$model", version=~"$version", instance=~"$replica"'
ANSWER = 'route=~"$route", model=~"$model", version=~"$version", instance=~"$replica"'
SHARED = 'model=~"$model", version=~"$version"'
"""Of what all replicas export with the same value, and of recorded series: no replica to choose."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Choice:
    """A variable: one or several values of a label, or all."""

    name: str
    label: str
    query: str


CHOICES = (
    Choice("route", "Route", "label_values(gateway_route_revision, route)"),
    Choice("model", "Model", "label_values(gateway_model_version_state, model)"),
    Choice("version", "Version", 'label_values(gateway_model_version_state{model=~"$model"}, version)'),
    Choice("replica", "Replica", "label_values(gateway_build_info, instance)"),
)


class PrometheusAnnotation(dashboard.AnnotationQuery):
    """A mark in time for each point of a query, with the title that Grafana's Prometheus plugin reads beside it."""

    def __init__(self, name: str, expression: str, title: str, colour: str) -> None:
        super().__init__(name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=expression)
        self._title = title

    def to_json(self) -> dict[str, object]:
        """Add what the SDK's type does not have."""
        return super().to_json() | {"step": "15s", "titleFormat": self._title}


def compose(
    uid: str, title: str, says: str, sections: Sequence[Section], *, choices: Sequence[Choice] = ()
) -> dashboard.Dashboard:
    """Put a dashboard together: sections from top to bottom, panels from left to right, ids in that order.

    Args:
        choices: Variables beyond those that all dashboards have.
    """
    made = board.Dashboard(title).uid(uid).description(says).tags([TAG]).timezone("browser").readonly()
    made.time("now-1h", "now").refresh("10s").tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    made.variables([_source(), *map(_variable, (*CHOICES, *choices))])
    others = board.DashboardLink("ONNX gateway").type(dashboard.DashboardLinkType.DASHBOARDS)
    made.link(others.tags([TAG]).as_dropdown(False).include_vars(True).keep_time(True))
    for section in sections:
        made.with_row(board.Row(section.title))
        for panel in section.panels:
            made.with_panel(panel)
    whole = made.build()
    whole.annotations = dashboard.AnnotationContainer([REVISIONS, ALERTS])
    for number, placed in enumerate(whole.panels or [], 1):
        placed.id_val = number
    return whole


REVISIONS = PrometheusAnnotation(
    "Revisions",
    'max by (route) (changes(gateway_route_revision{route=~"$route"}[1m])) > 0',
    "{{route}}: new revision",
    "blue",
)
ALERTS = PrometheusAnnotation(
    "Alerts",
    'max by (alertname) (ALERTS{alertname=~"Gateway.*", alertstate="firing", severity="page"}) > 0',
    "{{alertname}}",
    "red",
)


def _source() -> Builder[dashboard.VariableModel]:
    return board.DatasourceVariable("datasource").label("Data source").type("prometheus").multi(False)


def _variable(choice: Choice) -> Builder[dashboard.VariableModel]:
    """Offer the values of a label; All is `.*`, which takes what has no such label too: pinned traffic has no route."""
    everything = dashboard.VariableOption(selected=True, text="All", value="$__all")
    made = board.QueryVariable(choice.name).label(choice.label).datasource(SOURCE)
    made.query({"query": choice.query, "refId": choice.name})
    made.multi(True).include_all(True).all_value(".*").current(everything)
    return made.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(dashboard.VariableSort.ALPHABETICAL_ASC)
