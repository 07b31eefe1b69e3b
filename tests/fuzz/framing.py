"""Owns what is done to HTTP itself: lengths, chunks, header lines, request lines, connections.

Knows nothing of what the request asks.
"""

from __future__ import annotations

from dataclasses import replace

from tests.fuzz.cases import MAX_BODY_BYTES, MAX_HEADER_BYTES, OK, TOO_LARGE, WRONG, Case, Draft, Ending
from tests.fuzz.draw import Draw

# Where the request ends is unclear, so its form is all that the answer can be held to: it may even be right.
UNCLEAR = frozenset({200, 400, 404, 405, 413, 415, 431, 501})

BAD_HEADERS = [
    *(b" folded: line", b"\tfolded", b"no colon", b": no name", b"space before : colon", b"na me: x", b"na(me: x"),
    *(b"x-nul: a\x00b", b"x-nul\x00: a", b"x-control: a\x01b", b"x-\xff: a", b"x-cr: a\rb", b"x-delete: a\x7fb"),
]
ODD_HEADERS = [
    *(b"x-empty:", b"x-high: \xff\xfe", b"x-tab:\ta\tb", b"X-CASE: a", b"x-colon: a:b:c", b"~!#$%&'*+-.^_`|: 1"),
    *(b"accept: */*", b"te: trailers", b"range: bytes=0-1", b"if-match: *", b"expect: x", b"x-forwarded-for: 1.2.3.4"),
    *(b"content-type: text/plain", b"content-type: multipart/form-data", b"cookie: " + b"a=b; " * 200),
]
REQUEST_LINES = [
    *(b"GET", b"GET /v2 HTTP/1.1 x", b"GET /v2 HTTP/9.9", b"GET /v2 HTTP/1", b"GET /v2 http/1.1", b"get /v2 HTTP/1.1"),
    *(
        b"FOO /v2 HTTP/1.1",
        b"GE\x00T /v2 HTTP/1.1",
        b"GET /v\x002 HTTP/1.1",
        b"GET /v\xff2 HTTP/1.1",
        b"HTTP/1.1 200 OK",
    ),
    *(
        b"GET / v2 HTTP/1.1",
        b"GET http:// HTTP/1.1",
        b"GET v2 HTTP/1.1",
        b"CONNECT fuzz:80 HTTP/1.1",
        b"{}",
        b"\xff" * 20,
    ),
    *(
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
    ),
]
LENIENT_REQUEST_LINES = [b"", b"GET /v2", b"GET  /v2 HTTP/1.1", b"GET /v2\tHTTP/1.1", b"OPTIONS * HTTP/1.1"]
CONNECTION_HEADERS = [
    [b"connection: Upgrade", b"upgrade: websocket", b"sec-websocket-version: 13", b"sec-websocket-key: eHg="],
    [b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAAQAoAAAAAIAAAAA"],
    [b"connection: upgrade", b"upgrade: x"],
    [b"upgrade: websocket"],
    [b"expect: 100-continue"],
    [b"Expect: 100-Continue"],
    [b"connection: close"],
    [b"connection: keep-alive"],
    [b"connection: close, keep-alive"],
    [b"connection: x"],
]


def bad_length(draw: Draw) -> Case:
    """Announce a length that is none."""
    draft = draw.draft()
    draft.length = draw.random.choice((b"-1", b"1x", b"0x10", b"1 2", b"1,2", b"1.0", b"9" * 23, b"x", b"\xb2"))
    return _case(f"content-length {draft.length!r}", draft.wire(), WRONG)


def borderline_length(draw: Draw) -> Case:
    """Announce no length, a strange one, or one that differs a little from the body's."""
    draft = draw.draft()
    size = len(draft.body)
    spellings = (b"", b"0", b"+%d" % size, b"00%d" % size, b"%d " % size, b"%d" % (size - 1), b"%d, %d" % (size, size))
    draft.length = draw.random.choice(spellings)
    return _case(f"content-length {draft.length!r} of {size}", draft.wire(), UNCLEAR)


def length_and_chunks(draw: Draw) -> Case:
    """Announce a length and chunks: two readers would see two requests."""
    draft = draw.draft()
    codings = (b"chunked", b"Chunked", b"gzip, chunked", b"chunked, identity", b"identity", b"xchunked", b" chunked")
    coding = draw.random.choice(codings)
    lines = [*draft.header_lines(), draw.random.choice((b"transfer-encoding: ", b"Transfer-Encoding:")) + coding]
    draw.random.shuffle(lines)
    draft.body = _chunks(draw, draft.body)
    return _case(f"length and {coding.decode()}", draft.with_lines(lines), WRONG)


def bad_chunks(draw: Draw) -> Case:
    """Send chunks whose sizes or ends are wrong."""
    draft = draw.draft()
    draft.length = b""
    draft.headers.append((b"transfer-encoding", b"chunked"))
    body = draft.body
    end = b"\r\n0\r\n\r\n"
    draft.body = draw.random.choice(
        (
            b"zz\r\n" + body + end,
            b"-5\r\n" + body + end,
            b"0x5\r\n" + body + end,
            b"ffffffffffffffffff\r\n" + body + end,
            b"\r\n" + body + end,
            b"%x\n%s\n0\n\n" % (len(body), body),
            b"%x \r\n%s" % (len(body), body) + end,
            b"%x\r\n%s0\r\n\r\n" % (len(body), body),
            b"%x\r\n%s" % (len(body) - 1, body) + end,
        )
    )
    return _case("bad chunks", draft.wire(), WRONG)


def bad_coding(draw: Draw) -> Case:
    """Announce a transfer coding that is not understood."""
    draft = draw.draft()
    draft.length = b""
    coding = draw.random.choice(
        (b"gzip", b"identity", b"xchunked", b"chunked, gzip", b"chunked;q=1", b"chunked, chunked")
    )
    draft.headers.append((b"transfer-encoding", coding))
    draft.body = _chunks(draw, draft.body)
    return _case(coding.decode(), draft.wire(), WRONG)


def bad_header(draw: Draw) -> Case:
    """Put a line among the headers that is none."""
    draft = draw.draft()
    line = draw.random.choice(BAD_HEADERS)
    lines = draft.header_lines()
    lines.insert(draw.random.randrange(1, len(lines) + 1), line)
    return _case(f"header {line!r}", draft.with_lines(lines), WRONG)


def odd_header(draw: Draw) -> Case:
    """Put a header in that looks odd and is allowed."""
    draft = draw.draft()
    lines = draft.header_lines()
    line = draw.random.choice(ODD_HEADERS)
    lines.insert(draw.random.randrange(len(lines) + 1), line)
    return _as_is(draft, f"header {line[:40]!r}", lines)


def bad_request_line(draw: Draw) -> Case:
    """Begin with something that is no request line, or that only the lenient read as one."""
    draft = draw.draft()
    start = draw.random.choice((*REQUEST_LINES, *LENIENT_REQUEST_LINES))
    allowed = UNCLEAR if start in LENIENT_REQUEST_LINES else WRONG
    wire = b"\r\n".join((start, *draft.header_lines(), b"", b"")) + draft.body
    return _case(f"request line {start[:40]!r}", wire + b"\r\n\r\n", allowed)


def bare_line_ends(draw: Draw) -> Case:
    """End the lines with one character only."""
    draft = draw.draft()
    end = draw.random.choice((b"\n", b"\r"))
    return _case(f"lines end in {end!r}", draft.with_lines(draft.header_lines(), end=end) + b"\r\n\r\n", UNCLEAR)


def connection_header(draw: Draw) -> Case:
    """Ask for another protocol, for an interim answer or for an end; the request itself is answered."""
    draft = draw.draft()
    lines = draw.random.choice(CONNECTION_HEADERS)
    return _as_is(draft, f"{lines[0].decode()} {lines[-1].decode()}", [*draft.header_lines(), *lines])


def in_pieces(draw: Draw) -> Case:
    """Send the request in several pieces, cut anywhere."""
    draft = draw.draft()
    wire = draft.wire()
    cuts = sorted(draw.random.randrange(1, len(wire)) for _ in range(draw.random.choice((1, 2, 5, 20))))
    pieces = tuple(wire[start:end] for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True))
    return replace(draft.case(f"{len(pieces)}", OK), pieces=pieces)


def changed_bytes(draw: Draw) -> Case:
    """Change one to four bytes of the head."""
    draft = draw.draft()
    wire = bytearray(draft.wire())
    head = wire.index(b"\r\n\r\n")
    for _ in range(draw.random.choice((1, 1, 2, 4))):
        wire[draw.random.randrange(head)] = draw.random.choice((draw.random.randrange(256), *b' :\r\n\t\0"%/,;'))
    # Whatever its length has become, so many line ends are enough.
    return _case("of the head", bytes(wire) + b"\r\n" * 5000, UNCLEAR | {504})


def two_lengths(draw: Draw) -> Case:
    """Announce two lengths, equal or not."""
    draft = draw.draft()
    other = draw.random.choice((0, 1, len(draft.body), len(draft.body) + 1))
    lines = [*draft.header_lines(), b"Content-Length: %d" % other]
    return _case(f"two lengths, {other} too", draft.with_lines(lines), WRONG)


def huge_length(draw: Draw) -> Case:
    """Announce more than is taken, and send little of it."""
    draft = draw.draft()
    draft.length = b"%d" % draw.random.choice((MAX_BODY_BYTES + 1, 2**31, 2**32, 2**40, 2**62))
    return _case(f"announces {draft.length.decode()}", draft.wire(), TOO_LARGE)


def good_chunks(draw: Draw) -> Case:
    """Send the body in chunks, which is right."""
    draft = draw.draft()
    draft.length = b""
    draft.headers.append((b"transfer-encoding", draw.random.choice((b"chunked", b"Chunked", b"CHUNKED"))))
    extension = draw.random.choice((b"", b"", b";a=b", b";" + b"x" * 200))
    trailer = draw.random.choice((b"", b"", b"x-trailer: 1\r\n"))
    draft.body = _chunks(draw, draft.body, extension=extension, trailer=trailer)
    return draft.case("chunked", OK)


def no_host(draw: Draw) -> Case:
    """Leave out the host, or name two."""
    draft = draw.draft()
    if draw.chance(0.5):
        draft.host = None
    else:
        draft.headers.append((b"Host", draw.random.choice((b"fuzz", b"other"))))
    return _case("no host or two", draft.wire(), WRONG)


def huge_head(draw: Draw) -> Case:
    """Send headers, or a request line, around and over the limit."""
    draft = draw.draft()
    over = draw.random.choice((1, 100, 50_000, 200_000))
    match draw.random.randrange(3):
        case 0:
            lines = [*draft.header_lines(), b"x-long: " + b"a" * (MAX_HEADER_BYTES + over)]
        case 1:
            lines = [*draft.header_lines(), *[b"x-many: 1"] * (MAX_HEADER_BYTES // 8 + over // 8)]
        case _:
            lines = draft.header_lines()
            draft.target += b"?" + b"a" * (MAX_HEADER_BYTES + over)
    return _case(f"head {over} over the limit", draft.with_lines(lines), frozenset({431}))


def large_head(draw: Draw) -> Case:
    """Send headers just under the limit."""
    draft = draw.draft()
    room = MAX_HEADER_BYTES - len(draft.with_lines(draft.header_lines())) + len(draft.body)
    line = b"x-long: " + b"a" * (room - draw.random.choice((64, 200, 1000)))
    return _as_is(draft, "head just under the limit", [*draft.header_lines(), line])


def old_version(draw: Draw) -> Case:
    """Speak HTTP/1.0, with and without keep-alive."""
    draft = draw.draft()
    draft.version = b"HTTP/1.0"
    if draw.chance(0.5):
        draft.headers.append((b"connection", draw.random.choice((b"keep-alive", b"Keep-Alive", b"close"))))
    if draw.chance(0.5):
        draft.host = None
    return draft.case("HTTP/1.0", OK)


def blank_lines_first(draw: Draw) -> Case:
    """Send line ends before the request, as old clients do."""
    draft = draw.draft()
    return _case("blank lines first", b"\r\n" * draw.random.choice((1, 2, 50)) + draft.wire(), OK, ending=Ending.KEEP)


def cut_off(draw: Draw) -> Case:
    """Stop in the middle and go away."""
    draft = draw.draft()
    wire = draft.wire()
    at = draw.random.choice((draw.random.randrange(len(wire)), len(wire)))
    ending = draw.random.choice((Ending.HALF_CLOSE, Ending.ABORT))
    return Case(
        name=f"{ending.name.lower()} after {at} of {len(wire)} bytes",
        pieces=(wire[:at],),
        allowed=frozenset({200, 400}),
        answers=0,
        ending=ending,
    )


def unfinished(draw: Draw) -> Case:
    """Stop in the middle and wait."""
    draft = draw.draft()
    kind = draw.random.randrange(3)
    if kind == 0:
        wire = draft.wire()[: draw.random.randrange(1, 40)]
    elif kind == 1:
        wire = draft.wire()[:-1]
    else:
        draft.length = b""
        draft.headers.append((b"transfer-encoding", b"chunked"))
        draft.body = b"5\r\nabc"
        wire = draft.wire()
    return _case("unfinished", wire, frozenset({408}), ending=Ending.WAIT)


def garbage(draw: Draw) -> Case:
    """Send bytes that mean nothing."""
    size = draw.random.choice((1, 2, 16, 300, 5000))
    return _case("garbage", (draw.random.randbytes(size).lstrip(b"\r\n") or b"\0") + b"\r\n\r\n", WRONG | {431})


def _chunks(draw: Draw, body: bytes, *, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    written = b""
    while body:
        size = draw.random.choice((1, 7, 64, 1000, len(body)))
        piece, body = body[:size], body[size:]
        written += b"%x%s\r\n%s\r\n" % (len(piece), extension, piece)
    return written + b"0\r\n" + trailer + b"\r\n"


def _as_is(draft: Draft, name: str, lines: list[bytes]) -> Case:
    return replace(draft.case(name, OK), pieces=(draft.with_lines(lines),))


def _case(name: str, wire: bytes, allowed: frozenset[int], *, ending: Ending = Ending.DROP) -> Case:
    return Case(name=name, pieces=(wire,), allowed=allowed, ending=ending)
