"""What a replica does with its routes unasked: follows the store, writes automatic routes, says that it is alive.

Performs no operator's change (`routeplane.py`) and decides not what is served (`routes_in_force.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import msgspec

from gateway.errors import RevisionMismatch, StoreRegressed, StoreUnavailable, UnknownRoute, UnreadableRevision
from gateway.heard_routes import GATEWAY_ACTOR, Standing
from gateway.local_aborts import KeptAborts, LocalAbort
from gateway.messages import ModelVersion
from gateway.routes_in_force import RoutesInForce
from gateway.routing.edits import apply_abort, changes
from gateway.routing.published import next_content, published_route
from gateway.store.interface import RoutePublished, RouteRegressed, Store, StoreEvent, StoreLost, StoreReached
from gateway.store.records import ReplicaReport, RouteChange, RouteRecord

log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often a replica says that it is alive, and tries again what the store has not taken."""
HEARING_S = 2.0
"""What a start waits for at most until the store answers or is known to be away."""


class RouteUpkeep:
    """The tasks behind the routes of one replica, between start and stop.

    Args:
        store: Open while this runs.
        routes: What it keeps in step with the store.
        report: What the replica says of itself.
        aborts: Where those that the store has not taken are kept.
    """

    def __init__(self, store: Store, routes: RoutesInForce, report: ReplicaReport, aborts: KeptAborts) -> None:
        self._store = store
        self._routes = routes
        self._report = report
        self._aborts = aborts
        self._released: set[ModelVersion] = set()
        self._heard, self._wake = asyncio.Event(), asyncio.Event()
        self._tending = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self.is_reached = False
        """Whether the store answered when it was asked last."""
        self.is_tended = False
        """Whether the routes that ought to be in the store were written once, or it was away."""

    async def start(self) -> None:
        """Begin to follow, and wait until it is known which routes the store has, or that it is away.

        Raises:
            CannotStart: the file of the aborts is damaged.
        """
        self._routes.restore_aborts(await self._aborts.load(now=time.time()))
        self._tasks.append(asyncio.create_task(self._follow(), name="route-feed"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARING_S):
                await self._heard.wait()
        self._tasks.append(asyncio.create_task(self._keep_tending(), name="route-upkeep"))

    async def stop(self) -> None:
        """End every task."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Have the routes tended at once."""
        self._wake.set()

    def own_report(self) -> ReplicaReport:
        """Say what this replica serves now."""
        return msgspec.structs.replace(self._report, routes=self._routes.report(), last_seen=time.time())

    def release(self, *keys: ModelVersion) -> None:
        """Let go of the automatic routes to versions that are no longer here."""
        self._released.update(keys)
        self.wake()

    async def keep_aborts(self) -> None:
        """Write down which aborts the store has not taken."""
        await self._aborts.save(self._routes.aborts)

    # --- following ------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for event in self._store.changes():
            try:
                self._take(event)
            except Exception:  # a feed that is no longer read would freeze the routes until a restart
                log.exception("route_event_failed")
            self.wake()

    def _take(self, event: StoreEvent) -> None:
        match event:
            case RoutePublished(record):
                self._routes.take(record)
            case RouteRegressed():
                self._routes.regress(event)
            case StoreReached() | StoreLost():
                self.is_reached = isinstance(event, StoreReached)
                self._routes.hear()
                self._heard.set()

    # --- tending --------------------------------------------------------------------------------------

    async def _keep_tending(self) -> None:
        loop = asyncio.get_running_loop()
        announced_at = -TICK_S
        while True:
            self._wake.clear()
            try:
                await self.tend()
                await self.keep_aborts()
                if loop.time() - announced_at >= 0.9 * TICK_S:  # a timer may be early
                    announced_at = loop.time()
                    await self._store.announce(self.own_report())
            except StoreUnavailable:
                pass  # said by the store itself, once
            except Exception:  # as above
                log.exception("route_upkeep_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._wake.wait()

    async def tend(self) -> None:
        """Bring the store what it lacks: automatic and configured routes, and aborts that it could not take."""
        async with self._tending:
            is_informed = self._routes.is_informed
            try:
                if self.is_reached:
                    await self._bring()
            except StoreUnavailable as exc:
                log.info("route_upkeep_postponed", extra={"reason": str(exc)})
            self.is_tended |= is_informed

    async def _bring(self) -> None:
        released = frozenset(self._released)
        for record, successor in self._routes.automatic_of(released):
            await self._replace(record, successor)
        self._released -= released
        for name, standing in self._routes.unwritten().items():
            await self._create(name, standing)
        for name, abort in self._routes.aborts.items():  # last, since one may be of a route that was just made
            await self._hand_in(name, abort)

    async def _create(self, name: str, standing: Standing) -> None:
        change = RouteChange(
            name=name,
            expected=None,
            content=standing.content,
            action=standing.action,
            actor=GATEWAY_ACTOR,
            reason=standing.route.reason,
            changes=tuple(changes(None, standing.route)),
        )
        # Lost, if somebody else made one; then the store tells which.
        with contextlib.suppress(RevisionMismatch, StoreRegressed):
            self._routes.take_own((await self._store.write(change)).record)

    async def _replace(self, record: RouteRecord, successor: Standing | None) -> None:
        """Point an automatic route elsewhere, or delete it when the model has nothing READY left."""
        before = published_route(record).route
        change = RouteChange(
            name=record.name,
            expected=record.position,
            content=None if successor is None else successor.content,
            action="delete" if successor is None else "automatic",
            actor=GATEWAY_ACTOR,
            changes=tuple(changes(before, None if successor is None else successor.route)),
        )
        with contextlib.suppress(RevisionMismatch, StoreRegressed, UnknownRoute):
            self._routes.take_own((await self._store.write(change)).record)

    async def _hand_in(self, name: str, abort: LocalAbort) -> None:
        """Write an abort that worked here alone over whatever the store holds now."""
        try:
            record = await self._store.read(name)
            if record is None:
                self._routes.forget_abort(name, abort)
                return
            current = published_route(record)
            if abort.yields and current.position.etag != abort.base:
                log.warning("local_abort_dropped", extra={"route": name, "revision": current.revision})
                self._routes.forget_abort(name, abort)
                return
            wanted = apply_abort(current.route, shadows=abort.removes_shadows, reason=abort.reason)
            change = RouteChange(
                name=name,
                expected=current.position,
                content=next_content(wanted, current=current),
                action="abort",
                actor=abort.actor,
                reason=abort.reason,
                request_id=abort.request_id,
                changes=tuple(changes(current.route, wanted)),
            )
            written = await self._store.write(change)
        except RevisionMismatch:
            self.wake()
            return
        except (StoreRegressed, UnreadableRevision):
            return  # tried again at every tick, until somebody has adopted the route
        self._routes.take_own(written.record)
        self._routes.forget_abort(name, abort)
        log.warning("local_abort_stored", extra={"route": name, "revision": written.record.revision})
