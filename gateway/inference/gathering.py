"""When the queues of a process are looked at: once a turn of the loop brings nobody new, or enough wait.

Knows no queue and runs nothing: who waits is a callback. Lives on the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Gathering:
    """Lets requests that arrive together start together, whichever versions they are for.

    While several requests of one turn are read more arrive: they had better share a run than wait for its end. A lone
    one starts at once, unless several came before the last start: it is the first of those to come back. Versions
    that looked each for itself would fall out of step, and a split would answer its callers in twice as many turns.
    """

    __slots__ = ("_enough_rows", "_requests", "_rows", "_seen", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Callable[[], None]] = []
        self._enough_rows = 0
        self._requests = 0
        self._rows = 0
        self._seen = 1

    def wait(self, loop: asyncio.AbstractEventLoop, start: Callable[[], None], *, enough_rows: int) -> None:
        """Call `start` once, in this turn of the loop or a later one.

        Args:
            enough_rows: As many fill its run; the largest of those who wait is enough for all.
        """
        if not self._waiting:
            self._enough_rows = self._requests = self._rows = 0
            loop.call_soon(self._look, loop)
        self._waiting.append(start)
        self._enough_rows = max(self._enough_rows, enough_rows)

    def arrive(self, rows: int) -> None:
        """Note a request of somebody who waits."""
        self._requests += 1
        self._rows += rows

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._requests > self._seen and self._rows < self._enough_rows:
            self._seen = self._requests
            loop.call_soon(self._look, loop)
            return
        self._seen = int(self._requests == 1)
        starts, self._waiting = self._waiting, []
        for start in starts:
            try:
                start()
            except Exception as exc:  # noqa: BLE001 - a fault of one version's must not leave the others waiting
                loop.call_exception_handler({"message": "a version's queue could not be looked at", "exception": exc})
