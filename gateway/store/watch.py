"""When to ask the store again: at once on word from it, and every second besides.

Knows nothing of what is asked; never ends by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self

from gateway.errors import StoreUnavailable

log = logging.getLogger(__name__)

POLL_S = 1.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
CANCEL_AGAIN_S = 0.1


class Watch:
    """Calls `poll` after each word of `listen`, and when there was none for a second; while entered as a context.

    Args:
        poll: Asks the store; raises nothing that it expects.
        listen: Yields when it is connected and at each word; raises StoreUnavailable when it is cut off.
    """

    def __init__(
        self,
        poll: Callable[[], Awaitable[None]],
        listen: Callable[[], AsyncGenerator[None]],
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._poll = poll
        self._listen = listen
        self._poll_s = poll_s
        self._word = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def wake(self) -> None:
        """Have the store asked at once."""
        self._word.set()

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._keep_polling()), asyncio.create_task(self._keep_listening())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pending = set(self._tasks)
        while pending:
            for task in pending:
                task.cancel()
            # Asked again, since asyncio.wait_for of Python 3.11 may swallow one cancellation, and libraries use it.
            _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_S)

    async def _keep_polling(self) -> None:
        while True:
            self._word.clear()
            try:
                await self._poll()
            except Exception:  # a store that stops being asked would freeze the routes until a restart
                log.exception("store_poll_failed")
            # Replicas that were started together shall not ask together.
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s * random.uniform(0.9, 1.1)):
                    await self._word.wait()

    async def _keep_listening(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                async with aclosing(self._listen()) as words:
                    async for _ in words:
                        pause_s = FIRST_PAUSE_S
                        self.wake()
            except StoreUnavailable as exc:
                log.info("store_subscription_lost", extra={"reason": str(exc)})
            except Exception:  # as above
                log.exception("store_subscription_failed")
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
