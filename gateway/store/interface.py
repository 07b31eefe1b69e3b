"""The seams of the store: what every route store and every replica directory can do, and the events they tell.

Holds no behaviour; the in-memory twin and Redis pass the same tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec

from gateway.store.records import AuditRecord, ReplicaReport, RouteChange, RouteRecord, Written


class RoutePublished(msgspec.Struct, frozen=True):
    """Obey this record from now on; a deleted one means that the route is gone."""

    record: RouteRecord


class RouteRegressed(msgspec.Struct, frozen=True):
    """The store holds something older or other than what was obeyed; the record stays in force until `adopt`."""

    name: str
    known: RouteRecord | None
    stored: RouteRecord | None
    reason: str


class StoreReached(msgspec.Struct, frozen=True):
    """The store answered, and every record it held then has been told."""


class StoreLost(msgspec.Struct, frozen=True):
    """The store does not answer; what was told last stays in force."""

    reason: str


StoreEvent = RoutePublished | RouteRegressed | StoreReached | StoreLost


class RouteStore(Protocol):
    """Remembers routes, their history and who changed them.

    Opened and closed as an async context manager. Raises nothing but leaves of `gateway.errors`.
    """

    async def read(self, name: str, *, give_up_at: float | None = None) -> RouteRecord | None:
        """Fetch the route as the store holds it now, None when there is none or it was deleted.

        Args:
            give_up_at: Loop time after which nobody waits any more; None gives the call 0.9 s. So for every verb.
        Raises:
            StoreUnavailable: no answer in time.
            StoreRegressed: the store holds an older or other route than this replica has obeyed.
        """

    async def write(self, change: RouteChange, *, give_up_at: float | None = None) -> Written:
        """Make the next revision, if the route is where the change expects it; the same content makes none.

        Raises:
            RevisionMismatch: the route is elsewhere; nothing was written.
            StoreRegressed: as for `read`; nothing was written.
            StoreUnavailable: `outcome` says whether it may have been written.
        """

    async def adopt(self, name: str, *, actor: str, reason: str = "", request_id: str = "") -> Written:
        """Accept what a regressed store holds, as a new revision in a new epoch that every replica obeys.

        Raises:
            UnknownRoute: the store and this replica know no such route.
            StoreUnavailable, RevisionMismatch: as for `write`.
        """

    async def history(self, name: str) -> list[RouteRecord]:
        """List the revisions still kept, newest first, without deletions.

        Raises:
            StoreUnavailable: no answer in time.
        """

    async def audit(self, *, limit: int = 1000) -> list[AuditRecord]:
        """List what was done to any route, newest first.

        Raises:
            StoreUnavailable: no answer in time.
        """

    def changes(self) -> AsyncIterator[StoreEvent]:
        """Tell everything known, then every change, until the store is closed.

        A slow reader misses intermediate revisions of a route, never its last one.
        """


class ReplicaDirectory(Protocol):
    """Knows which replicas are alive and what they serve."""

    async def announce(self, report: ReplicaReport) -> None:
        """Say that this replica is alive, at most every second; forgotten 30 s after the last word.

        Raises:
            StoreUnavailable: no answer in time.
        """

    async def replicas(self) -> list[ReplicaReport]:
        """List the replicas that were alive in the last 30 s, by id.

        Raises:
            StoreUnavailable: no answer in time.
        """


class Store(RouteStore, ReplicaDirectory, Protocol):
    """Both seams together, as either store has them."""
