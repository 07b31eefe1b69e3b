"""The values a route store keeps and hands out: records, positions, changes, reports.

Never looks inside a document; what a route means is the business of `gateway.routing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

import msgspec

Action = Literal["automatic", "configured", "put", "shift", "abort", "rollback", "delete", "adopt", "seed"]
"""What made a revision. `automatic` (a model's own route) and `configured` (from the settings) stand for no
operator's decision; `seed` is a replica's memory, written into a store that had lost the route."""


class Position(msgspec.Struct, frozen=True):
    """Where a route stands: (epoch, revision) is never used twice, the hash says what it held there."""

    epoch: int
    revision: int
    hash: str

    @property
    def etag(self) -> str:
        """The position as the opaque part of a strong entity tag, unquoted."""
        return f"{self.epoch}-{self.revision}-{self.hash}"

    @classmethod
    def from_etag(cls, etag: str) -> Position | None:
        """Read an entity tag back, unquoted; None when this store never made such a tag."""
        epoch, _, rest = etag.partition("-")
        revision, _, content_hash = rest.partition("-")
        if not (epoch.isascii() and epoch.isdigit() and revision.isascii() and revision.isdigit() and content_hash):
            return None
        return cls(int(epoch), int(revision), content_hash)


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision says, as text that the store does not read.

    Attributes:
        document: Canonical JSON of the route, without its reason.
        salt: Key of the assignment hash, hex.
        slots: Who owns which of the 10,000 slots, in runs.
    """

    document: str
    salt: str
    slots: str

    @property
    def hash(self) -> str:
        """blake2b-128 over the three texts, hex; equal contents have equal hashes in every release."""
        digest = hashlib.blake2b(digest_size=16)
        for text in (self.document, self.salt, self.slots):
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "big") + encoded)
        return digest.hexdigest()


class Ancestor(msgspec.Struct, frozen=True):
    """Up to where an earlier epoch of the same route was taken into account.

    Attributes:
        revision: The last revision of that epoch which this line knows, None for all of them (adopted).
        hash: What it held there.
    """

    revision: int | None
    hash: str


class Unreadable(msgspec.Struct, frozen=True):
    """Something stands where a record should, and it is none; the reason says why."""

    reason: str


class RouteRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of one route as the store keeps it.

    Attributes:
        content: None once the route is deleted: the record stays, so that no position is used twice.
        hash: The content's hash, "" when deleted.
        at: When, in seconds since 1970 by the store's clock.
        server: The run of the store that took it; a later write into another run opens a new epoch.
        write_id: Random; tells one's own write from another's at the same position.
        lineage: Earlier epochs by number.
    """

    name: str
    epoch: int
    revision: int
    content: Content | None
    hash: str
    action: Action
    actor: str
    reason: str
    at: float
    server: str = ""
    write_id: str = ""
    lineage: dict[int, Ancestor] = {}

    @property
    def position(self) -> Position:
        """Its (epoch, revision, hash)."""
        return Position(self.epoch, self.revision, self.hash)

    @property
    def is_deleted(self) -> bool:
        """Whether this record only remembers that the route was deleted."""
        return self.content is None

    def encode(self) -> bytes:
        """Write the record as JSON."""
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> RouteRecord | Unreadable:
        """Read a record back, and check that its content is the one that its hash was made of."""
        try:
            record = msgspec.json.decode(raw, type=RouteRecord)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            return Unreadable(f"the stored record cannot be read: {exc}")
        return record.checked()

    def checked(self) -> RouteRecord | Unreadable:
        """Return the record itself if its content is the one that its hash was made of."""
        if self.hash == ("" if self.content is None else self.content.hash):
            return self
        return Unreadable(f"the content stored at revision {self.revision} does not match its hash")


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what, when and why; `at` in seconds since 1970."""

    at: float
    actor: str
    action: Action
    route: str
    revision: int
    reason: str
    request_id: str
    changes: tuple[Mapping[str, object], ...] = ()


class RouteChange(msgspec.Struct, frozen=True, kw_only=True):
    """A write that somebody asks for.

    Attributes:
        expected: The position the route must be at; None: there must be no such route.
        content: What it shall say; None deletes it.
        changes: The difference for the audit, as `{"pointer", "from", "to"}` objects.
    """

    name: str
    expected: Position | None
    content: Content | None
    action: Action
    actor: str
    reason: str = ""
    request_id: str = ""
    changes: tuple[Mapping[str, object], ...] = ()

    def audit_of(self, record: RouteRecord) -> AuditRecord:
        """Make the audit record of this change, once `record` is what it led to."""
        return AuditRecord(
            at=record.at,
            actor=self.actor,
            action=self.action,
            route=self.name,
            revision=record.revision,
            reason=self.reason,
            request_id=self.request_id,
            changes=self.changes,
        )


class Written(msgspec.Struct, frozen=True):
    """The answer to a write: the route as it now stands, and whether this write made a revision."""

    record: RouteRecord
    is_new_revision: bool


class AppliedRoute(msgspec.Struct, frozen=True):
    """What one replica did with a route: the revision it serves, and why not the newest if it does not."""

    revision: int
    applied: bool
    reason: str = ""


class ReplicaReport(msgspec.Struct, frozen=True, kw_only=True):
    """One replica's word about itself.

    Attributes:
        admin: URL of its admin plane.
        last_seen: Seconds since 1970 by the store's clock, set by the store.
    """

    id: str
    admin: str
    routes: dict[str, AppliedRoute]
    last_seen: float = 0.0
