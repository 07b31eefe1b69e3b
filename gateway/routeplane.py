"""How routes change: performs operators' changes by compare-and-set, and owns what this replica serves.

Answers no predictions and loads no version. What a route asks of this replica is in `route_fitness.py`, what is served
under a name in `routes_in_force.py`, what happens unasked in `route_upkeep.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from gateway.errors import (
    InvalidRoute,
    PreconditionRequired,
    StoreRegressed,
    StoreUnavailable,
    UnknownRoute,
    UnreadableRevision,
)
from gateway.heard_routes import UNSTORED_EPOCH
from gateway.inference.registry import Registry
from gateway.local_aborts import KeptAborts
from gateway.messages import ModelVersion
from gateway.route_fitness import fitness_faults, is_ready, why_not_ready
from gateway.route_upkeep import RouteUpkeep
from gateway.route_writer import Actor, RouteWriter, Stored, Wanted, patience
from gateway.routes_in_force import RoutesInForce
from gateway.routing.document import parse_route, pointer_to
from gateway.routing.edits import apply_abort, apply_shift, changes
from gateway.routing.published import PublishedRoute, moved_share_bp, published_route
from gateway.routing.route import Route, percent
from gateway.store.interface import Store
from gateway.store.records import (
    AppliedRoute,
    AuditRecord,
    ReplicaReport,
    RouteRecord,
    Written,
)

__all__ = ["Actor", "Changed", "RoutePlane", "Validation"]

Publish = Callable[[Mapping[str, PublishedRoute]], None]


class Changed(msgspec.Struct, frozen=True):
    """The route as it now stands, and what the change made of it."""

    route: PublishedRoute
    is_new_revision: bool
    is_created: bool = False


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """What a `put` of the same document would do.

    Attributes:
        errors: Every fault, as (JSON pointer into the document, words).
        moved_percent: Share of keys that would get another variant, of a route that exists.
        changes: The difference to what is there, as `{"pointer", "from", "to"}`.
    """

    valid: bool
    errors: tuple[tuple[str, str], ...] = ()
    moved_percent: int | float = 0
    changes: tuple[Mapping[str, object], ...] = ()


class RoutePlane:
    """The one owner of routes on this replica.

    Args:
        store: Open while this is started.
        publish: The data plane's, told what is served after every change.
        configured: Routes of gateway.toml, made where the store has none of their name.
        replica_id: Tells this replica from the others.
        admin_url: Where its admin plane is reached.
        aborts_path: File that keeps aborts which the store has not taken; None keeps them in memory.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        publish: Publish,
        *,
        configured: Mapping[str, Route] | None = None,
        replica_id: str = "gateway",
        admin_url: str = "",
        aborts_path: Path | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._routes = RoutesInForce(registry, publish, configured=configured)
        report = ReplicaReport(id=replica_id, admin=admin_url, routes={})
        self._upkeep = RouteUpkeep(store, self._routes, report, KeptAborts(aborts_path))
        self._writer = RouteWriter(store)

    async def start(self) -> None:
        """Begin to follow the store; what it holds is in force when this returns, if it answers."""
        await self._upkeep.start()

    async def stop(self) -> None:
        """End every task."""
        await self._upkeep.stop()

    @property
    def is_store_reached(self) -> bool:
        """Whether the store's last word was an answer."""
        return self._upkeep.is_reached

    # --- for whoever loads versions -----------------------------------------------------------------

    def review(self, settled: frozenset[str], *, is_scanned: bool) -> None:
        """Look at every route again, since versions came or went.

        Args:
            settled: Models of which every version found by the first scan is READY or FAILED.
            is_scanned: Whether the first scan of the repository and its loads are done.
        """
        if self._routes.review(settled, is_scanned=is_scanned):
            self.release(*self._routes.absent_automatic)
        self._upkeep.wake()

    async def settle(self) -> None:
        """Write now what ought to be in the store, as far as it takes it."""
        await self._upkeep.tend()

    @property
    def routed_versions(self) -> frozenset[ModelVersion]:
        """Every version that a route names: it is loaded whatever model.toml selects."""
        return self._routes.routed_versions

    @property
    def held_versions(self) -> frozenset[ModelVersion]:
        """Every version that somebody's decision names: it is loaded even if it was unloaded before."""
        return self._routes.held_versions

    def holders(self, key: ModelVersion) -> list[str]:
        """Name the routes because of which a version cannot be unloaded; automatic ones hold nothing."""
        return self._routes.holders(key) or (["a route that is being written"] if self._writer.is_reserved(key) else [])

    def release(self, *keys: ModelVersion) -> None:
        """Let the automatic routes to versions that are gone from here lead elsewhere, or go too."""
        self._upkeep.release(*keys)

    def is_ready(self) -> bool:
        """Tell whether it is known which routes there are, and the first variant of each is READY."""
        return self._upkeep.is_tended and self._routes.is_ready()

    def own_report(self) -> dict[str, AppliedRoute]:
        """Say of each route which revision this replica serves, and why not the newest if it is another."""
        return self._routes.report()

    @property
    def regressed(self) -> dict[str, str]:
        """Routes of which the store holds something that is not obeyed, and why not."""
        return self._routes.regressed

    # --- reading ------------------------------------------------------------------------------------

    def in_force(self) -> dict[str, PublishedRoute]:
        """Return what this replica serves, by name."""
        return self._routes.served

    async def read(self, name: str) -> PublishedRoute:
        """Fetch a route as the store holds it; what this replica knows while the store is away or regressed.

        Raises:
            UnknownRoute: there is no such route.
            UnreadableRevision: this release cannot read it.
        """
        known = self._routes.known(name)
        try:
            record = await self._store.read(name)
        except (StoreUnavailable, StoreRegressed):
            record = None
        else:
            if record is None and known is not None and known.epoch != UNSTORED_EPOCH:
                known = None  # deleted elsewhere, and not told yet
        if record is not None and name not in self._routes.aborts:
            return published_route(record)
        if known is None:
            raise UnknownRoute(f"there is no route '{name}'")
        return known

    async def list_routes(self) -> list[PublishedRoute]:
        """List the routes by name, as the store told them last."""
        return self._routes.stored

    async def history(self, name: str) -> list[RouteRecord]:
        """List the revisions of a route that are still kept, newest first.

        Raises:
            UnknownRoute: there is no such route, and there was none.
            StoreUnavailable: the store is away.
        """
        found = await self._store.history(name)
        if not found and self._routes.known(name) is None:
            raise UnknownRoute(f"there is no route '{name}'")
        return found

    async def audit(self, limit: int = 1000) -> list[AuditRecord]:
        """List what was done to any route, newest first.

        Raises:
            StoreUnavailable: the store is away.
        """
        return await self._store.audit(limit=limit)

    async def replicas(self) -> list[ReplicaReport]:
        """List the replicas alive and what they serve; this one alone while the store is away."""
        own = self._upkeep.own_report()
        try:
            others = await self._store.replicas()
        except StoreUnavailable:
            others = []
        return sorted([own, *(other for other in others if other.id != own.id)], key=lambda report: report.id)

    async def validate(self, name: str, document: object) -> Validation:
        """Say what `put` would do, and do nothing; a bad document is an answer like another."""
        try:
            current: PublishedRoute | None = await self.read(name)
        except (UnknownRoute, UnreadableRevision):
            current = None
        try:
            route = parse_route(document, name=name)
            self._refuse_unfit(route)
        except InvalidRoute as exc:
            return Validation(valid=False, errors=exc.errors)
        wanted = Wanted.after(current, route)
        moved_bp = 0 if current is None else moved_share_bp(current, wanted.content, route)
        return Validation(
            valid=True,
            moved_percent=percent(moved_bp),
            changes=tuple(changes(None if current is None else current.route, route)),
        )

    # --- changing -----------------------------------------------------------------------------------
    #
    # All of these raise StoreUnavailable (its `outcome` says whether it may have been written), StoreRegressed, and
    # RevisionMismatch where they are told a revision; `if_match` is an entity tag without its quotes, or "*".

    async def put(
        self, name: str, document: object, *, if_match: str | None, must_be_new: bool = False, by: Actor
    ) -> Changed:
        """Make a route, or replace the whole of it.

        Args:
            document: JSON as Python has it.
            must_be_new: There must be no such route yet.
        Raises:
            PreconditionRequired: neither a revision nor `must_be_new`.
            InvalidRoute: with every fault, also versions that are not READY here or do not fit together.
        """
        if if_match is None and not must_be_new:
            raise PreconditionRequired(
                f"route '{name}': state the revision in If-Match, or If-None-Match: * for a new one"
            )
        route = parse_route(document, name=name)

        def plan(stored: Stored) -> Wanted:
            self._refuse_unfit(route)
            return Wanted.after(stored.route, route)

        written = await self._writer.change(name, "put", plan, if_match=if_match, must_be_new=must_be_new, by=by)
        return self._changed(written)

    async def delete(self, name: str, *, if_match: str | None, by: Actor) -> None:
        """Delete a route; a model's own name then gets its automatic route back.

        Raises:
            PreconditionRequired: no revision.
            UnknownRoute: there is no such route.
        """
        if if_match is None:
            raise PreconditionRequired(f"route '{name}': state the revision in If-Match")

        written = await self._writer.change(name, "delete", lambda _: None, if_match=if_match, by=by)
        self._routes.take_own(written.record)
        self._upkeep.wake()

    async def shift(
        self, name: str, weights: Mapping[str, object], *, if_match: str | None = None, by: Actor
    ) -> Changed:
        """Move weights: the named variants get these percentages, the first takes the rest.

        Raises:
            UnknownRoute: there is no such route.
            InvalidRoute: weights that cannot be, or more of them for a version that is not READY here.
        """

        def plan(stored: Stored) -> Wanted:
            route = apply_shift(stored.current.route, weights, reason=by.reason)
            self._refuse_raised(stored.current.route, route, weights)
            return Wanted.after(stored.current, route)

        return self._changed(await self._writer.change(name, "shift", plan, if_match=if_match, by=by))

    async def abort(self, name: str, *, shadows: bool = False, by: Actor) -> Changed:
        """Give everything to the first variant, whatever else happens; again is no new revision.

        While the store is away, or regressed, it works on this replica alone, until the store takes it.
        Args:
            shadows: Remove the shadows too.
        Raises:
            UnknownRoute: there is no such route.
        """

        def plan(stored: Stored) -> Wanted:
            return Wanted.after(stored.current, apply_abort(stored.current.route, shadows=shadows, reason=by.reason))

        try:
            return self._changed(await self._writer.change(name, "abort", plan, by=by))
        except (StoreUnavailable, StoreRegressed, UnreadableRevision):
            served = self._routes.abort_here(
                name,
                actor=by.name,
                reason=by.reason,
                request_id=by.request_id,
                removes_shadows=shadows,
                now=time.time(),
            )
            if served is None:
                raise
            await self._upkeep.keep_aborts()
            self._upkeep.wake()
            return Changed(served, is_new_revision=False)

    async def rollback(
        self, name: str, revision: int | None = None, *, if_match: str | None = None, by: Actor
    ) -> Changed:
        """Bring an earlier document back with its slots, so that the same keys come back.

        Args:
            revision: None takes the one before the current.
        Raises:
            UnknownRoute: there is no such route, or not that revision of it.
            InvalidRoute: what it names is not READY here, or no longer fits together.
        """
        give_up_at = patience()
        earlier = await self._store.history(name)

        def plan(stored: Stored) -> Wanted:
            found = _earlier(earlier, stored.current, revision)
            if found is None:
                asked = "earlier revision" if revision is None else f"revision {revision}"
                raise UnknownRoute(f"route '{name}' has no {asked} to go back to")
            self._refuse_unfit(found.route)
            return found

        return self._changed(
            await self._writer.change(name, "rollback", plan, if_match=if_match, by=by, give_up_at=give_up_at)
        )

    async def adopt(self, name: str, *, by: Actor) -> Changed:
        """Accept what a store holds that went backwards, as a new revision that every replica obeys.

        Raises:
            UnknownRoute: there is no such route, or what was adopted is its deletion.
        """
        written = await self._store.adopt(name, actor=by.name, reason=by.reason, request_id=by.request_id)
        if written.record.is_deleted:
            self._obey(written)
            raise UnknownRoute(f"route '{name}' is gone: what was adopted is its deletion")
        return self._changed(written)

    def _changed(self, written: Written) -> Changed:
        self._obey(written)
        is_created = written.is_new_revision and written.record.revision == 1
        return Changed(published_route(written.record), written.is_new_revision, is_created)

    def _obey(self, written: Written) -> None:
        """Obey at once what was written, so that who asked this replica sees it there."""
        self._routes.take_own(written.record)
        self._upkeep.wake()

    def _refuse_unfit(self, route: Route) -> None:
        faults = fitness_faults(route, self._registry)
        if faults:
            raise InvalidRoute(route.name, tuple(faults))

    def _refuse_raised(self, before: Route, after: Route, weights: Mapping[str, object]) -> None:
        """Refuse more traffic for a version that is not READY; less of it is always welcome."""
        shares_bp = before.weights_bp
        faults = [
            (
                pointer_to("weights", *([variant.name] if variant.name in weights else [])),
                why_not_ready(self._registry, variant.model_version),
            )
            for variant in after.variants
            if variant.weight_bp > shares_bp[variant.name] and not is_ready(self._registry, variant.model_version)
        ]
        if faults:
            raise InvalidRoute(after.name, tuple(faults))


def _earlier(history: list[RouteRecord], current: PublishedRoute, revision: int | None) -> Wanted | None:
    """Find what a rollback goes back to: the newest record of that revision, or the one before the current."""
    for record in history:  # newest first
        is_wanted = record.revision == revision if revision is not None else record.revision < current.revision
        if is_wanted and record.content is not None:
            return Wanted(published_route(record).route, record.content)
    return None
