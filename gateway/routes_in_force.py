"""The routes that this replica serves: what the store said last, judged against the versions that are READY here.

Synchronous; never asks the store and never writes to it, but says what ought to be written.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

from gateway.heard_routes import UNSTORED_EPOCH, Standing, Told, aborted, automatic_version, unstored_route
from gateway.inference.registry import Registry, VersionState
from gateway.local_aborts import LocalAbort
from gateway.messages import ModelVersion
from gateway.route_fitness import fitness_faults, is_ready, signature_faults, unready_versions, worded
from gateway.routing.published import PublishedRoute
from gateway.routing.route import Route, automatic_route
from gateway.store.interface import RouteRegressed
from gateway.store.records import Action, AppliedRoute, RouteRecord

log = logging.getLogger(__name__)


class RoutesInForce:
    """What one replica serves under each name.

    Args:
        registry: Of this replica.
        publish: Is told what is served after every change of it, and after every change of the registry.
        configured: Routes of gateway.toml; each is forgotten once the store is known to have had one of its name.
    """

    def __init__(
        self,
        registry: Registry,
        publish: Callable[[Mapping[str, PublishedRoute]], None],
        *,
        configured: Mapping[str, Route] | None = None,
    ) -> None:
        self._registry = registry
        self._publish = publish
        self._configured = dict(configured or {})
        self._told: dict[str, Told] = {}
        self._applied: dict[str, PublishedRoute] = {}
        self._served: dict[str, PublishedRoute] = {}
        self._reasons: dict[str, str] = {}
        self._regressed: dict[str, str] = {}
        self._aborts: dict[str, LocalAbort] = {}
        self._settled: frozenset[str] = frozenset()
        self._is_scanned = False
        self._seen: list[tuple[ModelVersion, VersionState, int]] = []
        self.is_heard = False
        """Whether the store has answered, or is known to be away: until then nobody knows which routes there are."""

    # --- what is told ---------------------------------------------------------------------------------

    def take(self, record: RouteRecord) -> None:
        """Obey a record; a deleted one means that the route is gone."""
        name = record.name
        self._regressed.pop(name, None)
        self._configured.pop(name, None)
        if record.is_deleted:
            self._told.pop(name, None)
            self._aborts.pop(name, None)
        else:
            told = self._told.get(name)
            if told is None or told.record != record:
                self._told[name] = Told.of(record)
        self._judge(name)
        self._publish(self.served)

    def take_own(self, record: RouteRecord) -> None:
        """Obey what this replica has just written, unless something later was told meanwhile."""
        told = self._told.get(record.name)
        if told is None or (told.record.epoch, told.record.revision) <= (record.epoch, record.revision):
            self.take(record)

    def regress(self, event: RouteRegressed) -> None:
        """Note that the store holds something that is not obeyed."""
        self._regressed[event.name] = event.reason

    def review(self, settled: frozenset[str], *, is_scanned: bool) -> bool:
        """Judge every route again, since versions came or went; tell whether the first scan has ended just now.

        Args:
            settled: Models of which every version found by the first scan is READY or FAILED.
            is_scanned: Whether the first scan of the whole repository and its loads are done.
        """
        is_first = is_scanned and not self._is_scanned
        seen = [(record.key, record.state, id(record.served)) for record in self._registry]
        if (settled, is_scanned, seen) == (self._settled, self._is_scanned, self._seen):
            return False
        self._settled, self._is_scanned, self._seen = settled, is_scanned, seen
        self._judge_all()
        return is_first

    def _judge_all(self) -> None:
        for name in self._told.keys() | self._served.keys() | self._settled | self._configured.keys():
            self._judge(name)
        self._publish(self.served)

    def hear(self) -> None:
        """Note that the store has answered or is away: what it has not told does not exist, for all that is known."""
        if not self.is_heard:
            self.is_heard = True
            self._judge_all()

    def abort_here(
        self, name: str, *, actor: str, reason: str, request_id: str, removes_shadows: bool, now: float
    ) -> PublishedRoute | None:
        """Give everything to the first variant on this replica; None when it serves no such route.

        Args:
            now: Seconds since 1970.
        """
        applied, earlier = self._applied.get(name), self._aborts.get(name)
        if applied is not None:
            self._aborts[name] = LocalAbort(
                actor=actor,
                reason=reason,
                request_id=request_id,
                removes_shadows=removes_shadows or (earlier is not None and earlier.removes_shadows),
                at=now,
                base=applied.position.etag,
            )
            self._judge(name)
            self._publish(self.served)
        return self._served.get(name)

    def restore_aborts(self, aborts: Mapping[str, LocalAbort]) -> None:
        """Begin with aborts that the store had not taken when this replica stopped."""
        self._aborts.update(aborts)

    def forget_abort(self, name: str, abort: LocalAbort) -> None:
        """Stop aborting here, since the store has taken it or the route is gone; a later abort stays."""
        if self._aborts.get(name) is abort:
            del self._aborts[name]
            self._judge(name)
            self._publish(self.served)

    # --- what is so -----------------------------------------------------------------------------------

    @property
    def served(self) -> dict[str, PublishedRoute]:
        """What this replica serves, by name."""
        return dict(self._served)

    @property
    def stored(self) -> list[PublishedRoute]:
        """The routes as the store told them last and as far as they can be read, by name; else what is served."""
        names = sorted(self._told.keys() | self._served.keys())
        return [route for name in names if (route := self.known(name)) is not None]

    @property
    def aborts(self) -> dict[str, LocalAbort]:
        """Aborts that the store has not taken yet."""
        return dict(self._aborts)

    @property
    def regressed(self) -> dict[str, str]:
        """Routes of which the store holds something that is not obeyed, and why not."""
        return dict(self._regressed)

    def known(self, name: str) -> PublishedRoute | None:
        """Find a route as it is known without asking: what was told last, or what is served in its place."""
        told = self._told.get(name)
        if told is None or told.route is None or name in self._aborts:
            return self._served.get(name)
        return told.route

    @property
    def routed_versions(self) -> frozenset[ModelVersion]:
        """Every version that a route names, which is therefore loaded."""
        return frozenset(version for route in self._routes() for version in route.model_versions)

    @property
    def held_versions(self) -> frozenset[ModelVersion]:
        """Every version that a route other than an automatic one names."""
        return frozenset(
            version
            for route in self._routes()
            if not self._is_automatic(route.name)
            for version in route.model_versions
        )

    def holders(self, key: ModelVersion) -> list[str]:
        """Name the routes because of which a version cannot be unloaded."""
        names = {
            route.name for route in self._routes() if key in route.model_versions and not self._is_automatic(route.name)
        }
        return sorted(names)

    def is_ready(self) -> bool:
        """Tell whether the first variant of every route is READY."""
        return self.is_heard and all(
            is_ready(self._registry, route.route.variants[0].model_version) for route in self._served.values()
        )

    def report(self) -> dict[str, AppliedRoute]:
        """Say of each route which revision is served, and why not the newest if it is another."""
        names = self._told.keys() | self._served.keys() | self._regressed.keys()
        return {name: self._report(name) for name in sorted(names)}

    # --- what ought to be written ---------------------------------------------------------------------

    def unwritten(self) -> dict[str, Standing]:
        """List the routes that are served in want of a stored one, or that replace an automatic one's lost version."""
        return {
            name: standing
            for name, route in self._served.items()
            if route.epoch == UNSTORED_EPOCH
            and name not in self._told
            and (standing := self._standing(name)) is not None
        }

    @property
    def is_informed(self) -> bool:
        """Whether the store was heard and the repository scanned, so that it is known what ought to be written."""
        return self.is_heard and self._is_scanned

    @property
    def absent_automatic(self) -> list[ModelVersion]:
        """Versions that an automatic route leads to, and that are not here."""
        versions = [told.automatic for told in self._told.values()]
        return [key for key in versions if key is not None and self._is_absent(key)]

    def automatic_of(self, keys: frozenset[ModelVersion]) -> list[tuple[RouteRecord, Standing | None]]:
        """List the automatic routes whose version is among these and no longer here, each with its successor."""
        return [
            (told.record, self._standing(name))
            for name, told in self._told.items()
            if told.automatic is not None and told.automatic in keys and self._is_absent(told.automatic)
        ]

    # --- judging --------------------------------------------------------------------------------------

    def _judge(self, name: str) -> None:
        before, reason_before = self._applied.get(name), self._reasons.pop(name, "")
        applied, reason = self._judged(name)
        if reason:
            self._reasons[name] = reason
        if self._is_scanned and (applied is not before or reason != reason_before):
            _log_judgement(name, applied, before, reason)
        if applied is None:
            self._applied.pop(name, None)
            self._served.pop(name, None)
            return
        abort = self._aborts.get(name)
        self._applied[name] = applied
        self._served[name] = applied if abort is None else aborted(applied, abort)

    def _judged(self, name: str) -> tuple[PublishedRoute | None, str]:
        """Decide what is served under a name, and say why it is not the newest, or what of it does not work."""
        told, before = self._told.get(name), self._applied.get(name)
        if told is None:
            return self._unstored(name), ""
        if told.automatic is not None and self._is_scanned and self._is_absent(told.automatic):
            return self._unstored(name), f"{told.automatic} is not here"
        route = told.route
        if route is None:
            return before, told.fault
        faults = fitness_faults(route.route, self._registry)
        if before is None or self._is_better(route, before, action=told.record.action):
            return route, worded(faults)
        return before, f"revision {route.revision} not applied: {worded(faults)}"

    def _is_better(self, route: PublishedRoute, before: PublishedRoute, *, action: Action) -> bool:
        """Decide whether the newest revision is served rather than the one in force, though it may not work whole."""
        if before.epoch == UNSTORED_EPOCH or before.hash == route.hash:
            return True
        if self._first_is_ready(route) and (action == "abort" or not self._first_is_ready(before)):
            return True
        unready, unready_before = (unready_versions(each.route, self._registry) for each in (route, before))
        return unready <= unready_before and not signature_faults(route.route, self._registry)

    def _unstored(self, name: str) -> PublishedRoute | None:
        standing = self._standing(name)
        if standing is None:
            return None
        before = self._applied.get(name)
        if before is not None and before.epoch == UNSTORED_EPOCH and before.route == standing.route:
            return before
        return unstored_route(standing)

    def _standing(self, name: str) -> Standing | None:
        """Find the route that a name has while nobody decided another."""
        if not self.is_heard:
            return None
        configured = self._configured.get(name)
        if configured is not None:
            is_first_ready = is_ready(self._registry, configured.variants[0].model_version)
            is_settled = self._is_scanned and not self._is_loading(configured)
            if is_first_ready and is_settled and not signature_faults(configured, self._registry):
                return Standing(configured, "configured")
            return None
        ready = self._registry.ready_versions(name)
        if name not in self._settled or not ready:
            return None
        before = self._applied.get(name)
        kept = None if before is None else automatic_version(before.route)
        return Standing(
            automatic_route(name, kept.version if kept is not None and kept.version in ready else ready[-1]),
            "automatic",
        )

    def _is_loading(self, route: Route) -> bool:
        records = [self._registry.record(key) for key in route.model_versions]
        return any(record is not None and record.state is VersionState.LOADING for record in records)

    def _is_absent(self, key: ModelVersion) -> bool:
        record = self._registry.record(key)
        return record is None or record.state in (VersionState.DRAINING, VersionState.UNLOADED)

    def _first_is_ready(self, route: PublishedRoute) -> bool:
        return is_ready(self._registry, route.route.variants[0].model_version)

    def _is_automatic(self, name: str) -> bool:
        told = self._told.get(name)
        if told is not None:
            return told.automatic is not None
        served = self._served.get(name)
        return served is not None and served.epoch == UNSTORED_EPOCH and automatic_version(served.route) is not None

    def _routes(self) -> Iterator[Route]:
        """Yield the routes that are served and those that were told, since both need their versions."""
        for route in self._applied.values():
            yield route.route
        for told in self._told.values():
            applied = self._applied.get(told.record.name)
            if told.route is not None and (applied is None or applied.position != told.route.position):
                yield told.route.route
        yield from self._configured.values()

    def _report(self, name: str) -> AppliedRoute:
        told, applied = self._told.get(name), self._applied.get(name)
        revision = applied.revision if applied is not None else told.record.revision if told is not None else 0
        if (abort := self._aborts.get(name)) is not None:
            words = f"aborted here by {abort.actor}, the store has not taken it yet"
            return AppliedRoute(revision, applied=False, reason=words)
        if name in self._regressed:
            return AppliedRoute(revision, applied=False, reason=self._regressed[name])
        reason = self._reasons.get(name, "")
        if told is None:
            return AppliedRoute(
                revision, applied=applied is not None, reason=reason or "the store does not hold it yet"
            )
        return AppliedRoute(
            revision, applied=applied is not None and applied.position == told.record.position, reason=reason
        )


def _log_judgement(name: str, applied: PublishedRoute | None, before: PublishedRoute | None, reason: str) -> None:
    facts: dict[str, object] = {"route": name}
    if applied is None:
        if before is not None:
            log.info("route_gone", extra=facts)
        return
    facts |= {"revision": applied.revision, "epoch": applied.epoch}
    if applied is not before and applied.epoch != UNSTORED_EPOCH:
        log.info("route_applied", extra=facts | {"actor": applied.actor})
    if reason:
        log.warning("route_not_whole", extra=facts | {"reason": reason})
