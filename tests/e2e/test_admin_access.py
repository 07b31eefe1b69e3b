"""Owns who is let in over real sockets: tokens off loopback, pages of other sites on it, and operators who race."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import QUICK_STOP, GatewayProcess, HttpAnswer, ask, running_gateway

PLACE = "/admin/v1/routes/raced"
SCOPES = {"read": ["read"], "write": ["read", "write"], "abort": ["abort"], "predict": ["predict"], "old": ["write"]}
BODY = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - where it may listen, with tokens, is the test


def secret(scope: str) -> str:
    return f"the-secret-of-{scope}"


def config() -> str:
    """Write settings with a token for each scope; `sre` has two that are valid at once."""
    lines = [QUICK_STOP, "[auth]", "predict = true"]
    for scope, granted in SCOPES.items():
        digest = hashlib.sha256(secret(scope).encode()).hexdigest()
        name = "sre" if scope in ("write", "old") else scope
        lines += ["[[auth.tokens]]", f'name = "{name}"', f'sha256 = "{digest}"', f"scopes = {json.dumps(granted)}"]
    return "\n".join(lines)


def bearer(scope: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret(scope)}"} if scope else {}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve one model, the admin plane on every address of the machine."""
    root = tmp_path_factory.mktemp("guarded")
    add_version(root, "echo", 1, onnx_models.identity())
    add_version(root, "echo", 2, onnx_models.affine())
    with running_gateway(root, config=config(), arguments=["--admin-host", EVERYWHERE]) as process:
        yield process
        process.stop()
        for scope in SCOPES:
            assert secret(scope) not in process.log


def call(
    gateway: GatewayProcess, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
) -> HttpAnswer:
    return ask(gateway.admin_url + path, method, body, headers)


def route(weight: int) -> dict[str, object]:
    return {
        "variants": [
            {"name": "stable", "model": "echo", "version": 1, "weight": 100 - weight},
            {"name": "challenger", "model": "echo", "version": 2, "weight": weight},
        ]
    }


@pytest.mark.parametrize(
    ("scope", "method", "path", "status"),
    [
        ("", "GET", "/livez", 200),
        ("", "GET", "/metrics", 200),
        ("", "GET", "/openapi.json", 200),
        ("", "GET", "/console", 200),
        ("", "GET", "/admin/v1/models", 401),
        ("", "POST", "/admin/v1/models/echo/versions/1/unload", 401),
        ("", "POST", "/v2/repository/models/echo/unload", 401),
        ("", "DELETE", PLACE, 401),
        ("", "GET", "/nothing", 401),
        ("unknown", "GET", "/admin/v1/models", 401),
        ("read", "GET", "/admin/v1/models", 200),
        ("read", "GET", "/nothing", 404),
        ("read", "POST", "/admin/v1/routes/echo/abort", 403),
        ("abort", "POST", "/admin/v1/routes/echo/abort", 200),
        ("abort", "POST", "/admin/v1/routes/echo/adopt", 403),
        ("write", "POST", "/admin/v1/routes/echo/abort", 200),
        ("old", "POST", "/admin/v1/routes/echo/abort", 200),
        ("old", "GET", "/admin/v1/models", 403),
        ("predict", "GET", "/admin/v1/models", 403),
    ],
)
def test_off_loopback_a_call_needs_the_token_of_its_scope(
    guarded: GatewayProcess, scope: str, method: str, path: str, status: int
) -> None:
    answer = call(guarded, method, path, headers=bearer(scope))
    assert answer.status == status, answer.body
    if status in (401, 403):
        is_protocol = path.startswith("/v2/")
        assert answer.headers["content-type"] == ("application/json" if is_protocol else "application/problem+json")
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert answer.error


@pytest.mark.parametrize(("scope", "status"), [("predict", 200), ("", 401), ("unknown", 401), ("write", 403)])
def test_a_prediction_needs_its_token_at_both_doors(guarded: GatewayProcess, scope: str, status: int) -> None:
    """A query sends a request through ASGI; without one it takes the short way."""
    for path in ("/v2/models/echo/infer", "/v2/models/echo/infer?x=1", "/v2/models/echo/versions/1/infer"):
        answer = guarded.ask(path, "POST", BODY, bearer(scope))
        assert answer.status == status
        assert answer.headers["x-request-id"]


def test_the_audit_names_the_holder_whichever_of_two_tokens_was_used(guarded: GatewayProcess) -> None:
    for scope in ("write", "old"):
        body = {"reason": f"with {scope}", "shadows": False}
        assert call(guarded, "POST", "/admin/v1/routes/echo/abort", body, bearer(scope)).status == 200
    created = call(guarded, "PUT", "/admin/v1/routes/held", route(10), bearer("old") | {"if-none-match": "*"})
    assert created.status == 201
    records = call(guarded, "GET", "/admin/v1/audit", headers=bearer("read")).json["records"]
    (record,) = [record for record in records if record["route"] == "held"]
    assert (record["actor"], record["action"]) == ("sre", "put")
    assert record["request_id"] == created.headers["x-request-id"]


@pytest.mark.parametrize(
    ("headers", "kind"),
    [
        ({"host": "evil.example"}, "foreign-host"),
        ({"host": "127.0.0.1.evil.example:8002"}, "foreign-host"),
        ({"origin": "http://evil.example"}, "foreign-origin"),
        ({"origin": "null"}, "foreign-origin"),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "foreign-origin"),
        ({"origin": "http://localhost:1"}, "foreign-origin"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/v1/models"),
        ("POST", "/admin/v1/models/digits/versions/1/unload"),
        ("PUT", "/admin/v1/routes/digits"),
        ("DELETE", "/admin/v1/routes/digits"),
        ("PATCH", "/admin/v1/routes"),
        ("POST", "/admin/v1/routes/digits/abort"),
    ],
)
def test_on_loopback_no_page_of_another_site_gets_in(
    gateway: GatewayProcess, headers: dict[str, str], kind: str, method: str, path: str
) -> None:
    answer = call(gateway, method, path, b"{}", headers)
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["type"] == f"urn:onnx-gateway:problem:{kind}"
    assert gateway.state("digits", 1) == "READY"


def test_a_request_without_a_host_or_with_two_is_no_way_around(gateway: GatewayProcess) -> None:
    for head in (
        b"GET /admin/v1/models HTTP/1.0\r\n\r\n",
        b"GET /admin/v1/models HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
        b"GET http://evil.example/admin/v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    ):
        with socket.create_connection(gateway.admin_address, timeout=10) as connection:
            connection.sendall(head)
            answer = connection.recv(65_536)
        assert answer.split()[1] in (b"400", b"403"), answer


def test_of_operators_who_race_one_wins_and_the_others_see_what_is_there(gateway: GatewayProcess) -> None:
    document = {"variants": [{"name": "stable", "model": "digits", "version": 1, "weight": 100}]}
    created = call(gateway, "PUT", PLACE, document, {"if-none-match": "*"})
    assert created.status == 201
    try:
        stated = {"if-match": created.headers["etag"]}
        documents = [document | {"routing_key_header": f"x-key-{number}"} for number in range(8)]
        with ThreadPoolExecutor(8) as operators:
            answers = list(operators.map(lambda wanted: call(gateway, "PUT", PLACE, wanted, stated), documents))
        assert sorted(answer.status for answer in answers) == [200] + [412] * 7
        (won,) = [answer for answer in answers if answer.status == 200]
        assert {answer.headers["etag"] for answer in answers} == {won.headers["etag"]}
        assert call(gateway, "GET", PLACE).json == won.json
    finally:
        call(gateway, "DELETE", PLACE, headers={"if-match": "*"})


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000, b'{"variants": 1, "variants": 2}', b"NaN"])
def test_a_body_that_cannot_be_read_is_refused_over_a_socket(gateway: GatewayProcess, body: bytes) -> None:
    answer = call(gateway, "PUT", PLACE, body, {"if-none-match": "*"})
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert call(gateway, "GET", PLACE).status == 404


def test_settings_that_would_lock_everybody_out_are_refused(tmp_path: Path) -> None:
    add_version(tmp_path, "echo", 1, onnx_models.identity())
    with pytest.raises(AssertionError, match="exit code 3"), running_gateway(tmp_path, config="[auth]\npredict = true"):
        pass
