"""Owns the promises of what a replica obeys: one step forward at a time, no false alarm from readings that overtook."""

from gateway.store.feed import Feed
from gateway.store.interface import RoutePublished, RouteRegressed, StoreEvent
from gateway.store.lineage import Verdict, next_record
from gateway.store.obedience import Obedience
from gateway.store.records import RouteRecord, Unreadable
from tests.store.changes import change, content


def follow(current: RouteRecord | None, version: int) -> RouteRecord:
    return next_record(current, change(content(version)), now=1.0, server="", write_id="")


FIRST = follow(None, 1)
SECOND = follow(FIRST, 2)
THIRD = follow(SECOND, 3)


async def told(feed: Feed) -> list[StoreEvent]:
    reader = feed.reader()
    feed.close()
    return [event async for event in reader]


def obeying(*records: RouteRecord) -> tuple[Obedience, Feed]:
    feed = Feed()
    obedience = Obedience(feed)
    for record in records:
        assert obedience.consider("fraud", record, since=obedience.count)[0] is Verdict.OBEY
    return obedience, feed


async def test_what_is_obeyed_is_told_and_known() -> None:
    obedience, feed = obeying(FIRST, SECOND)
    assert obedience.known("fraud") == SECOND
    assert obedience.records == [SECOND]
    assert obedience.known("churn") is None
    assert await told(feed) == [RoutePublished(SECOND)]


async def test_a_reading_that_began_before_the_last_acceptance_is_no_step_back() -> None:
    """A poll that was under way while a write landed still answers with what stood before."""
    obedience, feed = obeying(FIRST)
    began = obedience.count
    obedience.consider("fraud", SECOND, since=obedience.count)
    assert obedience.consider("fraud", FIRST, since=began)[0] is Verdict.STALE
    assert obedience.consider("fraud", None, since=began)[0] is Verdict.STALE
    assert obedience.known("fraud") == SECOND
    assert await told(feed) == [RoutePublished(SECOND)]


async def test_an_acceptance_of_another_route_makes_no_reading_stale() -> None:
    obedience, _ = obeying(FIRST, SECOND)
    began = obedience.count
    other = next_record(None, change(content(1), name="churn"), now=1.0, server="", write_id="")
    obedience.consider("churn", other, since=obedience.count)
    assert obedience.consider("fraud", FIRST, since=began)[0] is Verdict.REGRESSED


async def test_a_step_back_is_told_once_and_changes_nothing() -> None:
    obedience, feed = obeying(FIRST, SECOND)
    reader = feed.reader()
    assert await anext(reader) == RoutePublished(SECOND)
    reason = ""
    for _ in range(3):
        verdict, reason = obedience.consider("fraud", FIRST, since=obedience.count)
        assert verdict is Verdict.REGRESSED
    assert await anext(reader) == RouteRegressed("fraud", SECOND, FIRST, reason)
    obedience.consider("fraud", Unreadable("no"), since=obedience.count)
    assert await anext(reader) == RouteRegressed("fraud", SECOND, None, "no")
    assert obedience.known("fraud") == SECOND
    feed.close()
    assert [event async for event in reader] == []


async def test_a_store_that_is_right_again_ends_the_alarm() -> None:
    obedience, feed = obeying(FIRST, SECOND)
    obedience.consider("fraud", FIRST, since=obedience.count)
    assert obedience.consider("fraud", SECOND, since=obedience.count)[0] is Verdict.SAME
    assert await told(feed) == [RoutePublished(SECOND)]


async def test_a_step_forward_ends_the_alarm_too() -> None:
    obedience, feed = obeying(FIRST, SECOND)
    obedience.consider("fraud", FIRST, since=obedience.count)
    assert obedience.consider("fraud", THIRD, since=obedience.count)[0] is Verdict.OBEY
    assert await told(feed) == [RoutePublished(THIRD)]


async def test_what_a_file_remembers_is_obeyed_from_the_start() -> None:
    obedience, feed = obeying()
    obedience.restore([SECOND])
    assert obedience.consider("fraud", None, since=obedience.count)[0] is Verdict.RESEED
    assert obedience.consider("fraud", FIRST, since=obedience.count)[0] is Verdict.REGRESSED
    assert obedience.known("fraud") == SECOND
    assert (await told(feed))[0] == RoutePublished(SECOND)
