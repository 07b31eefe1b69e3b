"""Owns what may befall a Redis and the ways to it, while replicas write.

Never holds an expectation.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Literal

from tests.store.fault_proxy import FaultProxy
from tests.store.redis_server import RedisServer

Fault = Literal["shut", "reopen", "hang", "lose answers", "slow", "restart", "forget", "save", "restore"]

GENTLE_FAULTS: tuple[Fault, ...] = (
    *("shut", "shut", "reopen", "reopen"),
    *("hang", "lose answers", "slow", "restart", "forget"),
)
"""After these Redis holds what it acknowledged, or nothing."""
ALL_FAULTS: tuple[Fault, ...] = (*GENTLE_FAULTS, "save", "save", "restore", "restore")
"""After these it may hold something older, too."""


class Faults:
    """Disturbs a Redis and the doors of those who use it, some of it while the next operations are under way."""

    def __init__(self, server: RedisServer, doors: Sequence[FaultProxy], draw: random.Random) -> None:
        self._server = server
        self._doors = doors
        self._draw = draw
        self._is_saved = False
        self._to_come: list[asyncio.TimerHandle] = []

    def befall(self, fault: Fault) -> None:
        """Do one of them."""
        door = self._draw.choice(self._doors)
        soon_s = self._draw.uniform(0, 0.003)
        match fault:
            case "shut":
                self._later(soon_s, door.shut)
            case "reopen":
                door.reopen()
            case "hang":
                self._later(soon_s, self._server.pause)
                self._later(self._draw.uniform(0.05, 1.5), self._server.resume)
            case "lose answers":
                self._later(soon_s, lambda: setattr(door, "drops_answers", True))
                self._later(self._draw.uniform(0.05, 1.2), lambda: setattr(door, "drops_answers", False))
            case "slow":
                door.delay_s = self._draw.choice((0.0, 0.02, 0.1))
            case "restart":
                self._server.resume()
                self._server.save("restart.rdb")
                self._server.restore("restart.rdb")
            case "forget":
                self._server.resume()
                self._server.forget()
            case "save":
                self._server.resume()
                self._server.save()
                self._is_saved = True
            case "restore" if self._is_saved:
                self._server.resume()
                self._server.restore()
            case "restore":
                pass

    def heal(self) -> None:
        """Let everybody through at once, and from now on."""
        for timer in self._to_come:
            timer.cancel()
        self._server.resume()
        for door in self._doors:
            door.drops_answers = False
            door.delay_s = 0.0
            door.reopen()

    def _later(self, after_s: float, change: Callable[[], None]) -> None:
        self._to_come.append(asyncio.get_running_loop().call_later(after_s, change))
