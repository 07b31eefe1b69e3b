"""Routes of many replicas, kept in Redis: every replica obeys the same revisions, and notices when Redis forgets.

Knows neither keys nor scripts (`redis_ledger.py`), and decides not what may follow what (`lineage.py`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.errors import RevisionMismatch, StoreRegressed, StoreUnavailable, UnknownRoute
from gateway.store.feed import Feed
from gateway.store.interface import RoutePublished, StoreEvent, StoreLost, StoreReached
from gateway.store.kept_routes import KeptRoutes
from gateway.store.lineage import Verdict, adopted_record, next_record, seed_record, settle
from gateway.store.obedience import Obedience
from gateway.store.records import AuditRecord, ReplicaReport, RouteChange, RouteRecord, Unreadable, Written
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_ledger import Moved, RedisLedger, Sight
from gateway.store.state_file import StateFile
from gateway.store.watch import POLL_S, Watch

log = logging.getLogger(__name__)

VERB_TIMEOUT_S = 0.9
"""What a caller waits for at most; a second is promised."""
LOOKS = 5

_SEED_ACTOR = "gateway"
_SEED_REASON = "the store had lost this route; a replica remembered it"


class RedisStore:
    """A `RouteStore` and `ReplicaDirectory` shared through Redis.

    Redis may be away when it is opened: what the state file remembers is told, and the rest when Redis is there.

    Args:
        url: See `redis_connection`.
        path: State file of this replica alone; None remembers nothing over a restart.
        namespace: Tells gateways apart that share a Redis.
    Raises:
        InvalidSetting: the address cannot be read.
        CannotStart: on entering, when the state file is damaged.
    """

    def __init__(
        self, url: str, *, path: Path | None = None, namespace: str = "gateway", poll_s: float = POLL_S
    ) -> None:
        self._redis = RedisConnection(url)
        self._ledger = RedisLedger(self._redis, namespace=namespace)
        self._file = None if path is None else StateFile(path)
        self._feed = Feed()
        self._obedience = Obedience(self._feed)
        self._watch = Watch(self._poll, self._ledger.words, poll_s=poll_s)
        # What stood in the store and what was obeyed when they were last judged: a poll fetches only what is new.
        self._judged: dict[str, tuple[str, str]] = {}
        self._is_reached: bool | None = None
        self._saved_count = 0
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._file is not None:
            kept = await asyncio.to_thread(KeptRoutes.load, self._file)
            self._obedience.restore(kept.records.values())
            self._saved_count = self._obedience.count
        await self._resources.enter_async_context(self._redis)
        saving = asyncio.create_task(self._keep_saving())
        self._resources.push_async_callback(asyncio.wait, [saving])
        self._resources.callback(self._feed.close)  # which ends the saving, after the last save
        await self._resources.enter_async_context(self._watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def read(self, name: str, *, give_up_at: float | None = None) -> RouteRecord | None:
        """See `RouteStore.read`."""
        record = (await self._sound_sight(name, give_up_at=give_up_at or _give_up_at())).record
        return None if record is None or record.is_deleted else record

    async def write(self, change: RouteChange, *, give_up_at: float | None = None) -> Written:
        """See `RouteStore.write`."""
        give_up_at = give_up_at or _give_up_at()
        sight = await self._sound_sight(change.name, give_up_at=give_up_at)
        if (same := settle(sight.record, change)) is not None:
            return Written(same, is_new_revision=False)
        record = next_record(sight.record, change, now=sight.at, server=sight.server, write_id=secrets.token_hex(8))
        try:
            return await self._commit(sight, record, change.audit_of(record), give_up_at=give_up_at)
        except Moved as exc:
            expected = None if change.expected is None else change.expected.etag
            raise RevisionMismatch(change.name, expected=expected, current=exc.etag) from exc

    async def adopt(self, name: str, *, actor: str, reason: str = "", request_id: str = "") -> Written:
        """See `RouteStore.adopt`. Where the stored record cannot be read, what this replica obeys replaces it."""
        give_up_at = _give_up_at()
        sight, verdict, _ = await self._judged_sight(name, give_up_at=give_up_at)
        if verdict is not Verdict.REGRESSED:
            if sight.record is None or sight.record.is_deleted:
                raise UnknownRoute(f"route '{name}' cannot be adopted, there is no such route")
            return Written(sight.record, is_new_revision=False)
        known = self._obedience.known(name)
        accepted = known if isinstance(sight.stored, Unreadable) else sight.record
        if accepted is None:
            raise UnknownRoute(f"route '{name}' cannot be adopted: it cannot be read, and no other is known")
        record = adopted_record(
            known,
            accepted,
            now=sight.at,
            server=sight.server,
            write_id=secrets.token_hex(8),
            actor=actor,
            reason=reason,
        )
        audit = AuditRecord(
            at=record.at,
            actor=actor,
            action="adopt",
            route=name,
            revision=record.revision,
            reason=reason,
            request_id=request_id,
        )
        try:
            return await self._commit(sight, record, audit, give_up_at=give_up_at)
        except Moved as exc:
            raise RevisionMismatch(name, expected=accepted.position.etag, current=exc.etag) from exc

    async def history(self, name: str) -> list[RouteRecord]:
        """See `RouteStore.history`."""
        return await self._ledger.history(name)

    async def audit(self, *, limit: int = 1000) -> list[AuditRecord]:
        """See `RouteStore.audit`."""
        return await self._ledger.audit(limit)

    def changes(self) -> AsyncIterator[StoreEvent]:
        """See `RouteStore.changes`."""
        return self._feed.reader()

    async def announce(self, report: ReplicaReport) -> None:
        """See `ReplicaDirectory.announce`."""
        await self._ledger.announce(report)

    async def replicas(self) -> list[ReplicaReport]:
        """See `ReplicaDirectory.replicas`."""
        return await self._ledger.replicas()

    async def _commit(self, sight: Sight, record: RouteRecord, audit: AuditRecord, *, give_up_at: float) -> Written:
        since = self._obedience.count
        await self._ledger.commit(sight, record, audit, give_up_at=give_up_at)
        self._obedience.consider(record.name, record, since=since)
        return Written(record, is_new_revision=True)

    async def _sound_sight(self, name: str, *, give_up_at: float) -> Sight:
        """Look at a route that is to be obeyed.

        Raises:
            StoreRegressed: what is stored is not.
        """
        sight, verdict, reason = await self._judged_sight(name, give_up_at=give_up_at)
        if verdict is Verdict.REGRESSED:
            known = self._obedience.known(name)
            raise StoreRegressed(
                name,
                reason,
                known=None if known is None else known.position.etag,
                stored=None if sight.record is None else sight.record.position.etag,
            )
        return sight

    async def _judged_sight(self, name: str, *, give_up_at: float) -> tuple[Sight, Verdict, str]:
        """Look at a route and judge it, giving it back first to a store that has lost it."""
        for _ in range(LOOKS):
            since = self._obedience.count
            sight = await self._ledger.look(name, give_up_at=give_up_at)
            verdict, reason = self._obedience.consider(name, sight.stored, since=since)
            if verdict is Verdict.RESEED:
                await self._seed(name, sight, give_up_at=give_up_at)
            elif verdict is not Verdict.STALE:
                return sight, verdict, reason
        raise StoreUnavailable(f"route '{name}' changes too fast to be read", outcome="not_written")

    async def _seed(self, name: str, sight: Sight, *, give_up_at: float) -> None:
        known = self._obedience.known(name)
        if known is None:
            return
        record = seed_record(known, sight.record, now=sight.at, server=sight.server, write_id=secrets.token_hex(8))
        audit = AuditRecord(
            at=sight.at,
            actor=_SEED_ACTOR,
            action="seed",
            route=name,
            revision=record.revision,
            reason=_SEED_REASON,
            request_id="",
        )
        try:
            await self._commit(sight, record, audit, give_up_at=give_up_at)
        except Moved:
            return  # another replica was faster; whoever asked looks again
        log.warning("route_reseeded", extra={"route": name, "revision": record.revision, "epoch": record.epoch})

    async def _poll(self) -> None:
        try:
            await self._ask()
        except StoreUnavailable as exc:
            if self._is_reached is not False:
                log.warning("store_lost", extra={"reason": str(exc)})
                self._feed.post(StoreLost(str(exc)))
            self._is_reached = False
        else:
            if not self._is_reached:
                log.info("store_reached")
                self._feed.post(StoreReached())
            self._is_reached = True

    async def _ask(self) -> None:
        """Read what changed, and obey, give back or report each route."""
        since = self._obedience.count
        heads = await self._ledger.heads()
        self._judged = {name: judged for name, judged in self._judged.items() if name in heads}
        changed = [name for name, head in heads.items() if self._judged.get(name) != (head, self._obeyed_etag(name))]
        stored = dict(zip(changed, await self._ledger.records(changed), strict=True))
        lost = [record.name for record in self._obedience.records if record.name not in heads]
        stored.update(dict.fromkeys(lost))
        for name, found in stored.items():
            verdict, _ = self._obedience.consider(name, found, since=since)
            if verdict is Verdict.RESEED:
                with suppress(StoreRegressed):  # told already
                    await self._sound_sight(name, give_up_at=_give_up_at())
                continue
            # A record written after the heads were read is judged again by its own head.
            is_of_head = isinstance(found, Unreadable) or (found is not None and found.position.etag == heads[name])
            if is_of_head and verdict is not Verdict.STALE:
                self._judged[name] = (heads[name], self._obeyed_etag(name))

    def _obeyed_etag(self, name: str) -> str:
        known = self._obedience.known(name)
        return "" if known is None else known.position.etag

    async def _keep_saving(self) -> None:
        async for event in self._feed.reader():
            is_news = isinstance(event, RoutePublished) and self._saved_count != self._obedience.count
            if self._file is None or not is_news:
                continue
            count, records = self._obedience.count, {record.name: record for record in self._obedience.records}
            try:
                await asyncio.to_thread(KeptRoutes(records).save, self._file)
            except StoreUnavailable as exc:  # Redis has the routes; the file only helps a restart without it
                log.warning("route_state_not_saved", extra={"reason": str(exc)})
            else:
                self._saved_count = count


def _give_up_at() -> float:
    return asyncio.get_running_loop().time() + VERB_TIMEOUT_S
