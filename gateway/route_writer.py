"""Changing a route by compare-and-set: read, plan, write where it was read, and begin again when others were faster.

Knows not what a change means (`routeplane.py`), and not how a store writes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import msgspec

from gateway.errors import InvalidRoute, RevisionMismatch, StoreUnavailable, UnknownRoute, UnreadableRevision
from gateway.messages import ModelVersion
from gateway.routing.document import reason_fault
from gateway.routing.edits import changes
from gateway.routing.published import PublishedRoute, next_content, published_route
from gateway.routing.route import Route
from gateway.store.interface import RouteStore
from gateway.store.records import Action, Content, Position, RouteChange, RouteRecord, Written

PATIENCE_S = 0.95
"""What an operator waits for at most when the store is away; a second is promised."""
ATTEMPTS = 20
"""How often a change that states no revision begins again because somebody else was faster."""


class Actor(msgspec.Struct, frozen=True):
    """Who asks for a change: the name of a token, why, and in which request."""

    name: str
    reason: str = ""
    request_id: str = ""


class Stored(msgspec.Struct, frozen=True):
    """What a change begins with.

    Attributes:
        record: None: there is no such route.
        route: None too where this release cannot read the record.
    """

    name: str
    record: RouteRecord | None
    route: PublishedRoute | None

    @property
    def current(self) -> PublishedRoute:
        """The route, for changes that build on it.

        Raises:
            UnreadableRevision: this release cannot read it.
        """
        if self.route is None:
            raise UnreadableRevision(f"route '{self.name}': what is stored cannot be read; put a whole document")
        return self.route


class Wanted(msgspec.Struct, frozen=True):
    """What a change shall make of a route."""

    route: Route
    content: Content

    @classmethod
    def after(cls, current: PublishedRoute | None, route: Route) -> Wanted:
        """Let a route follow another with the smallest move of keys; after None they are dealt anew."""
        return cls(route, next_content(route, current=current))


Plan = Callable[[Stored], Wanted | None]
"""Makes of what is stored what shall be; None deletes it."""


class RouteWriter:
    """Writes the changes of operators."""

    def __init__(self, store: RouteStore) -> None:
        self._store = store
        self._reserved: list[frozenset[ModelVersion]] = []

    def is_reserved(self, key: ModelVersion) -> bool:
        """Tell whether a route that names the version is being written."""
        return any(key in versions for versions in self._reserved)

    async def change(
        self,
        name: str,
        action: Action,
        plan: Plan,
        *,
        by: Actor,
        if_match: str | None = None,
        must_be_new: bool = False,
        give_up_at: float | None = None,
    ) -> Written:
        """Change a route; begin again when it changed meanwhile and the caller stated no revision.

        Args:
            if_match: Entity tag without quotes; "*" for whatever is there.
            must_be_new: There must be no such route.
            give_up_at: Loop time; `PATIENCE_S` from now when None.
        Raises:
            RevisionMismatch: the route is not where the caller said.
            UnknownRoute: there is no such route, and the change is no `put`.
            InvalidRoute: the reason cannot be kept, or whatever the plan finds.
            StoreUnavailable, StoreRegressed: as `RouteStore.write`.
        """
        if (fault := reason_fault(by.reason)) is not None:
            raise InvalidRoute(name, (("/reason", fault),))
        give_up_at = give_up_at or patience()
        for _ in range(ATTEMPTS):
            stored = await self._stored(name, give_up_at)
            if stored.record is None and action != "put":
                raise UnknownRoute(f"there is no route '{name}'")
            expected = _expected(stored, if_match=if_match, must_be_new=must_be_new)
            wanted = plan(stored)
            after = None if wanted is None else wanted.route
            change = RouteChange(
                name=name,
                expected=expected,
                content=None if wanted is None else wanted.content,
                action=action,
                actor=by.name,
                reason=by.reason or (after.reason if after is not None and action == "put" else ""),
                request_id=by.request_id,
                changes=tuple(changes(None if stored.route is None else stored.route.route, after)),
            )
            try:
                with self._reserving(after):
                    return await self._store.write(change, give_up_at=give_up_at)
            except RevisionMismatch:
                if must_be_new or if_match not in (None, "*"):
                    raise
        raise StoreUnavailable(f"route '{name}' changes too fast", outcome="not_written")

    async def _stored(self, name: str, give_up_at: float) -> Stored:
        record = await self._store.read(name, give_up_at=give_up_at)
        if record is None:
            return Stored(name, None, None)
        try:
            return Stored(name, record, published_route(record))
        except UnreadableRevision:
            return Stored(name, record, None)

    @contextlib.contextmanager
    def _reserving(self, route: Route | None) -> Iterator[None]:
        """Keep the versions of a route that is being written from being unloaded meanwhile."""
        versions = frozenset[ModelVersion]() if route is None else route.model_versions
        self._reserved.append(versions)
        try:
            yield
        finally:
            self._reserved.remove(versions)


def patience() -> float:
    """Loop time at which an operator who asks now is answered at the latest."""
    return asyncio.get_running_loop().time() + PATIENCE_S


def _expected(stored: Stored, *, if_match: str | None, must_be_new: bool) -> Position | None:
    position = None if stored.record is None else stored.record.position
    found = None if position is None else position.etag
    if must_be_new:
        if position is not None:
            raise RevisionMismatch(stored.name, expected=None, current=found)
    elif if_match is not None and (position is None or if_match not in ("*", found)):
        raise RevisionMismatch(stored.name, expected=if_match, current=found)
    return position
