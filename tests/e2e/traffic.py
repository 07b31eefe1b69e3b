"""Owns traffic that goes on in the background while a test changes what serves it.

Never judges an answer itself; a test says what is wrong with one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.e2e.wire import AsyncConnection
from tests.support.server import GatewayProcess, HttpAnswer, eventually

Check = Callable[[HttpAnswer], str]


def await_queue(server: GatewayProcess, model: str, rows: int) -> None:
    """Wait until so many rows wait; seen twice, because whatever arrives is in the queue for a moment."""

    def waits() -> bool:
        return all(server.metric("gateway_queue_rows", model=model) == rows for _ in range(2))

    eventually(waits, what=f"{rows} rows in the queue of {model}")


class Traffic:
    """Callers that ask again as soon as they are answered, each on a connection of its own, until the block ends.

    Attributes:
        answers: How many answers each version gave, by `x-gateway-model`.
        faults: What went wrong, in words; a lost connection among it, unless callers survive that.
        lost: Id of the last answer on each connection that was lost and survived, "" where there was none.
        refused: Callers that could not connect again.
    """

    def __init__(
        self,
        address: tuple[str, int],
        request: bytes,
        check: Check,
        *,
        callers: int = 8,
        reconnects: bool = False,
        survives: bool = False,
    ) -> None:
        """Prepare it.

        Args:
            check: Returns what is wrong with an answer, "" for nothing.
            reconnects: What a caller does when told `connection: close`: connect again to the same address, or go.
            survives: Whether a caller whose connection is lost connects again.
        """
        self._address = address
        self._request = request
        self._check = check
        self._callers = callers
        self._reconnects = reconnects
        self._survives = survives
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self.lost: list[str] = []
        self.refused = 0
        self.callers_left = callers

    def __enter__(self) -> Self:
        """Start, and wait until every caller has been answered."""
        self._thread.start()
        self.await_answers(2 * self._callers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End, after the answers that are under way."""
        self._ending.set()
        self._thread.join()

    @property
    def answered(self) -> int:
        """All answers until now."""
        return self.answers.total()

    def await_answers(self, more: int) -> None:
        """Wait for so many more answers."""
        wanted = self.answered + more
        eventually(lambda: self.faults or self.answered >= wanted, what=f"{more} more answers")

    async def _run(self) -> None:
        await asyncio.gather(*(self._call() for _ in range(self._callers)))

    async def _call(self) -> None:
        try:
            while not self._ending.is_set():
                connection = await self._connect()
                if connection is None:
                    break
                try:
                    if not await self._ask_on(connection):
                        break
                finally:
                    connection.writer.close()
        finally:
            self.callers_left -= 1

    async def _connect(self) -> AsyncConnection | None:
        try:
            return await AsyncConnection.open(self._address)
        except ConnectionError:  # refused, or reset before it was there: nothing was asked yet
            self.refused += 1
            return None

    async def _ask_on(self, connection: AsyncConnection) -> bool:
        """Ask until the connection has to be closed; return whether to open another one."""
        last = ""
        try:
            while not self._ending.is_set():
                answer = await connection.ask(self._request)
                last = answer.headers.get("x-request-id", "")
                self.answers[answer.headers.get("x-gateway-model", "")] += 1
                fault = self._check(answer)
                if fault:
                    self.faults.append(fault)
                if answer.headers.get("connection") == "close":
                    await connection.close()
                    return self._reconnects
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError) as exc:
            if not self._survives:
                self.faults.append(f"lost: {exc!r}")
                return False
            self.lost.append(last)
        return True
