"""The command line's way to a gateway says in one line why it got no answer."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.admin_client import AdminClient
from gateway.errors import CallRefused, CannotStart, WrongUsage
from gateway.tables import byte_size, text_table


@contextmanager
def echoing() -> Iterator[str]:
    """Run a server that answers a PUT with what it was sent."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            names = ("authorization", "content-type", "if-match")
            answer = json.dumps({name: self.headers[name] for name in names} | {"body": body.decode()}).encode()
            self.send_response(200)
            self.send_header("etag", '"2"')
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """Run a server that has one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            serving.join()


def test_a_document_comes_back_parsed() -> None:
    with answering(200, b'{"models": []}') as url:
        assert AdminClient(f"{url}/").get("/admin/v1/models") == {"models": []}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"error": "expected a token"}', "/calls: 401: expected a token; put it into GATEWAY_ADMIN_TOKEN"),
        (422, b'{"detail": "/variants: is missing", "error": "x"}', "/calls: 422: /variants: is missing"),
        (422, b'{"detail": "two\\nlines"}', "/calls: 422: two lines"),
        (412, b'{"detail": "found 1-2-b"}', "/calls: 412: found 1-2-b; somebody was faster"),
        (503, b'{"detail": "away", "outcome": "unknown"}', "/calls: 503: away; whether it was done is not known"),
        (503, b'{"detail": "away", "outcome": "not_written"}', "/calls: 503: away"),
        (400, b'{"detail": 7}', "/calls: 400: refused without a reason"),
        (500, b"<html>oops</html>", "/calls: 500: refused without a reason; is it the admin port?"),
        (404, b'["no"]', "/calls: 404: refused without a reason"),
        (200, b"<html>hello</html>", "/calls: expected JSON, got something else; is it the admin port?"),
    ],
)
def test_a_no_names_the_call_and_the_reason(status: int, body: bytes, said: str) -> None:
    with answering(status, body) as url, pytest.raises(CallRefused) as raised:
        AdminClient(url).get("/calls")
    assert said in str(raised.value)


def test_a_call_carries_its_token_its_document_and_its_condition() -> None:
    with echoing() as url:
        answered = AdminClient(url, token="abc").ask("PUT", "/calls", {"a": 1}, {"if-match": '"1"'})
    assert answered.etag == '"2"'
    assert answered.document == {
        "authorization": "Bearer abc",
        "content-type": "application/json",
        "if-match": '"1"',
        "body": '{"a": 1}',
    }


@pytest.mark.parametrize("token", ["two words", "a\nb", "größe", "name = x"])
def test_a_token_that_is_none_is_wrong_usage_and_not_repeated(token: str) -> None:
    with pytest.raises(WrongUsage) as raised:
        AdminClient("http://localhost", token=token)
    assert token not in str(raised.value)


def test_something_that_does_not_speak_http_is_no_gateway() -> None:
    with answering(200, b"") as url:
        secure = url.replace("http:", "https:")
        with pytest.raises(CannotStart, match="no gateway answers there"):
            AdminClient(secure).get("/calls")


@pytest.mark.parametrize("url", ["", "localhost:8002", "ftp://localhost", "http://", "http://[::1", "http://host:port"])
def test_an_address_that_is_none_is_wrong_usage(url: str) -> None:
    with pytest.raises(WrongUsage, match="--admin "):
        AdminClient(url)


def test_columns_are_aligned_and_the_last_runs_free() -> None:
    assert text_table(["MODEL", "VERSION"], [["breast_cancer", "2"], ["x", "10"]]).splitlines() == [
        "MODEL          VERSION",
        "breast_cancer  2",
        "x              10",
    ]
    assert text_table(["MODEL"], []) == "MODEL"


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (12_966, "12.7 KiB"),
        (5 * 1024**2, "5.0 MiB"),
        (3 * 1024**4, "3072.0 GiB"),
    ],
)
def test_sizes_are_short(size: int, said: str) -> None:
    assert byte_size(size) == said
