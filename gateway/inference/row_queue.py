"""Requests waiting for a run, and the decision which of them run together.

Never awaits, never reads a clock, never runs anything: `now` is an argument.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Generic, Protocol, TypeVar

import msgspec

from gateway.errors import Overloaded, TooLarge


class Waiting(Protocol):
    """A request in the queue."""

    @property
    def rows(self) -> int:
        """Size of its first axis."""

    @property
    def group(self) -> Hashable:
        """Only requests of one group may share a run."""

    @property
    def deadline(self) -> float:
        """Time after which it is not worth a run."""

    @property
    def arrived_at(self) -> float:
        """Time it was put into the queue."""

    def is_abandoned(self) -> bool:
        """Tell whether its caller has gone."""


W = TypeVar("W", bound=Waiting)

_NONE_DUE = object()


class Batch(msgspec.Struct, Generic[W], frozen=True):
    """Requests that run together, and why they were released now.

    Attributes:
        reason: drained (all that waited), full (max_rows), preferred (of a preferred size), delay (waited long enough),
            shape (others of another group wait), oversize (one request above max_rows), single (shares no runs).
    """

    requests: list[W]
    rows: int
    reason: str


@dataclass(slots=True)
class _Group(Generic[W]):
    requests: deque[W] = field(default_factory=deque)
    rows: int = 0


class RowQueue(Generic[W]):
    """First come, first served within a group; of the groups that are due, the one whose head waited longest.

    Bounded by rows. Dead requests leave when a batch is formed: a caller may hang up while queued.
    """

    def __init__(
        self,
        *,
        name: str,
        max_rows: int,
        max_queue_rows: int,
        max_queue_delay_s: float,
        shares_runs: bool,
        preferred_rows: Collection[int] = (),
        max_queue_requests: int = 0,
    ) -> None:
        """Make an empty queue.

        Args:
            preferred_rows: A run of exactly one of these sizes does not wait for more.
            max_queue_requests: Bounds the requests besides their rows; 0 does not.
        """
        self._name = name
        self._max_rows = max_rows
        self._max_queue_rows = max_queue_rows
        self._max_queue_delay_s = max_queue_delay_s if shares_runs else 0.0
        self._shares_runs = shares_runs
        self._preferred_rows = frozenset(preferred_rows)
        self._max_queue_requests = max_queue_requests
        self._groups: dict[Hashable, _Group[W]] = {}
        self.rows = 0

    def __iter__(self) -> Iterator[W]:
        """Yield every waiting request."""
        for group in self._groups.values():
            yield from group.requests

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing waits; a request may have no rows."""
        return not self._groups

    def put(self, request: W) -> None:
        """Take a request in.

        Raises:
            TooLarge: its rows could never wait here.
            Overloaded: they could, but not now.
        """
        rows = request.rows
        if self.rows + rows > self._max_queue_rows:
            if rows > self._max_queue_rows:
                raise TooLarge(
                    f"{self._name}: the request has {rows} rows, the queue holds at most {self._max_queue_rows}"
                )
            raise Overloaded(f"{self._name}: queue holds {self.rows} of {self._max_queue_rows} rows")
        if self._max_queue_requests and sum(1 for _ in self) >= self._max_queue_requests:
            most = self._max_queue_requests
            raise Overloaded(f"{self._name}: queue holds {most} of {most} requests")
        group = self._groups.get(request.group)
        if group is None:
            group = self._groups[request.group] = _Group()
        group.requests.append(request)
        group.rows += rows
        self.rows += rows

    def release_at(self) -> float | None:
        """Return when the oldest request has waited long enough, or None when nothing waits."""
        if not self._groups:
            return None
        return min(group.requests[0].arrived_at for group in self._groups.values()) + self._max_queue_delay_s

    def next_batch(self, now: float) -> Batch[W] | None:
        """Take the requests that should run now, or None when nothing is due; the dead are dropped on the way."""
        while self._groups:
            key = self._due_group(now)
            if key is _NONE_DUE:
                return None
            batch = self._take(key, now)
            if batch.requests:
                return batch
        return None

    def _due_group(self, now: float) -> Hashable:
        if not self._max_queue_delay_s and len(self._groups) == 1:
            return next(iter(self._groups))
        due = [
            key
            for key, group in self._groups.items()
            if self._is_ripe(group, now) or (self._preferred_rows and self._preferred_prefix(group))
        ]
        return min(due, key=lambda key: self._groups[key].requests[0].arrived_at, default=_NONE_DUE)

    def _is_ripe(self, group: _Group[W], now: float) -> bool:
        """Tell whether a run is full, or its oldest request has waited long enough."""
        return group.rows >= self._max_rows or group.requests[0].arrived_at + self._max_queue_delay_s <= now

    def _preferred_prefix(self, group: _Group[W]) -> int:
        """Return the rows of the most requests, from the oldest on, that make a preferred size; 0 if none do."""
        sums = accumulate(request.rows for request in group.requests)
        return max((rows for rows in sums if rows <= self._max_rows and rows in self._preferred_rows), default=0)

    def _take(self, key: Hashable, now: float) -> Batch[W]:
        group = self._groups[key]
        waiting = group.requests
        preferred = 0 if not self._preferred_rows or self._is_ripe(group, now) else self._preferred_prefix(group)
        limit = preferred or self._max_rows
        chosen: list[W] = []
        rows = 0
        while waiting:
            head = waiting[0]
            if head.is_abandoned() or head.deadline <= now:
                group.rows -= head.rows
                self.rows -= head.rows
                waiting.popleft()
                continue
            if chosen and (not self._shares_runs or rows + head.rows > limit):
                break
            chosen.append(waiting.popleft())
            rows += head.rows
        group.rows -= rows
        self.rows -= rows
        if not waiting:
            del self._groups[key]
        return Batch(chosen, rows, "preferred" if preferred else self._reason(rows, filled=bool(waiting)))

    def _reason(self, rows: int, *, filled: bool) -> str:
        if not self._shares_runs:
            return "single"
        if rows > self._max_rows:
            return "oversize"
        if filled or rows == self._max_rows:
            return "full"
        if self._max_queue_delay_s:
            return "delay"
        return "shape" if self._groups else "drained"
