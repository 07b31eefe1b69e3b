"""Routes to test with.

Never holds an expectation; those stand in the tests.
"""

from gateway.routing.published import PublishedRoute, next_content, published_route
from gateway.routing.route import Route, Shadow, Variant
from gateway.store.records import RouteRecord


def route_of(*weights_bp: int, shadows: tuple[Shadow, ...] = (), reason: str = "", name: str = "fraud") -> Route:
    """Build a route whose variants are called stable, b, c and so on, and serve versions 1, 2, 3 and so on."""
    names = ("stable", *"bcdefghijklmnopqrstuvwxyz")
    variants = tuple(
        Variant(name=names[index], model="fraud", version=index + 1, weight_bp=weight)
        for index, weight in enumerate(weights_bp)
    )
    return Route(name=name, variants=variants, shadows=shadows, reason=reason)


def publish(route: Route, current: PublishedRoute | None = None) -> PublishedRoute:
    """Make the revision that publishing `route` after `current` leads to."""
    content = next_content(route, current=current)
    return published_route(
        RouteRecord(
            name=route.name,
            epoch=1,
            revision=1 if current is None else current.revision + 1,
            content=content,
            hash=content.hash,
            action="put",
            actor="ana",
            reason=route.reason,
            at=1_700_000_000.0,
        )
    )
