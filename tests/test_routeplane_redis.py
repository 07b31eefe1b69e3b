"""Routes of replicas that share a Redis which is cut off, hung, emptied and restored from old data.

What a store alone does then stands in `tests/store`; here it is what operators are told and what replicas serve.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import pytest

from gateway.errors import InvalidRoute, ModelInUse, StoreRegressed, StoreUnavailable, UnknownRoute
from gateway.local_aborts import FRESH_S, KeptAborts, LocalAbort
from gateway.routeplane import Actor
from gateway.routing.published import PublishedRoute
from gateway.store.records import Position
from gateway.store.redis_store import RedisStore
from tests.store.fault_proxy import FaultProxy
from tests.store.redis_server import RedisServer
from tests.support import onnx_models
from tests.support.replicas import ANA, BEN, PATIENCE_S, Replica, document, running_replica
from tests.support.repositories import add_version

pytestmark = pytest.mark.redis

T = TypeVar("T")

PROMISED_S = 1.0
"""Within what an operator is answered while Redis is away."""
SLACK_S = 0.5
"""What a busy machine may add."""


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Start a Redis of the test's own, to hang and to kill."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Write a repository with three versions of a model that take and give the same."""
    root = tmp_path / "models"
    for version in (1, 2, 3):
        add_version(root, "m", version, onnx_models.affine(offset=float(version)))
    return root


class Fleet:
    """Replicas over one Redis, each with a door to it that can be shut."""

    def __init__(self, server: RedisServer, repository: Path, states: Path) -> None:
        self.server = server
        self.doors: dict[str, FaultProxy] = {}
        self._repository = repository
        self._states = states
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Stop every replica, and shut their doors."""
        await self._stack.aclose()

    async def door(self, name: str) -> FaultProxy:
        """Make a replica's door."""
        self.doors[name] = await self._stack.enter_async_context(FaultProxy(self.server))
        return self.doors[name]

    async def join(
        self,
        name: str,
        *,
        remembers: bool = True,
        configured: Mapping[str, object] | None = None,
        stack: AsyncExitStack | None = None,
    ) -> Replica:
        """Start a replica of this name; a second time it finds its state file, unless it remembers nothing."""
        keeping = stack or self._stack
        door = self.doors.get(name) or await self.door(name)
        path = self._states / f"{name}.state" if remembers else None
        store = await keeping.enter_async_context(RedisStore(door.url, path=path))
        aborts = self._states / f"{name}.aborts" if remembers else None
        return await keeping.enter_async_context(
            running_replica(self._repository, store, replica_id=name, configured=configured, aborts_path=aborts)
        )


@pytest.fixture
async def fleet(redis_server: RedisServer, repository: Path, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Make room for replicas over one Redis."""
    made = Fleet(redis_server, repository, tmp_path / "states")
    yield made
    await made.close()


async def put(replica: Replica, *weights: float) -> int:
    """Put the route `m` over whatever is there and return its revision."""
    changed = await patiently(lambda: replica.routes.put("m", document(*weights), if_match="*", by=ANA))
    return changed.route.revision


async def shift(replica: Replica, weight: float, *, by: Actor = ANA) -> PublishedRoute:
    """Give the variant `b` of the route `m` a weight, and return the route."""
    return (await patiently(lambda: replica.routes.shift("m", {"b": weight}, by=by))).route


async def patiently(write: Callable[[], Awaitable[T]]) -> T:
    """Write again when a busy machine let the quarter of a second pass that a write may take."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await write()
            except StoreUnavailable as exc:
                if exc.outcome == "unknown":
                    raise


async def until_at(replica: Replica, position: Position) -> None:
    """Wait until a replica serves the route `m` as it stands there."""
    await replica.until(lambda: replica.routes.in_force()["m"].position == position)


async def until_revision(replica: Replica, revision: int) -> None:
    """Wait until a replica serves a revision of the route `m`."""
    await replica.until(lambda: replica.routes.in_force()["m"].revision == revision)


async def until_given_back(replica: Replica, before: PublishedRoute) -> None:
    """Wait until a replica serves the route `m` in a later epoch."""
    await replica.until(lambda: replica.routes.in_force()["m"].epoch > before.epoch)


async def until_regressed(replica: Replica) -> None:
    """Wait until a replica knows that the route `m` is not what it was."""
    await replica.until(lambda: "m" in replica.routes.regressed)


async def told_away(replica: Replica) -> None:
    """Wait until a replica knows that its Redis is away."""
    await replica.until(lambda: not replica.routes.is_store_reached)


# --- while it is there --------------------------------------------------------------------------------------


async def test_a_change_on_one_replica_is_on_the_others_within_a_second(fleet: Fleet) -> None:
    replicas = [await fleet.join(name) for name in ("a", "b", "c")]
    loop = asyncio.get_running_loop()
    await put(replicas[0], 90, 10)
    for weight in (20, 30, 40):
        changed = await shift(replicas[weight % 3], weight)
        started = loop.time()
        for replica in replicas:
            await until_at(replica, changed.position)
        assert loop.time() - started < 1 + SLACK_S
    assert {len(await replica.routes.history("m")) for replica in replicas} == {5}


async def test_replicas_that_start_together_write_one_automatic_route(fleet: Fleet) -> None:
    replicas = await asyncio.gather(*(fleet.join(name) for name in ("a", "b", "c")))
    (record,) = await replicas[0].routes.history("m")
    for replica in replicas:
        await until_at(replica, record.position)


# --- cut off ---------------------------------------------------------------------------------------------------


async def test_a_cut_off_replica_goes_on_refuses_writes_in_time_and_reads_what_it_knows(fleet: Fleet) -> None:
    replica = await fleet.join("a")
    await put(replica, 90, 10)
    fleet.doors["a"].shut()
    loop = asyncio.get_running_loop()
    writes = (
        lambda: replica.routes.shift("m", {"b": 20}, by=ANA),
        lambda: replica.routes.put("m", document(80, 20), if_match="*", by=ANA),
        lambda: replica.routes.delete("m", if_match="*", by=ANA),
        lambda: replica.routes.rollback("m", by=ANA),
        lambda: replica.routes.adopt("m", by=ANA),
    )
    for write in writes:
        started = loop.time()
        with pytest.raises(StoreUnavailable) as caught:
            await write()
        assert loop.time() - started < PROMISED_S + SLACK_S
        assert caught.value.outcome == "not_written"
    assert replica.served("m") == {"stable": 90, "b": 10}
    assert replica.controlplane.is_ready()
    assert (await replica.routes.read("m")).revision == 2
    assert [route.revision for route in await replica.routes.list_routes()] == [2]
    assert (await replica.routes.validate("m", document(50, 50))).moved_percent == 40
    assert [report.id for report in await replica.routes.replicas()] == ["a"]
    await told_away(replica)
    assert (replica.metric("store_up"), replica.metric("route_applied", route="m")) == (0, 1)
    fleet.doors["a"].reopen()
    await replica.until(lambda: replica.routes.is_store_reached)
    assert replica.metric("store_up") == 1
    assert (await shift(replica, 20)).revision == 3


async def test_a_hung_redis_keeps_nobody_waiting_and_what_was_given_up_never_lands(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    replica = await fleet.join("a")
    await put(replica, 90, 10)
    loop = asyncio.get_running_loop()
    redis_server.pause()
    started = loop.time()
    with pytest.raises(StoreUnavailable):
        await replica.routes.shift("m", {"b": 20}, by=ANA)
    assert loop.time() - started < PROMISED_S + SLACK_S
    started = loop.time()
    aborted = await replica.routes.abort("m", by=BEN)
    assert loop.time() - started < PROMISED_S + SLACK_S
    assert (aborted.route.revision, aborted.is_new_revision) == (2, False)
    redis_server.resume()
    await until_revision(replica, 3)
    history = await replica.routes.history("m")
    assert [(record.action, record.actor) for record in history] == [
        ("abort", "ben"),
        ("put", "ana"),
        ("automatic", "gateway"),
    ]


async def test_an_abort_while_cut_off_works_here_is_shown_and_wins_over_a_concurrent_shift(fleet: Fleet) -> None:
    cut, other = await fleet.join("a"), await fleet.join("b")
    await put(cut, 90, 10)
    await other.until(lambda: other.served("m") == {"stable": 90, "b": 10})
    fleet.doors["a"].shut()
    aborted = await cut.routes.abort("m", by=Actor("ana", "errors", "7"))
    assert cut.served("m") == {"stable": 100, "b": 0}
    assert aborted.route.route.weights_bp == {"stable": 10_000, "b": 0}
    assert (await cut.routes.read("m")).route.weights_bp == {"stable": 10_000, "b": 0}
    report = await cut.report("m")
    assert report is not None
    assert (report.revision, report.applied) == (2, False)
    assert "aborted here by ana" in report.reason
    await shift(other, 50, by=BEN)
    fleet.doors["a"].reopen()
    for replica in (cut, other):
        await until_revision(replica, 4)
        assert replica.served("m") == {"stable": 100, "b": 0}
    newest = (await other.routes.audit(1))[0]
    assert (newest.action, newest.actor, newest.reason, newest.request_id) == ("abort", "ana", "errors", "7")
    report = await cut.report("m")
    assert report is not None
    assert (report.revision, report.applied, report.reason) == (4, True, "")


async def test_an_abort_of_a_route_that_the_store_never_held_wins_too(fleet: Fleet) -> None:
    """Redis is away at the very first start, and what gateway.toml begins with goes wrong."""
    (await fleet.door("a")).shut()
    replica = await fleet.join("a", configured={"m": document(90, 10)})
    await replica.until(lambda: replica.served("m") == {"stable": 90, "b": 10})
    await replica.routes.abort("m", by=Actor("ana", "errors"))
    assert replica.served("m") == {"stable": 100, "b": 0}
    fleet.doors["a"].reopen()
    await until_revision(replica, 2)
    assert replica.served("m") == {"stable": 100, "b": 0}
    assert [record.action for record in await replica.routes.history("m")] == ["abort", "configured"]


async def test_an_abort_whose_answer_was_lost_makes_no_second_revision(fleet: Fleet) -> None:
    replica = await fleet.join("a")
    await put(replica, 90, 10)
    fleet.doors["a"].drops_answers = True
    await replica.routes.abort("m", by=ANA)
    fleet.doors["a"].drops_answers = False
    fleet.doors["a"].cut()
    await until_revision(replica, 3)
    assert replica.served("m") == {"stable": 100, "b": 0}
    assert [record.revision for record in await replica.routes.history("m")] == [3, 2, 1]


async def test_an_abort_of_a_route_that_was_deleted_meanwhile_is_forgotten(fleet: Fleet) -> None:
    cut, other = await fleet.join("a"), await fleet.join("b")
    await other.routes.put("split", document(90, 10), if_match=None, must_be_new=True, by=ANA)
    await cut.until(lambda: cut.served("split") is not None)
    fleet.doors["a"].shut()
    await cut.routes.abort("split", shadows=True, by=ANA)
    await other.routes.delete("split", if_match="*", by=BEN)
    fleet.doors["a"].reopen()
    await cut.until(lambda: cut.served("split") is None)
    assert [record.action for record in await other.routes.history("split")] == ["put"]
    assert (await other.routes.audit(1))[0].action == "delete"


async def test_unloading_the_version_of_an_automatic_route_works_while_cut_off(fleet: Fleet) -> None:
    replica = await fleet.join("a")
    fleet.doors["a"].shut()
    await told_away(replica)
    await replica.controlplane.unload("m", 3)
    assert replica.versions("m") == [2]
    fleet.doors["a"].reopen()
    await replica.until(lambda: replica.routes.in_force()["m"].epoch > 0)
    assert (await replica.routes.read("m")).route.variants[0].version == 2


# --- starting without it ------------------------------------------------------------------------------------------


async def test_a_replica_that_starts_while_redis_is_away_serves_what_it_remembers(fleet: Fleet) -> None:
    async with AsyncExitStack() as first:
        replica = await fleet.join("a", stack=first)
        await put(replica, 90, 10)
        await replica.routes.put("split", document(50, 50), if_match=None, must_be_new=True, by=ANA)
        before = replica.routes.in_force()
    fleet.doors["a"].shut()
    async with AsyncExitStack() as second:
        again = await fleet.join("a", stack=second)
        assert again.routes.in_force() == before
        with pytest.raises(ModelInUse):
            await again.controlplane.unload("m", 2)
        fleet.doors["a"].reopen()
        await again.until(lambda: again.routes.is_store_reached)
        assert (await again.routes.shift("split", {"b": 60}, by=ANA)).route.revision == 2


async def test_an_abort_survives_a_restart_while_redis_is_away(fleet: Fleet) -> None:
    async with AsyncExitStack() as first:
        replica = await fleet.join("a", stack=first)
        await put(replica, 90, 10)
        fleet.doors["a"].shut()
        await replica.routes.abort("m", by=Actor("ana", "errors"))
    async with AsyncExitStack() as second:
        again = await fleet.join("a", stack=second)
        assert again.served("m") == {"stable": 100, "b": 0}
        fleet.doors["a"].reopen()
        await until_revision(again, 3)
        assert (await again.routes.audit(1))[0].reason == "errors"
    async with AsyncExitStack() as third:
        again = await fleet.join("a", stack=third)
        await shift(again, 20)
        assert again.served("m") == {"stable": 80, "b": 20}
        assert (await again.routes.read("m")).revision == 4


@pytest.mark.parametrize(
    ("age_s", "expected"), [(FRESH_S + 60, {"stable": 60, "b": 40}), (FRESH_S - 60, {"stable": 100, "b": 0})]
)
async def test_an_old_abort_does_not_stop_what_others_began_since(
    fleet: Fleet, tmp_path: Path, age_s: float, expected: dict[str, float]
) -> None:
    """A replica that was away for long would end a rollout that is none of what was aborted."""
    other = await fleet.join("b")
    await put(other, 90, 10)
    base = other.routes.in_force()["m"].position.etag
    abort = LocalAbort(actor="ana", reason="", request_id="", removes_shadows=False, at=time.time() - age_s, base=base)
    await KeptAborts(tmp_path / "states" / "a.aborts").save({"m": abort})
    newest = await shift(other, 40)
    back = await fleet.join("a")
    await back.until(lambda: back.served("m") == expected and back.routes.own_report()["m"].applied)
    assert back.routes.in_force()["m"].revision == newest.revision + (expected["b"] == 0)


async def test_a_replica_that_remembers_nothing_routes_automatically_until_redis_says_otherwise(fleet: Fleet) -> None:
    other = await fleet.join("b")
    await put(other, 90, 10)
    door = await fleet.door("a")
    door.shut()
    fresh = await fleet.join("a", remembers=False)
    assert fresh.versions("m") == [3]
    report = await fresh.report("m")
    assert report is not None
    assert report.reason == "the store does not hold it yet"
    door.reopen()
    await fresh.until(lambda: fresh.served("m") == {"stable": 90, "b": 10})
    assert len(await other.routes.history("m")) == 2


# --- emptied and restored -------------------------------------------------------------------------------------------


async def test_a_redis_that_lost_everything_gets_the_routes_back(fleet: Fleet, redis_server: RedisServer) -> None:
    replica, other = await fleet.join("a"), await fleet.join("b")
    await put(replica, 90, 10)
    before = replica.routes.in_force()["m"]
    await until_at(other, before.position)
    redis_server.forget()
    for each in (replica, other):
        await until_given_back(each, before)
        assert each.served("m") == {"stable": 90, "b": 10}
        assert each.routes.in_force()["m"].revision == 2
        assert each.routes.in_force()["m"].slots == before.slots
    assert (await shift(other, 20)).revision == 3


async def test_an_automatic_route_that_was_given_back_still_holds_nothing(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    replica = await fleet.join("a")
    before = replica.routes.in_force()["m"]
    redis_server.forget()
    await until_given_back(replica, before)
    await replica.controlplane.unload("m", 3)
    assert replica.versions("m") == [2]


async def test_a_redis_with_yesterdays_data_is_not_obeyed_until_somebody_adopts_it(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    replica, other = await fleet.join("a"), await fleet.join("b")
    await put(replica, 90, 10)
    redis_server.save()
    await shift(replica, 30)
    await other.until(lambda: other.served("m") == {"stable": 70, "b": 30})
    redis_server.restore()
    for each in (replica, other):
        await until_regressed(each)
        assert each.served("m") == {"stable": 70, "b": 30}
        assert each.controlplane.is_ready()
        report = await each.report("m")
        assert report is not None
        assert (report.revision, report.applied) == (3, False)
        assert "the store went back from revision 3 to 2" in report.reason
        assert (each.metric("route_store_regressed", route="m"), each.metric("route_applied", route="m")) == (1, 0)
    with pytest.raises(StoreRegressed):
        await replica.routes.shift("m", {"b": 40}, by=ANA)
    assert (await replica.routes.read("m")).revision == 3
    adopted = await other.routes.adopt("m", by=Actor("ben", "yesterday it is"))
    assert adopted.route.revision == 4
    for each in (replica, other):
        await until_at(each, adopted.route.position)
        assert each.served("m") == {"stable": 90, "b": 10}
        assert each.routes.regressed == {}
        assert (each.metric("route_store_regressed", route="m"), each.metric("route_applied", route="m")) == (0, 1)
    assert (await shift(replica, 40)).revision == 5


async def test_a_deletion_that_is_adopted_takes_the_route_away_everywhere(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    replica, other = await fleet.join("a"), await fleet.join("b")
    first = await replica.routes.put("split", document(90, 10), if_match=None, must_be_new=True, by=ANA)
    await replica.routes.delete("split", if_match=first.route.position.etag, by=ANA)
    redis_server.save()
    await replica.routes.put("split", document(80, 20), if_match=None, must_be_new=True, by=ANA)
    await other.until(lambda: other.served("split") == {"stable": 80, "b": 20})
    redis_server.restore()
    await replica.until(lambda: "split" in replica.routes.regressed)
    with pytest.raises(UnknownRoute, match="'split' is gone: what was adopted is its deletion"):
        await replica.routes.adopt("split", by=BEN)
    for each in (replica, other):
        await each.until(lambda each=each: each.served("split") is None)  # type: ignore[misc]  # bound at once
        assert each.routes.regressed == {}


async def test_an_abort_of_a_regressed_route_works_here_and_is_written_once_it_is_adopted(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    replica = await fleet.join("a")
    await put(replica, 90, 10)
    redis_server.save()
    await shift(replica, 30)
    redis_server.restore()
    await until_regressed(replica)
    await replica.routes.abort("m", by=ANA)
    assert replica.served("m") == {"stable": 100, "b": 0}
    await replica.routes.adopt("m", by=ANA)
    await until_revision(replica, 5)
    assert replica.served("m") == {"stable": 100, "b": 0}
    assert (await replica.routes.history("m"))[0].action == "abort"
    with pytest.raises(InvalidRoute):
        await replica.routes.shift("m", {"nobody": 1}, by=ANA)


async def test_a_missing_candidate_keeps_nobody_from_obeying_the_store_again(
    fleet: Fleet, redis_server: RedisServer, repository: Path
) -> None:
    """Neither the epoch in which a forgetful Redis gets a route back, nor what a replica served in want of it."""
    replica = await fleet.join("a")
    await put(replica, 90, 10)
    before = replica.routes.in_force()["m"]
    shutil.rmtree(repository / "m" / "2")
    await replica.until(lambda: replica.state("m", 2) == "")
    redis_server.forget()
    await until_given_back(replica, before)
    report = await replica.report("m")
    assert report is not None
    assert (report.revision, report.applied) == (2, True)
    door = await fleet.door("b")
    door.shut()
    fresh = await fleet.join("b", remembers=False)
    assert fresh.versions("m") == [3]
    door.reopen()
    await until_revision(fresh, 2)
    assert fresh.served("m") == {"stable": 90, "b": 10}


async def test_a_record_that_cannot_be_read_keeps_no_replica_from_starting(
    fleet: Fleet, redis_server: RedisServer
) -> None:
    replica = await fleet.join("a")
    await put(replica, 90, 10)
    redis_server.command("HSET", "{gateway:routes}:records", "m", "noise")
    redis_server.command("HSET", "{gateway:routes}:heads", "m", "1-9-f")
    await until_regressed(replica)
    assert replica.served("m") == {"stable": 90, "b": 10}
    fresh = await fleet.join("b", remembers=False)
    assert fresh.versions("m") == [3]
    report = await fresh.report("m")
    assert report is not None
    assert not report.applied
    assert "cannot be read" in report.reason
    adopted = await replica.routes.adopt("m", by=ANA)
    await until_at(fresh, adopted.route.position)
    assert fresh.served("m") == {"stable": 90, "b": 10}
