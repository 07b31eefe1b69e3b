"""Owns the promises of the feed: nobody misses the last word on a route, and a slow reader costs bounded memory."""

import asyncio
import gc

import pytest

from gateway.store.feed import Feed
from gateway.store.interface import RoutePublished, RouteRegressed, StoreEvent, StoreLost, StoreReached
from gateway.store.lineage import next_record
from gateway.store.records import RouteRecord
from tests.store.changes import change, content


def record(version: int | None, current: RouteRecord | None = None, name: str = "fraud") -> RouteRecord:
    what = None if version is None else content(version)
    return next_record(current, change(what, name=name), now=1.0, server="", write_id="")


async def drained(feed: Feed) -> list[StoreEvent]:
    """Read what a reader gets who begins now."""
    reader = feed.reader()
    feed.close()
    return [event async for event in reader]


async def test_a_late_reader_is_told_what_stands_and_the_state_last() -> None:
    feed = Feed()
    first, other = record(1), record(1, name="churn")
    feed.post(RoutePublished(first))
    feed.post(StoreReached())
    second = record(2, first)
    feed.post(RoutePublished(second))
    feed.post(RoutePublished(other))
    assert await drained(feed) == [RoutePublished(second), RoutePublished(other), StoreReached()]


async def test_a_late_reader_hears_nothing_of_a_route_that_is_gone() -> None:
    feed = Feed()
    first = record(1)
    feed.post(RoutePublished(first))
    feed.post(RoutePublished(record(None, first)))
    assert await drained(feed) == []


async def test_a_regress_stands_beside_the_route_until_the_next_publication() -> None:
    feed = Feed()
    first = record(1)
    regressed = RouteRegressed("fraud", first, None, "gone back")
    feed.post(RoutePublished(first))
    feed.post(regressed)
    reader = feed.reader()
    assert [await anext(reader), await anext(reader)] == [RoutePublished(first), regressed]
    second = record(2, first)
    feed.post(RoutePublished(second))
    assert await drained(feed) == [RoutePublished(second)]


async def test_a_slow_reader_gets_the_last_of_each_route_once() -> None:
    feed = Feed()
    reader = feed.reader()
    current = None
    for version in range(100):
        current = record(version, current)
        feed.post(RoutePublished(current))
        feed.post(StoreLost(f"{version}"))
    feed.close()
    assert current is not None
    assert [event async for event in reader] == [RoutePublished(current), StoreLost("99")]


async def test_a_waiting_reader_is_woken_by_each_event_and_ended_by_the_close() -> None:
    feed = Feed()
    reader = feed.reader()
    waiting = asyncio.create_task(anext(reader))
    await asyncio.sleep(0)
    feed.post(StoreReached())
    assert await waiting == StoreReached()
    ending = asyncio.create_task(anext(reader))
    await asyncio.sleep(0)
    feed.close()
    with pytest.raises(StopAsyncIteration):
        await ending


async def test_a_reader_that_was_dropped_is_forgotten() -> None:
    feed = Feed()
    feed.reader()
    gc.collect()
    feed.post(StoreReached())
    assert await drained(feed) == [StoreReached()]
