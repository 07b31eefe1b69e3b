"""The breaker of one variant: when its own errors send its share to the first variant, and when it is tried again.

Pure: `now` is an argument. Never knows which variant it guards: the first variant of a route has to have none, since
there is nobody to fall back to, and the caller sees to that.

Closed, it opens after 5 own errors in a row, or when at least 50 requests of the last 10 s show an error ratio whose
lower confidence bound is above 10 %. Open, it refuses for 30 s × times opened, at most 300 s. Then one probe at a time:
3 good ones close it, a bad one opens it again. Each healthy 30 s forgives one opening.
Source: the thresholds and the growing ejection of Envoy's outlier detection; the interval is Wilson's (1927).
"""

from __future__ import annotations

import math
from collections import deque
from typing import Literal

import msgspec

State = Literal["closed", "open", "half_open"]


class BreakerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens and for how long.

    Attributes:
        consecutive_errors: Own errors in a row that open it.
        max_error_ratio: Opens when the true ratio is above this with confidence.
        confidence_z: Standard deviations of that confidence; 3 is one false alarm in 740 looks.
        min_requests: Fewer than this in the window are no evidence of a ratio.
        probe_timeout_s: A probe without an answer for so long counts as lost, and the next one goes.
    """

    consecutive_errors: int = 5
    max_error_ratio: float = 0.1
    confidence_z: float = 3.0
    min_requests: int = 50
    window_s: int = 10
    base_open_s: float = 30.0
    max_open_s: float = 300.0
    probes_to_close: int = 3
    probe_timeout_s: float = 30.0


class BreakerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a breaker shows of itself.

    Attributes:
        reason: Why it opened last, "" if it never did.
        retry_in_s: Seconds until it may be tried, 0 unless open.
    """

    state: State
    reason: str
    times_opened: int
    retry_in_s: float
    window_requests: int
    window_errors: int


class Breaker:
    """Guards one variant of one revision line; keep it over revisions that do not change the model version.

    `admit` before a run, `record` after it, each with the ticket of the first:

        ticket = breaker.admit(now)
        if ticket is None: ...  # fall back
        breaker.record(ticket, failed=False, now=now)
    """

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        self._settings = settings or BreakerSettings()
        self._state: State = "closed"
        self._ticket = 0  # changes with the state and with each probe, so that late answers are told apart
        self._errors_in_row = 0
        self._window: deque[list[int]] = deque()  # [second, requests, errors], oldest first
        self._times = 0
        self._closed_at = -math.inf
        self._retry_at = 0.0
        self._probe_expires_at = -math.inf
        self._good_probes = 0
        self._reason = ""

    def admit(self, now: float) -> int | None:
        """Ask whether the variant may run.

        Args:
            now: Monotonic seconds.
        Returns: A ticket to hand to `record`, or None: use the first variant.
        """
        if self._state == "closed":
            return self._ticket
        if self._state == "open":
            if now < self._retry_at:
                return None
            self._enter("half_open")
            self._good_probes = 0
            self._probe_expires_at = -math.inf
        if now < self._probe_expires_at:
            return None
        self._ticket += 1
        self._probe_expires_at = now + self._settings.probe_timeout_s
        return self._ticket

    def record(self, ticket: int, *, failed: bool, now: float) -> bool:
        """Count how an admitted run ended; the caller's own faults (4xx) are not failures.

        Args:
            ticket: As `admit` gave it. Answers of an earlier state are passed over.
        Returns: Whether that opened or closed it.
        """
        if ticket != self._ticket:
            return False
        if self._state == "half_open":
            return self._record_probe(now, failed=failed)
        if self._state == "open":
            return False
        second = int(now)
        if not self._window or self._window[-1][0] != second:
            self._forget_before(now)
            self._window.append([second, 0, 0])
        self._window[-1][1] += 1
        if failed:
            return self._record_error(now)
        self._errors_in_row = 0
        return False

    def abandon(self, ticket: int) -> None:
        """Give a ticket back unused: the run never happened or says nothing, as when its caller hung up."""
        if ticket == self._ticket and self._state == "half_open":
            self._probe_expires_at = -math.inf

    def status(self, now: float) -> BreakerStatus:
        """Show the state; an open breaker whose time is up is half open from the next request on."""
        self._forget_before(now)
        return BreakerStatus(
            state=self._state,
            reason=self._reason,
            times_opened=self._times,
            retry_in_s=max(0.0, self._retry_at - now) if self._state == "open" else 0.0,
            window_requests=sum(requests for _, requests, _ in self._window),
            window_errors=sum(errors for _, _, errors in self._window),
        )

    @property
    def is_open(self) -> bool:
        """Whether requests fall back, all of them or all but the probes."""
        return self._state != "closed"

    def _record_error(self, now: float) -> bool:
        """Count an error while closed; return whether that opened it."""
        self._window[-1][2] += 1
        self._errors_in_row += 1
        settings = self._settings
        if self._errors_in_row >= settings.consecutive_errors:
            self._open(now, f"{self._errors_in_row} errors in a row")
            return True
        self._forget_before(now)
        requests = sum(bucket[1] for bucket in self._window)
        errors = sum(bucket[2] for bucket in self._window)
        if requests < settings.min_requests:
            return False
        if wilson_lower_bound(errors, requests, settings.confidence_z) <= settings.max_error_ratio:
            return False
        self._open(now, f"{errors} errors in {requests} requests of the last {settings.window_s} s")
        return True

    def _record_probe(self, now: float, *, failed: bool) -> bool:
        """Count a probe; return whether that closed it. One that fails opens it again, which it never ceased to be."""
        self._probe_expires_at = -math.inf
        self._ticket += 1  # a probe is answered once
        if failed:
            self._open(now, "a probe failed")
            return False
        self._good_probes += 1
        if self._good_probes < self._settings.probes_to_close:
            return False
        self._enter("closed")
        self._closed_at = now
        self._errors_in_row = 0
        self._window.clear()
        return True

    def _open(self, now: float, reason: str) -> None:
        settings = self._settings
        if self._state == "closed" and self._times:
            forgiven = int((now - self._closed_at) / settings.base_open_s)
            self._times = max(0, self._times - forgiven)
        self._times += 1
        self._retry_at = now + min(settings.base_open_s * self._times, settings.max_open_s)
        self._reason = reason
        self._enter("open")

    def _enter(self, state: State) -> None:
        self._state = state
        self._ticket += 1

    def _forget_before(self, now: float) -> None:
        oldest = int(now) - self._settings.window_s
        while self._window and self._window[0][0] <= oldest:
            self._window.popleft()


def wilson_lower_bound(errors: int, requests: int, z: float) -> float:
    """Lower bound of the confidence interval of a ratio.

    Args:
        requests: At least 1.
        z: Standard deviations.
    Source: Wilson (1927), Probable inference, the law of succession, and statistical inference; JASA 22.
    """
    ratio = errors / requests
    square = z * z / requests
    centre = ratio + square / 2
    spread = z * math.sqrt((ratio * (1 - ratio) + square / 4) / requests)
    return (centre - spread) / (1 + square)
