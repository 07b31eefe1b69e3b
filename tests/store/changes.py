"""Changes to write with, and readers of what a store tells.

Never holds an expectation; those stand in the tests.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from gateway.store.interface import RoutePublished, RouteRegressed, RouteStore, StoreEvent, StoreLost, StoreReached
from gateway.store.records import Action, Content, Position, RouteChange, RouteRecord

Event = TypeVar("Event", RoutePublished, RouteRegressed, StoreLost, StoreReached)


def content(version: int = 1, slots: str = "0*10000") -> Content:
    """Make a content that differs by version; the store does not read it."""
    return Content(document=f'{{"version":{version}}}', salt="00ff", slots=slots)


def change(
    what: Content | None,
    expected: RouteRecord | Position | None = None,
    *,
    name: str = "fraud",
    action: Action = "put",
    actor: str = "ana",
    reason: str = "",
) -> RouteChange:
    """Ask for a content where the route was last seen."""
    return RouteChange(
        name=name,
        expected=expected.position if isinstance(expected, RouteRecord) else expected,
        content=what,
        action=action,
        actor=actor,
        reason=reason,
        request_id=f"request of {actor}",
        changes=({"pointer": "", "from": None, "to": {"version": 1}},),
    )


async def put(store: RouteStore, version: int, expected: RouteRecord | None = None, name: str = "fraud") -> RouteRecord:
    """Write a content of this version and return the new revision."""
    written = await store.write(change(content(version), expected, name=name))
    return written.record


class Listener:
    """Reads a store's events into what they add up to, as a control plane would."""

    def __init__(self, store: RouteStore) -> None:
        self.routes: dict[str, RouteRecord] = {}
        self.regressed: dict[str, RouteRegressed] = {}
        self.is_reached: bool | None = None
        self.seen: list[RouteRecord] = []
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read(store.changes()))

    async def _read(self, events: AsyncIterator[StoreEvent]) -> None:
        async for event in events:
            async with self._changed:
                self._take(event)
                self._changed.notify_all()

    def _take(self, event: StoreEvent) -> None:
        match event:
            case RoutePublished(record):
                self.seen.append(record)
                self.regressed.pop(record.name, None)
                if record.is_deleted:
                    self.routes.pop(record.name, None)
                else:
                    self.routes[record.name] = record
            case RouteRegressed(name):
                self.regressed[name] = event
            case StoreReached():
                self.is_reached = True
            case StoreLost():
                self.is_reached = False

    async def until(self, holds: Callable[[], bool], *, within_s: float) -> float:
        """Wait until what was read fulfils a condition, and return after how many seconds it did."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.timeout(within_s), self._changed:
            await self._changed.wait_for(holds)
        return loop.time() - started

    async def close(self) -> None:
        """Stop reading."""
        self._reading.cancel()
        await asyncio.wait([self._reading])
