"""A repository written for Triton opens unchanged: its own client finds what the configurations promise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.e2e.traffic import await_queue
from tests.e2e.wire import RawSocket, infer_path, json_body, request_bytes
from tests.support import onnx_models
from tests.support.repositories import configure
from tests.support.server import GatewayProcess, eventually, running_gateway

RESHAPED = """
name: "reshaped"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  {
    name: "x"
    data_type: TYPE_FP32
    format: FORMAT_NONE
    dims: [ 2, 2 ]
    reshape { shape: [ 4 ] }
  }
]
output [
  {
    name: "y"
    data_type: TYPE_FP32
    dims: [ 1, 4 ]
    reshape { shape: [ 4 ] }
  }
]
version_policy: { specific { versions: [ 1, 3 ] } }
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
  default_queue_policy { max_queue_size: 16 default_timeout_microseconds: 20000000 }
}
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
optimization { graph { level: 1 } }
model_warmup [
  {
    name: "two rows"
    batch_size: 2
    inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 2, 2 ] random_data: true } }
  }
]
"""

UNSUPPORTED = """
backend: "onnxruntime"
max_batch_size: 4
response_cache { enable: true }
dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }
instance_group [ { kind: KIND_CPU rate_limiter { resources [ { name: "R" count: 1 } ] } } ]
model_transaction_policy { decoupled: false }
"""

NO_BATCHES = """
max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 3 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 3 ] }
default_model_filename: "net.onnx"
"""

BOUNDED = """
max_batch_size: 4
dynamic_batching { default_queue_policy { max_queue_size: 1 } }
"""

FAILING = {
    "pipeline": (
        'platform: "ensemble" ensemble_scheduling { }',
        "field 'ensemble_scheduling': ensembles are not supported",
    ),
    "scripted": (
        'backend: "python"',
        "field 'backend' is 'python', expected 'onnxruntime': only ONNX models are served",
    ),
    "misspelt": (
        "max_batch_size: 4\ninptu { }",
        "line 2: field 'inptu' of ModelConfig: unknown 'inptu', did you mean 'input'?",
    ),
    "misfit": (
        'max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 5 }',
        "config.pbtxt: input 'x' has dims [5] after the rows, the file says [rows, 3]",
    ),
    "elsewhere": (
        "instance_group { kind: KIND_GPU }",
        "execution provider 'cuda' is not part of the installed onnxruntime",
    ),
}
"""Configurations that cannot be honoured, and why."""


def add(repository: Path, name: str, text: str, *versions: int, model: bytes, file: str = "model.onnx") -> None:
    for version in versions:
        folder = repository / name / str(version)
        folder.mkdir(parents=True)
        (folder / file).write_bytes(model)
    (repository / name / "config.pbtxt").write_text(text)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a repository as Triton's documentation does: no manifest, no model.toml."""
    root = tmp_path_factory.mktemp("triton")
    add(root, "reshaped", RESHAPED, 1, 2, 3, model=onnx_models.affine(4))
    add(root, "unsupported", UNSUPPORTED, 1, model=onnx_models.affine())
    add(root, "no_batches", NO_BATCHES, 1, model=onnx_models.affine(), file="net.onnx")
    add(root, "bounded", BOUNDED, 1, model=onnx_models.slow_on_demand(2000))
    add(root, "unsaid", "", 1, 2, model=onnx_models.affine())
    for name, (text, _) in FAILING.items():
        add(root, name, text, 1, model=onnx_models.affine())
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[GatewayProcess]:
    with running_gateway(repository) as process:
        loaded = {"reshaped": 3, "unsupported": 1, "no_batches": 1, "bounded": 1, "unsaid": 2}
        for name, version in loaded.items():
            eventually(lambda: process.state(name, version) == "READY", what=f"{name}:{version}")  # noqa: B023 - called at once
        yield process


@pytest.fixture
def client(server: GatewayProcess) -> Iterator[Any]:
    with closing(triton.InferenceServerClient(server.data_url.removeprefix("http://"))) as found:
        yield found


def tensor(name: str, values: np.typing.NDArray[np.float32]) -> Any:  # noqa: ANN401 - tritonclient ships no types
    found = triton.InferInput(name, list(values.shape), "FP32")
    found.set_data_from_numpy(values)
    return found


# --- what Triton's client finds ----------------------------------------------------------------------------


def test_its_client_is_answered_in_the_declared_shapes(client: triton.InferenceServerClient) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    answer = client.infer("reshaped", [tensor("x", x)], outputs=[triton.InferRequestedOutput("y")])
    np.testing.assert_array_equal(answer.as_numpy("y"), 2 * x.reshape(3, 1, 4) + 1)
    assert answer.get_response()["model_version"] == "3"
    pinned = client.infer("reshaped", [tensor("x", x)], model_version="1")
    assert pinned.get_response()["model_version"] == "1"


def test_a_request_in_the_files_own_shape_is_refused_with_the_declared_one(
    client: triton.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException, match=r"has shape \[1, 4\], expected \[rows, 2, 2\]"):
        client.infer("reshaped", [tensor("x", np.zeros((1, 4), np.float32))])


def test_its_client_reads_the_configuration_as_it_applies(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("reshaped")
    metadata = client.get_model_metadata("reshaped")
    assert config["max_batch_size"] == 8
    (given,), (answered,) = config["input"], config["output"]
    assert (given["dims"], given["reshape"], given["data_type"]) == ([2, 2], {"shape": [4]}, "TYPE_FP32")
    assert (answered["dims"], answered["reshape"]) == ([1, 4], {"shape": [4]})
    assert [one["shape"] for one in (*metadata["inputs"], *metadata["outputs"])] == [[-1, 2, 2], [-1, 1, 4]]
    assert config["version_policy"] == {"specific": {"versions": [1, 3]}}
    assert metadata["versions"] == ["1", "3"]
    batching = config["dynamic_batching"]
    assert batching["preferred_batch_size"] == [4, 8]
    assert batching["max_queue_delay_microseconds"] == 100
    assert batching["default_queue_policy"]["max_queue_size"] == 16
    assert batching["default_queue_policy"]["default_timeout_microseconds"] == 20_000_000
    (group,) = config["instance_group"]
    assert (group["count"], group["kind"]) == (2, "KIND_CPU")
    assert config["parameters"] == {"intra_op_thread_count": {"string_value": "1"}}
    assert config["optimization"] == {"graph": {"level": 1}}
    assert config["model_warmup"][0]["inputs"]["x"] == {"data_type": "TYPE_FP32", "dims": [2, 2], "random_data": True}


def test_without_a_batch_size_the_dims_are_the_whole_shape_and_no_run_is_shared(
    server: GatewayProcess, client: triton.InferenceServerClient
) -> None:
    config = client.get_model_config("no_batches")
    assert (config["max_batch_size"], config["input"][0]["dims"]) == (0, [-1, 3])
    assert config["default_model_filename"] == "net.onnx"
    assert "dynamic_batching" not in config
    (version,) = server.versions("no_batches").values()
    assert version["batching"]["shares_runs"] is False
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(client.infer("no_batches", [tensor("x", x)]).as_numpy("y"), 2 * x + 1)


def test_versions_load_as_the_policy_says(server: GatewayProcess) -> None:
    """Without a policy that is the highest, as in Triton."""
    assert set(server.versions("reshaped")) == {1, 3}
    assert set(server.versions("unsaid")) == {2}


def test_a_queue_of_so_many_requests_takes_no_more(server: GatewayProcess) -> None:
    """The rows would have room: the bound is one waiting request."""
    body = json_body({"x": np.array([[6e7]], np.float32)})
    with ExitStack() as stack:

        def one_more() -> bool:
            seen = [server.metric("gateway_queue_rows", model="bounded") for _ in range(2)]
            if seen[-1] < 1:
                client = stack.enter_context(RawSocket(server.data_address))
                client.send(request_bytes(infer_path("bounded"), body))
            return seen == [1, 1]

        eventually(one_more, what="one waiting behind a run")
        refused = server.ask(infer_path("bounded"), "POST", body)
        assert (refused.status, refused.error) == (503, "bounded:1: queue holds 1 of 1 requests")
        assert refused.headers["retry-after"] == "1"
    await_queue(server, "bounded", 0)


# --- what is not supported -------------------------------------------------------------------------------------


def test_what_has_no_effect_is_named_to_the_operator(server: GatewayProcess) -> None:
    (version,) = server.versions("unsupported").values()
    assert version["state"] == "READY"
    assert sorted(version["warnings"]) == [
        "config.pbtxt: dynamic_batching.default_priority_level has no effect: not supported",
        "config.pbtxt: dynamic_batching.preserve_ordering has no effect: an answer goes out when it is ready",
        "config.pbtxt: dynamic_batching.priority_levels has no effect: not supported",
        "config.pbtxt: instance_group[0].rate_limiter has no effect: not supported",
        "config.pbtxt: response_cache has no effect: answers are not cached",
    ]
    assert [entry["warnings"] for entry in server.versions("reshaped").values()] == [[], []]


def test_what_has_no_effect_is_logged_once(server: GatewayProcess) -> None:
    lines = [line for line in server.log.splitlines() if "triton_setting_ignored model=unsupported" in line]
    assert len(lines) == 5
    assert any("field=response_cache" in line for line in lines)
    assert "triton_setting_ignored model=reshaped" not in server.log


@pytest.mark.parametrize("name", FAILING)
def test_what_cannot_be_honoured_fails_that_model_alone_with_the_reason(server: GatewayProcess, name: str) -> None:
    version = eventually(
        lambda: next((one for one in server.versions(name).values() if one["state"] == "FAILED"), None),
        what="the failure",
    )
    assert FAILING[name][1] in version["reason"]
    assert server.ask("/v2/health/ready").status == 200
    answer = server.ask(infer_path(name), "POST", b"{}")
    assert (answer.status, FAILING[name][1] in answer.error) == (503, True)


# --- while it runs --------------------------------------------------------------------------------------------------


def test_a_mended_configuration_is_tried_again_and_model_toml_wins(tmp_path: Path) -> None:
    good = tmp_path / "models"
    add(good, "good", "", 1, model=onnx_models.affine())
    add(good, "mended", "max_batch_size: 16\ninptu { }", 1, model=onnx_models.affine())
    with running_gateway(good) as process:
        eventually(lambda: process.state("mended", 1) == "FAILED", what="the failure")
        configure(good, "mended", "[batching]\nmax_queue_delay_ms = 0.5\n")
        staged = good / "mended" / ".config.pbtxt"
        staged.write_text("max_batch_size: 16 dynamic_batching { max_queue_delay_microseconds: 100 }")
        staged.rename(good / "mended" / "config.pbtxt")
        eventually(lambda: process.state("mended", 1) == "READY", what="the mended model")
        config = process.ask("/v2/models/mended/config").json
        assert config["max_batch_size"] == 16
        assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 500
        body = json.dumps({"instances": [[1, 2, 3]]}).encode()
        assert process.ask("/v1/models/mended:predict", "POST", body).json == {"predictions": [[3, 5, 7]]}
