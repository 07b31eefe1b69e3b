"""Owns the promise that no mix of writes and faults loses, invents or doubles a revision, or leaves replicas apart.

Random operations of two operators on three replicas, each behind a door of its own, on a Redis that is cut off, hung,
emptied, and restored from older copies. The seeds are fixed; the timing is not.
"""

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from gateway.errors import RevisionMismatch, StoreRegressed, StoreUnavailable, UnknownRoute
from gateway.store.records import Action, RouteRecord
from gateway.store.redis_store import RedisStore
from tests.store.changes import Listener, change, content
from tests.store.fault_proxy import FaultProxy
from tests.store.faults import ALL_FAULTS, GENTLE_FAULTS, Fault, Faults
from tests.store.redis_server import RedisServer, eventually

pytestmark = pytest.mark.redis

STEPS = 60
OPERATIONS = ("write",) * 12 + ("blind write",) * 4 + ("delete",) + ("adopt",) * 2


class Machine:
    """Three replicas, what was asked of them, and what they said."""

    def __init__(self, server: RedisServer, seed: int) -> None:
        self.server = server
        self.draw = random.Random(seed)
        self.proxies: list[FaultProxy] = []
        self.faults = Faults(server, self.proxies, self.draw)
        self.stores: list[RedisStore] = []
        self.listeners: list[Listener] = []
        self.retired: list[Listener] = []
        self.version = 0
        self.answered: list[RouteRecord] = []
        self.refused: set[str] = set()
        self.open_outcomes: set[str] = set()
        self.adoptions = 0

    async def open(self, stack: AsyncExitStack) -> None:
        self.stack = stack
        for _ in range(3):
            proxy = await stack.enter_async_context(FaultProxy(self.server))
            store, listener = await self.open_replica(proxy)
            self.proxies.append(proxy)
            self.stores.append(store)
            self.listeners.append(listener)

    async def open_replica(self, proxy: FaultProxy) -> tuple[RedisStore, Listener]:
        store = await self.stack.enter_async_context(RedisStore(proxy.url))
        listener = Listener(store)
        self.stack.push_async_callback(listener.close)
        return store, listener

    async def operate(self) -> None:
        """One operator does one thing on one replica."""
        operation = self.draw.choice(OPERATIONS)
        index = self.draw.randrange(3)
        store = self.stores[index]
        try:
            if operation == "adopt":
                if "fraud" in self.listeners[index].regressed:
                    written = await store.adopt("fraud", actor="ops")
                    self.adoptions += written.is_new_revision
                    if written.is_new_revision:
                        self.answered.append(written.record)
                return
            blind = operation == "blind write"
            current = self.listeners[index].routes.get("fraud") if blind else await store.read("fraud")
            await self.write(store, current, is_deletion=operation == "delete" and current is not None)
        except (RevisionMismatch, StoreRegressed, StoreUnavailable, UnknownRoute):
            return

    async def write(self, store: RedisStore, current: RouteRecord | None, *, is_deletion: bool) -> None:
        self.version += 1
        what = None if is_deletion else content(self.version)
        action: Action = "delete" if is_deletion else "put"
        key = "" if what is None else what.hash
        try:
            written = await store.write(change(what, current, action=action))
        except StoreUnavailable as exc:
            (self.open_outcomes if exc.outcome == "unknown" else self.refused).add(key)
            raise
        except (RevisionMismatch, StoreRegressed):
            self.refused.add(key)
            raise
        self.answered.append(written.record)

    async def disturb(self, faults: tuple[Fault, ...]) -> None:
        """Do something to Redis or to the way there, or have a replica replaced by one that remembers nothing."""
        if faults == ALL_FAULTS and self.draw.random() < 0.1:
            index = self.draw.randrange(3)
            await self.stores[index].__aexit__(None, None, None)
            self.retired.append(self.listeners[index])
            self.stores[index], self.listeners[index] = await self.open_replica(self.proxies[index])
        else:
            self.faults.befall(self.draw.choice(faults))

    async def heal(self) -> RouteRecord | None:
        """Let everybody through, have an operator adopt where that is asked for, and wait until all agree."""
        self.faults.heal()

        async def is_converged() -> bool:
            for store, listener in zip(self.stores, self.listeners, strict=True):
                if "fraud" in listener.regressed:
                    try:
                        written = await store.adopt("fraud", actor="ops")
                    except (RevisionMismatch, StoreUnavailable, UnknownRoute):
                        return False
                    self.adoptions += written.is_new_revision
                    if written.is_new_revision:
                        self.answered.append(written.record)
                    return False
            found = [listener.routes.get("fraud") for listener in self.listeners]
            reached = all(listener.is_reached for listener in self.listeners)
            return reached and all(one == found[0] for one in found)

        await eventually(is_converged, within_s=15, what="agreement of the replicas")
        return self.listeners[0].routes.get("fraud")

    def assert_nothing_was_invented_or_doubled(self) -> None:
        records = [record for listener in (*self.listeners, *self.retired) for record in listener.seen] + self.answered
        at: dict[tuple[int, int], str] = {}
        for record in records:
            assert at.setdefault((record.epoch, record.revision), record.hash) == record.hash
        known = {record.hash for record in self.answered} | self.open_outcomes
        assert {record.hash for record in records} <= known
        assert not {record.hash for record in records if record.hash} & self.refused


async def run(server: RedisServer, seed: int, faults: tuple[Fault, ...]) -> tuple[Machine, RouteRecord | None]:
    async with AsyncExitStack() as stack:
        machine = Machine(server, seed)
        await machine.open(stack)
        for _ in range(STEPS):
            if machine.draw.random() < 0.25:
                await machine.disturb(faults)
            await asyncio.gather(machine.operate(), machine.operate())
        final = await machine.heal()
        machine.assert_nothing_was_invented_or_doubled()
        return machine, final


@pytest.mark.parametrize("seed", [0, 1, 3])
async def test_replicas_converge_and_no_revision_is_invented_or_doubled(redis_server: RedisServer, seed: int) -> None:
    machine, _ = await run(redis_server, seed, ALL_FAULTS)
    assert len(machine.answered) >= 5


@pytest.mark.parametrize("seed", [10, 11, 12])
async def test_no_answered_revision_is_lost_unless_somebody_adopts(redis_server: RedisServer, seed: int) -> None:
    """Emptied, hung and cut off, but never restored from older data: the last answered write stands in the end."""
    machine, final = await run(redis_server, seed, GENTLE_FAULTS)
    if machine.adoptions:
        return
    last = max(machine.answered, key=lambda record: (record.epoch, record.revision))
    if final is None:
        assert last.is_deleted or "" in machine.open_outcomes
    else:
        assert final.hash == last.hash or final.hash in machine.open_outcomes
