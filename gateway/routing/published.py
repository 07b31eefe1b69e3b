"""A revision in force: the immutable snapshot that a request takes at arrival and keeps until its answer.

Never fetches or writes; it is made from what the store holds, or for what the store shall hold.
"""

from __future__ import annotations

from functools import cached_property

import msgspec

from gateway.errors import InvalidRoute, UnreadableRevision
from gateway.routing.document import parse_route
from gateway.routing.route import Route, content_of, route_salt, to_document
from gateway.routing.splitter import Slots, Splitter, deal_slots, move_slots, moved_bp
from gateway.store.records import Content, Position, RouteRecord


class PublishedRoute(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One revision of a route, ready to be served.

    Attributes:
        hash: Of the content: document, salt and slots.
        at: When it was made, seconds since 1970.
    """

    epoch: int
    revision: int
    route: Route
    salt: bytes
    slots: Slots
    hash: str
    actor: str
    reason: str
    at: float

    @property
    def position(self) -> Position:
        """Where it stands in the store, for compare-and-set; `position.etag` is its entity tag."""
        return Position(self.epoch, self.revision, self.hash)

    @property
    def document(self) -> dict[str, object]:
        """The route as the admin API answers it."""
        return {**to_document(self.route), "revision": self.revision}

    @cached_property
    def splitter(self) -> Splitter:
        """The splitter of this revision, made at the first use."""
        samples_bp = {shadow.name: shadow.sample_bp for shadow in self.route.shadows}
        return Splitter(self.salt, self.slots, samples_bp)


def published_route(record: RouteRecord) -> PublishedRoute:
    """Make the snapshot of a record that is not deleted.

    Raises:
        UnreadableRevision: the document or the slots cannot be read.
    """
    if record.content is None:
        raise UnreadableRevision(f"route '{record.name}': revision {record.revision} is a deletion")
    try:
        document = msgspec.json.decode(record.content.document)
        route = msgspec.structs.replace(parse_route(document, name=record.name), reason=record.reason)
        slots = Slots.decode(record.content.slots, route.weights_bp)
        salt = bytes.fromhex(record.content.salt)
    except (InvalidRoute, ValueError) as exc:
        raise UnreadableRevision(f"route '{record.name}': revision {record.revision} cannot be read: {exc}") from exc
    return PublishedRoute(
        epoch=record.epoch,
        revision=record.revision,
        route=route,
        salt=salt,
        slots=slots,
        hash=record.hash,
        actor=record.actor,
        reason=record.reason,
        at=record.at,
    )


def assign_variant(published: PublishedRoute, key: str) -> int:
    """Find the index of the variant that answers this routing key."""
    return published.splitter.variant_of(key)


def next_content(route: Route, *, current: PublishedRoute | None) -> Content:
    """Put together what a write of `route` shall store.

    Args:
        current: The revision it follows, whose salt stays and whose slots move as little as possible; None deals anew.
    """
    if current is None:
        return content_of(route, salt=route_salt(route.name), slots=deal_slots(route.weights_bp).encode())
    return content_of(route, salt=current.salt, slots=move_slots(current.slots, route.weights_bp).encode())


def moved_share_bp(current: PublishedRoute, content: Content, route: Route) -> int:
    """Count the share of keys, in basis points, that a write of this content of `route` would move."""
    return moved_bp(current.slots, Slots.decode(content.slots, route.weights_bp))
