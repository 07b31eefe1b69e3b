"""The admin plane over its socket: what it says of models, and how it refuses."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest

from tests.e2e.clients import curl
from tests.support.server import EXAMPLE_MODELS, GatewayProcess

FILES = sorted(EXAMPLE_MODELS.glob("*/*/model.onnx"))


@pytest.mark.parametrize("file", FILES, ids=[f"{file.parts[-3]}:{file.parts[-2]}" for file in FILES])
def test_a_ready_version_is_described_by_what_lies_on_the_disk(gateway: GatewayProcess, file: Path) -> None:
    described = gateway.versions(file.parts[-3])[int(file.parts[-2])]
    content = file.read_bytes()
    manifest = tomllib.loads(file.with_name("manifest.toml").read_text())
    assert (described["state"], described["reason"]) == ("READY", "")
    assert described["sha256"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert described["memory"]["file_bytes"] == len(content)
    assert described["providers"] == ["cpu"]
    assert (described["instances"], described["intra_op_threads"]) == (1, 1)
    assert described["load_s"] > 0
    assert described["batching"]["queued_rows"] == 0
    for key in ("created", "data", "source", "metrics"):
        assert described["manifest"][key] == manifest[key]
    assert {tensor["axes"][0] for side in described["signature"].values() for tensor in side} == {"rows"}


def test_metrics_and_probes_say_what_they_are(gateway: GatewayProcess) -> None:
    assert gateway.ask_admin("/metrics").headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    for path in ("/livez", "/readyz", "/openapi.json", "/admin/v1/models"):
        assert gateway.ask_admin(path).headers["content-type"] == "application/json"
    assert gateway.metric("gateway_build_info") == 1


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/", "GET", None, 404),
        ("/v2/models/digits", "GET", None, 404),
        ("/admin/v1/models/", "GET", None, 404),
        ("/admin/v1/models", "POST", None, 405),
        ("/admin/v1/models/digits/versions/1/load", "GET", None, 405),
        ("/admin/v1/models/digits/versions/1/restart", "POST", None, 404),
        ("/admin/v1/models/digits/versions/one/load", "POST", None, 404),
        ("/v2/repository/index", "GET", None, 405),
        ("/v2/repository/index", "POST", b"[", 400),
        ("/v2/repository/index", "POST", b" " * 1_048_577, 413),
        ("/v2/repository/models/digits/load", "POST", b'{"parameters": {"config": "{}"}}', 400),
        ("/v2/repository/elsewhere/index", "POST", None, 501),
    ],
)
def test_every_refusal_is_one_that_clients_can_read(
    gateway: GatewayProcess, path: str, method: str, body: bytes | None, status: int
) -> None:
    answer = gateway.ask_admin(path, method, body)
    assert answer.status == status
    is_protocol = path.startswith("/v2/")
    assert answer.headers["content-type"] == ("application/json" if is_protocol else "application/problem+json")
    assert answer.error


def test_the_admin_plane_answers_no_predictions(gateway: GatewayProcess) -> None:
    assert curl(f"{gateway.admin_url}/v2/models/digits/infer", body=b"{}").status == 404
    assert gateway.ask("/metrics").status == 404
    assert gateway.ask("/admin/v1/models").status == 404
