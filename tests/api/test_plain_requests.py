"""Owns the promise of the short reading: what it takes, llhttp would have read the same, and clients' own is taken."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api.address import Address, infer_address
from gateway.api.head_form import HeadForm, PlainHead
from gateway.api.plain_requests import PlainRequests

BODY = b'{"inputs": []}'
PATH = b"/v2/models/fraud/infer"


def reader(*, max_header_bytes: int = 16_384, max_body_bytes: int = 1000) -> PlainRequests:
    return PlainRequests(max_header_bytes=max_header_bytes, max_body_bytes=max_body_bytes)


def written(*lines: bytes, first: bytes = b"POST " + PATH + b" HTTP/1.1", body: bytes = BODY) -> bytes:
    return b"\r\n".join((first, *lines, b"", body))


def length(size: int = len(BODY)) -> bytes:
    return b"Content-Length: %d" % size


class Llhttp:
    """What llhttp reads in some bytes."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.messages = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1


FIRST = b"POST " + PATH + b" HTTP/1.1"
NAMES = (
    b"Host",
    b"Content-Length",
    b"content-length",
    b"CONTENT-LENGTH",
    b"Connection",
    b"Accept",
    b"X",
    b"x",
    b"X-Request-Id",
    b"Transfer-Encoding",
    b"Expect",
)
ODD_NAMES = (b"Upgrade", b"Trailer", b"Proxy-Connection", b"X Y", b"", b"\x00", b"X\xe9")
VALUES = (b"h", b"14", b"+14", b"14 ", b" 14", b"014", b"1_4", b"keep-alive", b"Close", b"a b", b"", b"chunked", b"tls")
COLONS = (b": ", b":", b" : ", b":\t", b":  ", b"")

one_line = st.one_of(
    st.tuples(st.sampled_from(NAMES + ODD_NAMES), st.just(b": "), st.sampled_from(VALUES)),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(COLONS), st.sampled_from(VALUES) | st.binary(max_size=6)),
).map(b"".join) | st.binary(max_size=12)
head = st.builds(lambda lines: [b"Host: h", length(), *lines], st.lists(one_line, min_size=1, max_size=3)).flatmap(
    st.permutations
)
first = st.just(FIRST) | st.builds(
    b"%b %b HTTP/%b".__mod__,
    st.tuples(
        st.sampled_from([b"POST", b"GET", b"post", b"POST "]),
        st.sampled_from([PATH, b"/v1/models/fraud:predict", PATH + b"?a", b"/v2/models/a%20b/infer", b"*"]),
        st.sampled_from([b"1.1", b"1.0", b"2", b"1.1 "]),
    ),
)
body = st.just(BODY) | st.sampled_from([b"", BODY + b"x", BODY[:-1]])


def seasoned() -> PlainRequests:
    """Make a reader that has seen two headers change with every request, and others a few times."""
    subject = reader()
    for number in range(40):
        assert subject.read(written(b"Host: h", length(), b"X: %d" % number)) is not None
        assert subject.read(written(b"Host: h", length(), b"X-Request-Id: %d" % number, b"Accept: a b")) is not None
        assert subject.read(written(b"Host: h", length(), b"CONTENT-LENGTH: %d" % number)) is None
    return subject


SEASONED = seasoned()


@settings(max_examples=1500)
@given(
    st.builds(lambda first, lines, body: written(*lines, first=first, body=body), st.just(FIRST) | first, head, body),
    st.booleans(),
)
def test_what_it_takes_llhttp_reads_the_same(data: bytes, is_seasoned: bool) -> None:  # noqa: FBT001 - drawn
    head = (SEASONED if is_seasoned else reader()).read(data)
    if head is not None:
        check_with_llhttp(head, data)


def check_with_llhttp(head: PlainHead, data: bytes) -> None:
    """Fail unless llhttp reads the same in these bytes, as far as they have come."""
    rest = head.size - (len(data) - head.start)
    assert rest >= 0
    data += b"x" * rest  # what is still to come
    try:
        whole = Llhttp(data)
    except httptools.HttpParserError as exc:
        pytest.fail(f"llhttp refuses it: {exc}")
    assert whole.messages == 1
    assert (whole.parser.get_method(), whole.parser.get_http_version()) == (b"POST", "1.1")
    assert whole.parser.should_keep_alive()
    assert not whole.parser.should_upgrade()
    assert head.address == infer_address(whole.url.decode())
    assert sorted(head.headers.items()) == sorted(header for header in whole.headers if header[0] != b"content-length")
    assert head.size == len(whole.body)
    assert data[head.start :] == whole.body


def form_of(*lines: bytes) -> HeadForm:
    """Return the form of a head that a seasoned reader knows."""
    plain = [SEASONED.read(written(*lines)) for _ in range(2)][-1]
    assert plain is not None
    assert plain.form is not None
    return plain.form


FORM = form_of(b"Host: h", b"X-Request-Id: 1", length(), b"X: 2", b"Accept: a b")


@settings(max_examples=1500)
@given(
    st.sampled_from(VALUES) | st.binary(max_size=6),
    st.sampled_from(VALUES) | st.binary(max_size=3) | st.just(b"14"),
    st.sampled_from(VALUES) | st.binary(max_size=6),
    st.sampled_from([b"Host: h", b"Host: i", b"host: h"]) | st.just(b"Host: h"),
    body,
)
def test_a_head_written_as_the_last_one_is_read_the_same_from_its_form(
    request_id: bytes, size: bytes, changing: bytes, host: bytes, content: bytes
) -> None:
    data = written(
        host,
        b"X-Request-Id: " + request_id,
        b"Content-Length: " + size,
        b"X: " + changing,
        b"Accept: a b",
        body=content,
    )
    head, without = FORM.read(data), SEASONED.read(data)
    if head is not None:
        check_with_llhttp(head, data)
    if host == b"Host: h":
        assert (head is None) == (without is None)
    if head is not None and without is not None:
        assert (head.address, head.headers, head.start, head.size) == (
            without.address,
            without.headers,
            without.start,
            without.size,
        )


def test_a_form_keeps_the_limits_and_takes_nothing_that_is_cut_off() -> None:
    lines = [b"Host: h", b"Accept: a b"]
    subject = reader(max_header_bytes=120, max_body_bytes=20)
    plain = [subject.read(written(*lines, length())) for _ in range(2)][-1]
    assert plain is not None
    form = plain.form
    assert form is not None
    assert form.read(written(*lines, length(20), body=b"")) is not None
    assert form.read(written(*lines, length(21), body=b"")) is None
    assert form.read(written(*lines, length(3), body=b"four")) is None
    assert form.read(written(*lines, length(), body=b"")[:-1]) is None
    assert form.read(written(*lines, b"Content-Length: 00000000000000000000000000000014")) is None
    assert form.read(written(*lines, b"Content-Length: 14", b"A: b")) is None
    assert form.read(written(b"Host: h", b"Accept: a", length())) is None


CLIENTS = {
    "tritonclient": [b"Host: h:8000", b"Connection: keep-alive", b"User-Agent: python-geventhttpclient-2.3", length()],
    "requests": [b"Host: h", b"User-Agent: python-requests/2.32", b"Accept-Encoding: gzip, deflate", b"Accept: */*",
                 b"Connection: keep-alive", length(), b"Content-Type: application/json"],
    "aiohttp": [b"Host: h", b"Accept: */*", b"Accept-Encoding: gzip", b"User-Agent: a/3 b/3", length()],
    "curl": [b"Host: h", b"User-Agent: curl/8", b"Accept: */*", b"Content-Type: application/json", length()],
    "traced": [b"Host: h", length(), b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
}  # fmt: skip


@pytest.mark.parametrize("client", CLIENTS)
def test_clients_requests_are_taken(client: str) -> None:
    plain = reader().read(written(*CLIENTS[client]))
    assert plain is not None
    assert plain.address == Address(is_v1=False, name="fraud", version=None)
    assert plain.headers[b"host"].startswith(b"h")
    assert (plain.start, plain.size) == (len(written(*CLIENTS[client])) - len(BODY), len(BODY))


def test_a_predict_request_of_v1_and_a_pinned_version_are_taken() -> None:
    for path, address in (
        (b"/v1/models/fraud:predict", Address(is_v1=True, name="fraud", version=None)),
        (b"/v2/models/fraud/versions/7/infer", Address(is_v1=False, name="fraud", version=7)),
    ):
        plain = reader().read(written(b"Host: h", length(), first=b"POST %b HTTP/1.1" % path))
        assert plain is not None
        assert plain.address == address


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(written(b"Host: h", length()) + b"POST", id="the next request has begun"),
        pytest.param(written(b"Host: h", length())[:40], id="the head is not whole yet"),
        pytest.param(written(length()), id="no host"),
        pytest.param(written(b"Host: h"), id="no length"),
        pytest.param(written(b"Host: h", length(), length()), id="a header twice"),
        pytest.param(written(b"Host: h", length(), b"Content-Encoding: gzip"), id="compressed"),
        pytest.param(written(b"Host: h", length(), b"Expect: 100-continue"), id="waits to be told to go on"),
        pytest.param(written(b"Host: h", length(), b"Connection: close"), id="the connection ends"),
        pytest.param(written(b"Host: h", length(), b"A: b", b" folded"), id="a folded line"),
        pytest.param(written(b"Host: h", b"Content-Length: " + b"0" * 99 + b"14"), id="a very long number"),
        pytest.param(written(b"Host: h", b"Content-Length: +14"), id="a number with a sign"),
        pytest.param(written(b"Host: h", b"CONTENT-LENGTH: 14"), id="a length as nobody writes it"),
        pytest.param(
            written(b"Host: h", length(), first=b"POST /v2/models/fraud/versions/x/infer HTTP/1.1"), id="a wrong path"
        ),
        pytest.param(written(b"Host: h", length(), first=b"POST /v2/repository/index HTTP/1.1"), id="another path"),
        pytest.param(written(b"Host: h", length(1001), body=b"x" * 1001), id="a body that is too large"),
        pytest.param(written(b"Host: h", length(), b"A: " + b"b" * 20_000), id="a head that is too large"),
    ],
)
def test_everything_else_is_left_to_llhttp(data: bytes) -> None:
    for subject in (reader(), seasoned()):
        assert subject.read(data) is None
        assert subject.read(data) is None  # nor is it taken once its lines are known


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([b"X-Request-Id: a b-1"], {b"x-request-id": b"a b-1"}, id="a value not seen before"),
        pytest.param([b"X: 1", b"X-Request-Id: 2"], {b"x": b"1", b"x-request-id": b"2"}, id="both that change"),
        pytest.param([b"x-request-id: 9"], {b"x-request-id": b"9"}, id="written another way"),
        pytest.param([b"X-Request-Id: 1", b"X-Request-Id: 2"], None, id="twice"),
        pytest.param([b"X-Request-Id: 1", b"x-request-id: 2"], None, id="twice, written in two ways"),
        pytest.param([b"X-Request-Id:  1"], None, id="a space too many"),
        pytest.param([b"X-Request-Id: 1 "], None, id="a space behind"),
        pytest.param([b"X-Request-Id: "], None, id="nothing"),
        pytest.param([b"X-Request-Id: a\rb"], None, id="half a line break"),
        pytest.param([b"X-Request-Id: caf\xe9"], None, id="not ASCII"),
        pytest.param([b"X-Request-Id: 1", b" folded"], None, id="a folded line"),
    ],
)
def test_a_header_that_changes_with_every_request_is_read_as_carefully(
    lines: list[bytes], expected: dict[bytes, bytes] | None
) -> None:
    subject = seasoned()
    for _ in range(2):
        plain = subject.read(written(b"Host: h", *lines, length(), b"Accept: a b"))
        found = None if plain is None else dict(plain.headers)
        assert found == (None if expected is None else {b"host": b"h", b"accept": b"a b", **expected})
    plain = subject.read(written(b"Host: h", length(), b"Accept: a b"))
    assert plain is not None
    assert dict(plain.headers) == {b"host": b"h", b"accept": b"a b"}, "the next request has its own headers"


def test_host_and_connection_are_judged_in_every_head() -> None:
    subject = reader()
    for number in range(100):
        assert subject.read(written(b"Host: h%d" % number, length(), b"Connection: keep-alive")) is not None
    assert subject.read(written(b"Host: h", length(), b"Connection: close")) is None
    assert subject.read(written(length(), b"Connection: keep-alive")) is None


@pytest.mark.parametrize("arrived", [0, 1, 13])
def test_a_head_is_taken_before_its_body(arrived: int) -> None:
    data = written(b"Host: h", length(), body=BODY[:arrived])
    head = reader().read(data)
    assert head is not None
    assert (head.start, head.size) == (len(data) - arrived, len(BODY))


def test_headers_that_differ_in_each_request_are_forgotten() -> None:
    subject = reader()
    for number in range(5000):
        address = b"POST /v2/models/m%d/infer HTTP/1.1" % number
        assert subject.read(written(b"Host: h", length(), b"X-Request-Id: %d" % number, first=address)) is not None
    assert subject.remembered < 4900
    for number in range(5000):
        assert subject.read(written(b"Host: h", length(), b"X-%d: 1" % number)) is not None
    assert subject.remembered < 5200
    for number in range(5000):  # a few headers of a few values, in every combination
        lines = [b"A: %d" % (number % 10), b"B: %d" % (number // 10 % 10), b"C: %d" % (number // 100)]
        assert subject.read(written(b"Host: h", length(), *lines)) is not None
    assert subject.remembered < 5600


def test_a_long_value_is_not_kept_and_the_rest_of_its_head_is() -> None:
    """As of a client whose token has a thousand bytes."""
    subject = reader()
    token = b"Bearer " + b"x" * 1000
    seen = [subject.read(written(b"Host: h", length(), b"Authorization: " + token)) for _ in range(4)]
    assert [plain.headers[b"authorization"] for plain in seen if plain is not None] == [token] * 4
    assert subject.remembered == 6, "the path, the head without the token and its form, two names, the host"
