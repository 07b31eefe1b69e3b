"""Owns the requests that fuzzing found wrong answers to, one by one, so that each says what it broke."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tests.fuzz.cases import ANY, MAX_HEADER_BYTES, OK, Case, Draft, Ending, Json, ModelUnderTest
from tests.fuzz.client import Answer, Connection, check
from tests.support.server import GatewayProcess

WITHIN_S = 10.0


@pytest.fixture
def good(models: tuple[ModelUnderTest, ...]) -> Draft:
    """Return a request that is answered with 200."""
    model = models[0]
    return Draft(target=model.target, body=json.dumps(model.document()).encode(), request_id="good")


@pytest.fixture
async def connection(gateway: GatewayProcess) -> AsyncIterator[Connection]:
    opened = Connection(gateway.data_address)
    yield opened
    opened.reset()


async def ask(connection: Connection, case: Case) -> Answer:
    """Send a case and return its one answer, held to the case."""
    async with asyncio.timeout(WITHIN_S):
        answers = await connection.exchange(case)
    check(case, answers)
    (answer,) = answers
    return answer


async def test_a_deadline_that_passes_while_the_batch_forms_is_answered(
    connection: Connection, models: tuple[ModelUnderTest, ...]
) -> None:
    """The queue dropped such a request when it formed the batch, and nobody answered it, ever."""
    statuses = set()
    for timeout_us in range(1, 200):
        document = models[0].document() | {"parameters": {"timeout": timeout_us}}
        draft = Draft(target=models[0].target, body=json.dumps(document).encode())
        statuses.add((await ask(connection, draft.case("timeout", OK | {504}))).status)
    assert 504 in statuses


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"other"])
async def test_a_wish_for_another_protocol_does_not_lose_the_body(
    connection: Connection, good: Draft, protocol: bytes
) -> None:
    """Java's HttpClient asks for h2c with every first request; the parser skipped the body behind such a head."""
    good.headers += [(b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", protocol), (b"http2-settings", b"AAM")]
    for _ in range(2):
        await ask(connection, good.case("upgrade", OK))


async def test_a_body_behind_a_wish_for_another_protocol_may_come_later(connection: Connection, good: Draft) -> None:
    good.headers += [(b"connection", b"Upgrade"), (b"upgrade", b"h2c")]
    wire = good.wire()
    head = wire.index(b"\r\n\r\n") + 4
    case = replace(good.case("upgrade", OK), pieces=(wire[: head - 10], wire[head - 10 : head + 5], wire[head + 5 :]))
    await ask(connection, case)


async def test_garbage_behind_a_request_does_not_take_its_answer(connection: Connection, good: Draft) -> None:
    """The good request was answered with the 400 that was for what followed it."""
    answer = await ask(connection, replace(good.case("garbage", OK), pieces=(good.wire() + b"garbage\r\n\r\n",)))
    assert answer.closes


async def test_what_a_query_says_is_no_path(connection: Connection, good: Draft) -> None:
    """The short way took everything that ends in /infer."""
    good.target = good.target.removesuffix(b"/infer") + b"?x=/infer"
    assert (await ask(connection, good.case("query", frozenset({405})))).headers["allow"] == "GET"


async def test_a_head_is_measured_over_all_its_pieces(
    gateway: GatewayProcess, connection: Connection, good: Draft
) -> None:
    """The first piece was not counted, so that any head of two pieces passed."""
    good.headers.append((b"x-long", b"a" * MAX_HEADER_BYTES))
    wire = good.wire()
    begun, rest = wire[:MAX_HEADER_BYTES], wire[MAX_HEADER_BYTES:]
    await connection.exchange(Case(name="begun", pieces=(begun,), allowed=ANY, answers=0, ending=Ending.KEEP))
    for _ in range(2):  # once these are answered, the gateway has read what came before them
        assert gateway.ask("/v2/health/live").status == 200
    await ask(connection, Case(name="rest", pieces=(rest,), allowed=frozenset({431}), ending=Ending.DROP))


@pytest.mark.parametrize(("method", "status"), [(b"GET", 200), (b"POST", 405), (b"OPTIONS", 405)])
async def test_the_list_of_models_takes_get_alone(connection: Connection, method: bytes, status: int) -> None:
    """It was a crash: the path is shorter than every other below /v2/models."""
    await ask(connection, Draft(method=method, target=b"/v2/models").case("models", frozenset({status})))


@pytest.mark.parametrize("trailer", [b"x-t: 1\r\n", b"x-t: " + b"a" * 1000, b"x-t: 1\r\nx-u: " + b"a" * 1000])
async def test_trailers_have_a_limit_as_headers_have(connection: Connection, good: Draft, trailer: bytes) -> None:
    """They were collected without one, 190 MB in half a second."""
    good.length = b""
    good.headers.append((b"transfer-encoding", b"chunked"))
    begun = good.with_lines(good.header_lines()).removesuffix(good.body) + b"0\r\n"
    flood = tuple(trailer * (4096 // len(trailer)) for _ in range(64))
    refused = Case(name="trailers", pieces=(begun, *flood), allowed=frozenset({431}), ending=Ending.DROP)
    await ask(connection, refused)


@pytest.mark.parametrize(
    "trailer",
    [b"inference-header-content-length: 0", b"x-gateway-variant: nobody", b"content-encoding: gzip", b"host: b"],
)
async def test_a_trailer_is_no_header(connection: Connection, good: Draft, trailer: bytes) -> None:
    """A proxy in front lets pass, or takes away, what stands in the head."""
    good.length = b""
    good.headers.append((b"transfer-encoding", b"chunked"))
    good.body = b"%x\r\n%s\r\n0\r\n%s\r\n\r\n" % (len(good.body), good.body, trailer)
    await ask(connection, good.case("trailer", OK))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"shape": [0, 2**31, 2**31, 2**31], "data": []}, id="numpy multiplies the axes of empty tensors"),
        pytest.param({"shape": [0, *[2**31] * 31], "data": []}, id="of all ranks"),
        pytest.param({"name": "\ud800", "data": [float("nan")]}, id="the slow parser lets lone surrogates through"),
        pytest.param({"datatype": "\udc00", "data": [float("nan")]}, id="also as a datatype"),
    ],
)
async def test_a_strange_tensor_is_refused_and_no_crash(
    connection: Connection, models: tuple[ModelUnderTest, ...], changed: dict[str, Json]
) -> None:
    document: dict[str, Json] = {"inputs": [models[0].inputs[0].as_json() | changed]}
    draft = Draft(target=models[0].target, body=json.dumps(document).encode())
    await ask(connection, draft.case("tensor", frozenset({400, 413})))


@pytest.mark.parametrize(
    "field", [{"id": "\ud800"}, {"parameters": {"routing_key": "\ud800"}}, {"parameters": {"timeout": 10**400}}]
)
async def test_a_strange_field_beside_a_nan_is_no_crash(
    connection: Connection, models: tuple[ModelUnderTest, ...], field: dict[str, Json]
) -> None:
    tensor = models[0].inputs[0].as_json()
    data = tensor["data"]
    assert isinstance(data, list)
    data[0] = float("nan")
    draft = Draft(target=models[0].target, body=json.dumps({"inputs": [tensor], **field}).encode())
    await ask(connection, draft.case("field", frozenset({200, 400})))


async def test_escaped_quotes_before_depth_cost_no_more_than_their_bytes(
    connection: Connection, models: tuple[ModelUnderTest, ...]
) -> None:
    """80 kB of them took 19 s and held up everybody: the depth was measured by a backtracking expression."""
    body = b"[" * 65 + b'"' + b'\\"' * 200_000
    draft = Draft(target=models[0].target, body=body)
    await ask(connection, draft.case("quotes", frozenset({400})))
