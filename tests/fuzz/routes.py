"""Owns cases of calls about routes: bent documents and changes, conditions, addresses, on the admin plane.

Touches routes of its own names only, so that predictions go on as they were.
"""

from __future__ import annotations

import json
from dataclasses import replace

from tests.fuzz.cases import ANY, Case, Draft, Json
from tests.fuzz.documents import JUNK, bent_document, bent_text
from tests.fuzz.draw import Draw

NAMES = [b"fuzz-a", b"fuzz-b", b"fuzz-c"]
ODD_NAMES = [b"stats", b"-", b"%00", b"a%20b", b"x" * 300, b"%2e%2e", b"%ff", b"fuzz-a%2Fabort", b""]
ACTS = [b"validate", b"shift", b"abort", b"rollback", b"adopt", b"history", b"shadows", b"comparison", b"x", b""]
METHODS = [b"GET", b"PUT", b"PUT", b"PUT", b"DELETE", b"POST", b"PATCH", b"OPTIONS"]
CONDITIONS: list[tuple[bytes, bytes]] = [
    *((b"if-none-match", value) for value in (b"*", b"*", b"*", b'"a"', b"", b"\xff")),
    *((b"if-match", value) for value in (b"*", b"*", b"*", b"*", b'"1-1-a"', b'W/"a"', b"a", b'"a", "b,c"', b",,,")),
    *((b"if-match", value) for value in (b"", b'"', b'"\xff"', b'"' + b"," * 4000 + b'"', b'"a"' + b"," * 4000)),
]
STATUSES = ANY | {201, 204, 412, 422, 428}


def document(draw: Draw) -> Case:
    """Create, replace, validate or delete a route with a document that is bent, or is none."""
    place = b"/admin/v1/routes/" + draw.random.choice(NAMES if draw.chance(0.9) else ODD_NAMES)
    method = draw.random.choice(METHODS)
    if draw.chance(0.2):
        method, place = b"POST", place + b"/validate"
    wanted: dict[str, Json] = {"reason": "fuzz"} if method == b"DELETE" else _route(draw)
    draft = Draft(method=method, target=place, body=_body(draw, wanted), request_id=draw.request_id())
    draft.headers += draw.random.sample(CONDITIONS, draw.random.choice((0, 1, 1, 1, 1, 2)))
    return _case(draft, "document")


def change(draw: Draw) -> Case:
    """Shift, abort, roll back or ask about a route, with a body that fits, or fits another call."""
    act = draw.random.choice(ACTS)
    bodies: list[dict[str, Json]] = [
        {"weights": {"challenger": draw.random.choice((0, 5, 12.34, 100, *JUNK))}, "reason": "x"},
        {"shadows": draw.random.choice((True, False, *JUNK))},
        {"revision": draw.random.choice((1, 2, 3, *JUNK))},
        {"reason": draw.random.choice(("because", *JUNK))},
        {},
    ]
    place = b"/admin/v1/routes/%b/%b" % (draw.random.choice(NAMES if draw.chance(0.9) else ODD_NAMES), act)
    method = b"POST" if draw.chance(0.9) else draw.random.choice(METHODS)
    draft = Draft(method=method, target=place, body=_body(draw, draw.random.choice(bodies)))
    draft.headers += draw.random.sample(CONDITIONS, draw.random.choice((0, 0, 1)))
    return _case(draft, act.decode())


def listing(draw: Draw) -> Case:
    """Ask who did what and who serves what."""
    query = draw.random.choice((b"", b"?limit=1", b"?limit=0", b"?limit=%ff", b"?limit=" + b"9" * 5000, b"?x=%"))
    place = draw.random.choice((b"routes", b"audit", b"replicas", b"routes/", b"audit/x"))
    return _case(Draft(method=draw.random.choice(METHODS), target=b"/admin/v1/" + place + query), "listing")


def _route(draw: Draw) -> dict[str, Json]:
    weight = draw.random.choice((0, 10, 33.33, 100))
    first: dict[str, Json] = {
        "name": "stable",
        "model": "breast_cancer",
        "version": 1,
        "weight": round(100 - weight, 2),
    }
    other: dict[str, Json] = {"name": "challenger", "model": "breast_cancer", "version": 2, "weight": weight}
    shadow: dict[str, Json] = {"name": "next", "model": "breast_cancer", "version": 2, "sample": 50}
    return {"variants": [first, other], "shadows": [shadow], "routing_key_header": "x-routing-key", "reason": "fuzz"}


def _body(draw: Draw, wanted: dict[str, Json]) -> bytes:
    """Write a document as it is, or bend it, or its text."""
    if draw.chance(0.3):
        return json.dumps(wanted).encode()
    if draw.chance(0.6):
        return json.dumps(bent_document(draw.random, wanted) if wanted else draw.random.choice(JUNK)).encode()
    return bent_text(draw.random, json.dumps(wanted).encode())


def _case(draft: Draft, name: str) -> Case:
    draft.host = b"localhost"
    return replace(draft.case(f"{draft.method.decode()} route {name}", STATUSES), is_admin=True)
