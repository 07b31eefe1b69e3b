"""Owns cases of methods, paths and our own headers, on both planes, and of several requests at once.

Sends well-formed HTTP only.
"""

from __future__ import annotations

import json
from dataclasses import replace

from tests.fuzz.cases import ANY, LENIENT, MAX_BODY_BYTES, OK, TOO_LARGE, WRONG, Case, Draft, Ending
from tests.fuzz.documents import bent_document
from tests.fuzz.draw import Draw

NOT_ALLOWED = frozenset({405})
NOT_FOUND = frozenset({404})

SEGMENTS = [
    *("v1", "v2", "v3", "models", "model", "health", "live", "ready", "repository", "index", "load", "unload", "infer"),
    *("config", "stats", "versions", "trace", "setting", "logging", "generate", "generate_stream", "region", "metrics"),
    *("systemsharedmemory", "cudasharedmemory", "admin", "livez", "readyz", "favicon.ico", "openapi.json", "{model}"),
    *("1", "2", "0", "-1", "01", "1.0", "99", "9" * 19, "9" * 300, "x", "x" * 300, "", ".", "..", "%2e%2e"),
    *("%00", "%2f", "%ff", "%zz", "%", "a%20b", "%F0%9F%98%80", "é", "\\", "*", "?", "#", ";a=b"),
    *("breast_cancer", "digits", "diabetes", "penguins"),
]
STARTS = ["/", "/v2/", "/v2/models/", "/v2/models/digits/", "//", "/v2/repository/"]
METHODS = [
    *(b"GET", b"POST", b"PUT", b"DELETE", b"PATCH", b"HEAD", b"OPTIONS", b"TRACE", b"PROPFIND", b"MKCOL", b"PURGE"),
]
ADMIN_TARGETS = [
    *(b"/livez", b"/readyz", b"/openapi.json", b"/admin/v1/models", b"/admin/v1/models/", b"/admin", b"/", b"/v2"),
    *(
        b"/admin/v1/models/x/versions/1/load",
        b"/admin/v1/models/x/versions/1/x",
        b"/admin/v1/models/digits/versions/x/load",
    ),
    *(b"/admin/v1/models/digits/versions/99/unload", b"/admin/v1/models/digits/versions/%s/load" % (b"9" * 30)),
    *(b"/v2/repository/index", b"/v2/repository/models/x/load", b"/v2/repository/models/../load", b"/v2/repository/"),
    *(b"/v2/repository/models/%00/load", b"/v2/repository/models/stats/load", b"/%ff", b"/livez/", b"/readyz?x=%"),
    b"//livez",
]
ADMIN_HOSTS = [*(b"localhost",) * 9, b"127.0.0.1:1", b"[::1]", b"fuzz", b"localhost:x", b"a b"]
OWN_HEADERS = [b"x-request-timeout-ms", b"x-request-id", b"x-gateway-variant", b"x-routing-key", b"accept-encoding"]
HEADER_VALUES = [
    *(b"", b"0", b"1", b"-1", b"1.5", b"1e3", b"1000", b"9" * 12, b"9" * 13, b"9" * 4000, b"\xb2", b"stable", b"x"),
    *(b"challenger", b"gzip;q=x", b"gzip;q=", b"*;q=0", b"gzip" + b",gzip" * 500, b"\xff\xfe", b"a" * 128, b"a" * 129),
    *(b"\t", b"a b", b'"', b"{}", b"identity;q=0", b"br;q=1, gzip;q=0.5, deflate;q=0.9"),
]
BODIES = [b"", b"{}", b'{"parameters": {"config": 1}}', b"{", b"[" * 5000, b"\xff", b"null", b"[]"]


def header(draw: Draw) -> Case:
    """Give one of our own headers a value."""
    draft = draw.draft()
    name, value = draw.random.choice(OWN_HEADERS), draw.random.choice(HEADER_VALUES)
    if name == b"x-request-id":
        draft.request_id = ""
    draft.headers.append((name, value))
    return draft.case(f"{name.decode()} {value[:20]!r}", OK | WRONG | {504})


def path(draw: Draw) -> Case:
    """Ask for an address made of words that addresses are made of."""
    segments = draw.random.choices(SEGMENTS, k=draw.random.choice((0, 1, 2, 3, 4, 5, 7)))
    target = (draw.random.choice(STARTS) + "/".join(segments)).encode()
    method = draw.random.choice(METHODS)
    body = draw.random.choice((b"", b"", b"{}", b"x")) if method not in (b"HEAD", b"TRACE") else b""
    draft = Draft(method=method, target=target, body=body, request_id=draw.request_id())
    return draft.case(f"{method.decode()} {target[:60]!r}", ANY)


def method(draw: Draw) -> Case:
    """Ask for an address that exists with any method."""
    model = b"/v2/models/" + draw.model().name.encode()
    older = model.replace(b"/v2/", b"/v1/")
    target = draw.random.choice(
        (
            *(b"/v2", b"/v2/", b"/v2/health/live", b"/v2/health/ready", b"/v2/models/stats", b"/openapi.json"),
            *(model + tail for tail in (b"", b"/ready", b"/config", b"/stats", b"/infer")),
            *(model + b"/versions/1" + tail for tail in (b"", b"/ready", b"/infer")),
            *(older + tail for tail in (b"", b"/metadata", b":predict", b"/versions/1", b"/versions/1:predict")),
            *(b"/", b"/v1/models", b"/v2/models", b"/v2/repository/index"),
        )
    )
    chosen = draw.random.choice(METHODS)
    takes = b"POST" if target.endswith((b"/infer", b":predict", b"/index")) else b"GET"
    draft = Draft(method=chosen, target=target, request_id=draw.request_id())
    name = f"{chosen.decode()} {target.decode()}"
    if chosen != takes:
        return draft.case(name, NOT_ALLOWED)
    return draft.case(name, WRONG if target.endswith((b"/infer", b":predict")) else OK)


def target(draw: Draw) -> Case:
    """Write the address of a good request in another way, right or wrong."""
    draft = draw.draft()
    right = draft.target
    model = right.removesuffix(b"/infer")
    name = model.rsplit(b"/", 1)[1]
    draft.target, allowed = draw.random.choice(
        (
            (b"http://fuzz" + right, OK),
            (b"HTTP://fuzz:80" + right, OK),
            (right + b"?a=b", OK),
            (right + b"?a=/infer", OK),
            (right + b"?", OK),
            (b"/v2/models/" + b"".join(b"%%%02x" % code for code in name) + b"/infer", OK),
            (model + b"/versions/1/infer", OK),
            (model + b"/versions/99/infer", NOT_FOUND),
            (model + b"/versions/x/infer", NOT_FOUND),
            (model + b"/versions//infer", NOT_FOUND),
            (model + b"/version/1/infer", NOT_FOUND),
            (model + b"/a/b/infer", NOT_FOUND),
            (model + b"//infer", NOT_FOUND),
            (model + b"/infer/", NOT_FOUND),
            (model + b"%2finfer", OK | NOT_FOUND),
            (model + b"?x=/infer", NOT_ALLOWED),
            (b"/v2/models/?x=" + right, NOT_FOUND | NOT_ALLOWED),
            (b"/" + right, NOT_FOUND | WRONG),
            (b"/v2/.." + right, NOT_FOUND),
            (model + b".%00/infer", NOT_FOUND),
            (b"/v2/models/no_such_model/infer", NOT_FOUND),
            (b"/v2/models//infer", NOT_FOUND),
            (b"/v2/models/stats/infer", NOT_FOUND),
            (b"/v2/models/%s/infer" % (b"x" * 5000), NOT_FOUND),
            (b"/v2/models/%ff%fe/infer", NOT_FOUND),
        )
    )
    return draft.case(draft.target[:60].decode(), allowed)


def repository(draw: Draw) -> Case:
    """Call the repository extension, which may not change anything here."""
    call = draw.random.choice(
        (b"index", b"index", b"models/digits/load", b"models/x/unload", b"r/index", b"r/models/x/load")
    )
    body = draw.random.choice((*BODIES, b'{"ready": true}', b'{"ready": 1}', b'{"parameters": 1}'))
    draft = Draft(target=b"/v2/repository/" + call, body=body, request_id=draw.request_id())
    return draft.case(f"{call.decode()} {body[:20]!r}", OK | WRONG | {403, 501})


def admin(draw: Draw) -> Case:
    """Ask the admin plane for what it has and has not, without unloading anything."""
    asked, chosen = draw.random.choice(ADMIN_TARGETS), draw.random.choice(METHODS)
    body = draw.random.choice(BODIES) if chosen not in (b"HEAD", b"TRACE") else b""
    draft = Draft(method=chosen, target=asked, body=body, host=draw.random.choice(ADMIN_HOSTS))
    return replace(draft.case(f"{chosen.decode()} {asked.decode()}", ANY), is_admin=True)


def large_body(draw: Draw) -> Case:
    """Send a body at the limit, or over it in a chunk that nobody announced."""
    model = draw.model()
    if draw.chance(0.5):
        body = json.dumps(model.document()).encode()
        return draw.infer(model, body + b" " * (MAX_BODY_BYTES - len(body))).case("at the limit", OK)
    size = MAX_BODY_BYTES + 1
    draft = draw.infer(model, b"%x\r\n%s\r\n0\r\n\r\n" % (size, b" " * size))
    draft.length = b""
    draft.headers.append((b"transfer-encoding", b"chunked"))
    return draft.case("over the limit, in a chunk", TOO_LARGE, ending=Ending.DROP)


def pipelined(draw: Draw) -> Case:
    """Send several requests at once; the answers come in order."""
    drafts = []
    for _ in range(draw.random.choice((2, 2, 3, 8))):
        model = draw.model()
        if draw.chance(0.5):
            drafts.append(draw.json(model, model.document()))
        elif draw.chance(0.5):
            drafts.append(draw.json(model, bent_document(draw.random, model.document())))
        else:
            drafts.append(Draft(method=b"GET", target=b"/v2/health/live"))
    return Case(
        name=f"{len(drafts)} requests",
        pieces=(b"".join(draft.wire() for draft in drafts),),
        allowed=LENIENT,
        answers=len(drafts),
        request_ids=tuple(draft.request_id or None for draft in drafts),
    )


def pipelined_garbage(draw: Draw) -> Case:
    """Send something that is no request behind a good one, which is answered first."""
    draft = draw.draft()
    garbage = draw.random.choice((b"garbage\r\n\r\n", b"\x00", b"GET\r\n\r\n", b"POST /v2 HTTP/1.1\r\nhost\r\n\r\n"))
    case = draft.case(repr(garbage), OK, ending=Ending.DROP)
    return replace(case, pieces=(draft.wire() + garbage,))
