"""The readers of a store's events, and what each of them has still to read.

Never performs I/O; a slow reader costs one event per route, not one per change.
"""

from __future__ import annotations

import asyncio
import weakref

from gateway.store.interface import RoutePublished, RouteRegressed, StoreEvent, StoreLost, StoreReached

_Key = tuple[str, str]
_STATE: _Key = ("state", "")


class Feed:
    """Tells every reader the newest event of each kind; a reader that starts later is told what stands."""

    def __init__(self) -> None:
        self._standing: dict[_Key, StoreEvent] = {}
        self._readers: weakref.WeakSet[FeedReader] = weakref.WeakSet()
        self._is_closed = False

    def post(self, event: StoreEvent) -> None:
        """Tell an event to every reader, replacing what it makes out of date."""
        _put(self._standing, event)
        if isinstance(event, RoutePublished) and event.record.is_deleted:
            del self._standing[_key(event)]
        if (state := self._standing.pop(_STATE, None)) is not None:
            self._standing[_STATE] = state  # last, so that a late reader hears the routes first
        for reader in self._readers:
            reader.put(event)

    def reader(self) -> FeedReader:
        """Begin to read, with everything that stands now."""
        reader = FeedReader(dict(self._standing), is_closed=self._is_closed)
        self._readers.add(reader)
        return reader

    def close(self) -> None:
        """End every reader once it has read what is left."""
        self._is_closed = True
        for reader in self._readers:
            reader.close()


class FeedReader:
    """One reader's events, oldest first."""

    def __init__(self, pending: dict[_Key, StoreEvent], *, is_closed: bool) -> None:
        self._pending = pending
        self._is_closed = is_closed
        self._changed = asyncio.Event()

    def put(self, event: StoreEvent) -> None:
        """Queue an event in the place of the one it replaces."""
        _put(self._pending, event)
        self._changed.set()

    def close(self) -> None:
        """Let the reader end after the events it still holds."""
        self._is_closed = True
        self._changed.set()

    def __aiter__(self) -> FeedReader:
        return self

    async def __anext__(self) -> StoreEvent:
        while not self._pending:
            if self._is_closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._pending.pop(next(iter(self._pending)))


def _put(events: dict[_Key, StoreEvent], event: StoreEvent) -> None:
    if isinstance(event, RoutePublished):
        events.pop(("regressed", event.record.name), None)
    events.pop(_key(event), None)  # so that the newer one goes to the end
    events[_key(event)] = event


def _key(event: StoreEvent) -> _Key:
    match event:
        case RoutePublished(record):
            return ("published", record.name)
        case RouteRegressed(name):
            return ("regressed", name)
        case StoreReached() | StoreLost():
            return _STATE
