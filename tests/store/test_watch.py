"""Owns the promises of the watch: asked at once on word, every second besides, and ended when it is left."""

import asyncio
from collections.abc import AsyncGenerator

from gateway.errors import StoreUnavailable
from gateway.store.watch import Watch


class Store:
    """Counts how often it is asked; says a word, or cuts the line, when told to."""

    def __init__(self) -> None:
        self.polls = 0
        self.subscriptions = 0
        self.fails = False
        self.swallows = 0
        self.asked = asyncio.Event()
        self.words: asyncio.Queue[str] = asyncio.Queue()

    async def poll(self) -> None:
        self.polls += 1
        self.asked.set()
        if self.fails:
            raise ZeroDivisionError
        while self.swallows:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.swallows -= 1

    async def listen(self) -> AsyncGenerator[None]:
        self.subscriptions += 1
        yield
        while True:
            match await self.words.get():
                case "cut":
                    raise StoreUnavailable("cut", outcome="not_written")
                case "break":
                    raise ZeroDivisionError
                case _:
                    yield

    async def until_polled(self, times: int, *, within_s: float = 2.0) -> None:
        async with asyncio.timeout(within_s):
            while self.polls < times:
                self.asked.clear()
                await self.asked.wait()


async def test_it_asks_at_once_and_on_every_word() -> None:
    store = Store()
    async with Watch(store.poll, store.listen, poll_s=1000.0) as watch:
        await store.until_polled(2)  # one for itself, one for the subscription
        before = store.polls
        store.words.put_nowait("changed")
        await store.until_polled(before + 1)
        watch.wake()
        await store.until_polled(before + 2)


async def test_it_asks_again_without_a_word() -> None:
    store = Store()
    async with Watch(store.poll, store.listen, poll_s=0.01):
        await store.until_polled(10)


async def test_many_words_at_once_are_one_question() -> None:
    store = Store()
    async with Watch(store.poll, store.listen, poll_s=1000.0) as watch:
        await store.until_polled(2)
        for _ in range(100):
            watch.wake()
        await store.until_polled(3)
        await asyncio.sleep(0)
        assert store.polls == 3


async def test_a_line_that_is_cut_is_taken_up_again_and_asked_after() -> None:
    store = Store()
    async with Watch(store.poll, store.listen, poll_s=1000.0):
        await store.until_polled(2)
        for number, how in enumerate(("cut", "break"), start=2):
            store.words.put_nowait(how)
            await store.until_polled(number + 1)
            assert store.subscriptions == number


async def test_a_question_that_breaks_does_not_end_the_asking() -> None:
    store = Store()
    store.fails = True
    async with Watch(store.poll, store.listen, poll_s=0.01):
        await store.until_polled(5)


async def test_leaving_ends_it_even_where_a_cancellation_is_swallowed() -> None:
    """As asyncio.wait_for of Python 3.11 does when the answer and the cancellation arrive together."""
    store = Store()
    store.swallows = 2
    async with asyncio.timeout(5):
        async with Watch(store.poll, store.listen, poll_s=1000.0):
            await store.until_polled(1)
    assert store.swallows == 0
