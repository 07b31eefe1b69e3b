"""The webhook: tells an address of the operator's choice when a version's state changes, as CloudEvents in JSON.

Never holds up the evaluator and never grows without bound: what cannot be queued or delivered is dropped and counted.
HTTP is written out here on asyncio's streams: one POST whose answer is a status needs no library, and a stream's
deadline and cancellation are exact.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from gateway import __version__
from gateway.errors import InvalidSetting
from gateway.monitoring.backoff import Backoff
from gateway.monitoring.decision import State
from gateway.monitoring.report import FeatureReport, Report, WindowReport, report_version, rfc3339
from gateway.monitoring.watch import News, SeriesWatch

log = logging.getLogger(__name__)

EVENT_TYPE = "onnx-gateway.drift.state-changed"
MAX_QUEUED = 100
MAX_ATTEMPTS = 8
TIMEOUT_S = 5.0
_TRY_AGAIN = frozenset({408, 425, 429})

DropReason = Literal["queue_full", "refused", "given_up"]


class StateChange(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an event.

    Attributes:
        previous_state: What was told last.
        features: Those that are in watch or drift.
    """

    model: str
    version: int
    role: str
    state: State
    previous_state: State
    mode: str
    reference: str | None
    window: WindowReport | None
    features: list[FeatureReport]


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of CloudEvents 1.0; the same change has the same id however often it is delivered."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str = EVENT_TYPE
    subject: str
    time: str
    datacontenttype: str = "application/json"
    data: StateChange


def change_event(watch: SeriesWatch, news: News) -> CloudEvent:
    """Write the event of a change."""
    result = news.result
    report: Report = report_version(watch.key, watch.traffic, watch.yardstick, result, baseline=watch.baseline)
    features = report.features if isinstance(report.features, list) else []
    return CloudEvent(
        id=f"{watch.key}:{watch.traffic}:{watch.yardstick.hash.removeprefix('sha256:')[:16]}:{result.start_s}",
        source=f"/models/{watch.key.model}/versions/{watch.key.version}",
        subject=str(watch.key),
        time=rfc3339(result.decided_at_s),
        data=StateChange(
            model=watch.key.model,
            version=watch.key.version,
            role=watch.traffic,
            state=result.state,
            previous_state=news.previous.announced.state if news.previous else "ok",
            mode=report.mode,
            reference=report.reference,
            window=report.window,
            features=[feature for feature in features if feature.state in {"watch", "drift"}],
        ),
    )


Post = Callable[[bytes], Awaitable[int]]


class Webhook:
    """A bounded queue of events and the task that delivers them, in order.

    Attributes:
        delivered: Events that were accepted.
        dropped: Events lost, by reason: "queue_full", "refused" by a 4xx, "given_up" after 8 attempts.
    """

    def __init__(self, post: Post, *, first_wait_s: float = 1.0, longest_wait_s: float = 60.0) -> None:
        """Start with an empty queue and no task.

        Args:
            post: Sends a body and returns the status of the answer; raises OSError or TimeoutError.
            first_wait_s, longest_wait_s: Bounds of the wait between attempts, in seconds.
        """
        self._post = post
        self._first_wait_s = first_wait_s
        self._longest_wait_s = longest_wait_s
        self._queue: asyncio.Queue[CloudEvent] = asyncio.Queue(MAX_QUEUED)
        self._task: asyncio.Task[None] | None = None
        self.delivered = 0
        self.dropped: Counter[DropReason] = Counter()

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._deliver_all(), name="drift-webhook")

    def offer(self, event: CloudEvent) -> None:
        """Queue an event; dropped when the queue is full."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._drop(event, "queue_full")

    async def stop(self, within_s: float = 2.0) -> None:
        """Deliver what can be delivered in time, and end the task."""
        if self._task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._queue.join()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    async def _deliver_all(self) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._deliver(event)
            finally:
                self._queue.task_done()

    async def _deliver(self, event: CloudEvent) -> None:
        body = msgspec.json.encode(event)
        backoff = Backoff(first_s=self._first_wait_s, longest_s=self._longest_wait_s)
        reason = ""
        for _ in range(MAX_ATTEMPTS):
            try:
                status = await self._post(body)
            except (OSError, TimeoutError) as exc:
                reason = f"{type(exc).__name__}: {exc}"
            else:
                if 200 <= status < 300:
                    self.delivered += 1
                    return
                reason = f"status {status}"
                if 400 <= status < 500 and status not in _TRY_AGAIN:
                    self._drop(event, "refused", reason)
                    return
            await asyncio.sleep(backoff.fail(0.0))
        self._drop(event, "given_up", reason)

    def _drop(self, event: CloudEvent, reason: DropReason, detail: str = "") -> None:
        self.dropped[reason] += 1
        log.warning("webhook_dropped", extra={"event_id": event.id, "reason": reason, "detail": detail})


def http_post(url: str, headers: Mapping[str, str] | None = None, *, timeout_s: float = TIMEOUT_S) -> Post:
    """Make the function that posts a body to an address.

    Args:
        url: http:// or https://; redirects are not followed.
        headers: Sent along, for instance a token.
        timeout_s: For the whole exchange.
    Raises: InvalidSetting: the address or a header cannot be used; the text never repeats them.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise InvalidSetting("settings: key 'monitoring.webhook': expected http://host… or https://host…")
    if parts.username is not None:
        raise InvalidSetting("settings: key 'monitoring.webhook': expected no user in the address; use a header")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as exc:
        raise InvalidSetting("settings: key 'monitoring.webhook': expected a port from 1 to 65535") from exc
    head = _request_head(parts, headers or {})
    context: ssl.SSLContext | None = None

    async def post(body: bytes) -> int:
        nonlocal context
        async with asyncio.timeout(timeout_s):
            if parts.scheme == "https" and context is None:
                # Reads every certificate authority of the machine.
                context = await asyncio.to_thread(ssl.create_default_context)
            reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
            try:
                writer.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                return _status(await reader.readline())
            finally:
                writer.transport.abort()

    return post


def _request_head(parts: SplitResult, headers: Mapping[str, str]) -> bytes:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/cloudevents+json; charset=utf-8",
        f"user-agent: onnx-gateway/{__version__}",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if any(not line.isascii() or not line.isprintable() for line in lines) or " " in target:
        raise InvalidSetting(
            "settings: key 'monitoring.webhook': expected printable ASCII in the address and the headers"
        )
    return "".join(f"{line}\r\n" for line in lines).encode()


def _status(line: bytes) -> int:
    """Read the status of an answer's first line.

    Raises: OSError: it is none.
    """
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ConnectionError("the answer is not HTTP")
    return int(words[1])
