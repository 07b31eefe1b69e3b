"""Holds the calls about routes to their table: documents, conditions, changes, and every way to be refused."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from gateway.settings import AuthSettings, Scope, TokenSettings
from tests.api.admin_client import AdminClient, admin_client
from tests.api.planes import Plane, data_plane
from tests.support import onnx_models
from tests.support.repositories import add_version

PLACE = "/admin/v1/routes/fraud"
NEW = {"if-none-match": "*"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def split(challenger: float = 10, **more: object) -> dict[str, Any]:
    """Write a route of two variants."""
    return {
        "variants": [
            {"name": "stable", "model": "echo", "version": 1, "weight": 100 - challenger},
            {"name": "challenger", "model": "echo", "version": 2, "weight": challenger},
        ]
    } | more


def weights(answer: httpx.Response) -> dict[str, float]:
    return {variant["name"]: variant["weight"] for variant in answer.json()["variants"]}


def pointers(answer: httpx.Response) -> list[str]:
    return [fault["pointer"] for fault in answer.json()["errors"]]


def match(answer: httpx.Response) -> dict[str, str]:
    """State the revision of an answer."""
    return {"if-match": answer.headers["etag"]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("routes")
    add_version(root, "echo", 1, onnx_models.identity())
    add_version(root, "echo", 2, onnx_models.affine())
    add_version(root, "text", 1, onnx_models.identity("BYTES", ("rows",)))
    return root


@pytest_asyncio.fixture
async def plane(repository: Path) -> AsyncIterator[Plane]:
    async with data_plane(repository) as loaded:
        yield loaded


@pytest_asyncio.fixture
async def admin(plane: Plane) -> AsyncIterator[AdminClient]:
    async with admin_client(plane) as client:
        yield client


# --- documents ------------------------------------------------------------------------------------------


async def test_a_route_is_its_document_and_its_revision_under_a_strong_tag(admin: AdminClient) -> None:
    document = split(10, shadows=[{"name": "next", "model": "echo", "version": 2}], reason="a first look")
    created = await admin.ask("PUT", PLACE, document, NEW)
    assert created.status_code == 201
    assert created.headers["location"] == PLACE
    assert re.fullmatch(r'"\d+-1-[0-9a-f]{32}"', created.headers["etag"])
    answer = created.json()
    assert answer["variants"] == document["variants"]
    assert answer["shadows"] == [{"name": "next", "model": "echo", "version": 2, "sample": 100, "tolerance": 0.001}]
    assert (answer["name"], answer["revision"], answer["reason"]) == ("fraud", 1, "a first look")
    assert answer["routing_key_header"] == "x-routing-key"
    shown = await admin.ask("GET", PLACE)
    assert shown.json() == answer
    assert shown.headers["etag"] == created.headers["etag"]
    (listed,) = [
        route for route in (await admin.ask("GET", "/admin/v1/routes")).json()["routes"] if "fraud" in route["name"]
    ]
    assert listed == answer


async def test_the_status_of_a_route_shows_its_variants_and_its_balance(admin: AdminClient, plane: Plane) -> None:
    await admin.ask("PUT", PLACE, split(50), NEW)
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    for key in range(20):
        assert (await plane.infer("fraud", body, {"x-routing-key": str(key)})).status == 200
    status = (await admin.ask("GET", PLACE)).json()["status"]
    assert status["revision"] == 1
    assert [(variant["name"], variant["ready"]) for variant in status["variants"]] == [
        ("stable", True),
        ("challenger", True),
    ]
    stable, challenger = (variant["breaker"] for variant in status["variants"])
    assert stable is None
    assert challenger["state"] == "closed"
    assert sum(status["balance"]["sticky"].values()) == 20
    assert status["balance"]["mismatch"] is False


async def test_what_was_read_may_be_sent_back_and_is_no_new_revision(admin: AdminClient) -> None:
    first = await admin.ask("PUT", PLACE, split(), NEW)
    again = await admin.ask("PUT", PLACE, first.json(), match(first))
    other_reason = await admin.ask("PUT", PLACE, first.json() | {"reason": "another", "revision": 77}, match(first))
    for answer in (again, other_reason):
        assert answer.status_code == 200
        assert answer.json()["revision"] == 1
        assert answer.headers["etag"] == first.headers["etag"]
    assert len((await admin.ask("GET", f"{PLACE}/history")).json()["revisions"]) == 1


async def test_a_model_has_a_route_of_its_own(admin: AdminClient) -> None:
    answer = (await admin.ask("GET", "/admin/v1/routes/echo")).json()
    assert answer["revision"] == 1
    assert answer["variants"] == [{"name": "stable", "model": "echo", "version": 2, "weight": 100}]


# --- conditions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_change_that_says_no_revision_is_428(admin: AdminClient, method: str) -> None:
    await admin.ask("PUT", PLACE, split(), NEW)
    answer = await admin.ask(method, PLACE, split(20) if method == "PUT" else b"")
    assert answer.status_code == 428
    assert answer.json()["type"] == "urn:onnx-gateway:problem:precondition-required"
    assert weights(await admin.ask("GET", PLACE)) == {"stable": 90, "challenger": 10}


@pytest.mark.parametrize(
    "stated",
    [
        '"1-1-abc"',
        '"nonsense"',
        '""',
        'W/"1-1-abc"',
        '"1-1-abc", W/"1-2-abc", "x,y"',
        ",",
    ],
)
async def test_a_revision_that_is_not_the_current_one_is_412_and_shows_it(admin: AdminClient, stated: str) -> None:
    created = await admin.ask("PUT", PLACE, split(), NEW)
    for method, place, body in (
        ("PUT", PLACE, split(20)),
        ("DELETE", PLACE, b""),
        ("POST", f"{PLACE}/shift", {"weights": {"challenger": 20}}),
    ):
        answer = await admin.ask(method, place, body, {"if-match": stated})
        assert answer.status_code == 412, answer.text
        assert answer.headers["etag"] == answer.json()["etag"] == created.headers["etag"]
        assert answer.json()["type"] == "urn:onnx-gateway:problem:revision-mismatch"


async def test_the_weak_form_of_the_current_tag_does_not_match(admin: AdminClient) -> None:
    created = await admin.ask("PUT", PLACE, split(), NEW)
    answer = await admin.ask("PUT", PLACE, split(20), {"if-match": f"W/{created.headers['etag']}"})
    assert answer.status_code == 412


async def test_any_of_several_tags_or_a_star_is_enough(admin: AdminClient) -> None:
    created = await admin.ask("PUT", PLACE, split(), NEW)
    several = f'"other", W/"weak", {created.headers["etag"]}'
    assert (await admin.ask("PUT", PLACE, split(20), {"if-match": several})).json()["revision"] == 2
    assert (await admin.ask("PUT", PLACE, split(30), {"if-match": "*"})).json()["revision"] == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"if-match": "1-1-abc"},
        {"if-match": '"open'},
        {"if-match": '"a" "b"'},
        {"if-match": '*, "a"'},
        {"if-match": 'w/"a"'},
        {"if-match": '"grö"'},
        {"if-none-match": '"1-1-abc"'},
        {"if-none-match": '*, "a"'},
        {"if-match": '"a"', "if-none-match": "*"},
    ],
)
async def test_a_condition_that_cannot_be_read_is_400(admin: AdminClient, headers: dict[str, str]) -> None:
    given = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await admin.ask("PUT", PLACE, split(), given)  # type: ignore[arg-type]  # httpx takes bytes, too
    assert answer.status_code == 400
    assert (await admin.ask("GET", PLACE)).status_code == 404


async def test_what_exists_is_not_created_again(admin: AdminClient) -> None:
    created = await admin.ask("PUT", PLACE, split(), NEW)
    answer = await admin.ask("PUT", PLACE, split(20), NEW)
    assert answer.status_code == 412
    assert answer.json()["etag"] == created.headers["etag"]
    nowhere = await admin.ask("PUT", "/admin/v1/routes/nobody", split(), {"if-match": "*"})
    assert nowhere.status_code == 412
    assert nowhere.json()["etag"] is None
    assert "etag" not in nowhere.headers


async def test_of_two_operators_who_race_one_is_told(admin: AdminClient) -> None:
    stated = match(await admin.ask("PUT", PLACE, split(), NEW))
    answers = await asyncio.gather(*(admin.ask("PUT", PLACE, split(20 + number), stated) for number in range(8)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] + [412] * 7
    (won,) = [answer for answer in answers if answer.status_code == 200]
    assert (await admin.ask("GET", PLACE)).json() == won.json()
    assert {answer.json()["etag"] for answer in answers if answer.status_code == 412} == {won.headers["etag"]}


# --- changes ---------------------------------------------------------------------------------------------


async def test_a_shift_names_some_and_the_first_takes_the_rest(admin: AdminClient) -> None:
    await admin.ask("PUT", PLACE, split(), NEW)
    shifted = await admin.ask("POST", f"{PLACE}/shift", {"weights": {"challenger": 25.5}, "reason": "looks good"})
    assert shifted.status_code == 200
    assert weights(shifted) == {"stable": 74.5, "challenger": 25.5}
    assert (shifted.json()["revision"], shifted.json()["reason"]) == (2, "looks good")
    assert shifted.headers["etag"] == (await admin.ask("GET", PLACE)).headers["etag"]


async def test_an_abort_is_one_revision_however_often_it_is_asked_for(admin: AdminClient) -> None:
    await admin.ask("PUT", PLACE, split(40, shadows=[{"name": "next", "model": "echo", "version": 2}]), NEW)
    first = await admin.ask("POST", f"{PLACE}/abort", b"", {"if-match": '"stale"'})
    again = await admin.ask("POST", f"{PLACE}/abort")
    assert first.status_code == again.status_code == 200
    assert weights(first) == {"stable": 100, "challenger": 0}
    assert first.json()["revision"] == again.json()["revision"] == 2
    assert len(first.json()["shadows"]) == 1
    without = await admin.ask("POST", f"{PLACE}/abort", {"shadows": True})
    assert (without.json()["revision"], without.json()["shadows"]) == (3, [])


async def test_a_rollback_brings_back_an_earlier_document(admin: AdminClient) -> None:
    first = await admin.ask("PUT", PLACE, split(10), NEW)
    second = await admin.ask("PUT", PLACE, split(60), match(first))
    assert weights(await admin.ask("POST", f"{PLACE}/rollback", {"revision": 1})) == {"stable": 90, "challenger": 10}
    back_by_one = await admin.ask("POST", f"{PLACE}/rollback")
    assert (back_by_one.json()["revision"], weights(back_by_one)) == (4, weights(second))
    assert (await admin.ask("POST", f"{PLACE}/rollback", {"revision": 9})).status_code == 404
    stale = await admin.ask("POST", f"{PLACE}/rollback", {"revision": 1}, match(first))
    assert stale.status_code == 412


async def test_a_route_is_deleted_at_the_revision_that_is_meant(admin: AdminClient) -> None:
    created = await admin.ask("PUT", PLACE, split(), NEW)
    gone = await admin.ask("DELETE", PLACE, {"reason": "done"}, match(created))
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await admin.ask("GET", PLACE)).status_code == 404
    assert (await admin.ask("DELETE", PLACE, b"", match(created))).status_code == 404
    assert (await admin.ask("GET", "/admin/v1/audit")).json()["records"][0]["reason"] == "done"


async def test_a_validation_says_what_would_change_and_does_nothing(admin: AdminClient) -> None:
    created = await admin.ask("PUT", PLACE, split(10), NEW)
    good = await admin.ask("POST", f"{PLACE}/validate", split(25))
    assert good.json() == {
        "valid": True,
        "errors": [],
        "moved_percent": 15,
        "changes": [
            {"pointer": "/variants/0/weight", "from": 90, "to": 75},
            {"pointer": "/variants/1/weight", "from": 10, "to": 25},
        ],
    }
    bad = await admin.ask("POST", f"{PLACE}/validate", split(25, shadows=[{"name": "stable"}]))
    assert bad.status_code == 200
    assert bad.json()["valid"] is False
    assert "/shadows/0/model" in pointers(bad)
    nobody = await admin.ask("POST", "/admin/v1/routes/-/validate", [])
    assert (nobody.status_code, nobody.json()["valid"]) == (200, False)
    assert (await admin.ask("GET", PLACE)).headers["etag"] == created.headers["etag"]


async def test_history_and_audit_say_who_when_and_why(admin: AdminClient) -> None:
    await admin.ask("PUT", PLACE, split(10, reason="begin"), NEW, bearer="nobody looks at it without tokens")
    await admin.ask(
        "POST", f"{PLACE}/shift", {"weights": {"challenger": 20}, "reason": "go on"}, {"x-request-id": "me-1"}
    )
    newest, oldest = (await admin.ask("GET", f"{PLACE}/history")).json()["revisions"]
    assert (newest["revision"], newest["actor"], newest["reason"]) == (2, "anonymous", "go on")
    assert (oldest["revision"], oldest["reason"]) == (1, "begin")
    assert oldest["document"]["variants"] == split(10)["variants"]
    assert TIME.fullmatch(newest["at"])
    record = (await admin.ask("GET", "/admin/v1/audit?limit=1")).json()["records"][0]
    assert TIME.fullmatch(record.pop("at"))
    assert record == {
        "actor": "anonymous",
        "action": "shift",
        "route": "fraud",
        "revision": 2,
        "reason": "go on",
        "request_id": "me-1",
        "changes": [
            {"pointer": "/variants/0/weight", "from": 90, "to": 80},
            {"pointer": "/variants/1/weight", "from": 10, "to": 20},
        ],
    }


async def test_an_earlier_document_of_the_history_may_be_sent_back(admin: AdminClient) -> None:
    first = await admin.ask("PUT", PLACE, split(10), NEW)
    second = await admin.ask("PUT", PLACE, split(20), match(first))
    document = (await admin.ask("GET", f"{PLACE}/history")).json()["revisions"][1]["document"]
    assert weights(await admin.ask("PUT", PLACE, document, match(second))) == {"stable": 90, "challenger": 10}


async def test_this_replica_says_what_it_serves(admin: AdminClient) -> None:
    await admin.ask("PUT", PLACE, split(), NEW)
    (replica,) = (await admin.ask("GET", "/admin/v1/replicas")).json()["replicas"]
    assert replica["routes"]["fraud"] == {"revision": 1, "applied": True, "reason": ""}
    assert TIME.fullmatch(replica["last_seen"])
    assert replica["last_seen"] > "2020"


async def test_a_shadow_shows_how_far_it_agrees_and_where_it_did_not(admin: AdminClient, plane: Plane) -> None:
    shadows = [{"name": "twin", "model": "echo", "version": 1}, {"name": "other", "model": "echo", "version": 2}]
    await admin.ask("PUT", PLACE, split(0, shadows=shadows), NEW)
    assert (await admin.ask("GET", "/admin/v1/routes/echo/shadows")).json() == {"shadows": []}
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    assert (await plane.infer("fraud", body, {"x-request-id": "worst-1"})).status == 200
    async with asyncio.timeout(10):
        while True:
            twin, other = (await admin.ask("GET", f"{PLACE}/shadows")).json()["shadows"]
            if twin["matches"] + other["mismatches"] == 2:
                break
            await asyncio.sleep(0.01)
    assert (twin["name"], twin["requests"], twin["worst"]) == ("twin", {"match": 1, "mismatch": 0, "error": 0}, [])
    assert (other["model"], other["version"], other["rows"]) == ("echo", 2, 1)
    (worst,) = other["worst"]
    assert worst["request_id"] == "worst-1"
    assert TIME.fullmatch(worst["at"])
    assert worst["difference"] > 0
    assert (await admin.ask("GET", "/admin/v1/routes/nobody/shadows")).status_code == 404


# --- refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nothing",
        b"\xff{}",
        b'{"variants": NaN}',
        b'{"reason": "\\ud800"}',
        b'{"variants": [], "variants": []}',
        b'{"variants": [{"name": "a", "name": "b"}]}',
        b'{"variants": [{"weight": 1' + b"0" * 5000 + b"}]}",
        b"[" * 40 + b"]" * 40,
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
)
async def test_a_body_that_is_not_json_or_could_be_read_in_two_ways_is_400(admin: AdminClient, body: bytes) -> None:
    for method, place in (("PUT", PLACE), ("POST", f"{PLACE}/validate")):
        answer = await admin.ask(method, place, body, NEW if method == "PUT" else {})
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"] == "urn:onnx-gateway:problem:invalid-request"


async def test_a_body_over_the_limit_is_413(admin: AdminClient) -> None:
    answer = await admin.ask("PUT", PLACE, b" " * 1_048_577, NEW)
    assert answer.status_code == 413
    at_the_limit = json.dumps(split()).encode().ljust(1_048_576)
    assert (await admin.ask("PUT", PLACE, at_the_limit, NEW)).status_code == 201


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ([], ""),
        (None, ""),
        (7, ""),
        ({}, "/variants"),
        (split(10, colour="blue"), "/colour"),
        (split(10.005), "/variants/0/weight"),
        ({"variants": [split()["variants"][0]]}, "/variants"),
        (split(10, name="other"), "/name"),
        (split(10, reason="two\nlines"), "/reason"),
        (
            {"variants": [{"name": "stable", "model": "echo", "version": 9, "weight": 100}]},
            "/variants/0",
        ),
        (
            {
                "variants": [
                    {"name": "stable", "model": "echo", "version": 1, "weight": 90},
                    {"name": "other", "model": "text", "version": 1, "weight": 10},
                ]
            },
            "/variants/1",
        ),
    ],
)
async def test_an_invalid_document_is_422_with_a_pointer(admin: AdminClient, document: object, pointer: str) -> None:
    answer = await admin.ask("PUT", PLACE, document, NEW)
    assert answer.status_code == 422
    assert any(found.startswith(pointer) for found in pointers(answer)), pointers(answer)
    validated = await admin.ask("POST", f"{PLACE}/validate", document)
    assert pointers(validated) == pointers(answer)


@pytest.mark.parametrize(
    ("act", "body", "expected"),
    [
        ("shift", {}, ["/weights"]),
        ("shift", b"", ["/weights"]),
        ("shift", [], ["", "/weights"]),
        ("shift", {"weights": 10}, ["/weights"]),
        ("shift", {"weights": {}}, ["/weights"]),
        ("shift", {"weights": {"nobody": 10}}, ["/weights/nobody"]),
        ("shift", {"weights": {"challenger": 101}}, ["/weights/challenger"]),
        ("shift", {"weights": {"challenger": True}}, ["/weights/challenger"]),
        ("shift", {"weights": {"challenger": 10, "stable": 80}}, ["/weights"]),
        ("shift", {"weights": {"challenger": 10}, "raeson": ""}, ["/raeson"]),
        ("shift", {"weights": {"challenger": 10}, "reason": 7}, ["/reason"]),
        ("abort", {"shadows": "yes"}, ["/shadows"]),
        ("abort", {"shadow": True, "reason": None}, ["/shadow", "/reason"]),
        ("rollback", {"revision": "1"}, ["/revision"]),
        ("rollback", {"revision": True}, ["/revision"]),
        ("rollback", {"revision": 0}, ["/revision"]),
        ("rollback", {"revision": None}, ["/revision"]),
        ("rollback", {"revision": 10**40}, ["/revision"]),
        ("adopt", {"revision": 1}, ["/revision"]),
        ("adopt", 7, [""]),
    ],
)
async def test_a_change_that_cannot_be_is_422_with_its_pointers(
    admin: AdminClient, act: str, body: object, expected: list[str]
) -> None:
    await admin.ask("PUT", PLACE, split(), NEW)
    answer = await admin.ask("POST", f"{PLACE}/{act}", body)
    assert answer.status_code == 422
    assert pointers(answer) == expected
    assert (await admin.ask("GET", PLACE)).json()["revision"] == 1


@pytest.mark.parametrize("name", ["nobody", "stats", "-", "a%20b", "x" * 65, "%00", "größe"])
@pytest.mark.parametrize(
    ("method", "act"),
    [("GET", ""), ("DELETE", ""), ("POST", "/shift"), ("POST", "/abort"), ("POST", "/rollback"), ("GET", "/history")],
)
async def test_a_route_that_is_not_there_is_404(admin: AdminClient, name: str, method: str, act: str) -> None:
    body: object = {"weights": {"a": 1}} if act == "/shift" else b""
    answer = await admin.ask(method, f"/admin/v1/routes/{name}{act}", body, {"if-match": "*"})
    assert answer.status_code in (404, 412), answer.text


@pytest.mark.parametrize("name", ["stats", "-", "a%20b", "x" * 65, "%00"])
async def test_a_name_that_no_route_may_have_is_422(admin: AdminClient, name: str) -> None:
    answer = await admin.ask("PUT", f"/admin/v1/routes/{name}", split(), NEW)
    assert answer.status_code == 422
    assert pointers(answer) == ["/name"]


@pytest.mark.parametrize(
    ("method", "place", "allowed"),
    [
        ("POST", "/admin/v1/routes", {"GET", "HEAD"}),
        ("POST", PLACE, {"GET", "HEAD", "PUT", "DELETE"}),
        ("PATCH", PLACE, {"GET", "HEAD", "PUT", "DELETE"}),
        ("GET", f"{PLACE}/shift", {"POST"}),
        ("PUT", f"{PLACE}/history", {"GET", "HEAD"}),
    ],
)
async def test_another_method_is_405_and_says_which_there_are(
    admin: AdminClient, method: str, place: str, allowed: set[str]
) -> None:
    answer = await admin.ask(method, place)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=many", "limit=", "limit=1e3"])
async def test_a_query_that_cannot_be_read_is_400(admin: AdminClient, query: str) -> None:
    assert (await admin.ask("GET", f"/admin/v1/audit?{query}")).status_code == 400


async def test_answers_are_kept_by_nobody_and_framed_by_nobody(admin: AdminClient) -> None:
    answer = await admin.ask("GET", "/admin/v1/routes", headers={"x-request-id": "me-2"})
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert answer.headers["x-request-id"] == "me-2"


@pytest.mark.parametrize("supplied", ["", "a\x07b", "x" * 129, "größe"])
async def test_a_request_id_that_cannot_be_written_is_replaced(admin: AdminClient, supplied: str) -> None:
    given = {"x-request-id": supplied.encode("latin-1")}
    answer = await admin.ask("GET", "/admin/v1/routes", headers=given)  # type: ignore[arg-type]  # httpx takes bytes
    assert answer.headers["x-request-id"].isascii()
    assert answer.headers["x-request-id"] not in ("", supplied)


# --- who asks --------------------------------------------------------------------------------------------


def token(name: str, *scopes: Scope) -> TokenSettings:
    return TokenSettings(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=scopes)


AUTH = AuthSettings(tokens=(token("reader", "read"), token("writer", "read", "write"), token("pager", "abort")))


async def test_the_holder_of_the_token_stands_in_history_and_audit(plane: Plane) -> None:
    async with admin_client(plane, AUTH) as admin:
        assert (await admin.ask("PUT", PLACE, split(), NEW, bearer="writer")).status_code == 201
        assert (await admin.ask("POST", f"{PLACE}/abort", bearer="pager")).status_code == 200
        history = (await admin.ask("GET", f"{PLACE}/history", bearer="reader")).json()["revisions"]
        assert [revision["actor"] for revision in history] == ["pager", "writer"]
        audit = (await admin.ask("GET", "/admin/v1/audit", bearer="reader")).json()["records"]
        assert [record["actor"] for record in audit[:2]] == ["pager", "writer"]


async def test_who_may_not_is_told_so_and_changes_nothing(plane: Plane) -> None:
    """Whatever the address: that a path does not exist is nobody's business either."""
    async with admin_client(plane, AUTH) as admin:
        for method, place in (("GET", PLACE), ("PUT", PLACE), ("DELETE", PLACE), ("GET", "/nothing"), ("POST", "/")):
            answer = await admin.ask(method, place, split() if method == "PUT" else b"", NEW)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == 'Bearer realm="onnx-gateway"'
            assert answer.json()["type"] == "urn:onnx-gateway:problem:unauthenticated"
        answer = await admin.ask("PUT", PLACE, split(), NEW, bearer="reader")
        assert answer.status_code == 403
        assert answer.json()["type"] == "urn:onnx-gateway:problem:missing-scope"
        assert 'scope="write"' in answer.headers["www-authenticate"]
        repository = await admin.ask("POST", "/v2/repository/index")
        assert (repository.status_code, repository.headers["content-type"]) == (401, "application/json")
        assert (await admin.ask("GET", PLACE, bearer="reader")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"origin": "http://evil.example"}, "foreign-origin"),
        ({"origin": "null"}, "foreign-origin"),
        ({"sec-fetch-site": "cross-site"}, "foreign-origin"),
        ({"host": "evil.example"}, "foreign-host"),
        ({"host": "evil.example", "origin": "http://evil.example"}, "foreign-host"),
    ],
)
async def test_a_page_of_another_site_changes_nothing(admin: AdminClient, headers: dict[str, str], kind: str) -> None:
    for method, place in (("GET", PLACE), ("PUT", PLACE), ("POST", "/admin/v1/routes/echo/abort"), ("DELETE", PLACE)):
        answer = await admin.ask(method, place, split() if method == "PUT" else b"", headers | NEW)
        assert answer.status_code == 403
        assert answer.json()["type"] == f"urn:onnx-gateway:problem:{kind}"
        assert "access-control-allow-origin" not in answer.headers
    assert (await admin.ask("GET", PLACE)).status_code == 404
    assert (await admin.ask("GET", "/livez", headers=headers)).status_code == 200
