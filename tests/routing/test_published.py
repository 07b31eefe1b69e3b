"""Owns the promises of a revision in force: what the store keeps is what is served, on every replica and for ever."""

import msgspec
import pytest

from gateway.errors import UnreadableRevision
from gateway.routing.edits import apply_shift
from gateway.routing.published import assign_variant, moved_share_bp, next_content, published_route
from gateway.routing.route import Shadow
from gateway.store.records import Content, RouteRecord
from tests.routing.routes import publish, route_of

KEYS = [f"user-{number}" for number in range(5000)]


def record_of(content: Content | None) -> RouteRecord:
    return RouteRecord(
        name="fraud",
        epoch=5,
        revision=7,
        content=content,
        hash="" if content is None else content.hash,
        action="put",
        actor="ana",
        reason="why",
        at=12.5,
    )


def test_a_record_becomes_the_revision_it_was_made_of() -> None:
    route = route_of(9000, 1000, shadows=(Shadow(name="next", model="wide", version=1, sample_bp=500),), reason="why")
    content = next_content(route, current=None)
    published = published_route(record_of(content))
    assert published.route == route
    assert (published.epoch, published.revision, published.hash) == (5, 7, content.hash)
    assert (published.actor, published.reason, published.at) == ("ana", "why", 12.5)
    assert published.document["revision"] == 7
    assert published.position.etag == f"5-7-{content.hash}"


def test_the_same_key_has_the_same_variant_on_every_replica_and_after_a_restart() -> None:
    first, second = publish(route_of(6000, 3000, 1000)), publish(route_of(6000, 3000, 1000))
    stored = published_route(RouteRecord.decode(record_of(next_content(first.route, current=None)).encode()))  # type: ignore[arg-type]  # a sound record decodes to a record
    assert [assign_variant(first, key) for key in KEYS] == [assign_variant(second, key) for key in KEYS]
    assert [assign_variant(first, key) for key in KEYS] == [assign_variant(stored, key) for key in KEYS]


def test_a_rollback_brings_the_same_keys_back_whatever_happened_between() -> None:
    first = publish(route_of(8000, 1000, 1000))
    content = next_content(first.route, current=None)
    shifted = publish(apply_shift(first.route, {"b": 40, "c": 0}), first)
    again = publish(apply_shift(shifted.route, {"b": 0, "c": 30}), shifted)
    assert [assign_variant(again, key) for key in KEYS] != [assign_variant(first, key) for key in KEYS]
    back = published_route(msgspec.structs.replace(record_of(content), revision=4))
    assert [assign_variant(back, key) for key in KEYS] == [assign_variant(first, key) for key in KEYS]


def test_the_same_document_again_is_the_same_content() -> None:
    first = publish(route_of(9000, 1000))
    assert next_content(first.route, current=first).hash == first.hash
    assert next_content(msgspec.structs.replace(first.route, reason="new"), current=first).hash == first.hash


def test_the_share_that_would_move_is_known_before() -> None:
    first = publish(route_of(8000, 1000, 1000))
    raised = apply_shift(first.route, {"b": 25})
    assert moved_share_bp(first, next_content(raised, current=first), raised) == 1500
    swapped = route_of(1000, 8000, 1000)
    assert moved_share_bp(first, next_content(swapped, current=first), swapped) == 7000


@pytest.mark.parametrize(
    "content",
    [
        None,
        Content(document="{", salt="00", slots="0*10000"),
        Content(document="[]", salt="00", slots="0*10000"),
        Content(document='{"variants":[{"name":"a","model":"m","version":1,"weight":100}]}', salt="00", slots="0*1"),
        Content(document='{"variants":[{"name":"a","model":"m","version":1,"weight":100}]}', salt="x", slots="0*10000"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(content: Content | None) -> None:
    with pytest.raises(UnreadableRevision, match="route 'fraud': revision 7"):
        published_route(record_of(content))
