"""Routes of one process, kept in memory and, when there is a state directory, in one checksummed file.

Knows no other replica; more than one process needs Redis.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from gateway.errors import UnknownRoute
from gateway.store.feed import Feed
from gateway.store.interface import RoutePublished, StoreEvent, StoreReached
from gateway.store.kept_routes import KeptRoutes
from gateway.store.lineage import next_record, settle
from gateway.store.records import AuditRecord, ReplicaReport, RouteChange, RouteRecord, Written
from gateway.store.state_file import StateFile

KEPT_REVISIONS = 100
KEPT_AUDIT_RECORDS = 1000
REPLICA_LIFE_S = 30.0


class MemoryStore:
    """A `RouteStore` and `ReplicaDirectory` for one process.

    Args:
        path: The state file; None keeps nothing over a restart.
        clock: Seconds since 1970.
    Raises:
        CannotStart: on entering, when the state file is damaged.
    """

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._file = None if path is None else StateFile(path)
        self._clock = clock
        self._state = KeptRoutes({})
        self._feed = Feed()
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[Written]] = set()
        self._reports: dict[str, ReplicaReport] = {}

    async def __aenter__(self) -> Self:
        if self._file is not None:
            self._state = _with_history(await asyncio.to_thread(KeptRoutes.load, self._file))
        for record in self._state.records.values():
            if not record.is_deleted:
                self._feed.post(RoutePublished(record))
        self._feed.post(StoreReached())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writes:
            await asyncio.wait(self._writes)
        self._feed.close()

    async def read(
        self,
        name: str,
        *,
        give_up_at: float | None = None,  # noqa: ARG002  the protocol's; nobody waits here
    ) -> RouteRecord | None:
        """See `RouteStore.read`."""
        record = self._state.records.get(name)
        return None if record is None or record.is_deleted else record

    async def write(
        self,
        change: RouteChange,
        *,
        give_up_at: float | None = None,  # noqa: ARG002  the protocol's; the disk has no time limit
    ) -> Written:
        """See `RouteStore.write`. A caller that is cancelled does not undo a write that has begun."""
        write = asyncio.get_running_loop().create_task(self._write(change))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)
        return await asyncio.shield(write)

    async def _write(self, change: RouteChange) -> Written:
        async with self._writing:
            current = self._state.records.get(change.name)
            if (same := settle(current, change)) is not None:
                return Written(same, is_new_revision=False)
            record = next_record(current, change, now=self._clock(), server="", write_id=secrets.token_hex(8))
            state = _grown(self._state, record, change.audit_of(record))
            if self._file is not None:
                await asyncio.to_thread(state.save, self._file)
            self._state = state
            self._feed.post(RoutePublished(record))
            return Written(record, is_new_revision=True)

    async def adopt(
        self,
        name: str,
        *,
        actor: str,  # noqa: ARG002  the protocol's; nothing is written here
        reason: str = "",  # noqa: ARG002  the same
        request_id: str = "",  # noqa: ARG002  the same
    ) -> Written:
        """See `RouteStore.adopt`; this store never goes back, so there is nothing to accept."""
        record = await self.read(name)
        if record is None:
            raise UnknownRoute(f"route '{name}' cannot be adopted, there is no such route")
        return Written(record, is_new_revision=False)

    async def history(self, name: str) -> list[RouteRecord]:
        """See `RouteStore.history`."""
        return list(self._state.history.get(name, ()))

    async def audit(self, *, limit: int = 1000) -> list[AuditRecord]:
        """See `RouteStore.audit`."""
        return self._state.audit[:limit]

    def changes(self) -> AsyncIterator[StoreEvent]:
        """See `RouteStore.changes`."""
        return self._feed.reader()

    async def announce(self, report: ReplicaReport) -> None:
        """See `ReplicaDirectory.announce`."""
        self._reports[report.id] = msgspec.structs.replace(report, last_seen=self._clock())

    async def replicas(self) -> list[ReplicaReport]:
        """See `ReplicaDirectory.replicas`."""
        oldest = self._clock() - REPLICA_LIFE_S
        self._reports = {key: report for key, report in self._reports.items() if report.last_seen >= oldest}
        return [self._reports[key] for key in sorted(self._reports)]


def _grown(state: KeptRoutes, record: RouteRecord, audit: AuditRecord) -> KeptRoutes:
    earlier = [] if record.revision == 1 else state.history.get(record.name, [])
    newest = [] if record.is_deleted else [record]
    return KeptRoutes(
        records=state.records | {record.name: record},
        history=state.history | {record.name: [*newest, *earlier][:KEPT_REVISIONS]},
        audit=[audit, *state.audit][:KEPT_AUDIT_RECORDS],
    )


def _with_history(kept: KeptRoutes) -> KeptRoutes:
    """Begin the history of what another store had kept with what stands now."""
    begun = {name: [record] for name, record in kept.records.items() if not record.is_deleted}
    return msgspec.structs.replace(kept, history=begun | kept.history)
