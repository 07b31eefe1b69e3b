"""Which record may follow which: what a replica obeys, and what the next record of a route is.

Pure: knows no store, no clock and no transport.

A position (epoch, revision) is used once. An epoch ends when the store may have lost something: it runs in another
process than the one that took the last revision (restarted, failed over), it was re-seeded, or an operator adopted it.
A record names, for every earlier epoch it descends from, the last revision that was taken into account; a replica that
knows a later one than that does not obey.
"""

from __future__ import annotations

import enum

import msgspec

from gateway.errors import RevisionMismatch, UnknownRoute
from gateway.store.records import Ancestor, RouteChange, RouteRecord, Unreadable

KEPT_EPOCHS = 64
"""Epochs a record remembers; a replica that slept through more has to be told to adopt."""


class Verdict(enum.Enum):
    """What a replica does with what the store holds."""

    SAME = "same"
    OBEY = "obey"
    RESEED = "reseed"
    REGRESSED = "regressed"
    STALE = "stale"
    """The reading is older than what was obeyed meanwhile; `judge` cannot know that."""


def judge(known: RouteRecord | None, stored: RouteRecord | Unreadable | None) -> tuple[Verdict, str]:
    """Decide between what this replica obeys and what the store holds of the same route.

    Args:
        known: The last record obeyed, deleted ones included; None: never heard of the route.
        stored: What the store holds now; None: nothing at all.
    Returns: The verdict, and for REGRESSED the reason in words.
    """
    if stored is None:
        return (Verdict.SAME if known is None else Verdict.RESEED), ""
    if isinstance(stored, Unreadable):
        return Verdict.REGRESSED, stored.reason
    if known is None:
        return Verdict.OBEY, ""
    if stored.epoch == known.epoch:
        return _judge_within_epoch(known, stored)
    if stored.epoch > known.epoch:
        ancestor = stored.lineage.get(known.epoch)
        if ancestor is not None and _covers(ancestor, known):
            return Verdict.OBEY, ""
    elif stored.epoch in known.lineage:
        return Verdict.REGRESSED, f"the store went back from revision {known.revision} to {stored.revision}"
    # From here on neither descends from the other: the store forgot, and somebody began anew.
    if _stands_for_nobody(known):
        return Verdict.OBEY, ""
    if stored.action == "seed" or _stands_for_nobody(stored):
        return Verdict.RESEED, ""
    return Verdict.REGRESSED, (
        f"the store holds revision {stored.revision} of a line that does not know revision {known.revision} served here"
    )


def _judge_within_epoch(known: RouteRecord, stored: RouteRecord) -> tuple[Verdict, str]:
    if stored.revision > known.revision:
        return Verdict.OBEY, ""
    if stored.revision < known.revision:
        return Verdict.REGRESSED, f"the store went back from revision {known.revision} to {stored.revision}"
    if stored.hash == known.hash:
        return Verdict.SAME, ""
    return Verdict.REGRESSED, f"the store changed the content of revision {known.revision}"


def _covers(ancestor: Ancestor, known: RouteRecord) -> bool:
    if ancestor.revision is None or known.revision < ancestor.revision:
        return True
    return known.revision == ancestor.revision and known.hash == ancestor.hash


def _stands_for_nobody(record: RouteRecord) -> bool:
    """Whether no operator ever decided it: it can be made again from the models or the settings."""
    return record.revision == 1 and record.action in ("automatic", "configured")


def settle(current: RouteRecord | None, change: RouteChange) -> RouteRecord | None:
    """Decide whether a change may be written over what the store holds.

    Args:
        current: What the store holds, deleted ones included.
    Returns: The current record when it says the same already, None when a new revision is needed.
    Raises:
        RevisionMismatch: the route is not where the change expects it.
        UnknownRoute: there is nothing to delete.
    """
    found = None if current is None or current.is_deleted else current
    position = None if found is None else found.position
    if position != change.expected:
        expected = None if change.expected is None else change.expected.etag
        raise RevisionMismatch(change.name, expected=expected, current=None if position is None else position.etag)
    if found is None and change.content is None:
        raise UnknownRoute(f"route '{change.name}' cannot be deleted, there is no such route")
    return found if found is not None and found.content == change.content else None


def next_record(
    current: RouteRecord | None, change: RouteChange, *, now: float, server: str, write_id: str
) -> RouteRecord:
    """Make the record that a write leaves behind.

    Args:
        current: What the store holds, deleted ones included.
        now: The store's clock, seconds since 1970.
        server: The run of the store.
    """
    lineage: dict[int, Ancestor] = {}
    if current is None:
        epoch, revision = _epoch_at(now), 1
    elif current.is_deleted or change.action == "automatic":  # what nobody decided begins anew at revision 1
        epoch, revision, lineage = _next_epoch(now, current), 1, _descent(current)
    elif current.server != server:
        epoch, revision, lineage = _next_epoch(now, current), current.revision + 1, _descent(current)
    else:
        epoch, revision, lineage = current.epoch, current.revision + 1, current.lineage
    return RouteRecord(
        name=change.name,
        epoch=epoch,
        revision=revision,
        content=change.content,
        hash="" if change.content is None else change.content.hash,
        action=change.action,
        actor=change.actor,
        reason=change.reason,
        at=now,
        server=server,
        write_id=write_id,
        lineage=lineage,
    )


def seed_record(
    known: RouteRecord, replaced: RouteRecord | None, *, now: float, server: str, write_id: str
) -> RouteRecord:
    """Make the record that gives a forgetful store back what this replica knows, in a new epoch.

    Args:
        replaced: A seed of a replica that knew less, or a route that stands for nobody; None: the store is empty.
    Returns: The known revision, its number, author and time; only epoch, server and lineage are new.
    """
    return msgspec.structs.replace(
        known,
        epoch=_next_epoch(now, known, replaced),
        action="seed",
        server=server,
        write_id=write_id,
        lineage=_descent(known, replaced),
    )


def adopted_record(
    known: RouteRecord | None,
    stored: RouteRecord,
    *,
    now: float,
    server: str,
    write_id: str,
    actor: str,
    reason: str,
) -> RouteRecord:
    """Make the record by which every replica accepts what the store holds, whatever they knew.

    Returns: The stored content above both revisions, in a new epoch that supersedes both epochs whole.
    """
    superseded = {record.epoch: Ancestor(None, "") for record in (known, stored) if record is not None}
    return msgspec.structs.replace(
        stored,
        epoch=_next_epoch(now, known, stored),
        revision=max(stored.revision, known.revision if known is not None else 0) + 1,
        action="adopt",
        actor=actor,
        reason=reason,
        at=now,
        server=server,
        write_id=write_id,
        lineage=_newest(_descent(known, stored) | superseded),
    )


def _epoch_at(now: float) -> int:
    """Milliseconds since 1970: also a store that lost everything, twice, does not use an epoch again."""
    return int(now * 1000)


def _next_epoch(now: float, *records: RouteRecord | None) -> int:
    return max(_epoch_at(now), *(record.epoch + 1 for record in records if record is not None))


def _descent(*records: RouteRecord | None) -> dict[int, Ancestor]:
    """Join the lineages of records and the records themselves; where two speak of an epoch the later one counts."""
    joined: dict[int, Ancestor] = {}
    for record in records:
        if record is None:
            continue
        for epoch, ancestor in (*record.lineage.items(), (record.epoch, Ancestor(record.revision, record.hash))):
            present = joined.get(epoch)
            if present is None or _is_later(ancestor, present):
                joined[epoch] = ancestor
    return _newest(joined)


def _is_later(ancestor: Ancestor, other: Ancestor) -> bool:
    if other.revision is None:
        return False
    return ancestor.revision is None or ancestor.revision > other.revision


def _newest(lineage: dict[int, Ancestor]) -> dict[int, Ancestor]:
    return {epoch: lineage[epoch] for epoch in sorted(lineage)[-KEPT_EPOCHS:]}
