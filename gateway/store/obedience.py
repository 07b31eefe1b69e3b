"""What one replica obeys: the last record of each route that it accepted from the store.

Synchronous; never talks to the store, only judges what was read from it and tells the feed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from gateway.store.feed import Feed
from gateway.store.interface import RoutePublished, RouteRegressed
from gateway.store.lineage import Verdict, judge
from gateway.store.records import RouteRecord, Unreadable

log = logging.getLogger(__name__)


class Obedience:
    """The records in force on this replica, deleted ones included.

    Readings of the store overtake one another: a poll may answer after a write that began later. Each reading is
    therefore given with the count of acceptances when it began, and one that looks like a step back but is older than
    the last acceptance is passed over.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._known: dict[str, RouteRecord] = {}
        self._accepted_at: dict[str, int] = {}
        self._regressed: dict[str, RouteRecord | Unreadable | None] = {}
        self.count = 0
        """Acceptances so far; take it before reading the store."""

    def restore(self, records: Iterable[RouteRecord]) -> None:
        """Begin with what a state file remembers."""
        for record in records:
            self._accept(record)

    def known(self, name: str) -> RouteRecord | None:
        """Find the record in force, None when this replica never heard of the route."""
        return self._known.get(name)

    @property
    def records(self) -> list[RouteRecord]:
        """Every record in force, deleted ones included."""
        return list(self._known.values())

    def consider(self, name: str, stored: RouteRecord | Unreadable | None, *, since: int) -> tuple[Verdict, str]:
        """Judge a reading of the store, obey it if it is to be obeyed, and tell the feed.

        Args:
            since: `count` from before the reading.
        Returns: The verdict and, for REGRESSED, the reason.
        """
        verdict, reason = judge(self._known.get(name), stored)
        if verdict in {Verdict.REGRESSED, Verdict.RESEED} and self._accepted_at.get(name, 0) > since:
            return Verdict.STALE, ""
        if verdict is Verdict.OBEY and isinstance(stored, RouteRecord):
            self._accept(stored)
        elif verdict is Verdict.REGRESSED:
            self._tell_regressed(name, stored, reason)
        elif verdict is Verdict.SAME and name in self._regressed:
            self._accept(self._known[name])
        return verdict, reason

    def _accept(self, record: RouteRecord) -> None:
        self.count += 1
        self._accepted_at[record.name] = self.count
        self._known[record.name] = record
        self._regressed.pop(record.name, None)
        self._feed.post(RoutePublished(record))

    def _tell_regressed(self, name: str, stored: RouteRecord | Unreadable | None, reason: str) -> None:
        if name in self._regressed and self._regressed[name] == stored:
            return
        self._regressed[name] = stored
        log.error("route_store_regressed", extra={"route": name, "reason": reason})
        found = stored if isinstance(stored, RouteRecord) else None
        self._feed.post(RouteRegressed(name, self._known.get(name), found, reason))
