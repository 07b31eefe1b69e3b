"""Holds the gathering to its promise: who comes together starts together, and nobody waits for long."""

from __future__ import annotations

import asyncio

from gateway.inference.gathering import Gathering


class Turns:
    """A gathering under requests that arrive at chosen turns of the loop, and the turn at which each queue started."""

    def __init__(self) -> None:
        self.gathering = Gathering()
        self.started: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._turn = 0

    def arrive(self, queue: str, rows: int = 1, *, enough_rows: int = 64) -> None:
        """Put a request into a queue, as a batcher does."""

        def start() -> None:
            self._waiting.discard(queue)
            self.started.setdefault(queue, self._turn)

        if queue not in self._waiting:
            self._waiting.add(queue)
            self.gathering.wait(asyncio.get_running_loop(), start, enough_rows=enough_rows)
        self.gathering.arrive(rows)

    async def run(self, *turns: list[str], enough_rows: int = 64) -> dict[str, int]:
        """Let one request for each name arrive, turn by turn; return when each queue started first."""
        self.started, self._turn = {}, 0
        for queues in turns:
            for queue in queues:
                self.arrive(queue, enough_rows=enough_rows)
            self._turn += 1
            await asyncio.sleep(0)
        while self._waiting:
            self._turn += 1
            assert self._turn < 100
            await asyncio.sleep(0)
        return self.started


async def test_a_lone_request_starts_at_once() -> None:
    turns = Turns()
    for _ in range(3):
        assert await turns.run(["a"]) == {"a": 1}


async def test_who_comes_while_others_are_read_starts_with_them() -> None:
    assert await Turns().run(["a", "a"], ["a"], ["a", "a"], []) == {"a": 4}


async def test_queues_that_gather_together_start_together() -> None:
    """Whatever the split dealt to each of them in a turn."""
    assert await Turns().run(["a", "b", "a"], ["a"], ["a"], []) == {"a": 4, "b": 4}


async def test_as_many_as_fill_the_largest_run_do_not_wait() -> None:
    started = await Turns().run(["a", "a", "b"], ["a"], ["a"], ["a"], enough_rows=4)
    assert started["a"] == started["b"] == 2


async def test_a_lone_request_waits_a_turn_for_those_who_came_with_it_before() -> None:
    turns = Turns()
    await turns.run(["a", "b"], [])
    assert await turns.run(["a"], []) == {"a": 2}
    assert await turns.run(["a"], []) == {"a": 1}


async def test_a_queue_of_full_runs_holds_nobody_up() -> None:
    """One that shares no runs (0 rows are enough) starts in its turn, alone."""
    turns = Turns()
    await turns.run(["a"], [])
    assert await turns.run(["a", "a", "a"], ["a"], enough_rows=0) == {"a": 1}


async def test_a_queue_that_fails_leaves_nobody_else_waiting() -> None:
    turns = Turns()
    loop = asyncio.get_running_loop()
    told: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    def fail() -> None:
        raise RuntimeError("cannot schedule new futures after shutdown")

    turns.gathering.wait(loop, fail, enough_rows=64)
    assert await turns.run(["a"]) == {"a": 1}
    assert isinstance(told[0]["exception"], RuntimeError)
    assert await turns.run(["a"]) == {"a": 1}
