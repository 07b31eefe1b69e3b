"""Holds BusyPoll to its promise: a lone caller who asks again at once finds the loop awake, and nobody else does."""

from __future__ import annotations

import asyncio

from gateway.busy_poll import BusyPoll

SOON_S = 50e-6
LATER_S = 300e-6
MANY = 40


class Server:
    """Answers callers at moments that the test chooses."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.answered = 0
        self.poll = BusyPoll(lambda: self.now)

    def answer(self, *, after_s: float, together: int = 1) -> bool:
        """Answer callers who came so long after the last answer; tell whether the loop stays awake for the next."""
        self.now += after_s
        self.poll.asked()
        self.now += 1e-3  # however long that takes
        self.answered += together
        self.poll.quiet(self.answered)
        return self.poll.is_polling

    async def sleeps(self) -> bool:
        """Let time pass in which nobody comes; tell whether the loop may sleep."""
        for _ in range(MANY):
            self.now += 20e-6
            await asyncio.sleep(0)
        return not self.poll.is_polling


async def test_a_lone_caller_who_asks_again_at_once_finds_the_loop_awake() -> None:
    server = Server()
    awake = [server.answer(after_s=SOON_S) for _ in range(MANY)]
    assert awake == [False] * 8 + [True] * (MANY - 8), "the first comes after nobody, then eight in a row"
    assert await server.sleeps()


async def test_one_hitch_does_not_put_the_loop_to_sleep_and_two_do() -> None:
    server = Server()
    for _ in range(MANY):
        server.answer(after_s=SOON_S)
    assert await server.sleeps()
    assert server.answer(after_s=LATER_S), "sixteen short gaps are remembered, and a hitch takes eight"
    assert await server.sleeps()
    assert not server.answer(after_s=LATER_S)


async def test_the_loop_stays_awake_for_a_quarter_of_a_millisecond_after_the_last_answer() -> None:
    server = Server()
    while not server.answer(after_s=SOON_S):
        pass
    server.now += 240e-6
    await asyncio.sleep(0)
    assert server.poll.is_polling
    server.now += 20e-6
    await asyncio.sleep(0)
    assert not server.poll.is_polling


async def test_callers_at_longer_intervals_let_it_sleep() -> None:
    server = Server()
    assert not any(server.answer(after_s=LATER_S) for _ in range(MANY))
    assert not any(server.answer(after_s=LATER_S if turn % 8 == 0 else SOON_S) for turn in range(MANY))


async def test_callers_who_come_together_let_it_sleep() -> None:
    """They gather meanwhile, to share a run."""
    server = Server()
    assert not any(server.answer(after_s=SOON_S, together=2) for _ in range(MANY))
    assert not any(server.answer(after_s=SOON_S, together=1 + (turn % 8 == 0)) for turn in range(MANY))
