"""Owns what the Redis store promises when Redis is away, slow, or back with something else than it was left with."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from gateway.errors import CannotStart, RevisionMismatch, StoreRegressed, StoreUnavailable, UnknownRoute
from gateway.store.lineage import next_record
from gateway.store.memory_store import MemoryStore
from gateway.store.records import ReplicaReport
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_ledger import Moved, RedisLedger
from gateway.store.redis_store import RedisStore
from gateway.store.state_file import StateFile
from tests.store.changes import Listener, change, content, put
from tests.store.fault_proxy import FaultProxy
from tests.store.redis_server import RedisServer, eventually

pytestmark = pytest.mark.redis

HEADS, RECORDS = "{gateway:routes}:heads", "{gateway:routes}:records"
PROMISED_S = 1.0


class OpenReplica(Protocol):
    """Opens one replica's store, by default on the test's own Redis."""

    async def __call__(self, *, path: Path | None = None, url: str | None = None) -> tuple[RedisStore, Listener]: ...


@pytest.fixture
async def open_replica(redis_server: RedisServer) -> AsyncIterator[OpenReplica]:
    async with AsyncExitStack() as opened:

        async def open_one(*, path: Path | None = None, url: str | None = None) -> tuple[RedisStore, Listener]:
            store = await opened.enter_async_context(RedisStore(url or redis_server.url, path=path))
            listener = Listener(store)
            opened.push_async_callback(listener.close)
            return store, listener

        yield open_one


@pytest.fixture
async def proxies(redis_server: RedisServer) -> AsyncIterator[list[FaultProxy]]:
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(FaultProxy(redis_server)) for _ in range(3)]


async def refused(call: Awaitable[object]) -> StoreUnavailable:
    """Await a call that cannot be answered, and hold it to the promised second."""
    started = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await call
    assert time.monotonic() - started < PROMISED_S
    return caught.value


async def agreed(listeners: list[Listener], revision: int, *, within_s: float, name: str = "fraud") -> None:
    """Wait until every replica obeys a revision, and the same one."""

    async def is_agreed() -> bool:
        found = [listener.routes.get(name) for listener in listeners]
        return found[0] is not None and found[0].revision == revision and all(one == found[0] for one in found)

    await eventually(is_agreed, within_s=within_s, what=f"revision {revision} on every replica")


# --- every replica, soon ------------------------------------------------------------------------


async def test_fifty_changes_reach_every_replica_within_a_second(open_replica: OpenReplica) -> None:
    replicas = [await open_replica() for _ in range(3)]
    record = None
    slowest_s = 0.0
    for version in range(1, 51):
        writer, _ = replicas[version % 3]
        record = await put(writer, version, record)
        started = time.monotonic()
        await agreed([listener for _, listener in replicas], version, within_s=1.0)
        slowest_s = max(slowest_s, time.monotonic() - started)
    assert slowest_s < 1.0


async def test_changes_reach_every_replica_without_publish_and_subscribe(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    """The user may neither publish nor subscribe, so only the poll is left; a write does not fail for it."""
    redis_server.command("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels")
    url = redis_server.url.replace("unix://", "unix://deaf:secret@")
    replicas = [await open_replica(url=url) for _ in range(3)]
    record = None
    for version in range(1, 4):
        record = await put(replicas[version % 3][0], version, record)
        await agreed([listener for _, listener in replicas], version, within_s=3.0)


async def test_a_burst_of_changes_ends_with_the_last_one_everywhere(open_replica: OpenReplica) -> None:
    replicas = [await open_replica() for _ in range(3)]
    record = None
    for version in range(1, 51):
        record = await put(replicas[version % 3][0], version, record)
    await agreed([listener for _, listener in replicas], 50, within_s=1.0)
    for _, listener in replicas:
        revisions = [seen.revision for seen in listener.seen]
        assert revisions == sorted(set(revisions))


async def test_a_replica_opened_later_knows_everything(open_replica: OpenReplica) -> None:
    store, _ = await open_replica()
    first = await put(store, 1)
    await store.write(change(None, await put(store, 1, name="churn"), name="churn", action="delete"))
    _, listener = await open_replica()
    await listener.until(lambda: listener.is_reached is True, within_s=2)
    assert listener.routes == {"fraud": first}


# --- Redis away ---------------------------------------------------------------------------------------


def verbs(store: RedisStore) -> list[Awaitable[object]]:
    return [
        store.read("fraud"),
        store.write(change(content(9))),
        store.write(change(None)),
        store.adopt("fraud", actor="ops"),
        store.history("fraud"),
        store.audit(),
        store.announce(ReplicaReport(id="a", admin="", routes={})),
        store.replicas(),
    ]


async def test_a_killed_redis_is_told_within_a_second_and_nothing_was_written(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    store, listener = await open_replica()
    first = await put(store, 1)
    redis_server.kill()
    outcomes = [(await refused(call)).outcome for call in verbs(store)]
    assert outcomes.count("unknown") <= 1  # a replica's word about itself: it may have arrived, and does no harm
    await listener.until(lambda: listener.is_reached is False, within_s=3)
    assert listener.routes == {"fraud": first}


async def test_a_hung_redis_is_told_within_a_second_and_what_was_refused_never_lands(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    store, listener = await open_replica()
    first = await put(store, 1)
    await put(store, 2, first)
    redis_server.pause()
    outcomes = [(await refused(call)).outcome for call in verbs(store)]
    assert outcomes.count("unknown") <= 1  # a replica's word about itself: it may arrive, and does no harm
    await asyncio.gather(*(refused(store.write(change(content(n), first))) for n in range(20)))
    redis_server.resume()
    await listener.until(lambda: listener.is_reached is True, within_s=3)
    assert [record.revision for record in await store.history("fraud")] == [2, 1]
    assert len(await store.audit()) == 2


async def test_calls_of_many_callers_on_a_hung_redis_stay_within_a_second_each(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    store, _ = await open_replica()
    redis_server.pause()
    errors = await asyncio.gather(*(refused(store.write(change(content(n)))) for n in range(100)))
    assert {error.outcome for error in errors} == {"not_written"}
    redis_server.resume()


async def test_a_store_opens_without_redis_and_serves_what_its_file_remembers(
    redis_server: RedisServer, open_replica: OpenReplica, tmp_path: Path
) -> None:
    path = tmp_path / "routes.json"
    async with RedisStore(redis_server.url, path=path) as store:
        first = await put(store, 1)
        gone = await put(store, 1, name="churn")
        await store.write(change(None, gone, name="churn", action="delete"))
    redis_server.kill()
    store, listener = await open_replica(path=path)
    await listener.until(lambda: listener.is_reached is False, within_s=3)
    assert listener.routes == {"fraud": first}
    redis_server.start()
    await listener.until(lambda: listener.is_reached is True, within_s=3)
    assert listener.routes["fraud"].revision == 1
    assert listener.routes["fraud"].epoch > first.epoch
    assert await store.read("churn") is None


async def test_a_damaged_state_file_refuses_the_start(redis_server: RedisServer, tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    async with RedisStore(redis_server.url, path=path) as store:
        await put(store, 1)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CannotStart, match="checksum"):
        await RedisStore(redis_server.url, path=path).__aenter__()


@pytest.mark.parametrize(
    ("body", "fault"), [(b"{", "cannot be read"), (b"{}", "cannot be read"), (b"of another", "route 'fraud'")]
)
async def test_a_state_file_that_holds_something_else_refuses_the_start(
    redis_server: RedisServer, tmp_path: Path, body: bytes, fault: str
) -> None:
    file = StateFile(tmp_path / "routes.json")
    async with RedisStore(redis_server.url, path=tmp_path / "routes.json") as store:
        await put(store, 1)
    saved = file.load()
    assert saved is not None
    file.save(saved.replace(b"00ff", b"11ff") if body == b"of another" else body)
    with pytest.raises(CannotStart, match=fault):
        await RedisStore(redis_server.url, path=tmp_path / "routes.json").__aenter__()


async def test_routes_of_a_gateway_alone_are_given_to_its_redis_and_back(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "routes.state"
    async with MemoryStore(path) as alone:
        await put(alone, 2, await put(alone, 1))
    async with RedisStore(redis_server.url, path=path) as store:
        given = await store.read("fraud")
        assert given is not None
        assert (given.content, given.revision) == (content(2), 2)
        third = await put(store, 3, given)
    async with MemoryStore(path) as alone:
        assert await alone.read("fraud") == third
        assert await alone.history("fraud") == [third]
        assert (await put(alone, 4, third)).revision == 4


async def test_a_disk_that_refuses_the_state_file_hurts_no_route(
    redis_server: RedisServer, open_replica: OpenReplica, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "routes.json.new").mkdir()
    store, listener = await open_replica(path=tmp_path / "routes.json")
    first = await put(store, 1)
    await agreed([listener], 1, within_s=2)

    async def is_told() -> bool:
        return "route_state_not_saved" in caplog.text

    await eventually(is_told, within_s=2, what="the warning")
    (tmp_path / "routes.json.new").rmdir()
    await put(store, 2, first)

    async def is_saved() -> bool:
        return (tmp_path / "routes.json").exists()

    await eventually(is_saved, within_s=2, what="the next revision in the file")


async def test_the_file_follows_what_other_replicas_write(
    redis_server: RedisServer, open_replica: OpenReplica, tmp_path: Path
) -> None:
    _, listener = await open_replica(path=tmp_path / "routes.json")
    other, _ = await open_replica()
    record = None
    for version in range(1, 21):
        record = await put(other, version, record)
    await agreed([listener], 20, within_s=2)

    async def is_saved() -> bool:
        path = tmp_path / "routes.json"
        return path.exists() and b'"revision":20' in path.read_bytes()

    await eventually(is_saved, within_s=2, what="the twentieth revision in the file")


@pytest.mark.parametrize("delay_s", [0.02, 0.05])
async def test_a_slow_redis_is_used_as_long_as_it_answers_in_time(
    proxies: list[FaultProxy], open_replica: OpenReplica, delay_s: float
) -> None:
    store, _ = await open_replica(url=proxies[0].url)
    await put(store, 1, name="churn")
    proxies[0].delay_s = delay_s
    first = await put(store, 1)
    assert await store.read("fraud") == first


async def test_a_redis_slower_than_a_call_may_take_is_away(
    proxies: list[FaultProxy], open_replica: OpenReplica
) -> None:
    store, listener = await open_replica(url=proxies[0].url)
    first = await put(store, 1)
    proxies[0].delay_s = 0.4
    assert (await refused(put(store, 2, first))).outcome == "not_written"
    await listener.until(lambda: listener.is_reached is False, within_s=3)
    proxies[0].delay_s = 0.0
    await listener.until(lambda: listener.is_reached is True, within_s=3)
    assert await store.read("fraud") == first


# --- the answer to a write is lost -----------------------------------------------------------------------


@pytest.fixture
async def ledger(proxies: list[FaultProxy]) -> AsyncIterator[RedisLedger]:
    async with RedisConnection(proxies[0].url) as redis:
        yield RedisLedger(redis, namespace="gateway")


async def commit(ledger: RedisLedger, between: Callable[[], None], *, version: int = 1) -> None:
    """Look, let something happen, and commit what follows."""
    give_up_at = asyncio.get_running_loop().time() + 0.9
    sight = await ledger.look("fraud", give_up_at=give_up_at)
    wanted = change(content(version), sight.record)
    record = next_record(sight.record, wanted, now=sight.at, server=sight.server, write_id=f"write {version}")
    between()
    await ledger.commit(sight, record, wanted.audit_of(record), give_up_at=give_up_at)


async def stored_version(ledger: RedisLedger) -> str | None:
    sight = await ledger.look("fraud", give_up_at=asyncio.get_running_loop().time() + 0.9)
    return None if sight.record is None else sight.record.write_id


def evalsha_calls(server: RedisServer) -> int:
    """Count the scripts that Redis has run, by its own statistics."""
    for line in server.command("INFO", "commandstats").decode().splitlines():
        if line.startswith("cmdstat_evalsha:"):
            return int(line.partition("calls=")[2].partition(",")[0])
    return 0


async def test_a_write_whose_answer_was_lost_is_found_out_to_have_landed(
    proxies: list[FaultProxy], ledger: RedisLedger
) -> None:
    await commit(ledger, lambda: None)

    def lose_answers_for_a_while() -> None:
        proxies[0].drops_answers = True
        asyncio.get_running_loop().call_later(0.3, lambda: setattr(proxies[0], "drops_answers", False))

    await commit(ledger, lose_answers_for_a_while, version=2)
    assert await stored_version(ledger) == "write 2"


async def test_a_write_whose_answer_stays_lost_has_an_unknown_outcome(
    proxies: list[FaultProxy], ledger: RedisLedger
) -> None:
    await commit(ledger, lambda: None)
    error = await refused(commit(ledger, lambda: setattr(proxies[0], "drops_answers", True), version=2))
    assert error.outcome == "unknown"
    proxies[0].drops_answers = False
    assert await stored_version(ledger) == "write 2"


async def test_a_write_whose_connection_broke_is_known_once_its_deadline_has_passed(
    proxies: list[FaultProxy], ledger: RedisLedger
) -> None:
    await commit(ledger, lambda: None)
    started = time.monotonic()
    error = await refused(commit(ledger, proxies[0].cut, version=2))
    assert error.outcome == "not_written"
    assert time.monotonic() - started >= 0.2  # not before it can no longer land
    assert await stored_version(ledger) == "write 1"


async def test_a_write_that_redis_begins_too_late_never_lands(redis_server: RedisServer, ledger: RedisLedger) -> None:
    """Redis hangs between the look and the commit, and later runs every script it was sent."""
    await commit(ledger, lambda: None)
    calls_before = evalsha_calls(redis_server)
    error = await refused(commit(ledger, redis_server.pause, version=2))
    assert error.outcome == "unknown"  # nobody could be asked
    redis_server.resume()

    async def has_run_everything() -> bool:
        return evalsha_calls(redis_server) >= calls_before + 2  # the look and the late commit

    await eventually(has_run_everything, within_s=5, what="the late script")
    assert await stored_version(ledger) == "write 1"


async def test_a_late_write_is_known_not_to_have_landed_when_redis_is_back_in_time(
    redis_server: RedisServer, ledger: RedisLedger
) -> None:
    await commit(ledger, lambda: None)

    def hang_for_a_while() -> None:
        redis_server.pause()
        asyncio.get_running_loop().call_later(0.35, redis_server.resume)

    error = await refused(commit(ledger, hang_for_a_while, version=2))
    assert error.outcome == "not_written"
    assert await stored_version(ledger) == "write 1"


async def test_a_redis_killed_under_a_write_leaves_an_unknown_outcome(
    redis_server: RedisServer, ledger: RedisLedger
) -> None:
    await commit(ledger, lambda: None)
    assert (await refused(commit(ledger, redis_server.kill, version=2))).outcome == "unknown"


async def test_a_commit_into_another_run_of_redis_is_refused(redis_server: RedisServer, ledger: RedisLedger) -> None:
    """What was read from the last run says nothing about this one, even where the head is the same."""
    await commit(ledger, lambda: None)
    give_up_at = asyncio.get_running_loop().time() + 5
    sight = await ledger.look("fraud", give_up_at=give_up_at)
    wanted = change(content(2), sight.record)
    record = next_record(sight.record, wanted, now=sight.at, server=sight.server, write_id="write 2")
    redis_server.save()
    redis_server.restore()
    fresh = await ledger.look("fraud", give_up_at=give_up_at)
    assert fresh.head == sight.head
    stale = msgspec.structs.replace(fresh, server=sight.server)
    with pytest.raises(Moved):
        await ledger.commit(stale, record, wanted.audit_of(record), give_up_at=give_up_at)
    assert await stored_version(ledger) == "write 1"


@pytest.mark.parametrize(
    "refusal",
    [
        ("CONFIG", "SET", "maxmemory", "1"),
        ("REPLICAOF", "127.0.0.1", "1"),
        ("CONFIG", "SET", "min-replicas-to-write", "1"),
    ],
    ids=["full", "read-only", "without replicas"],
)
async def test_a_redis_that_refuses_to_write_has_not_written(
    redis_server: RedisServer, open_replica: OpenReplica, refusal: tuple[str, ...]
) -> None:
    store, _ = await open_replica()
    first = await put(store, 1)
    assert redis_server.command(*refusal).startswith(b"+OK")
    error = await refused(put(store, 2, first))
    assert error.outcome == "not_written"
    assert await store.read("fraud") == first


async def test_scripts_that_redis_forgot_are_sent_again(redis_server: RedisServer, open_replica: OpenReplica) -> None:
    store, _ = await open_replica()
    first = await put(store, 1)
    redis_server.command("SCRIPT", "FLUSH")
    second = await put(store, 2, first)
    redis_server.command("SCRIPT", "FLUSH")
    assert await store.read("fraud") == second


# --- Redis back, but not as it was ----------------------------------------------------------------------


async def test_a_restart_that_lost_nothing_goes_on_in_a_new_epoch(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    (store, listener), (_, other) = await open_replica(), await open_replica()
    second = await put(store, 2, await put(store, 1))
    redis_server.save()
    redis_server.restore()
    await listener.until(lambda: listener.is_reached is True, within_s=3)
    third = await put(store, 3, second)
    assert third.revision == 3
    assert third.epoch > second.epoch
    await agreed([listener, other], 3, within_s=3)


async def test_an_empty_redis_gets_back_the_highest_revision_that_any_replica_knows(
    redis_server: RedisServer, open_replica: OpenReplica, proxies: list[FaultProxy]
) -> None:
    """The replica that knows least comes first; a route that was deleted stays deleted."""
    replicas = [await open_replica(url=proxy.url) for proxy in proxies]
    stores, listeners = [store for store, _ in replicas], [listener for _, listener in replicas]
    record = await put(stores[0], 1)
    gone = await put(stores[0], 1, name="churn")
    await stores[0].write(change(None, gone, name="churn", action="delete"))
    await agreed(listeners, 1, within_s=2)
    proxies[2].shut()
    for version in range(2, 8):
        record = await put(stores[0], version, record)
    await agreed(listeners[:2], 7, within_s=2)
    for proxy in proxies:
        proxy.shut()
    redis_server.forget()
    proxies[2].reopen()
    await listeners[2].until(lambda: listeners[2].routes["fraud"].epoch > record.epoch, within_s=5)
    assert listeners[2].routes["fraud"].revision == 1
    proxies[0].reopen()
    proxies[1].reopen()
    await agreed(listeners, 7, within_s=5)
    final = listeners[0].routes["fraud"]
    assert (final.content, final.actor, final.at) == (record.content, record.actor, record.at)
    assert final.epoch > record.epoch
    assert all("churn" not in listener.routes and not listener.regressed for listener in listeners)
    assert (await put(stores[2], 8, final)).revision == 8
    assert [entry.action for entry in await stores[1].audit()][:2] == ["put", "seed"]


async def test_a_write_that_comes_before_the_reseeding_finds_the_route_given_back(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    store, _ = await open_replica()
    first = await put(store, 1)
    redis_server.forget()
    found = await store.read("fraud")
    assert found is not None
    assert (found.revision, found.content, found.action) == (1, first.content, "seed")
    assert (await put(store, 2, found)).revision == 2


async def test_an_automatic_route_made_in_an_empty_redis_gives_way_to_what_replicas_remember(
    redis_server: RedisServer, open_replica: OpenReplica, proxies: list[FaultProxy]
) -> None:
    """A replica that starts without memory may be the first to reach the empty Redis."""
    store, listener = await open_replica(url=proxies[0].url)
    second = await put(store, 2, await put(store, 1))
    proxies[0].shut()
    redis_server.forget()
    newcomer, told = await open_replica()
    await newcomer.write(change(content(9), action="automatic", actor="gateway"))
    proxies[0].reopen()
    await agreed([listener, told], 2, within_s=5)
    assert told.routes["fraud"].content == second.content


async def test_older_data_is_not_obeyed_until_somebody_adopts_it(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    replicas = [await open_replica() for _ in range(3)]
    stores, listeners = [store for store, _ in replicas], [listener for _, listener in replicas]
    record = await put(stores[0], 1)
    second = record = await put(stores[0], 2, record)
    redis_server.save()
    for version in range(3, 6):
        record = await put(stores[0], version, record)
    await agreed(listeners, 5, within_s=2)
    redis_server.restore()
    for listener in listeners:
        await listener.until(lambda listener=listener: "fraud" in listener.regressed, within_s=5)  # type: ignore[misc]  # mypy cannot type a default of a lambda
        assert listener.routes["fraud"] == record
        told = listener.regressed["fraud"]
        assert (told.known, told.stored) == (record, second)
        assert "from revision 5 to 2" in told.reason
    for store in stores:
        for expected in (record, second, None):
            with pytest.raises(StoreRegressed) as caught:
                await store.write(change(content(9), expected))
            assert (caught.value.known, caught.value.stored) == (record.position.etag, second.position.etag)
        with pytest.raises(StoreRegressed):
            await store.read("fraud")
    adopted = await stores[1].adopt("fraud", actor="ops", reason="the backup is right", request_id="r1")
    assert adopted.is_new_revision
    assert (adopted.record.revision, adopted.record.content, adopted.record.actor) == (6, second.content, "ops")
    await agreed(listeners, 6, within_s=3)
    assert not any(listener.regressed for listener in listeners)
    newest = (await stores[0].audit())[0]
    assert (newest.action, newest.actor, newest.reason, newest.request_id) == (
        "adopt",
        "ops",
        "the backup is right",
        "r1",
    )
    seventh = await put(stores[2], 7, adopted.record)
    assert seventh.revision == 7
    await agreed(listeners, 7, within_s=2)


async def test_a_replica_that_knows_nothing_never_reuses_a_position_of_older_data(
    redis_server: RedisServer, open_replica: OpenReplica, proxies: list[FaultProxy]
) -> None:
    """It cannot know that revision 2 was once something else, and still (epoch, revision) stays unique."""
    store, listener = await open_replica(url=proxies[0].url)
    first = await put(store, 1)
    redis_server.save()
    second = await put(store, 2, first)
    proxies[0].shut()
    redis_server.restore()
    newcomer, _ = await open_replica()
    other_second = await put(newcomer, 9, first)
    assert other_second.revision == 2
    assert other_second.epoch > second.epoch
    proxies[0].reopen()
    await listener.until(lambda: "fraud" in listener.regressed, within_s=5)
    assert listener.routes["fraud"] == second


async def test_a_store_that_comes_back_right_after_all_is_obeyed_again(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    """Somebody restores the newer backup: nobody has to adopt anything."""
    store, listener = await open_replica()
    first = await put(store, 1)
    redis_server.save("older.rdb")
    second = await put(store, 2, first)
    redis_server.save("newer.rdb")
    redis_server.restore("older.rdb")
    await listener.until(lambda: "fraud" in listener.regressed, within_s=5)
    redis_server.restore("newer.rdb")
    await listener.until(lambda: not listener.regressed, within_s=5)
    assert await store.read("fraud") == second
    assert (await put(store, 3, second)).revision == 3


@pytest.mark.parametrize("tampered", ["content", "position", "no record"])
async def test_content_changed_behind_the_store_is_not_obeyed(
    redis_server: RedisServer, open_replica: OpenReplica, tampered: str
) -> None:
    store, listener = await open_replica()
    first = await put(store, 1)
    changed = {
        "content": first.encode().replace(b"00ff", b"11ff").decode(),
        "position": msgspec.structs.replace(first, content=content(7), hash=content(7).hash).encode().decode(),
        "no record": "{}",
    }[tampered]
    redis_server.command("HSET", RECORDS, "fraud", changed)
    redis_server.command("HSET", HEADS, "fraud", "1-1-other")
    await listener.until(lambda: "fraud" in listener.regressed, within_s=3)
    assert listener.routes["fraud"] == first
    with pytest.raises(StoreRegressed):
        await put(store, 2, first)


async def test_adopting_what_cannot_be_read_puts_back_what_the_replica_obeys(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    (store, listener), (_, other) = await open_replica(), await open_replica()
    first = await put(store, 1)
    await agreed([listener, other], 1, within_s=2)
    redis_server.command("HSET", RECORDS, "fraud", "{}")
    redis_server.command("HSET", HEADS, "fraud", "1-1-other")
    await listener.until(lambda: "fraud" in listener.regressed, within_s=3)
    newcomer, _ = await open_replica()
    with pytest.raises(UnknownRoute):
        await newcomer.adopt("fraud", actor="ops")
    adopted = await store.adopt("fraud", actor="ops")
    assert (adopted.record.revision, adopted.record.content) == (2, first.content)
    await agreed([listener, other], 2, within_s=3)


async def test_a_record_that_was_evicted_is_given_back(redis_server: RedisServer, open_replica: OpenReplica) -> None:
    store, listener = await open_replica()
    first = await put(store, 1)
    await agreed([listener], 1, within_s=2)
    redis_server.command("DEL", RECORDS)
    redis_server.command("DEL", HEADS)
    await listener.until(lambda: listener.routes["fraud"].epoch > first.epoch, within_s=3)
    redis_server.command("HDEL", RECORDS, "fraud")
    found = await store.read("fraud")
    assert found is not None
    assert (found.revision, found.content) == (1, first.content)


async def test_two_operators_adopting_at_once_make_one_revision(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    replicas = [await open_replica() for _ in range(2)]
    first = await put(replicas[0][0], 1)
    redis_server.save()
    second = await put(replicas[0][0], 2, first)
    await agreed([listener for _, listener in replicas], 2, within_s=2)
    redis_server.restore()
    for _, listener in replicas:
        await listener.until(lambda listener=listener: "fraud" in listener.regressed, within_s=5)  # type: ignore[misc]  # mypy cannot type a default of a lambda
    outcomes = await asyncio.gather(
        *(store.adopt("fraud", actor="ops") for store, _ in replicas), return_exceptions=True
    )
    made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException) and outcome.is_new_revision]
    assert len(made) == 1
    assert all(isinstance(outcome, RevisionMismatch) for outcome in outcomes if isinstance(outcome, BaseException))
    await agreed([listener for _, listener in replicas], second.revision + 1, within_s=3)


# --- the subscription ------------------------------------------------------------------------------------


async def test_a_subscription_that_only_looks_alive_is_found_out(proxies: list[FaultProxy]) -> None:
    """Its connection stands, but nothing comes back: as behind a firewall that forgot it."""
    async with RedisConnection(proxies[0].url, silence_s=0.05) as redis:
        words = redis.listen("channel")
        await anext(words)
        waiting = asyncio.ensure_future(anext(words))
        done, _ = await asyncio.wait([waiting], timeout=0.5)  # ten silences, each with an answered question
        assert not done
        proxies[0].drops_answers = True
        with pytest.raises(StoreUnavailable, match="silent"):
            await asyncio.wait_for(waiting, timeout=2)
        await words.aclose()


async def test_a_replica_that_lost_its_subscription_subscribes_again(
    proxies: list[FaultProxy], open_replica: OpenReplica
) -> None:
    store, listener = await open_replica(url=proxies[0].url)
    other, _ = await open_replica()
    record = await put(other, 1)
    for version in range(2, 8):
        proxies[0].cut()
        record = await put(other, version, record)
        await agreed([listener], version, within_s=1.5)
    assert await store.read("fraud") == record


# --- what others see in Redis -----------------------------------------------------------------------


async def test_replicas_that_fall_silent_are_forgotten_by_redis_too(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    store, _ = await open_replica()
    await store.announce(ReplicaReport(id="old", admin="", routes={}))
    redis_server.command("ZADD", "{gateway:routes}:seen", str(time.time() - 31), "old")
    assert await store.replicas() == []
    await store.announce(ReplicaReport(id="new", admin="", routes={}))
    assert [report.id for report in await store.replicas()] == ["new"]
    assert redis_server.command("HLEN", "{gateway:routes}:reports") == b":1\r\n"


async def test_every_key_has_one_hash_tag_and_no_value_outlives_its_bound(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    store, _ = await open_replica()
    await put(store, 1)
    await store.announce(ReplicaReport(id="a", admin="", routes={}))
    keys = [line for line in redis_server.command("KEYS", "*").decode().splitlines() if line[0] not in "*$"]
    assert len(keys) == 6
    assert all(key.startswith("{gateway:routes}:") for key in keys)


async def test_entries_of_another_form_are_passed_over(redis_server: RedisServer, open_replica: OpenReplica) -> None:
    store, _ = await open_replica()
    await put(store, 1)
    redis_server.command("XADD", "{gateway:routes}:audit", "*", "record", "{")
    redis_server.command("XADD", "{gateway:routes}:audit", "*", "other", "1")
    redis_server.command("LPUSH", "{gateway:routes}:history:fraud", "{}")
    await store.announce(ReplicaReport(id="a", admin="", routes={}))
    redis_server.command("HSET", "{gateway:routes}:reports", "a", "[]")
    assert len(await store.audit()) == len(await store.history("fraud")) == 1
    assert await store.replicas() == []


async def test_an_answer_of_another_kind_is_a_store_away(redis_server: RedisServer, open_replica: OpenReplica) -> None:
    store, listener = await open_replica()
    first = await put(store, 1)
    await agreed([listener], 1, within_s=2)
    redis_server.command("DEL", HEADS)
    redis_server.command("SET", HEADS, "text")
    await listener.until(lambda: listener.is_reached is False, within_s=3)
    assert (await refused(store.read("fraud"))).outcome == "not_written"
    assert listener.routes == {"fraud": first}
    redis_server.command("DEL", HEADS)
    await listener.until(lambda: listener.is_reached is True, within_s=3)


async def test_a_record_in_redis_is_json_that_people_can_read(
    redis_server: RedisServer, open_replica: OpenReplica
) -> None:
    store, _ = await open_replica()
    await put(store, 1)
    raw = redis_server.command("HGET", RECORDS, "fraud").decode().splitlines()[1]
    record = json.loads(raw)
    assert (record["name"], record["revision"], record["actor"]) == ("fraud", 1, "ana")
