"""Holds the gate around the admin application to what every answer owes, whatever stands behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest_asyncio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from gateway.api.admin import admin_app
from gateway.api.auth import AdminAccess
from gateway.api.middleware import caller_of
from gateway.errors import StoreUnavailable
from gateway.settings import AuthSettings


async def crash(_: Request) -> Response:
    raise RuntimeError("a secret of the inside")


async def refuse(_: Request) -> Response:
    raise StoreUnavailable("redis: no answer within 0.9 s", outcome="unknown")


async def leave(_: Request) -> Response:
    raise ClientDisconnect


async def framed(request: Request) -> Response:
    return Response(caller_of(request.scope).name, headers={"cache-control": "max-age=60"})


APP = admin_app(
    [
        Route("/admin/v1/crash", crash),
        Route("/v2/crash", crash),
        Route("/admin/v1/refuse", refuse),
        Route("/admin/v1/leave", leave),
        Route("/framed", framed),
    ],
    AdminAccess(AuthSettings(), "127.0.0.1"),
    lambda supplied: supplied or b"made-1",
)


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(APP, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as found:
        yield found


async def test_a_crash_is_a_problem_that_tells_nothing_of_the_inside(client: httpx.AsyncClient) -> None:
    answer = await client.get("/admin/v1/crash")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "made-1"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    below_v2 = await client.get("/v2/crash")
    assert (below_v2.status_code, below_v2.headers["content-type"]) == (500, "application/json")


async def test_a_store_that_is_away_says_when_to_come_back_and_what_became_of_the_change(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/admin/v1/refuse")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["outcome"] == "unknown"


async def test_an_answer_may_say_otherwise_itself(client: httpx.AsyncClient) -> None:
    answer = await client.get("/framed")
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers.get_list("cache-control", split_commas=False) == ["max-age=60"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.text == "anonymous"


async def test_a_caller_who_left_is_no_fault(client: httpx.AsyncClient) -> None:
    assert (await client.get("/admin/v1/leave")).status_code == 499


async def test_what_is_not_http_is_not_answered() -> None:
    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        raise AssertionError

    await APP({"type": "lifespan"}, receive, send)
