"""What HTTP/1.1 promises of a connection, and the limits of what a client may send on one."""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import pytest

from gateway.settings import ServerSettings
from tests.e2e.clients import curl
from tests.e2e.conftest import BODY_TIMEOUT_S, MAX_BODY_BYTES, MAX_CONNECTIONS, MAX_HEADER_BYTES
from tests.e2e.wire import RawSocket, infer_path, json_body, read_outputs, request_bytes
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import GatewayProcess, eventually, running_gateway

ECHO = infer_path("echo")
PATIENT = infer_path("patient")
LIVE = request_bytes("/v2/health/live", method="GET")
SWEPT_WITHIN_S = BODY_TIMEOUT_S + 3.0
"""The timeout, the sweep's interval, and room for a busy machine."""


@pytest.fixture
def connection(tight_gateway: GatewayProcess) -> Iterator[RawSocket]:
    """Connect to the data plane."""
    with RawSocket(tight_gateway.data_address) as raw:
        yield raw


def row(value: float, request_id: str | None = None) -> bytes:
    """Write a body of one row: what `patient` takes as microseconds and `echo` gives back."""
    return json_body({"x": np.array([[value]], np.float32)}, request_id=request_id)


def padded(size: int) -> bytes:
    """Write a valid body of exactly so many bytes."""
    body = row(1)
    return body[:-1] + b" " * (size - len(body)) + b"}"


def chunked(body: bytes, path: str = ECHO) -> bytes:
    """Write a request whose body comes in chunks of an unknown number."""
    chunks = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + framed + b"0\r\n\r\n"


# --- the life of a connection ---------------------------------------------------------------------------


def test_a_connection_is_kept_for_the_next_request(tight_gateway: GatewayProcess, connection: RawSocket) -> None:
    for value in range(3):
        connection.send(request_bytes(ECHO, row(value)))
        assert read_outputs(connection.receive())["y"] == value
        # Others come and go meanwhile; nothing closes the one that idles.
        assert tight_gateway.ask("/v2/health/live").status == 200


def test_an_idle_connection_outlives_a_load_balancers_idea_of_a_minute(tmp_path: Path) -> None:
    """The default; and that the setting is what closes an idle connection."""
    assert ServerSettings().keep_alive_s > 60
    config = "[server]\nkeep_alive_s = 0.5\ndrain_delay_s = 0\n"
    with running_gateway(tmp_path, config=config, until_ready=False) as server, RawSocket(server.data_address) as idle:
        idle.send(LIVE)
        assert idle.receive().status == 200
        answered = time.monotonic()
        assert idle.is_closed_by_peer()
        assert 0.4 < time.monotonic() - answered < 5


def test_pipelined_requests_are_answered_in_order(connection: RawSocket) -> None:
    values = [3e5, 0, 1e5, 1]
    connection.send(b"".join(request_bytes(PATIENT, row(value, f"number-{value:g}")) for value in values) + LIVE)
    for value in values:
        answer = connection.receive()
        assert (answer.status, answer.json["id"]) == (200, f"number-{value:g}")
    assert connection.receive().json == {"live": True}


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_body_may_come_after_its_head_and_in_pieces(
    tight_gateway: GatewayProcess, connection: RawSocket, cut: int
) -> None:
    """As most clients write it; the next request may come with the last piece."""
    request = request_bytes(ECHO, row(7, "in-pieces"))
    start = request.index(b"\r\n\r\n") + 4
    for piece in (request[: start + cut], request[start + cut : -3]):
        connection.send(piece)
        assert tight_gateway.ask("/v2/health/live").status == 200  # by then it has been read
    connection.send(request[-3:] + request_bytes(ECHO, row(8, "behind")) + request_bytes(ECHO, row(9, "last"))[:50])
    assert [connection.receive().json["id"] for _ in range(2)] == ["in-pieces", "behind"]
    connection.send(request_bytes(ECHO, row(9, "last"))[50:])
    assert connection.receive().json["id"] == "last"


def test_a_broken_request_does_not_take_the_answer_of_the_one_before_it(connection: RawSocket) -> None:
    connection.send(request_bytes(PATIENT, row(2e5, "whole")) + b"not HTTP at all\r\n\r\n")
    answer = connection.receive()
    assert (answer.status, answer.json.get("id")) == (200, "whole")


@pytest.mark.parametrize(
    "half", [b"POST /v2/models/echo/inf", request_bytes(ECHO, headers={"content-length": "99"})], ids=["head", "body"]
)
def test_half_a_request_does_not_take_the_answer_of_the_one_before_it(connection: RawSocket, half: bytes) -> None:
    """The first takes longer than the second may take to arrive."""
    connection.send(request_bytes(PATIENT, row(2.5e6 * BODY_TIMEOUT_S, "whole")) + half)
    answer = connection.receive()
    assert (answer.status, answer.json.get("id")) == (200, "whole")
    with suppress(ConnectionError):  # it may also just be closed: nothing of it could be read
        assert connection.receive().status == 408


def test_http_1_0_is_answered_and_closed(connection: RawSocket) -> None:
    connection.send(request_bytes(ECHO, row(5), protocol="HTTP/1.0"))
    answer = connection.receive()
    assert read_outputs(answer)["y"] == 5
    assert answer.headers["connection"] == "close"
    assert connection.is_closed_by_peer()


def test_a_client_may_ask_to_close(connection: RawSocket) -> None:
    connection.send(request_bytes(ECHO, row(5), headers={"connection": "close"}))
    answer = connection.receive()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert connection.is_closed_by_peer()


def test_head_has_no_body(tight_gateway: GatewayProcess, connection: RawSocket) -> None:
    connection.send(request_bytes("/v2/health/live", method="HEAD"))
    head = connection.receive(is_head=True)
    assert (head.status, head.headers["allow"]) == (405, "GET")
    connection.send(LIVE)
    assert connection.receive().json == {"live": True}
    with RawSocket(tight_gateway.admin_address) as admin:
        admin.send(request_bytes("/livez", method="HEAD"))
        assert admin.receive(is_head=True).status == 200
        admin.send(request_bytes("/livez", method="GET"))
        assert admin.receive().json == {"live": True}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_named_and_the_right_one_too(tight_gateway: GatewayProcess, method: str) -> None:
    answer = tight_gateway.ask(ECHO, method, row(1))
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert answer.error == f"method {method} is not allowed here, expected POST"


def test_curl_waits_for_100_continue(tight_gateway: GatewayProcess, tmp_path: Path) -> None:
    """Curl sends the body only when told to, or after a second of silence."""
    started = time.monotonic()
    answer = curl(tight_gateway.data_url + ECHO, "-H", "expect: 100-continue", body=padded(MAX_BODY_BYTES))
    assert read_outputs(answer)["y"] == 1
    assert time.monotonic() - started < 1.0


def test_a_body_that_will_be_refused_is_not_asked_for(connection: RawSocket) -> None:
    head = {"content-length": str(MAX_BODY_BYTES + 1), "expect": "100-continue"}
    connection.send(request_bytes(ECHO, headers=head))
    assert connection.receive().status == 413


def test_an_empty_chunk_encoding_and_bare_requests_are_one_request(connection: RawSocket) -> None:
    for body in (row(3), padded(3000)):
        connection.send(chunked(body))
        assert connection.receive().status == 200


@pytest.mark.parametrize("flags", [["--http2"], ["-H", "connection: upgrade", "-H", "upgrade: websocket"]])
def test_a_wish_for_another_protocol_is_answered_in_this_one(
    tight_gateway: GatewayProcess, connection: RawSocket, flags: list[str]
) -> None:
    answer = curl(tight_gateway.data_url + ECHO, *flags, body=row(3))
    assert read_outputs(answer)["y"] == 3


def test_the_gateway_is_no_proxy(connection: RawSocket) -> None:
    connection.send(b"CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n")
    assert connection.receive().status == 400


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS client hello
        b"GET /v2 HTTP/9.9\r\nhost: test\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\n\r\n",
        b"GET /v2 HTTP/1.1\r\nhost: one\r\nhost: two\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: test\r\ncontent-length: -1\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_gets_400_and_is_closed(connection: RawSocket, content: bytes) -> None:
    connection.send(content)
    answer = connection.receive()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.error
    assert connection.is_closed_by_peer()


# --- clients that stop in the middle ------------------------------------------------------------------------


def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing_behind(tight_gateway: GatewayProcess) -> None:
    """The server's log is held to no tracebacks when it stops."""
    counted = tight_gateway.metric("gateway_requests_total")
    for address, path in (
        (tight_gateway.data_address, ECHO),
        (tight_gateway.data_address, "/v2/repository/index"),
        (tight_gateway.admin_address, "/v2/repository/index"),
    ):
        for content in (request_bytes(path, headers={"content-length": "99"}) + b"{", chunked(b"{}", path)[:-5]):
            with RawSocket(address) as leaving:
                leaving.send(content)
    assert tight_gateway.ask(ECHO, "POST", row(1)).status == 200
    assert tight_gateway.metric("gateway_requests_total") == counted + 1


def test_a_client_that_does_not_read_costs_no_memory(tight_gateway: GatewayProcess) -> None:
    """It pipelines requests for 25 MB of answers, and reads them when it likes."""
    path = "/openapi.json"
    expected = tight_gateway.ask(path).body
    times = 25_000_000 // len(expected)
    before = resident_bytes(tight_gateway)
    with RawSocket(tight_gateway.data_address) as lazy:
        sending = threading.Thread(target=lambda: lazy.send(request_bytes(path, method="GET") * times))
        sending.start()
        eventually(lazy.has_received, what="a first answer")
        for _ in range(20):
            assert tight_gateway.ask(ECHO, "POST", row(1)).status == 200
        assert resident_bytes(tight_gateway) - before < 10_000_000
        assert all(lazy.receive().body == expected for _ in range(times))
        sending.join()


def resident_bytes(gateway: GatewayProcess) -> int:
    """Return the memory the gateway's process holds now."""
    return int(Path(f"/proc/{gateway.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- slow clients -------------------------------------------------------------------------------------------


def test_requests_that_trickle_in_get_408_and_are_closed(tight_gateway: GatewayProcess) -> None:
    """However steadily they trickle: the clock starts with the first byte and does not start again."""
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\n"
    waiting: list[tuple[RawSocket, list[bytes]]] = []
    started = time.monotonic()
    with ExitStack() as stack:
        for address, path in (
            (tight_gateway.data_address, ECHO.encode()),
            (tight_gateway.data_address, b"/v2/repository/index"),
            (tight_gateway.admin_address, b"/v2/repository/index"),
        ):
            begun = head % path
            slow_ways = [
                [begun, *[b"x: y\r\n"] * 1000],
                [begun + b"content-length: 4000\r\n\r\n", *[b" "] * 1000],
                [begun + b"transfer-encoding: chunked\r\n\r\n", *[b"1\r\n \r\n"] * 1000],
                [b"P"],
                [],
            ]
            waiting += [(stack.enter_context(RawSocket(address)), pieces) for pieces in slow_ways]

        def trickle() -> bool:
            for slow, pieces in list(waiting):
                if slow.has_received():
                    answer = slow.receive()
                    assert (answer.status, answer.headers["connection"]) == (408, "close")
                    assert "did not arrive within" in answer.error
                    assert slow.is_closed_by_peer()
                    assert time.monotonic() - started >= BODY_TIMEOUT_S
                    waiting.remove((slow, pieces))
                elif pieces:
                    slow.send(pieces.pop(0))
            return not waiting

        eventually(trickle, within_s=SWEPT_WITHIN_S, what="an answer to each")


def test_a_slow_client_holds_up_nobody(tight_gateway: GatewayProcess) -> None:
    with ExitStack() as stack:
        for _ in range(10):
            slow = stack.enter_context(RawSocket(tight_gateway.data_address))
            slow.send(request_bytes(ECHO, headers={"content-length": "4000"}))
        started = time.monotonic()
        assert tight_gateway.ask(ECHO, "POST", row(1)).status == 200
        assert time.monotonic() - started < BODY_TIMEOUT_S


def test_timeouts_are_counted(tight_gateway: GatewayProcess) -> None:
    before = tight_gateway.metric("gateway_rejected_total", reason="body_timeout")
    with RawSocket(tight_gateway.data_address) as slow:
        slow.send(b"POST ")
        assert slow.receive().status == 408
    assert tight_gateway.metric("gateway_rejected_total", reason="body_timeout") == before + 1


# --- sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [lambda body: request_bytes(ECHO, body), chunked], ids=["announced", "in chunks"])
@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
def test_bodies_end_at_their_limit(
    connection: RawSocket, write: Callable[[bytes], bytes], size: int, status: int
) -> None:
    connection.send(write(padded(size)))
    answer = connection.receive()
    assert answer.status == status
    if status == 413:
        assert str(MAX_BODY_BYTES) in answer.error


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413), (10**7, 413)])
def test_bodies_end_at_their_limit_when_inflated(connection: RawSocket, encoding: str, size: int, status: int) -> None:
    """Ten megabytes of spaces are ten kilobytes on the wire, so the limit would be reached twice."""
    packed = gzip.compress(padded(size)) if encoding == "gzip" else zlib.compress(padded(size))
    connection.send(request_bytes(ECHO, packed, headers={"content-encoding": encoding}))
    assert connection.receive().status == status


def test_a_refused_body_is_counted_and_the_connection_goes_on_or_closes(
    tight_gateway: GatewayProcess, connection: RawSocket
) -> None:
    """The rest of the body must never be read as the next request."""
    before = tight_gateway.metric("gateway_rejected_total", reason="too_large")
    connection.send(request_bytes(ECHO, padded(3 * MAX_BODY_BYTES)))
    answer = connection.receive()
    assert answer.status == 413
    if answer.headers.get("connection") != "close":
        connection.send(LIVE)
        assert connection.receive().json == {"live": True}
    assert tight_gateway.metric("gateway_rejected_total", reason="too_large") == before + 1


@pytest.mark.parametrize("count", [1, 40], ids=["one long header", "many headers"])
@pytest.mark.parametrize(("over", "status"), [(False, 200), (True, 431)])
def test_headers_end_at_their_limit(connection: RawSocket, count: int, *, over: bool, status: int) -> None:
    size = MAX_HEADER_BYTES + 1000 if over else MAX_HEADER_BYTES - 200
    value = "v" * (size // count - 12)
    headers = {f"x-{number:05}": value for number in range(count)}
    connection.send(request_bytes(ECHO, row(1), headers=headers))
    answer = connection.receive()
    assert answer.status == status
    if status == 431:
        assert answer.error == f"the headers have more than {MAX_HEADER_BYTES} bytes"
        assert answer.headers["connection"] == "close"
        assert connection.is_closed_by_peer()


def test_headers_that_never_end_are_refused(connection: RawSocket) -> None:
    connection.send(b"GET /v2 HTTP/1.1\r\nhost: test\r\nx: ")

    def go_on() -> bool:
        if not connection.has_received():
            connection.send(b"y" * (MAX_HEADER_BYTES + 1))
        return connection.has_received()

    eventually(go_on, what="a refusal")
    assert connection.receive().status == 431


def test_a_long_path_is_refused_like_long_headers(connection: RawSocket) -> None:
    connection.send(request_bytes(f"/v2/models/{'m' * MAX_HEADER_BYTES}/infer", row(1)))
    assert connection.receive().status == 431


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "GZIP, br"])
def test_another_content_encoding_is_told_which_are_known(connection: RawSocket, encoding: str) -> None:
    connection.send(request_bytes(ECHO, row(1), headers={"content-encoding": encoding}))
    answer = connection.receive()
    assert (answer.status, answer.headers["accept-encoding"]) == (415, "gzip, deflate")
    assert "expected gzip or deflate" in answer.error


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"{}", mtime=0)[:-4], gzip.compress(b"{}", mtime=0) + b"more"]
)
def test_a_broken_compressed_body_is_400(connection: RawSocket, content: bytes) -> None:
    connection.send(request_bytes(ECHO, content, headers={"content-encoding": "gzip"}))
    assert connection.receive().status == 400


def test_connections_end_at_their_limit_and_come_back(tight_gateway: GatewayProcess) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(RawSocket(tight_gateway.data_address)) for _ in range(MAX_CONNECTIONS)]
        for connection in held:
            connection.send(LIVE)
            assert connection.receive().status == 200
        with RawSocket(tight_gateway.data_address) as one_more:
            answer = one_more.receive()
            assert answer.status == 503
            assert answer.error == f"{MAX_CONNECTIONS} connections are open already"
            assert one_more.is_closed_by_peer()
        held[0].send(LIVE)
        assert held[0].receive().status == 200
        # The admin plane has connections of its own, so that probes get through.
        assert tight_gateway.ask_admin("/livez").status == 200
    eventually(lambda: tight_gateway.ask("/v2/health/live").status == 200, what="room again")


def test_more_elements_than_a_tensor_may_have_are_refused_before_they_are_read(tmp_path: Path) -> None:
    add_version(tmp_path, "echo", 1, onnx_models.identity(shape=("rows", 1)))
    with running_gateway(tmp_path, environment={"GATEWAY_LIMITS_MAX_TENSOR_ELEMENTS": "3"}) as server:
        assert server.ask(ECHO, "POST", json_body({"x": np.zeros((3, 1), np.float32)})).status == 200
        message = json.loads(json_body({"x": np.zeros((0, 1), np.float32)}))
        message["inputs"][0]["shape"] = [4, 1]
        refused = server.ask(ECHO, "POST", message)
        assert (refused.status, "at most 3" in refused.error) == (413, True)
