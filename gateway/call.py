"""One request on its way through the data plane: what it asks, who was dealt it, and which versions it keeps alive.

Holds values only; `dataplane.py` moves it on.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.endpoints import Assignment, Endpoint, Target
from gateway.inference.batcher import Answer
from gateway.inference.registry import ServedVersion
from gateway.messages import Array


class Decoded(Protocol):
    """A request in arrays that fits the signature."""

    @property
    def inputs(self) -> dict[str, Array]:
        """Its tensors by name."""

    @property
    def rows(self) -> int:
        """Size of their first axis."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs asked for, all when empty."""


class Call:
    """One request on its way: the variant it was dealt, its place in a queue, its answer.

    Holds a lease on each version that may still answer it, from submit() to finish().

    Attributes:
        key: The caller's routing key.
        dealt: How the split dealt it, if that is still to be counted: the key's hash, or DRAWN.
        deadline: Monotonic seconds.
        answer: Resolves when the variant is done; cancel it when the client has gone.
        reserve: The first variant, while it may still have to answer for a candidate.
        suspect: The candidate whose run failed, while the first variant's answer must show whose fault that was.
        ticket: Of the candidate's breaker.
    """

    __slots__ = (
        "answer",
        "assignment",
        "began",
        "deadline",
        "dealt",
        "endpoint",
        "key",
        "request",
        "reserve",
        "suspect",
        "ticket",
    )

    answer: asyncio.Future[Answer]

    def __init__(  # noqa: PLR0917 - a call with keywords costs a tenth of the whole
        self,
        endpoint: Endpoint,
        assignment: Assignment,
        request: Decoded,
        key: bytes | None,
        dealt: int | None,
        began: float,
        deadline: float,
    ) -> None:
        self.endpoint = endpoint
        self.assignment = assignment
        self.request = request
        self.key = key
        self.dealt = dealt
        self.began = began
        self.deadline = deadline
        self.reserve: ServedVersion | None = None
        self.suspect: Target | None = None
        self.ticket: int | None = None
