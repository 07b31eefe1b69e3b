"""Owns the promise that both descriptions are valid and true: what they list is served, what is answered they declare.

The tests of the exchange hold each of their answers to the description, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from fastapi.openapi.models import OpenAPI

from gateway.api.admin_openapi import admin_description
from gateway.api.openapi import data_description
from tests.api.admin_client import AdminClient, admin_client
from tests.api.descriptions import Description
from tests.api.planes import Plane, data_plane
from tests.support import onnx_models
from tests.support.repositories import add_version

pytestmark = pytest.mark.asyncio(loop_scope="package")

DATA, ADMIN = Description(data_description()), Description(admin_description())
VALUES = {"model": "echo", "version": "1", "route": "echo"}
BODIES = {
    "/infer": {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]},
    ":predict": {"instances": [[1, 2, 3]]},
}


def filled(path: str) -> str:
    """Return a path with the names of what is loaded in it."""
    return re.sub(r"\{(\w+)\}", lambda match: VALUES[match[1]], path)


def body_for(path: str) -> object:
    return next((body for end, body in BODIES.items() if path.endswith(end)), {})


SPLIT = {
    "variants": [
        {"name": "stable", "model": "echo", "version": 1, "weight": 90},
        {"name": "challenger", "model": "echo", "version": 2, "weight": 10},
    ]
}
ADMIN_BODIES: dict[str, object] = {
    "PUT /admin/v1/routes/{route}": SPLIT,
    "POST /admin/v1/routes/{route}/validate": SPLIT,
    "POST /admin/v1/routes/{route}/shift": {"weights": {"challenger": 30}},
}


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def admin(repository: Path) -> AsyncIterator[AdminClient]:
    """Ask a replica of its own, with a route to go back on."""
    async with data_plane(repository) as plane, admin_client(plane) as client:
        await client.ask("PUT", "/admin/v1/routes/echo", SPLIT, {"if-match": "*"})
        yield client


@pytest.mark.parametrize("described", [DATA, ADMIN], ids=["data", "admin"])
async def test_the_description_is_openapi(described: Description) -> None:
    """As FastAPI's model of it reads it, which comes with KServe."""
    document = described.document
    assert document["openapi"] == "3.1.0"
    OpenAPI.model_validate(document)
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("described", [DATA, ADMIN], ids=["data", "admin"])
async def test_every_path_declares_its_parameters_and_every_answer_its_form(described: Description) -> None:
    forms = described.document["components"]["schemas"]
    for path, method, operation in described.calls():
        item = described.document["paths"][path]
        declared = [parameter["name"] for parameter in item.get("parameters", ()) if parameter["in"] == "path"]
        assert declared == re.findall(r"\{(\w+)\}", path)
        assert operation["summary"]
        assert operation["responses"].keys() & {"200", "204"}
        for status, response in operation["responses"].items():
            assert re.fullmatch("[2-5][0-9][0-9]", status)
            assert response["description"]
            media_types = {"application/problem+json", "application/json"}
            assert status < "300" or response["content"].keys() <= media_types, (path, method, status)
            assert not path.startswith("/v2/") or "application/problem+json" not in response.get("content", {})
    used = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described.document)))
    assert used == forms.keys()


async def test_every_call_names_the_scopes_that_open_it() -> None:
    """Taken from the rules themselves; a call that is always open says so."""
    scopes = {
        f"{method} {path}": sorted(scope for choice in operation["security"] for scope in choice.get("token", ()))
        for path, method, operation in ADMIN.calls()
    }
    assert [call for call, found in scopes.items() if not found] == [
        f"GET {path}" for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/console")
    ]
    assert scopes["GET /admin/v1/routes"] == ["read"]
    assert scopes["PUT /admin/v1/routes/{route}"] == ["write"]
    assert scopes["POST /admin/v1/routes/{route}/abort"] == ["abort", "write"]
    infer = DATA.document["paths"]["/v2/models/{model}/infer"]["post"]
    assert infer["security"] == [{"token": ["predict"]}, {}]


@pytest.mark.parametrize(("path", "method"), [call[:2] for call in DATA.calls()])
async def test_every_call_of_the_data_plane_is_served(plane: Plane, path: str, method: str) -> None:
    """The plane holds the answer to its declared form."""
    answer = await plane.ask(method, filled(path), body_for(path))
    allowed = 403 if path.endswith(("/load", "/unload")) else 200
    assert answer.status == allowed, answer.body


@pytest.mark.parametrize(
    ("path", "method"), [call[:2] for call in ADMIN.calls() if not call[0].endswith(("/unload", "/baseline"))]
)
async def test_every_call_of_the_admin_plane_is_served(admin: AdminClient, path: str, method: str) -> None:
    """The client holds the answer to its declared form."""
    body = ADMIN_BODIES.get(f"{method} {path}", {} if method == "POST" else b"")
    place = filled(path) if method != "DELETE" else filled(path).replace("echo", "text")
    response = await admin.ask(method, place, body, {"if-match": "*"} if "{route}" in path else {})
    assert response.status_code in (200, 204), response.text


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("POST", "/admin/v1/models/nobody/versions/1/load", b"", 404),
        ("POST", "/admin/v1/models/nobody/versions/1/unload", b"", 404),
        ("POST", "/admin/v1/models/echo/versions/9/load", b"", 404),
        ("POST", "/admin/v1/models/echo/versions/9/unload", b"", 404),
        ("POST", "/admin/v1/models/echo/versions/x/load", b"", 404),
        ("POST", "/admin/v1/models/echo/versions/" + "9" * 19 + "/load", b"", 404),
        ("POST", "/admin/v1/models/broken/versions/1/load", b"", 400),
        ("POST", "/v2/repository/models/nobody/load", b"", 404),
        ("POST", "/v2/repository/models/nobody/unload", b"{}", 404),
        ("POST", "/v2/repository/models/broken/load", b"", 400),
        ("POST", "/v2/repository/models/echo/load", b"[]", 400),
        ("POST", "/v2/repository/models/echo/load", b" " * 1_048_577, 413),
        ("POST", "/v2/repository/index", b"{", 400),
        ("POST", "/v2/repository/nothing", b"", 404),
        ("GET", "/v2/repository/index", b"", 405),
        ("POST", "/livez", b"", 405),
        ("PUT", "/admin/v1/models", b"", 405),
        ("GET", "/admin/v1/models/echo/versions/1/load", b"", 405),
        ("POST", "/admin/v1/models/echo/versions/1/reload", b"", 404),
        ("GET", "/livez/", b"", 404),
        ("GET", "/nothing", b"", 404),
    ],
)
async def test_every_refusal_of_the_admin_plane_is_declared(
    admin: AdminClient, method: str, path: str, content: bytes, status: int
) -> None:
    response = await admin.ask(method, path, content)
    assert response.status_code == status
    assert response.json()["error"]
    is_protocol = path.startswith("/v2/")
    assert response.headers["content-type"] == ("application/json" if is_protocol else "application/problem+json")
    assert ("allow" in response.headers) == (status == 405)


async def test_a_version_can_be_unloaded_and_loaded_again(tmp_path: Path) -> None:
    add_version(tmp_path, "echo", 1, onnx_models.identity())
    async with data_plane(tmp_path) as plane, admin_client(plane) as client:
        for path, state in (
            ("/admin/v1/models/echo/versions/1/unload", {"DRAINING", "UNLOADED"}),
            ("/admin/v1/models/echo/versions/1/load", {"READY"}),
            ("/v2/repository/models/echo/unload", {"DRAINING", "UNLOADED"}),
            ("/v2/repository/models/echo/load", {"READY"}),
        ):
            assert (await client.ask("POST", path)).status_code == 200
            (model,) = (await client.ask("GET", "/admin/v1/models")).json()["models"]
            assert {version["state"] for version in model["versions"]} <= state
            assert (await client.ask("GET", "/readyz")).status_code == (200 if state == {"READY"} else 503)


@pytest.mark.parametrize(
    ("method", "path", "status", "content_type", "body"),
    [
        ("GET", "/v2", 200, "application/json", {"name": "x"}),
        ("GET", "/v2", 418, "application/json", {"error": "x"}),
        ("GET", "/v2", 200, "text/plain", {}),
        ("GET", "/v2/health/live", 200, "application/json", {"live": 1}),
        ("GET", "/v2/health/ready", 503, "application/json", {}),
        ("GET", "/v2/models/a", 404, "application/json", {"error": 1}),
        ("POST", "/v2/models/a/infer", 200, "application/json", {"id": "", "model_name": "", "outputs": []}),
        ("GET", "/v2/models/a/infer", 200, "application/json", {}),
        ("GET", "/nowhere", 200, "application/json", {}),
        ("POST", "/v2/repository/index", 200, "application/json", [{"name": "a", "version": "1", "state": "FINE"}]),
        ("POST", "/v2/repository/models/a/load", 200, "application/json", {}),
    ],
)
async def test_an_answer_that_is_not_declared_would_be_noticed(
    method: str, path: str, status: int, content_type: str, body: object
) -> None:
    with pytest.raises(AssertionError, match=re.escape(path)):
        DATA.check(method, path, status, content_type, json.dumps(body).encode())
