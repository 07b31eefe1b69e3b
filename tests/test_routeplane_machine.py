"""Owns the promise that whatever operators do to routes while Redis fails, no revision is lost, invented or doubled,
and all replicas serve the same in the end.

Random calls of two operators on three replicas, each behind a door of its own, on a Redis that is cut off, hung, slow,
emptied, and restored from older copies; replicas end and come back. The seeds are fixed; the timing is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.errors import (
    InvalidRoute,
    RevisionMismatch,
    StoreRegressed,
    StoreUnavailable,
    UnknownRoute,
    UnreadableRevision,
)
from gateway.routeplane import Actor, Changed, RoutePlane
from gateway.routing.published import PublishedRoute
from gateway.store.records import RouteRecord
from gateway.store.redis_store import RedisStore
from tests.store.changes import Listener
from tests.store.fault_proxy import FaultProxy
from tests.store.faults import ALL_FAULTS, GENTLE_FAULTS, Fault, Faults
from tests.store.redis_server import RedisServer, eventually
from tests.support import onnx_models
from tests.support.replicas import Replica, document, running_replica
from tests.support.repositories import add_version

pytestmark = pytest.mark.redis

STEPS = 40
ROUTE = "split"
CALLS = ("put",) * 4 + ("stale put",) * 2 + ("shift",) * 8 + ("abort",) * 3 + ("rollback",) * 3 + ("validate", "adopt")
DELETING_CALLS = (*CALLS, "delete")
FAITHFUL_FAULTS: tuple[Fault, ...] = ("shut", "reopen", "reopen", "hang", "lose answers", "slow", "restart")
"""Redis holds everything that it acknowledged."""
EXPECTED = (
    InvalidRoute,
    RevisionMismatch,
    StoreRegressed,
    StoreUnavailable,
    UnknownRoute,
    UnreadableRevision,
)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """Start a Redis of the test's own, to hang and to kill."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a repository with three versions of a model that take and give the same."""
    root = tmp_path_factory.mktemp("machine")
    for version in (1, 2, 3):
        add_version(root, "m", version, onnx_models.affine(offset=float(version)))
    return root


class Member:
    """One replica that may end and come back, and everything that its store ever told."""

    def __init__(self, name: str, door: FaultProxy, repository: Path, state: Path) -> None:
        self.name = name
        self.door = door
        self._repository = repository
        self._state = state
        self._stack = AsyncExitStack()
        self.earlier: list[RouteRecord] = []

    async def start(self) -> None:
        store = await self._stack.enter_async_context(RedisStore(self.door.url, path=self._state))
        self.listener = Listener(store)
        self._stack.push_async_callback(self.listener.close)
        self.store = store
        self.replica: Replica = await self._stack.enter_async_context(
            running_replica(self._repository, store, replica_id=self.name, until_ready=False)
        )

    async def stop(self) -> None:
        await self._stack.aclose()
        self.earlier += self.listener.seen

    @property
    def seen(self) -> list[RouteRecord]:
        return [record for record in (*self.earlier, *self.listener.seen) if record.name == ROUTE]


class Machine:
    """Three replicas, what was asked of them, and what they said; a call is known by its reason."""

    def __init__(self, server: RedisServer, seed: int, calls: tuple[str, ...], faults: tuple[Fault, ...]) -> None:
        self.draw = random.Random(seed)
        self.members: list[Member] = []
        self._server = server
        self._calls = calls
        self._kinds = faults
        self._number = 0
        self.made: dict[str, PublishedRoute] = {}
        self.refused: set[str] = set()
        self.open_outcomes: set[str] = set()
        self.may_land: set[str] = set()
        self.aborts: set[str] = set()
        self.adoptions: set[str] = set()

    async def open(self, stack: AsyncExitStack, repository: Path, states: Path) -> None:
        for name in ("a", "b", "c"):
            door = await stack.enter_async_context(FaultProxy(self._server))
            member = Member(name, door, repository, states / f"{name}.state")
            await member.start()
            stack.push_async_callback(member.stop)
            self.members.append(member)
        self._faults = Faults(self._server, [member.door for member in self.members], self.draw)

    async def operate(self, operator: str) -> None:
        """One operator makes one call on one replica."""
        self._number += 1
        by = Actor(operator, reason=f"{operator} {self._number}")
        call, routes = self.draw.choice(self._calls), self.draw.choice(self.members).replica.routes
        weight, revision = self.draw.randrange(101), self.draw.choice((None, 1, 2, 3))
        try:
            match call:
                case "put" | "stale put":
                    await self._put(routes, by, is_stale=call == "stale put", weight=weight)
                case "shift":
                    self._take(by, await routes.shift(ROUTE, {"b": weight}, by=by))
                case "abort":
                    self.aborts.add(by.reason)
                    self._take(by, await routes.abort(ROUTE, by=by))
                case "rollback":
                    self._take(by, await routes.rollback(ROUTE, revision, by=by))
                case "adopt":
                    await self._adopt(routes, by)
                case "delete":
                    found = await routes.read(ROUTE)
                    await routes.delete(ROUTE, if_match=found.position.etag, by=by)
                    self.may_land.add(by.reason)
                case "validate":
                    self.refused.add(by.reason)
                    await routes.validate(ROUTE, document(100 - weight, weight))
                case _:
                    raise AssertionError(call)
        except StoreUnavailable as exc:
            (self.open_outcomes if exc.outcome == "unknown" else self.refused).add(by.reason)
        except EXPECTED:
            self.refused.add(by.reason)

    async def disturb(self) -> None:
        """Have something befall Redis or a door, or one replica end and come back."""
        if self.draw.random() < 0.1:
            member = self.draw.choice(self.members)
            await member.stop()
            await member.start()
        else:
            self._faults.befall(self.draw.choice(self._kinds))

    async def heal(self) -> PublishedRoute | None:
        """Let everybody through, have an operator adopt where that is asked for, and wait until all agree."""
        self._faults.heal()

        async def is_converged() -> bool:
            for member in self.members:
                for name in list(member.listener.regressed):
                    with contextlib.suppress(*EXPECTED):
                        self.adoptions.add(name)
                        await member.replica.routes.adopt(name, by=Actor("healer", reason="healed"))
                    return False
            first, *others = [member.replica.routes.in_force() for member in self.members]
            is_same = all(
                {name: route.position for name, route in other.items()}
                == {name: route.position for name, route in first.items()}
                for other in others
            )
            return is_same and all([await self._applies_all(member) for member in self.members])

        await eventually(is_converged, within_s=20, what="agreement of the replicas")
        return self.members[0].replica.routes.in_force().get(ROUTE)

    def assert_nothing_was_invented_or_doubled(self) -> None:
        """Hold what every replica was ever told against what operators were answered."""
        seen = [record for member in self.members for record in member.seen]
        at: dict[tuple[int, int], str] = {}
        positions = [record.position for record in seen] + [route.position for route in self.made.values()]
        for position in positions:
            assert at.setdefault((position.epoch, position.revision), position.hash) == position.hash
        reasons = {record.reason for record in seen} - {"healed"}
        assert reasons <= self.made.keys() | self.open_outcomes | self.may_land
        assert not reasons & self.refused
        for reason in reasons - self.aborts:
            assert len({(record.revision, record.hash) for record in seen if record.reason == reason}) == 1, reason

    async def assert_history_is_whole(self) -> None:
        """Find every revision that an operator was told of, in order, none twice: this Redis forgets nothing."""
        kept = [record for record in await self.members[0].replica.routes.history(ROUTE) if record.reason]
        assert self.made.keys() <= {record.reason for record in kept}
        revisions = [record.revision for record in kept]
        assert revisions == list(range(max(revisions), 0, -1))

    async def _put(self, routes: RoutePlane, by: Actor, *, is_stale: bool, weight: int) -> None:
        """Replace the whole route, or make it where there is none; stale: where this replica serves it."""
        route = routes.in_force().get(ROUTE)
        if not is_stale:
            try:
                route = await routes.read(ROUTE)
            except UnknownRoute:
                route = None
        etag = None if route is None else route.position.etag
        wanted = document(100 - weight, weight)
        self._take(by, await routes.put(ROUTE, wanted, if_match=etag, must_be_new=etag is None, by=by))

    async def _adopt(self, routes: RoutePlane, by: Actor) -> None:
        try:
            adopted = await routes.adopt(ROUTE, by=by)
        except UnknownRoute:  # also of a deletion that was adopted
            self.may_land.add(by.reason)
            return
        self._take(by, adopted)
        if adopted.is_new_revision:
            self.adoptions.add(ROUTE)

    def _take(self, by: Actor, changed: Changed) -> None:
        if changed.is_new_revision:
            self.made[by.reason] = changed.route
        elif by.reason in self.aborts:  # it may have worked on that replica alone, and be written later
            self.may_land.add(by.reason)
        else:
            self.refused.add(by.reason)

    async def _applies_all(self, member: Member) -> bool:
        reports = await member.replica.routes.replicas()
        own = next(report for report in reports if report.id == member.name)
        return all(route.applied for route in own.routes.values())


async def run(
    server: RedisServer,
    repository: Path,
    states: Path,
    seed: int,
    *,
    faults: tuple[Fault, ...],
    calls: tuple[str, ...] = CALLS,
) -> tuple[Machine, PublishedRoute | None]:
    async with AsyncExitStack() as stack:
        machine = Machine(server, seed, calls, faults)
        await machine.open(stack, repository, states)
        for _ in range(STEPS):
            if machine.draw.random() < 0.25:
                await machine.disturb()
            await asyncio.gather(machine.operate("ana"), machine.operate("ben"))
        final = await machine.heal()
        machine.assert_nothing_was_invented_or_doubled()
        assert machine.made
        if faults == FAITHFUL_FAULTS:
            await machine.assert_history_is_whole()
        return machine, final


@pytest.mark.parametrize("seed", range(2))
async def test_replicas_converge_and_no_revision_is_invented_or_doubled(
    redis_server: RedisServer, repository: Path, tmp_path: Path, seed: int
) -> None:
    await run(redis_server, repository, tmp_path, seed, faults=ALL_FAULTS, calls=DELETING_CALLS)


@pytest.mark.parametrize(("seed", "faults"), [(11, GENTLE_FAULTS), (21, FAITHFUL_FAULTS)])
async def test_no_answered_revision_is_lost_unless_somebody_adopts(
    redis_server: RedisServer, repository: Path, tmp_path: Path, seed: int, faults: tuple[Fault, ...]
) -> None:
    """Emptied, hung, slow and cut off, never restored from older data: the last answered change stands in the end."""
    machine, final = await run(redis_server, repository, tmp_path, seed, faults=faults)
    if machine.adoptions:
        return
    last = max(machine.made.values(), key=lambda route: (route.epoch, route.revision))
    assert final is not None
    is_last = (final.hash, final.reason) == (last.hash, last.reason)
    assert is_last or final.reason in machine.open_outcomes | machine.may_land
