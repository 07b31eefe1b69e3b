"""The flusher: sends what the ledgers hold to the store, a packet at a time, and waits longer after each failure.

Never awaited by a request, never loses a row and never has two packets of one ledger under way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from gateway.errors import StoreUnavailable
from gateway.monitoring.backoff import Backoff
from gateway.monitoring.ledger import Ledger
from gateway.monitoring.schedule import FLUSH_INTERVAL_S
from gateway.store.windows import CountSeries, WindowStore

log = logging.getLogger(__name__)

MAX_PACKETS = 256
"""Sent in one flush; the rest waits for the next one, so that a return after an outage stays gentle."""


class Flusher:
    """Sends counts to one store.

    Attributes:
        is_up: Whether the last call was answered; None before the first.
        errors: Calls that were not answered.
    """

    def __init__(
        self,
        store: WindowStore,
        *,
        observe_s: Callable[[float], None] = lambda _: None,
        seed: int | None = None,
    ) -> None:
        """Start without knowing whether the store answers.

        Args:
            store: Where counts go.
            observe_s: Told how long each flush that had something to send took, in seconds.
            seed: Of the jitter between retries.
        """
        self._store = store
        self._observe_s = observe_s
        self._backoff = Backoff(seed=seed)
        self._turn = 0
        self.is_up: bool | None = None
        self.errors = 0

    async def flush(self, ledgers: Sequence[tuple[CountSeries, Ledger]], now_s: float, *, retry: bool = False) -> bool:
        """Send what waits, the ledgers taking turns; nothing while backing off after a failure.

        Args:
            ledgers: Each with its series.
            now_s: Seconds since the epoch.
            retry: Whether to send although it is too early after a failure.
        Returns: Whether the store took what it was sent and more waits.
        """
        if self._backoff.is_waiting(now_s) and not retry:
            return False
        loop = asyncio.get_running_loop()
        started = loop.time()
        more_waits = False
        sent = 0
        try:
            sent, more_waits = await self._send(ledgers, until=started + FLUSH_INTERVAL_S)
        except StoreUnavailable as exc:
            self._note_failure(now_s, exc)
            sent = 1
        if sent:
            self._observe_s(loop.time() - started)
        return more_waits

    async def _send(self, ledgers: Sequence[tuple[CountSeries, Ledger]], *, until: float) -> tuple[int, bool]:
        loop = asyncio.get_running_loop()
        sent = 0
        while waiting := [(*pair, packet) for pair in ledgers if (packet := pair[1].next_packet()) is not None]:
            # Who was first last time is last this time.
            self._turn += 1
            turn = self._turn % len(waiting)
            for series, ledger, packet in waiting[turn:] + waiting[:turn]:
                ledger.settle(packet, await self._store.add(series, packet))
                self._note_answer()
                sent += 1
                if sent >= MAX_PACKETS or loop.time() > until:
                    return sent, True
        return sent, False

    def _note_answer(self) -> None:
        if self.is_up is False:
            log.info("window_store_reached", extra={"failures": self._backoff.failures})
        self.is_up = True
        self._backoff.succeed()

    def _note_failure(self, now_s: float, error: StoreUnavailable) -> None:
        if self.is_up is not False:
            log.warning("window_store_lost", extra={"reason": str(error)})
        self.is_up = False
        self.errors += 1
        self._backoff.fail(now_s)
