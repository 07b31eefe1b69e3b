"""Owns what the in-memory store promises beyond every store: its file."""

import asyncio
from pathlib import Path

import pytest

from gateway.errors import CannotStart, StoreUnavailable
from gateway.store.memory_store import MemoryStore
from gateway.store.records import ReplicaReport
from gateway.store.state_file import StateFile
from tests.store.changes import Listener, change, content, put


async def test_routes_history_and_audit_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    async with MemoryStore(path) as store:
        first = await put(store, 1)
        second = await put(store, 2, first)
        churn = await put(store, 1, name="churn")
        await store.write(change(None, churn, name="churn", action="delete"))
    async with MemoryStore(path) as store:
        assert await store.read("fraud") == second
        assert await store.read("churn") is None
        assert await store.history("fraud") == [second, first]
        assert [entry.action for entry in await store.audit()] == ["delete", "put", "put", "put"]
        listener = Listener(store)
        await listener.until(lambda: listener.is_reached is True, within_s=2)
        assert listener.routes == {"fraud": second}
        await listener.close()
        third = await put(store, 3, second)
        assert (third.epoch, third.revision) == (second.epoch, 3)
        again = await put(store, 1, name="churn")
        assert again.epoch > churn.epoch


async def test_without_a_file_every_start_is_a_new_epoch() -> None:
    async with MemoryStore(clock=lambda: 1000.0) as store:
        first = await put(store, 1)
    async with MemoryStore(clock=lambda: 1001.0) as store:
        assert await store.read("fraud") is None
        assert (await put(store, 1)).epoch > first.epoch


async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    async with MemoryStore(path) as store:
        await put(store, 1)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'\\"version\\":1', b'\\"version\\":2'))
    assert path.read_bytes() != raw
    with pytest.raises(CannotStart, match="does not match its checksum"):
        await MemoryStore(path).__aenter__()


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"records": {"fraud": {}}}'])
async def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "routes.json"
    StateFile(path).save(body)
    with pytest.raises(CannotStart, match="cannot be read"):
        await MemoryStore(path).__aenter__()


async def test_a_route_whose_content_is_not_its_own_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    async with MemoryStore(path) as store:
        await put(store, 1)
    body = StateFile(path).load()
    assert body is not None
    StateFile(path).save(body.replace(b"00ff", b"11ff"))
    with pytest.raises(CannotStart, match="route 'fraud'"):
        await MemoryStore(path).__aenter__()


async def test_a_write_that_the_disk_refuses_is_not_seen_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    async with MemoryStore(path) as store:
        first = await put(store, 1)
        (tmp_path / "routes.json.new").mkdir()
        with pytest.raises(StoreUnavailable) as caught:
            await put(store, 2, first)
        assert caught.value.outcome == "not_written"
        assert await store.read("fraud") == first
        assert len(await store.history("fraud")) == len(await store.audit()) == 1
        (tmp_path / "routes.json.new").rmdir()
        assert (await put(store, 3, first)).revision == 2


async def test_a_caller_that_hangs_up_does_not_tear_a_write_apart(tmp_path: Path) -> None:
    """The file and the memory agree whenever the cancellation comes."""
    path = tmp_path / "routes.json"
    async with MemoryStore(path) as store:
        for round_number in range(50):
            writing = asyncio.create_task(put(store, round_number, name=f"route-{round_number}"))
            for _ in range(round_number % 5):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait([writing])
        await put(store, 1, name="last")
        seen = {f"route-{number}": await store.read(f"route-{number}") for number in range(50)}
    async with MemoryStore(path) as store:
        assert {f"route-{number}": await store.read(f"route-{number}") for number in range(50)} == seen


async def test_replicas_that_fall_silent_are_forgotten() -> None:
    now = 1000.0
    async with MemoryStore(clock=lambda: now) as store:
        await store.announce(ReplicaReport(id="a", admin="http://127.0.0.1:8002", routes={}))
        now = 1029.0
        await store.announce(ReplicaReport(id="b", admin="http://127.0.0.1:8003", routes={}))
        assert [report.id for report in await store.replicas()] == ["a", "b"]
        now = 1031.0
        assert [report.id for report in await store.replicas()] == ["b"]


async def test_the_same_file_is_written_by_content_only(tmp_path: Path) -> None:
    """A change that changes nothing costs no disk."""
    path = tmp_path / "routes.json"
    async with MemoryStore(path) as store:
        first = await put(store, 1)
        before = path.stat().st_mtime_ns
        await store.write(change(content(1), first, reason="again"))
        assert path.stat().st_mtime_ns == before
