"""The admin plane's call that compares what the variants of a route predict.

Measures nothing: the monitor does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.errors import InvalidReference, UnknownRoute
from gateway.messages import ModelVersion
from gateway.monitoring.bins import Category
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.prediction_comparison import ComparisonReport, VariantPrediction
from gateway.monitoring.report import NO_REFERENCE
from gateway.routing.published import PublishedRoute

RoutesInForce = Callable[[], Mapping[str, PublishedRoute]]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The latest complete buckets, as many as a window has: RFC 3339 bounds."""

    start: str
    end: str


class NamedPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """What one variant predicts.

    Attributes:
        counts: Rows per bin of the first variant's reference, or per listed value and then all others.
        p_value, statistics: Against the first variant; null for the first itself.
    """

    variant: str
    model: str
    version: int
    rows: int
    counts: list[int]
    p_value: float
    statistics: dict[str, float]


class PredictionOfAll(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction, of every variant.

    Attributes:
        edges: Inner edges of a numeric prediction's bins.
        values: Listed values of a categorical prediction.
    """

    name: str
    kind: str
    edges: list[float]
    values: list[Category]
    variants: list[NamedPrediction]


class RouteComparison(msgspec.Struct, frozen=True, kw_only=True):
    """The predictions of a route's variants, the first variant first.

    Attributes:
        reason: Why there is nothing to compare; else empty.
    """

    route: str
    revision: int
    window: Window | None
    predictions: list[PredictionOfAll]
    reason: str


def comparison_calls(monitor: Monitor, routes: RoutesInForce) -> list[BaseRoute]:
    """List the call."""

    async def comparison(request: Request) -> Response:
        name = request.path_params["route"]
        published = routes().get(name)
        if published is None:
            raise UnknownRoute(f"no route '{name[:100]}' is served here")
        # msgspec writes NaN as null.
        body = msgspec.json.encode(await _compared(monitor, published))
        return Response(body, media_type="application/json")

    return [Route("/admin/v1/routes/{route}/comparison", comparison)]


def pairs_to_compare(routes: Iterable[PublishedRoute]) -> list[tuple[ModelVersion, ModelVersion]]:
    """List whose predictions are counted on whose edges: every variant's on those of its route's first."""
    return [
        (variant.model_version, published.route.variants[0].model_version)
        for published in routes
        for variant in published.route.variants[1:]
    ]


async def _compared(monitor: Monitor, published: PublishedRoute) -> RouteComparison:
    variants = published.route.variants
    names = {variant.model_version: variant.name for variant in reversed(variants)}
    first, *others = (variant.model_version for variant in variants)
    try:
        found = await monitor.comparison(first, list(dict.fromkeys(others)))
    except InvalidReference:
        found = None
    return RouteComparison(
        route=published.route.name,
        revision=published.revision,
        window=Window(start=found.start, end=found.end) if found else None,
        predictions=_predictions(found, names) if found else [],
        reason="" if found else f"{first}, the first variant: {NO_REFERENCE}",
    )


def _predictions(found: ComparisonReport, names: Mapping[ModelVersion, str]) -> list[PredictionOfAll]:
    return [
        PredictionOfAll(
            name=prediction.name,
            kind=prediction.kind,
            edges=prediction.edges,
            values=prediction.values,
            variants=[_named(one, names) for one in prediction.variants],
        )
        for prediction in found.predictions
    ]


def _named(one: VariantPrediction, names: Mapping[ModelVersion, str]) -> NamedPrediction:
    return NamedPrediction(
        variant=names[ModelVersion(one.model, one.version)],
        model=one.model,
        version=one.version,
        rows=one.rows,
        counts=one.counts,
        p_value=one.p_value,
        statistics=one.statistics,
    )
