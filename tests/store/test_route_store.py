"""Owns the promises every route store keeps: in memory and in Redis, the same tests."""

import asyncio

import pytest

from gateway.errors import RevisionMismatch, UnknownRoute
from gateway.store.interface import ReplicaDirectory
from gateway.store.records import AppliedRoute, Position, ReplicaReport, RouteRecord
from tests.store.changes import Listener, change, content, put
from tests.store.conftest import AnyStore


async def test_a_route_is_read_as_it_was_written(store: AnyStore) -> None:
    written = await store.write(change(content(1), reason="a first look"))
    assert written.is_new_revision
    record = written.record
    assert (record.name, record.revision, record.content, record.hash) == ("fraud", 1, content(1), content(1).hash)
    assert (record.action, record.actor, record.reason) == ("put", "ana", "a first look")
    assert await store.read("fraud") == record


async def test_an_unknown_route_reads_as_none(store: AnyStore) -> None:
    assert await store.read("fraud") is None
    assert await store.history("fraud") == []
    assert await store.audit() == []


async def test_revisions_count_up_by_one(store: AnyStore) -> None:
    record = None
    for version in range(1, 6):
        record = await put(store, version, record)
        assert record.revision == version
    assert len({(entry.epoch, entry.revision) for entry in await store.history("fraud")}) == 5


async def test_a_write_from_elsewhere_is_refused_and_writes_nothing(store: AnyStore) -> None:
    first = await put(store, 1)
    second = await put(store, 2, first)
    stale = [first.position, None, Position(second.epoch, 3, second.hash), Position(second.epoch, 2, first.hash)]
    for expected in stale:
        with pytest.raises(RevisionMismatch) as caught:
            await store.write(change(content(3), expected))
        assert caught.value.current == second.position.etag
        assert caught.value.expected == (None if expected is None else expected.etag)
    assert await store.read("fraud") == second
    assert len(await store.audit()) == 2


async def test_of_many_writers_at_once_exactly_one_succeeds(store: AnyStore) -> None:
    record = await put(store, 1)
    for round_number in range(5):
        attempts = [store.write(change(content(1000 + 100 * round_number + n), record, actor=f"{n}")) for n in range(8)]
        outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        winners = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
        assert len(winners) == 1
        assert sum(isinstance(outcome, RevisionMismatch) for outcome in outcomes) == 7
        record = winners[0].record
        assert record.revision == round_number + 2
        assert await store.read("fraud") == record


async def test_the_same_content_again_is_no_new_revision(store: AnyStore) -> None:
    first = await put(store, 1)
    again = await store.write(change(content(1), first, actor="ben", reason="another reason"))
    assert not again.is_new_revision
    assert again.record == first
    assert len(await store.history("fraud")) == len(await store.audit()) == 1


async def test_equal_documents_with_other_slots_are_a_revision(store: AnyStore) -> None:
    """As when a rollback brings back keys, but not another weight."""
    first = await put(store, 1)
    written = await store.write(change(content(1, slots="0*5000,1*5000"), first, action="rollback"))
    assert written.is_new_revision


async def test_a_deleted_route_is_gone_and_may_be_made_again(store: AnyStore) -> None:
    first = await put(store, 1)
    second = await put(store, 2, first)
    with pytest.raises(RevisionMismatch):
        await store.write(change(None, first, action="delete"))
    gone = await store.write(change(None, second, action="delete"))
    assert gone.record.is_deleted
    assert await store.read("fraud") is None
    with pytest.raises(RevisionMismatch) as caught:
        await store.write(change(content(3), second))
    assert caught.value.current is None
    with pytest.raises(UnknownRoute):
        await store.write(change(None, action="delete"))
    again = await put(store, 2)
    assert again.revision == 1
    assert again.epoch > second.epoch
    assert await store.history("fraud") == [again]


async def test_history_is_newest_first_and_bounded(store: AnyStore) -> None:
    record: RouteRecord | None = None
    for version in range(1, 121):
        record = await put(store, version, record)
    revisions = [entry.revision for entry in await store.history("fraud")]
    assert revisions == list(range(120, 20, -1))


async def test_the_audit_tells_who_did_what_when_and_why(store: AnyStore) -> None:
    first = await put(store, 1)
    await store.write(change(content(2), first, action="shift", actor="ben", reason="more"))
    await put(store, 1, name="churn")
    newest, middle, oldest = await store.audit()
    assert (newest.route, middle.route, oldest.route) == ("churn", "fraud", "fraud")
    assert (middle.actor, middle.action, middle.revision, middle.reason) == ("ben", "shift", 2, "more")
    assert middle.request_id == "request of ben"
    assert [dict(entry) for entry in middle.changes] == [{"pointer": "", "from": None, "to": {"version": 1}}]
    assert oldest.at <= middle.at <= newest.at
    assert await store.audit(limit=1) == [newest]


async def test_a_listener_is_told_what_stands_and_then_every_change(store: AnyStore) -> None:
    first = await put(store, 1)
    listener = Listener(store)
    await listener.until(lambda: listener.is_reached is True, within_s=2)
    assert listener.routes == {"fraud": first}
    second = await put(store, 2, first)
    churn = await put(store, 1, name="churn")
    await listener.until(lambda: listener.routes == {"fraud": second, "churn": churn}, within_s=2)
    await store.write(change(None, second, action="delete"))
    await listener.until(lambda: listener.routes == {"churn": churn}, within_s=2)
    await listener.close()


async def test_routes_do_not_disturb_one_another(store: AnyStore) -> None:
    records = await asyncio.gather(*(put(store, number, name=f"route-{number}") for number in range(20)))
    assert [record.revision for record in records] == [1] * 20
    for number, record in enumerate(records):
        assert await store.read(f"route-{number}") == record


async def test_a_sound_store_has_nothing_to_adopt(store: AnyStore) -> None:
    first = await put(store, 1)
    adopted = await store.adopt("fraud", actor="ops", reason="to be sure")
    assert not adopted.is_new_revision
    assert adopted.record == first
    with pytest.raises(UnknownRoute):
        await store.adopt("churn", actor="ops")


async def test_replicas_that_speak_are_listed_with_what_they_serve(store: AnyStore) -> None:
    directory: ReplicaDirectory = store
    assert await directory.replicas() == []
    for name in ("b", "a"):
        routes = {"fraud": AppliedRoute(3, applied=False, reason="fraud:4 is not READY")}
        await store.announce(ReplicaReport(id=name, admin=f"http://127.0.0.1/{name}", routes=routes))
    await store.announce(ReplicaReport(id="b", admin="http://127.0.0.1/b", routes={}))
    first, second = await store.replicas()
    assert (first.id, second.id, second.routes) == ("a", "b", {})
    assert first.routes["fraud"].reason == "fraud:4 is not READY"
    assert 0 < first.last_seen <= second.last_seen
