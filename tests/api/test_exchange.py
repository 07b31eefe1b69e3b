"""Owns the promises of the data plane's addresses: what each says, which methods it takes, what it refuses and how."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from gateway import __version__
from gateway.routeplane import Actor
from tests.api.planes import Plane, data_plane
from tests.support import onnx_models
from tests.support.repositories import add_version, configure

pytestmark = pytest.mark.asyncio(loop_scope="package")

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"]
ECHO = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}


# --- descriptions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
async def test_the_server_names_only_what_it_implements(plane: Plane, path: str) -> None:
    answer = await plane.ask("GET", path)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "name": "onnx-gateway",
        "version": __version__,
        "extensions": ["binary_tensor_data", "model_configuration", "model_repository", "statistics"],
    }


async def test_health_has_a_body_for_clients_that_want_one(plane: Plane) -> None:
    """KServe's client parses it; Triton's looks at the status only."""
    assert (await plane.ask("GET", "/v2/health/live")).json == {"live": True}
    assert (await plane.ask("GET", "/v2/health/ready")).json == {"ready": True}


async def test_an_empty_repository_is_alive_and_not_ready(tmp_path: Path) -> None:
    async with data_plane(tmp_path) as empty:
        assert (await empty.ask("GET", "/v2/health/live")).status == 200
        answer = await empty.ask("GET", "/v2/health/ready")
        assert (answer.status, answer.json) == (503, {"ready": False})
        assert (await empty.ask("POST", "/v2/repository/index")).json == []
        assert (await empty.ask("GET", "/v2/models/stats")).json == {"model_stats": []}


async def test_a_stopping_plane_is_not_ready_and_still_answers(repository: Path) -> None:
    async with data_plane(repository) as stopping:
        stopping.controlplane.begin_stop()
        assert (await stopping.ask("GET", "/v2/health/ready")).status == 503
        assert (await stopping.infer("echo", ECHO)).status == 200


@pytest.mark.parametrize(("path", "versions"), [("", ["1", "2"]), ("/versions/1", ["1"]), ("/versions/2", ["2"])])
async def test_a_models_metadata_names_the_versions_one_may_pin(plane: Plane, path: str, versions: list[str]) -> None:
    tensor = {"datatype": "FP32", "shape": [-1, 3]}
    assert (await plane.ask("GET", f"/v2/models/echo{path}")).json == {
        "name": "echo",
        "versions": versions,
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", **tensor}],
        "outputs": [{"name": "y", **tensor}],
    }


@pytest.mark.parametrize("path", ["", "/versions/1"])
async def test_a_models_configuration_leaves_the_rows_out_of_its_dims(plane: Plane, path: str) -> None:
    configuration = (await plane.ask("GET", f"/v2/models/several{path}/config")).json
    assert configuration["name"] == "several"
    assert configuration["max_batch_size"] == 64
    assert [(entry["name"], entry["data_type"], entry["dims"]) for entry in configuration["input"]] == [
        ("x", "TYPE_FP32", [3]),
        ("w", "TYPE_INT64", [1]),
    ]
    assert (await plane.ask("GET", "/v2/models/text/config")).json["input"][0]["data_type"] == "TYPE_STRING"


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ("", {"all": {}}),
        ("versions = {latest = 2}", {"latest": {"num_versions": 2}}),
        ("versions = [1, 3]", {"specific": {"versions": [1, 3]}}),
    ],
)
async def test_a_models_configuration_says_what_its_owner_decided(
    tmp_path: Path, settings: str, policy: dict[str, object]
) -> None:
    batching = "[batching]\nmax_rows = 8\nmax_queue_delay_ms = 1.5\n"
    for name, model in (("shares", onnx_models.identity()), ("alone", onnx_models.mean_centred())):
        add_version(tmp_path, name, 1, model)
        configure(tmp_path, name, f"{settings}\n{batching}")
    async with data_plane(tmp_path) as plane:
        shares, alone = [(await plane.ask("GET", f"/v2/models/{name}/config")).json for name in ("shares", "alone")]
    assert shares["version_policy"] == policy
    assert shares["max_batch_size"] == 8
    assert shares["dynamic_batching"]["max_queue_delay_microseconds"] == 1500
    assert "dynamic_batching" not in alone


@pytest.mark.parametrize("path", ["/v1/models", "/v2/models"])
async def test_the_list_of_models_names_what_can_be_asked_for(plane: Plane, path: str) -> None:
    names = (await plane.ask("GET", path)).json["models"]
    assert names == sorted(names)
    assert {"echo", "text"} < set(names)
    assert not {"broken", "waiting"} & set(names)


async def test_statistics_count_what_was_answered(plane: Plane) -> None:
    async def counted(path: str) -> dict[str, dict[str, Any]]:
        statistics = (await plane.ask("GET", path)).json["model_stats"]
        return {f"{entry['name']}:{entry['version']}": entry for entry in statistics}

    before = await counted("/v2/models/stats")
    for _ in range(3):
        assert (await plane.infer("echo", ECHO)).status == 200
    assert (await plane.infer("echo", ECHO, version=1)).status == 200
    after = await counted("/v2/models/stats")
    assert after.keys() >= {"echo:1", "echo:2", "text:1"}
    assert "broken:1" not in after
    for version, requests in (("echo:1", 1), ("echo:2", 3), ("text:1", 0)):
        assert after[version]["inference_count"] - before[version]["inference_count"] == requests
        assert after[version]["inference_stats"].keys() == {
            *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
        }
    assert (await counted("/v2/models/echo/stats")).keys() == {"echo:1", "echo:2"}
    assert (await counted("/v2/models/echo/versions/1/stats")).keys() == {"echo:1"}


@pytest.mark.parametrize("path", ["/v2/models/echo/ready", "/v2/models/echo/versions/1/ready"])
async def test_a_ready_model_says_so(plane: Plane, path: str) -> None:
    answer = await plane.ask("GET", path)
    assert (answer.status, answer.json) == (200, {"name": "echo", "ready": True})


# --- a route that is no model ---------------------------------------------------------------------------


async def test_a_route_that_is_no_model_answers_for_its_first_variant_under_its_own_name(repository: Path) -> None:
    variants = [
        {"name": "doubled", "model": "echo", "version": 2, "weight": 100},
        {"name": "plain", "model": "echo", "version": 1, "weight": 0},
    ]
    async with data_plane(repository) as plane:
        await plane.routeplane.put("loud", {"variants": variants}, if_match=None, must_be_new=True, by=Actor("ana"))
        answer = await plane.infer("loud", ECHO)
        assert (answer.json["model_name"], answer.json["model_version"]) == ("loud", "2")
        assert (answer.headers["x-gateway-variant"], answer.headers["x-gateway-model"]) == ("doubled", "echo:2")
        metadata = (await plane.ask("GET", "/v2/models/loud")).json
        assert (metadata["name"], metadata["versions"]) == ("loud", ["2"])
        assert (await plane.ask("GET", "/v2/models/loud/ready")).json == {"name": "loud", "ready": True}
        assert (await plane.ask("GET", "/v2/models/loud/config")).json["name"] == "loud"
        (statistics,) = (await plane.ask("GET", "/v2/models/loud/stats")).json["model_stats"]
        assert (statistics["name"], statistics["version"]) == ("loud", "2")
        assert "loud" in (await plane.ask("GET", "/v2/models")).json["models"]
        for action in ("", "/ready", "/config", "/stats"):
            assert (await plane.ask("GET", f"/v2/models/loud/versions/2{action}")).status == 404
        assert (await plane.ask("POST", "/v2/models/loud/versions/2/infer", ECHO)).status == 404


# --- what is not there ----------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["broken", "waiting"])
@pytest.mark.parametrize("pinned", ["", "/versions/1"])
@pytest.mark.parametrize("action", ["", "/config", "/stats", "/infer"])
async def test_a_known_model_that_is_not_ready_says_when_to_try_again(
    plane: Plane, model: str, pinned: str, action: str
) -> None:
    method = "POST" if action == "/infer" else "GET"
    answer = await plane.ask(method, f"/v2/models/{model}{pinned}{action}", ECHO)
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) > 0
    assert model in answer.error
    assert ("FAILED" if model == "broken" else "LOADING") in answer.error


@pytest.mark.parametrize("pinned", ["", "/versions/1"])
async def test_readiness_of_a_model_that_is_not_ready_is_503(plane: Plane, pinned: str) -> None:
    answer = await plane.ask("GET", f"/v2/models/broken{pinned}/ready")
    assert (answer.status, answer.json) == (503, {"name": "broken", "ready": False})


@pytest.mark.parametrize("action", ["", "/ready", "/config", "/stats", "/infer"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nobody", "no model or route 'nobody'"),
        ("nobody/versions/1", "no model 'nobody'"),
        ("echo/versions/3", "model 'echo' has no version 3 (READY versions: 1, 2)"),
        ("echo/versions/0", "model 'echo' has no version 0"),
        ("broken/versions/2", "model 'broken' has no version 2 (no version of it is READY)"),
        ("echo/versions/" + "9" * 18, "has no version 999999999999999999"),
        ("echo/versions/" + "9" * 19, "model 'echo' has no version 9999999999999999999"),
        ("echo/versions/" + "9" * 5000, "has no version 9999999999"),
        ("\N{SNOWMAN}", "no model or route"),
    ],
)
async def test_an_unknown_name_is_404_whatever_is_asked_of_it(plane: Plane, path: str, said: str, action: str) -> None:
    """Before anything else is looked at: the body here is no request at all."""
    answer = await plane.ask("POST" if action == "/infer" else "GET", f"/v2/models/{path}{action}", b"{")
    assert answer.status == 404
    assert said in answer.error
    assert len(answer.error) < 500


@pytest.mark.parametrize(
    "path",
    [
        *("", "x", "/v3", "/V2", "/v2//", "/v2/health", "/v2/health/", "/v2/health/live/", "/v2/health/dead"),
        *("/v2/model", "/v2/models/", "/v2/models/echo/", "/v2/models/echo/readyz", "/v2/models/echo/ready/"),
        *("/v2/models/echo/versions", "/v2/models/echo/versions/", "/v2/models/echo/versions/x", "/v2/models//infer"),
        *("/v2/models/echo/versions/1.0", "/v2/models/echo/versions/-1", "/v2/models/echo/versions/+1"),
        *("/v2/models/echo/versions/\N{SUPERSCRIPT ONE}", "/v2/models/echo/versions/\N{ARABIC-INDIC DIGIT ONE}"),
        *("/v2/models/echo/versions/1/", "/v2/models/echo/versions/1/x", "/v2/models/echo/versions/1/ready/x"),
        *("/v2/models/echo/versions/infer", "/v2/models/echo/versions//infer", "/v2/models/echo/versions/x/infer"),
        *("/v2/models/echo/version/1/infer", "/v2/models/echo/a/b/infer", "/v2/models/echo/a/infer", "/infer"),
        *("/v2/models/echo/infer/", "/v2/models/echo/infer/infer", "/v2/infer", "//v2/models/echo/infer"),
        *("/v2/repository", "/v2/repository/", "/v2/repository/index/", "/v2/repository/models", "/v2/trace"),
        *("/v2/repository/models/echo", "/v2/repository/models/echo/reload", "/v2/repository/models/echo/load/x"),
        *("/v2/logging/", "/metrics", "/admin/v1/models", "/livez", "/favicon.ico", "/" + "x" * 10_000, "/\0"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_address_that_is_none_is_404_and_never_a_redirect(plane: Plane, path: str, method: str) -> None:
    answer = await plane.ask(method, path, ECHO)
    if answer.status == 405:  # it has the form of an address, and another method would say that it is none
        answer = await plane.ask(answer.headers["allow"], path, ECHO)
    assert answer.status == 404
    assert len(answer.error) < 500


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/trace/setting", "/v2/models/echo/trace/setting", "/v2/logging", "/v2/models/echo/generate"),
        *("/v2/models/echo/generate_stream", "/v2/systemsharedmemory/status", "/v2/cudasharedmemory/region/r/register"),
        *("/v2/systemsharedmemory", "/v2/repository/r/index", "/v2/repository/r/models/echo/load"),
    ],
)
async def test_an_extension_that_is_not_implemented_is_501(plane: Plane, path: str) -> None:
    """And not advertised: clients fall back cleanly."""
    for method in ("GET", "POST"):
        assert (await plane.ask(method, path, {})).status == 501


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        *((path, "GET") for path in ("/v2", "/v2/", "/v2/health/live", "/v2/health/ready", "/v2/models/stats")),
        *((f"/v2/models/echo{tail}", "GET") for tail in ("", "/ready", "/config", "/stats")),
        *((f"/v2/models/echo/versions/1{tail}", "GET") for tail in ("", "/ready", "/config", "/stats")),
        ("/openapi.json", "GET"),
        ("/v2/models/echo/infer", "POST"),
        ("/v2/models/echo/versions/1/infer", "POST"),
        ("/v2/models/nobody/infer", "POST"),
        ("/v2/repository/index", "POST"),
        ("/v2/repository/models/echo/load", "POST"),
        ("/v2/repository/models/echo/unload", "POST"),
    ],
)
async def test_another_method_is_405_and_names_the_right_one(plane: Plane, path: str, allowed: str) -> None:
    for method in METHODS:
        if method != allowed:
            answer = await plane.ask(method, path, {})
            assert (answer.status, answer.headers["allow"]) == (405, allowed), method
            assert method in answer.error


# --- the repository extension ---------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready": false}', b'{"unknown": 1}'])
async def test_the_index_lists_every_version_with_its_state(plane: Plane, body: bytes) -> None:
    entries = (await plane.ask("POST", "/v2/repository/index", body)).json
    listed = {(entry["name"], entry["version"]): (entry["state"], "reason" in entry) for entry in entries}
    assert listed["echo", "1"] == listed["echo", "2"] == ("READY", False)
    assert listed["broken", "1"] == ("UNAVAILABLE", True)
    assert listed["waiting", "1"] == ("LOADING", True)


async def test_the_index_may_list_what_is_ready_only(plane: Plane) -> None:
    entries = (await plane.ask("POST", "/v2/repository/index", {"ready": True})).json
    assert {entry["state"] for entry in entries} == {"READY"}


@pytest.mark.parametrize("body", [b"{", b"[]", b"null", b'{"ready": 1}', b'{"ready": "true"}', b"\xff", b"[" * 5000])
async def test_the_index_takes_no_other_body(plane: Plane, body: bytes) -> None:
    answer = await plane.ask("POST", "/v2/repository/index", body)
    assert answer.status == 400
    assert "not what this call takes" in answer.error


@pytest.mark.parametrize("action", ["load", "unload"])
async def test_loading_is_forbidden_here_unless_switched_on(plane: Plane, action: str) -> None:
    answer = await plane.ask("POST", f"/v2/repository/models/echo/{action}")
    assert answer.status == 403
    assert "admin port" in answer.error
    assert (await plane.infer("echo", ECHO)).status == 200


async def test_a_model_can_be_unloaded_and_loaded_again(tmp_path: Path) -> None:
    add_version(tmp_path, "echo", 1, onnx_models.identity())
    async with data_plane(tmp_path, repository_control=True) as plane:
        unload = {"parameters": {"unload_dependents": False}}
        answer = await plane.ask("POST", "/v2/repository/models/echo/unload", unload)
        assert (answer.status, answer.body) == (200, b"")
        for _ in range(100):  # nobody is left inside: a few turns of the loop are enough
            await asyncio.sleep(0)
        (entry,) = (await plane.ask("POST", "/v2/repository/index")).json
        assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", "unloaded")
        for path in ("/v2/models/echo/infer", "/v2/models/echo/versions/1/infer"):
            answer = await plane.ask("POST", path, ECHO)
            assert answer.status == 404
            assert "echo" in answer.error
        for body in (b"", b"{}", b'{"parameters": {}}'):  # again is no fault
            answer = await plane.ask("POST", "/v2/repository/models/echo/load", body)
            assert (answer.status, answer.body) == (200, b"")
        assert (await plane.infer("echo", ECHO)).status == 200


@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"parameters": {"config": "{}"}}', "'config' is not supported"),
        (b'{"parameters": {"file:1/model.onnx": "AAAA"}}', "'file:1/model.onnx' is not supported"),
        (b'{"parameters": []}', "not what this call takes"),
        (b"[]", "not what this call takes"),
        (b"\x00", "not what this call takes"),
    ],
)
async def test_loading_takes_no_other_body(repository: Path, action: str, body: bytes, said: str) -> None:
    async with data_plane(repository, repository_control=True) as plane:
        answer = await plane.ask("POST", f"/v2/repository/models/echo/{action}", body)
        assert answer.status == 400
        assert said in answer.error
        assert (await plane.infer("echo", ECHO)).status == 200


@pytest.mark.parametrize("name", ["nobody", "stats", "..", "", "a b", "\0"])
async def test_loading_what_is_not_there_is_404(repository: Path, name: str) -> None:
    async with data_plane(repository, repository_control=True) as plane:
        for action in ("load", "unload"):
            answer = await plane.ask("POST", f"/v2/repository/models/{name}/{action}")
            assert answer.status == 404
            assert f"'{name}'" in answer.error


async def test_a_load_that_fails_says_why(repository: Path) -> None:
    async with data_plane(repository, repository_control=True) as plane:
        answer = await plane.ask("POST", "/v2/repository/models/broken/load")
        assert answer.status == 400
        assert answer.error.startswith("broken:1: ")


async def test_a_fault_of_ours_is_answered_and_logged(plane: Plane, caplog: pytest.LogCaptureFixture) -> None:
    """No client reads the plain text that a server writes when its application ends with a traceback."""
    no_bytes = cast("bytes", 7)
    for path in ("/v2/repository/index", "/v2/models/echo/infer"):
        response = await plane.exchange.answer("POST", path, [(b"x-request-id", b"mine")], no_bytes)
        assert response.status == 500
        assert json.loads(response.body) == {"error": "the gateway failed (TypeError); request id mine"}
    assert [record.message for record in caplog.records] == ["request_crashed"] * 2
