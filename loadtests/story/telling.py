"""Owns how the story is told: one phase after the other, each timed, each with its figures, until one fails.

Never knows what a phase does.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from loadtests.processes import LoadTestFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """One phase: what it shows, and the function that does it.

    Attributes:
        promise: A sentence that holds when the phase passes.
        tell: Does it; returns figures by their names. Raises LoadTestFailure where the promise does not hold.
    """

    title: str
    promise: str
    tell: Callable[[], dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How a phase went.

    Attributes:
        begun_s: Since the start of the story.
        fault: Why it failed, "" when it passed, None when it was never reached.
    """

    title: str
    promise: str
    begun_s: float
    took_s: float
    figures: dict[str, str] = field(default_factory=dict)
    fault: str | None = ""

    @property
    def verdict(self) -> str:
        """How it went, in a word."""
        return "not reached" if self.fault is None else "failed" if self.fault else "passed"


def tell(chapters: Sequence[Chapter], *, say: Callable[[str], None]) -> list[Told]:
    """Do the phases in order; after one that fails the rest is not reached.

    Args:
        say: Gets a line for each phase.
    """
    began = time.monotonic()
    told: list[Told] = []
    for number, chapter in enumerate(chapters, start=1):
        begun_s = time.monotonic() - began
        if told and told[-1].verdict != "passed":
            told.append(Told(title=chapter.title, promise=chapter.promise, begun_s=begun_s, took_s=0, fault=None))
            continue
        figures: dict[str, str] = {}
        fault = ""
        try:
            figures = chapter.tell()
        except (LoadTestFailure, OSError, http.client.HTTPException) as exc:
            fault = str(exc) or type(exc).__name__
        took_s = time.monotonic() - began - begun_s
        told.append(
            Told(
                title=chapter.title,
                promise=chapter.promise,
                begun_s=begun_s,
                took_s=took_s,
                figures=figures,
                fault=fault,
            )
        )
        say(f"{begun_s:6.1f} s  {number}. {chapter.title}: {told[-1].verdict} after {took_s:.1f} s")
        for name, value in figures.items():
            say(f"            {name}: {value}")
        if fault:
            say(f"            {fault}")
    return told
