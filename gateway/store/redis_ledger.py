"""The routes as Redis holds them: keys, scripts and their answers.

Holds no state and no policy: `lineage.py` decides what may follow what, `redis_store.py` when to ask.

Every key has one hash tag, so that one script may touch them all on a cluster:

    {gateway:routes}:heads            hash: route -> entity tag, what a write is compared with
    {gateway:routes}:records          hash: route -> record, JSON; a deleted route leaves its last one
    {gateway:routes}:history:<route>  list: records, newest first, capped
    {gateway:routes}:audit            stream: audit records, capped
    {gateway:routes}:seen, :reports   sorted set and hash: the replicas alive
    {gateway:routes}:changed          channel: the name of a route that changed

A write is two calls: `look.lua` reads the clock, the run and the route, the next record is made from that, and
`commit.lua` writes it whole if nothing has changed since and its deadline, by Redis's own clock, has not passed. The
deadline is no later than the moment the writer stops waiting, so what was given up never lands afterwards.
Redis has to keep its keys: `maxmemory-policy noeviction`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TypeVar

import msgspec

from gateway.errors import StoreUnavailable
from gateway.store.records import AuditRecord, ReplicaReport, RouteRecord, Unreadable
from gateway.store.redis_connection import CALL_TIMEOUT_S, RedisConnection, Script

KEPT_REVISIONS = 100
KEPT_AUDIT_RECORDS = 10_000
REPLICA_LIFE_S = 30

_LOOK, _COMMIT, _ANNOUNCE, _REPLICAS = (
    Script(name) for name in ("look.lua", "commit.lua", "announce.lua", "replicas.lua")
)

Reply = TypeVar("Reply")


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a route, which a commit then builds on.

    Attributes:
        at_us: Redis's clock, microseconds since 1970.
        seen_at: Loop time at which the answer was here.
        server: The run of Redis.
        head: The head as stored, "" for none.
        stored: The record; None for none.
    """

    name: str
    at_us: int
    seen_at: float
    server: str
    head: str
    stored: RouteRecord | Unreadable | None

    @property
    def at(self) -> float:
        """Redis's clock, seconds since 1970."""
        return self.at_us / 1_000_000

    @property
    def record(self) -> RouteRecord | None:
        """The record if there is one that can be read."""
        return self.stored if isinstance(self.stored, RouteRecord) else None


class Moved(Exception):
    """Somebody else wrote between the look and the commit; nothing was written.

    Attributes:
        etag: Of the route as it stands now, None when there is none or it was deleted.
    """

    def __init__(self, head: str) -> None:
        super().__init__(head)
        self.etag = None if head == "" or head.endswith("-") else head


class RedisLedger:
    """Reads and writes the keys of one namespace.

    Every call raises StoreUnavailable, "unknown" only from `commit`.
    """

    def __init__(self, redis: RedisConnection, *, namespace: str) -> None:
        self._redis = redis
        tag = f"{{{namespace}:routes}}"
        self._heads, self._records, self._audit = f"{tag}:heads", f"{tag}:records", f"{tag}:audit"
        self._history = f"{tag}:history:"
        self._seen, self._reports = f"{tag}:seen", f"{tag}:reports"
        self._changed = f"{tag}:changed"

    async def heads(self) -> dict[str, str]:
        """Fetch the entity tag of every route, deleted ones included."""
        reply = await self._redis.read("HGETALL", self._heads)
        heads = _reply(reply, dict[bytes, bytes])
        return {name.decode(errors="replace"): head.decode(errors="replace") for name, head in heads.items()}

    async def records(self, names: Sequence[str]) -> list[RouteRecord | Unreadable | None]:
        """Fetch the records of some routes, in their order."""
        if not names:
            return []
        reply = await self._redis.read("HMGET", self._records, *names)
        return [None if raw is None else RouteRecord.decode(raw) for raw in _reply(reply, list[bytes | None])]

    async def look(self, name: str, *, give_up_at: float) -> Sight:
        """See where a route stands, and by which clock."""
        reply = await self._redis.read_script(_LOOK, (self._heads, self._records), name, give_up_at=give_up_at)
        seen_at = asyncio.get_running_loop().time()
        seconds, microseconds, server, head, raw = _reply(reply, tuple[bytes, bytes, bytes, bytes, bytes])
        return Sight(
            name=name,
            at_us=int(seconds) * 1_000_000 + int(microseconds),
            seen_at=seen_at,
            server=server.decode(),
            head=head.decode(errors="replace"),
            stored=RouteRecord.decode(raw) if raw else None,
        )

    async def commit(self, sight: Sight, record: RouteRecord, audit: AuditRecord, *, give_up_at: float) -> None:
        """Write a record where the look saw its route.

        Raises:
            Moved: the route is no longer there, or Redis runs anew.
            StoreUnavailable: "not_written" is certain and stays so; "unknown" when nobody can be asked any more.
        """
        started_at = asyncio.get_running_loop().time()
        patience_s = min(CALL_TIMEOUT_S, give_up_at - started_at)
        if patience_s <= 0:
            raise StoreUnavailable("redis: no time left for the write", outcome="not_written")
        # Redis's clock stood at `at_us` before `seen_at`, so it is past this deadline when the patience ends.
        deadline_us = sight.at_us + int((started_at - sight.seen_at + patience_s) * 1_000_000)
        history = "fresh" if record.revision == 1 else "keep" if record.is_deleted else "grow"
        try:
            reply = await self._redis.write_script(
                _COMMIT,
                (self._heads, self._records, self._history + sight.name, self._audit),
                *(sight.name, sight.head, sight.server, deadline_us),
                *(record.position.etag, record.encode(), msgspec.json.encode(audit)),
                *(history, KEPT_REVISIONS, KEPT_AUDIT_RECORDS, self._changed),
                give_up_at=started_at + patience_s,
            )
        except StoreUnavailable as exc:
            await self._find_out(exc, sight, record, deadline_us, give_up_at=give_up_at)
            return
        outcome, *found = _reply(reply, list[bytes])
        if outcome == b"moved":
            raise Moved(found[0].decode())
        if outcome == b"late":
            raise StoreUnavailable("redis: began the write after its deadline", outcome="not_written")

    async def _find_out(
        self, lost: StoreUnavailable, sight: Sight, record: RouteRecord, deadline_us: int, *, give_up_at: float
    ) -> None:
        """Look whether a commit without an answer has landed, or never will; return if it has."""
        try:
            now = await self.look(sight.name, give_up_at=give_up_at)
            if lost.outcome == "unknown" and now.head == sight.head and now.at_us < deadline_us:
                # It may still be under way; once its deadline has passed it is not.
                await asyncio.sleep((deadline_us - now.at_us) / 1_000_000)
                now = await self.look(sight.name, give_up_at=give_up_at)
        except StoreUnavailable as exc:
            raise StoreUnavailable(str(lost), outcome="unknown") from exc
        found = now.record
        if found is not None and found.write_id == record.write_id:
            return
        # Unchanged, it has not landed; and where another's revision stands in its place it no longer can.
        is_place_taken = found is not None and (found.epoch, found.revision) == (record.epoch, record.revision)
        is_over = lost.outcome == "not_written" or now.at_us >= deadline_us
        if (now.head == sight.head and is_over) or is_place_taken:
            raise StoreUnavailable(str(lost), outcome="not_written") from lost
        raise StoreUnavailable(str(lost), outcome="unknown") from lost

    async def history(self, name: str) -> list[RouteRecord]:
        """Fetch the revisions still kept, newest first; one that cannot be read is left out."""
        reply = await self._redis.read("LRANGE", self._history + name, 0, -1)
        decoded = [RouteRecord.decode(raw) for raw in _reply(reply, list[bytes])]
        return [record for record in decoded if isinstance(record, RouteRecord)]

    async def audit(self, limit: int) -> list[AuditRecord]:
        """Fetch audit records, newest first; one that cannot be read is left out."""
        reply = await self._redis.read("XREVRANGE", self._audit, "+", "-", "COUNT", limit)
        entries = _reply(reply, list[tuple[bytes, dict[bytes, bytes]]])
        found = (_decoded(fields.get(b"record", b""), AuditRecord) for _, fields in entries)
        return [record for record in found if record is not None]

    async def announce(self, report: ReplicaReport) -> None:
        """Note that a replica is alive."""
        keys = (self._seen, self._reports)
        await self._redis.write_script(_ANNOUNCE, keys, report.id, msgspec.json.encode(report), REPLICA_LIFE_S)

    async def replicas(self) -> list[ReplicaReport]:
        """Fetch what the replicas alive said last, by id."""
        reply = await self._redis.read_script(_REPLICAS, (self._seen, self._reports), REPLICA_LIFE_S)
        answers = _reply(reply, list[bytes])
        reports = [
            msgspec.structs.replace(report, last_seen=float(last_seen))
            for last_seen, raw in zip(answers[::2], answers[1::2], strict=True)
            if (report := _decoded(raw, ReplicaReport)) is not None
        ]
        return sorted(reports, key=lambda report: report.id)

    def words(self) -> AsyncGenerator[None]:
        """Yield when the subscription stands, and when any route has changed."""
        return self._redis.listen(self._changed)


def _decoded(raw: bytes, expected: type[Reply]) -> Reply | None:
    """Read what another release may have written in another form."""
    try:
        return msgspec.json.decode(raw, type=expected)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _reply(reply: object, expected: type[Reply]) -> Reply:
    """Check the shape of an answer, as another server or a proxy may give another one."""
    try:
        return msgspec.convert(reply, type=expected)
    except msgspec.ValidationError as exc:
        raise StoreUnavailable(f"redis: answered something unexpected: {exc}", outcome="not_written") from exc
