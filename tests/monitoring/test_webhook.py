from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import numpy as np
import pytest

from gateway.errors import InvalidSetting
from gateway.monitoring.evaluator import judge_window
from gateway.monitoring.watch import News, SeriesWatch
from gateway.monitoring.webhook import MAX_ATTEMPTS, MAX_QUEUED, CloudEvent, Webhook, change_event, http_post
from gateway.store.memory_windows import MemoryWindowStore
from tests.monitoring.replicas import FRAUD, counted, reference_rows, yardstick

T = TypeVar("T")

ROWS = reference_rows(51)
STICK = yardstick(ROWS)


async def never(work: Callable[[], T]) -> T:
    raise AssertionError("nothing is measured here")


def event(start_s: int = 1_700_000_000) -> CloudEvent:
    shifted = ROWS[:300] + np.array([0.0, 1.0, 0.0, 0.0])
    watch = SeriesWatch(FRAUD, "primary", STICK, MemoryWindowStore(), run=never)
    result = judge_window(counted(STICK, [shifted]), start_s, STICK, now_s=start_s + 8.0)
    return change_event(watch, News(result, None))


Answer = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def receiver(*answers: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen, note what is sent, and give one answer after the other, the last one for ever; None hangs."""
    received: list[bytes] = []
    left = list(answers)
    hanging: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        received.append(head + await reader.readexactly(length))
        answer = left.pop(0) if len(left) > 1 else left[0]
        if answer is None:
            hanging.append(writer)
            return
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}/hooks/drift?team=risk", received
    finally:
        for writer in hanging:
            writer.close()
        server.close()


def hook(url: str, **headers: str) -> Webhook:
    return Webhook(http_post(url, headers, timeout_s=0.2), first_wait_s=0.01, longest_wait_s=0.02)


async def deliver(subject: Webhook, *events: CloudEvent) -> None:
    subject.start()
    for one in events:
        subject.offer(one)
    await subject.stop(within_s=20.0)


OK, BUSY, GONE = (
    f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode() for status in ("202 Accepted", "503 Busy", "410 Gone")
)


async def test_an_event_is_a_cloud_event_in_json() -> None:
    async with receiver(OK) as (url, received):
        subject = hook(url, authorization="Bearer abc")
        await deliver(subject, event())
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hooks/drift?team=risk HTTP/1.1\r\n")
    assert b"content-type: application/cloudevents+json; charset=utf-8" in head
    assert b"authorization: Bearer abc" in head
    sent = json.loads(body)
    data = sent.pop("data")
    assert sent == {
        "specversion": "1.0",
        "id": f"fraud:3:primary:{STICK.hash[7:23]}:1700000000",
        "source": "/models/fraud/versions/3",
        "type": "onnx-gateway.drift.state-changed",
        "subject": "fraud:3",
        "time": "2023-11-14T22:13:28Z",
        "datacontenttype": "application/json",
    }
    assert (data["model"], data["version"], data["role"]) == ("fraud", 3, "primary")
    assert (data["previous_state"], data["state"], data["reference"]) == ("ok", "watch", STICK.hash)
    assert [feature["name"] for feature in data["features"]] == ["x_1"]
    assert (subject.delivered, dict(subject.dropped)) == (1, {})


async def test_an_event_is_tried_again_until_it_is_accepted() -> None:
    async with receiver(BUSY, None, b"not http\r\n", b"", OK) as (url, received):
        subject = hook(url)
        await deliver(subject, event())
    assert len(received) == 5
    assert len({one.partition(b"\r\n\r\n")[2] for one in received}) == 1
    assert (subject.delivered, dict(subject.dropped)) == (1, {})


async def test_a_refusal_is_final() -> None:
    async with receiver(GONE) as (url, received):
        subject = hook(url)
        await deliver(subject, event())
    assert len(received) == 1
    assert dict(subject.dropped) == {"refused": 1}


async def test_it_gives_up_in_the_end_and_goes_on_with_the_next_event() -> None:
    async with receiver(*[BUSY] * MAX_ATTEMPTS, OK) as (url, received):
        subject = hook(url)
        await deliver(subject, event(), event(1_700_000_005))
    assert len(received) == MAX_ATTEMPTS + 1
    assert (subject.delivered, dict(subject.dropped)) == (1, {"given_up": 1})


async def test_nobody_listening_is_a_failure_like_any_other() -> None:
    async with receiver(OK) as (url, _):
        pass
    subject = hook(url)
    await deliver(subject, event())
    assert dict(subject.dropped) == {"given_up": 1}


async def test_the_queue_is_bounded() -> None:
    subject = hook("http://127.0.0.1:9/")
    for number in range(MAX_QUEUED + 3):
        subject.offer(event(number))
    assert dict(subject.dropped) == {"queue_full": 3}


async def test_stopping_waits_no_longer_than_it_may() -> None:
    async with receiver(None) as (url, _):
        subject = Webhook(http_post(url, timeout_s=60.0))
        subject.start()
        subject.offer(event())
        async with asyncio.timeout(2):
            await subject.stop(within_s=0.05)
    assert subject.delivered == 0


async def test_stopping_what_was_never_started_does_nothing() -> None:
    await hook("http://127.0.0.1:9/").stop()


async def test_tls_is_spoken_where_the_address_says_so() -> None:
    async with receiver(OK) as (url, received):
        subject = hook(url.replace("http://", "https://"))
        await deliver(subject, event())
    assert received == []
    assert dict(subject.dropped) == {"given_up": 1}


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("ftp://host/", {}),
        ("http:///path", {}),
        ("host/path", {}),
        ("http://user:secret@host/", {}),
        ("http://host:99999/", {}),
        ("http://host/a b", {}),
        ("http://host/", {"x-token": "a\r\nx-more: b"}),
        ("http://host/", {"x-name": "größe"}),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_repeating_it(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting) as caught:
        http_post(url, headers)
    assert "secret" not in str(caught.value)
