"""A route as a replica has heard of it: told by the store, standing for nobody's decision, or aborted here.

Pure; never judges whether it can be served (`routes_in_force.py`).
"""

from __future__ import annotations

import msgspec

from gateway.errors import UnreadableRevision
from gateway.local_aborts import LocalAbort
from gateway.messages import ModelVersion
from gateway.routing.edits import apply_abort
from gateway.routing.published import PublishedRoute, next_content, published_route
from gateway.routing.route import Route, automatic_route
from gateway.store.records import Action, Content, RouteRecord

GATEWAY_ACTOR = "gateway"
"""Who makes automatic and configured routes."""

UNSTORED_EPOCH = 0
"""Epoch of a route that is served though the store does not hold it (yet); no store ever gives it."""


class Standing(msgspec.Struct, frozen=True):
    """A route that nobody decided: a model's own, or one of gateway.toml."""

    route: Route
    action: Action

    @property
    def content(self) -> Content:
        """What the store shall hold of it."""
        return next_content(self.route, current=None)


class Told(msgspec.Struct, frozen=True):
    """A record of the store, read once: routes are judged whenever a version comes or goes.

    Attributes:
        route: None where this release cannot read it; then `fault` says why.
        automatic: The version to which it leads if nobody decided it.
    """

    record: RouteRecord
    route: PublishedRoute | None
    fault: str
    automatic: ModelVersion | None

    @classmethod
    def of(cls, record: RouteRecord) -> Told:
        """Read a record that is not deleted."""
        try:
            route = published_route(record)
        except UnreadableRevision as exc:
            return cls(record, None, str(exc), None)
        # A route that was given back to a forgetful store says "seed"; its author is still the one who made it.
        is_unasked = record.revision == 1 and record.actor == GATEWAY_ACTOR and record.action in ("automatic", "seed")
        return cls(record, route, "", automatic_version(route.route) if is_unasked else None)


def automatic_version(route: Route) -> ModelVersion | None:
    """Tell to which version a model's own route leads; None for any other route."""
    first = route.variants[0]
    is_own = msgspec.structs.replace(route, reason="") == automatic_route(route.name, first.version)
    return first.model_version if is_own else None


def unstored_route(standing: Standing) -> PublishedRoute:
    """Make the snapshot of a route that the store does not hold (yet): what it will be when the store takes it."""
    content = standing.content
    return published_route(
        RouteRecord(
            name=standing.route.name,
            epoch=UNSTORED_EPOCH,
            revision=1,
            content=content,
            hash=content.hash,
            action=standing.action,
            actor=GATEWAY_ACTOR,
            reason=standing.route.reason,
            at=0.0,
        )
    )


def aborted(route: PublishedRoute, abort: LocalAbort) -> PublishedRoute:
    """Make the snapshot that a replica serves after an abort that no store has taken; its revision stays."""
    changed = apply_abort(route.route, shadows=abort.removes_shadows, reason=abort.reason)
    content = next_content(changed, current=route)
    return published_route(
        RouteRecord(
            name=changed.name,
            epoch=route.epoch,
            revision=route.revision,
            content=content,
            hash=content.hash,
            action="abort",
            actor=abort.actor,
            reason=abort.reason,
            at=route.at,
        )
    )
