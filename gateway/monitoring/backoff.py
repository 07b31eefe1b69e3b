"""Back-off: when to try again what has failed, later after each failure, never all processes at once.

Sleeps nowhere and reads no clock.
"""

from __future__ import annotations

import random


class Backoff:
    """Failures in a row, and the time before which nothing is tried again.

    Attributes:
        failures: In a row.
    """

    def __init__(self, *, first_s: float = 0.5, longest_s: float = 8.0, seed: int | None = None) -> None:
        """Start without a failure.

        Args:
            first_s: Longest wait after the first failure; it doubles with each further one.
            longest_s: No wait is longer.
            seed: Of the jitter: waits are drawn between half and the whole of their longest.
        """
        self._first_s = first_s
        self._longest_s = longest_s
        self._random = random.Random(seed)
        self._retry_at_s = 0.0
        self.failures = 0

    def is_waiting(self, now_s: float) -> bool:
        """Say whether it is too early to try again."""
        # A clock that was set back must not hold the retry back for as long.
        return now_s < self._retry_at_s <= now_s + 2 * self._longest_s

    def fail(self, now_s: float) -> float:
        """Note a failure, and return for how many seconds to wait."""
        wait_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, 30)) * self._random.uniform(0.5, 1.0)
        self.failures += 1
        self._retry_at_s = now_s + wait_s
        return wait_s

    def succeed(self) -> None:
        """Note that it worked."""
        self.failures = 0
        self._retry_at_s = 0.0
