"""Holds the data plane to its tokens: where the settings ask for one nobody predicts, loads or chooses without."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.api.auth import DataAccess
from gateway.settings import AuthSettings, Scope, TokenSettings
from tests.api.planes import Plane, data_plane
from tests.support import onnx_models
from tests.support.repositories import add_version

BODY = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
COMPRESSED = gzip.compress(json.dumps(BODY).encode())


def token(scope: Scope) -> TokenSettings:
    return TokenSettings(name=scope, sha256=hashlib.sha256(scope.encode()).hexdigest(), scopes=(scope,))


def bearer(scope: str) -> dict[str, str]:
    return {"authorization": f"Bearer {scope}"} if scope else {}


@pytest_asyncio.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    """Serve one model to holders of tokens."""
    add_version(tmp_path, "echo", 1, onnx_models.identity())
    auth = AuthSettings(tokens=(token("predict"), token("override"), token("read"), token("write")), predict=True)
    async with data_plane(tmp_path, repository_control=True, access=DataAccess(auth, "127.0.0.1")) as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("scope", "status"), [("predict", 200), ("", 401), ("unknown", 401), ("write", 403), ("override", 403)]
)
async def test_a_prediction_needs_the_scope_predict_on_every_way(plane: Plane, scope: str, status: int) -> None:
    given = bearer(scope)
    for path, body, more in (
        ("/v2/models/echo/infer", BODY, {}),
        ("/v2/models/echo/versions/1/infer", BODY, {}),
        ("/v1/models/echo:predict", {"instances": [[1, 2, 3]]}, {}),
        ("/v2/models/echo/infer", COMPRESSED, {"content-encoding": "gzip"}),
    ):
        answer = await plane.ask("POST", path, body, given | more)
        assert answer.status == status, answer.body
        assert ("www-authenticate" in answer.headers) == (status in (401, 403))


async def test_without_a_token_nobody_learns_which_models_there_are_by_predicting(plane: Plane) -> None:
    assert (await plane.infer("nobody", BODY)).status == 401
    assert (await plane.infer("nobody", COMPRESSED, {"content-encoding": "gzip"})).status == 401
    assert (await plane.infer("echo", b"no gzip", {"content-encoding": "gzip"})).status == 401
    assert (await plane.infer("nobody", BODY, bearer("predict"))).status == 404


async def test_metadata_and_health_stay_open(plane: Plane) -> None:
    for path in ("/v2", "/v2/health/ready", "/v2/models/echo", "/v1/models/echo", "/openapi.json"):
        assert (await plane.ask("GET", path)).status == 200


@pytest.mark.parametrize(("scope", "status"), [("write", 200), ("", 401), ("read", 403), ("predict", 403)])
async def test_a_load_needs_the_scope_write(plane: Plane, scope: str, status: int) -> None:
    """As on the admin port: the data port would else be the way around it."""
    answer = await plane.ask("POST", "/v2/repository/models/echo/load", b"", bearer(scope))
    assert answer.status == status
    assert (await plane.ask("POST", "/v2/repository/index", b"")).status == 200


async def test_choosing_a_variant_needs_the_scope_override_where_there_are_tokens(tmp_path: Path) -> None:
    add_version(tmp_path, "echo", 1, onnx_models.identity())
    auth = AuthSettings(tokens=(token("override"), token("write")))
    async with data_plane(tmp_path, access=DataAccess(auth, "127.0.0.1")) as plane:
        for scope, status in (("override", 200), ("write", 403), ("", 403), ("unknown", 403)):
            answer = await plane.infer("echo", BODY, bearer(scope) | {"x-gateway-variant": "stable"})
            assert answer.status == status
            assert answer.headers.get("x-gateway-assigned-by") == ("override" if status == 200 else None)
            assert (await plane.infer("echo", BODY, bearer(scope))).status == 200


async def test_choosing_a_variant_is_closed_to_strangers_off_loopback(tmp_path: Path) -> None:
    add_version(tmp_path, "echo", 1, onnx_models.identity())
    async with data_plane(tmp_path, access=DataAccess(AuthSettings(), "192.0.2.1")) as plane:
        answer = await plane.infer("echo", BODY, {"x-gateway-variant": "stable"})
        assert answer.status == 403
        assert "scope 'override'" in answer.error
