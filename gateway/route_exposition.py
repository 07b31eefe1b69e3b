"""The series of the routes: what of the route plane a scrape reads.

Declares none and counts nothing; weights and revisions are the data plane's to tell.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.routeplane import RoutePlane
from gateway.telemetry.metrics import Labels, Metrics

Samples = list[tuple[Labels, float]]


def expose_routes(routeplane: RoutePlane, metrics: Metrics, *, windows_up: Callable[[], Samples]) -> None:
    """Have every scrape read the route plane.

    Args:
        windows_up: What the store of the windows says of itself; `store_up` is 0 when either store is away.
    """

    def store_up() -> Samples:
        return [((), float(routeplane.is_store_reached and all(value for _, value in windows_up())))]

    metrics.gauge("store_up", store_up)
    metrics.gauge(
        "route_applied", lambda: [((name,), float(route.applied)) for name, route in routeplane.own_report().items()]
    )
    metrics.gauge(
        "route_store_regressed",
        lambda: [((name,), float(name in routeplane.regressed)) for name in routeplane.own_report()],
    )
