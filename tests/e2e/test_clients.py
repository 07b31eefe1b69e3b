"""Every client, unmodified, against every example model and one that the repository has never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from skl2onnx import to_onnx
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from tritonclient.utils import InferenceServerException

from tests.e2e.clients import CLIENTS, Ask, Question, Reply, curl, with_kserve, with_triton_aio
from tests.e2e.oracle import Oracle, assert_same, example_oracles
from tests.e2e.wire import binary_body, infer_path, json_body
from tests.support.repositories import add_version
from tests.support.server import GatewayProcess, eventually

EXAMPLES = example_oracles()
HIGHEST = {oracle.model: oracle.version for oracle in EXAMPLES}
NEWCOMER = "wine"

client = pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
model = pytest.mark.parametrize("model", [*HIGHEST, NEWCOMER])


@pytest.fixture(scope="module")
def newcomer(gateway: GatewayProcess, example_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    """Train a model now and drop it, without manifest or settings, into the repository of the running gateway."""
    wine = load_wine()
    features = wine.data.astype(np.float32)
    forest = RandomForestClassifier(n_estimators=5, max_depth=4, random_state=7).fit(features, wine.target)
    converted = to_onnx(forest, features[:1], options={"zipmap": False})
    file = tmp_path_factory.mktemp("wine") / "model.onnx"
    file.write_bytes(converted.SerializeToString())
    assert gateway.versions(NEWCOMER) == {}
    add_version(example_repository, NEWCOMER, 1, file.read_bytes(), manifest=None)
    eventually(lambda: gateway.ask(f"/v2/models/{NEWCOMER}/ready").status == 200, what="the newcomer's READY")
    (name,) = [node.name for node in converted.graph.input]
    return Oracle(NEWCOMER, 1, file, {name: features})


@pytest.fixture
def oracle(model: str, newcomer: Oracle) -> Oracle:
    """Return the oracle for the version that the model's route should lead to."""
    return next(one for one in [*EXAMPLES, newcomer] if (one.model, one.version) == (model, HIGHEST.get(model, 1)))


@client
@model
@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_every_client_gets_what_onnxruntime_says(
    gateway: GatewayProcess, oracle: Oracle, ask: Ask, *, binary: bool
) -> None:
    inputs = oracle.draw(3, np.random.default_rng(1))
    reply = ask(gateway, Question(model=oracle.model, inputs=inputs, binary=binary))
    expected = oracle.answer(inputs)
    assert set(reply.outputs) == set(expected)
    assert_same(expected, reply.outputs)
    _check_names(reply, oracle)


@client
@model
def test_every_client_gets_only_the_outputs_it_asks_for(gateway: GatewayProcess, oracle: Oracle, ask: Ask) -> None:
    inputs = oracle.draw(2, np.random.default_rng(2))
    wanted = oracle.outputs[-1].name
    reply = ask(gateway, Question(model=oracle.model, inputs=inputs, outputs=[wanted], binary=True))
    assert set(reply.outputs) == {wanted}
    assert_same(oracle.answer(inputs), reply.outputs)


@client
@model
@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_every_client_may_compress(gateway: GatewayProcess, oracle: Oracle, ask: Ask, compression: str) -> None:
    inputs = oracle.draw(50, np.random.default_rng(3))
    reply = ask(gateway, Question(model=oracle.model, inputs=inputs, compression=compression))
    assert_same(oracle.answer(inputs), reply.outputs)
    _check_names(reply, oracle)


@pytest.mark.parametrize("oracle", EXAMPLES, ids=repr)
@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "kserve"])
def test_a_pinned_version_answers_itself(gateway: GatewayProcess, oracle: Oracle, name: str) -> None:
    """KServe's client has no words for a version."""
    inputs = oracle.draw(2, np.random.default_rng(4))
    reply = CLIENTS[name](gateway, Question(model=oracle.model, inputs=inputs, version=oracle.version))
    assert_same(oracle.answer(inputs), reply.outputs)
    assert reply.model_version == str(oracle.version)


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_an_answer_is_really_compressed(gateway: GatewayProcess, compression: str) -> None:
    """The clients cannot tell: they would read a plain answer as well."""
    inputs = EXAMPLES[0].draw(50, np.random.default_rng(5))
    body = json_body(inputs)
    plain = gateway.ask(infer_path(EXAMPLES[0].model), "POST", body)
    packed = gateway.ask(infer_path(EXAMPLES[0].model), "POST", body, {"accept-encoding": compression})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == compression
    assert len(packed.body) < len(plain.body)


# --- what describes a model ------------------------------------------------------------------------


@model
def test_metadata_and_config_agree_with_the_file_for_every_client(gateway: GatewayProcess, oracle: Oracle) -> None:
    sync = triton.InferenceServerClient(_host(gateway))
    try:
        metadata = sync.get_model_metadata(oracle.model)
        pinned = sync.get_model_metadata(oracle.model, str(oracle.version))
        config = sync.get_model_config(oracle.model)
    finally:
        sync.close()

    async def describe(client: Any) -> tuple[Any, Any]:  # noqa: ANN401 - tritonclient ships no types
        return await client.get_model_metadata(oracle.model), await client.get_model_config(oracle.model)

    assert with_triton_aio(gateway, describe) == (metadata, config)
    assert curl(f"{gateway.data_url}/v2/models/{oracle.model}").json == metadata
    assert curl(f"{gateway.data_url}/v2/models/{oracle.model}/config").json == config
    assert metadata["name"] == oracle.model
    assert metadata["versions"][-1] == str(oracle.version)
    assert metadata["platform"] == "onnxruntime_onnx"
    assert pinned["versions"] == [str(oracle.version)]
    for described, tensors in ((metadata["inputs"], oracle.inputs), (metadata["outputs"], oracle.outputs)):
        assert [(one["name"], one["datatype"], tuple(one["shape"])) for one in described] == [
            (tensor.name, tensor.datatype, tensor.shape) for tensor in tensors
        ]
    assert config["max_batch_size"] == 64
    assert [one["name"] for one in config["input"]] == [tensor.name for tensor in oracle.inputs]
    # What perf_analyzer does: the first axis of the metadata is the batch, the rest is in the configuration.
    assert [one["dims"] for one in config["input"]] == [one["shape"][1:] for one in metadata["inputs"]]


@model
def test_statistics_count_what_was_asked(gateway: GatewayProcess, oracle: Oracle) -> None:
    def statistics() -> dict[str, Any]:
        with_client = triton.InferenceServerClient(_host(gateway))
        try:
            (found,) = with_client.get_inference_statistics(oracle.model, str(oracle.version))["model_stats"]
        finally:
            with_client.close()
        return dict(found)

    before = statistics()
    rows = 3
    inputs = oracle.draw(rows, np.random.default_rng(6))
    assert gateway.ask(infer_path(oracle.model), "POST", json_body(inputs)).status == 200
    after = statistics()
    assert after["version"] == str(oracle.version)
    assert after["inference_count"] - before["inference_count"] == rows
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["last_inference"] >= before["last_inference"]
    keys = {"success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"}
    assert set(after["inference_stats"]) == keys
    for key, grown in (("success", 1), ("queue", 1), ("compute_infer", 1), ("fail", 0), ("cache_hit", 0)):
        assert after["inference_stats"][key]["count"] - before["inference_stats"][key]["count"] == grown, key
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert rows in [batch["batch_size"] for batch in after["batch_stats"]]


def test_the_statistics_of_all_models_are_those_of_each(gateway: GatewayProcess, newcomer: Oracle) -> None:
    found = gateway.ask("/v2/models/stats").json["model_stats"]
    names = {(one["name"], one["version"]) for one in found}
    assert {(oracle.model, str(oracle.version)) for oracle in [*EXAMPLES, newcomer]} <= names


# --- server and repository --------------------------------------------------------------------------


def test_tritonclient_reads_the_server(gateway: GatewayProcess, newcomer: Oracle) -> None:
    sync = triton.InferenceServerClient(_host(gateway))
    try:
        assert sync.is_server_live()
        assert sync.is_server_ready()
        assert sync.is_model_ready(newcomer.model)
        assert sync.is_model_ready("breast_cancer", "1")
        assert not sync.is_model_ready("breast_cancer", "3")
        assert not sync.is_model_ready("nobody")
        metadata = sync.get_server_metadata()
        index = sync.get_model_repository_index()
    finally:
        sync.close()
    assert metadata["name"] == "onnx-gateway"
    assert set(metadata["extensions"]) == {
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "statistics",
    }
    ready = {(entry["name"], entry["version"]) for entry in index if entry["state"] == "READY"}
    assert {(oracle.model, str(oracle.version)) for oracle in [*EXAMPLES, newcomer]} <= ready


def test_tritonclient_aio_reads_the_server(gateway: GatewayProcess, newcomer: Oracle) -> None:
    async def use(client: Any) -> None:  # noqa: ANN401 - tritonclient ships no types
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(newcomer.model)
        assert not await client.is_model_ready("nobody")
        assert (await client.get_server_metadata())["name"] == "onnx-gateway"
        assert {entry["name"] for entry in await client.get_model_repository_index()} >= {*HIGHEST, newcomer.model}
        statistics = await client.get_inference_statistics(newcomer.model)
        assert [one["name"] for one in statistics["model_stats"]] == [newcomer.model]

    with_triton_aio(gateway, use)


def test_kserve_reads_the_server(gateway: GatewayProcess, newcomer: Oracle) -> None:
    async def use(client: Any) -> None:  # noqa: ANN401 - kserve ships no types
        assert await client.is_server_ready(gateway.data_url) is True
        assert await client.is_server_live(gateway.data_url) is True
        assert await client.is_model_ready(gateway.data_url, newcomer.model) is True
        assert await client.is_model_ready(gateway.data_url, "nobody") is False

    with_kserve(use)


def test_curl_reads_the_server(gateway: GatewayProcess) -> None:
    assert curl(f"{gateway.data_url}/v2/health/live").json == {"live": True}
    assert curl(f"{gateway.data_url}/v2/health/ready").json == {"ready": True}
    assert curl(f"{gateway.data_url}/v2").json == curl(f"{gateway.data_url}/v2/").json
    assert curl(f"{gateway.data_url}/v2/models/digits/ready").json == {"name": "digits", "ready": True}
    ready = curl(f"{gateway.data_url}/v2/repository/index", "-X", "POST", body=b'{"ready": true}').json
    assert {entry["state"] for entry in ready} == {"READY"}
    for address in (gateway.data_url, gateway.admin_url):
        assert curl(f"{address}/openapi.json").json["openapi"].startswith("3.")


def test_load_and_unload_are_for_the_admin_port(gateway: GatewayProcess) -> None:
    """What tritonclient calls works there under the same paths, and is a readable 403 on the data port."""
    data = triton.InferenceServerClient(_host(gateway))
    admin = triton.InferenceServerClient(gateway.admin_url.removeprefix("http://"))
    try:
        for call in (data.load_model, data.unload_model):
            with pytest.raises(InferenceServerException, match="admin port") as refused:
                call("diabetes")
            assert refused.value.status() == "403"
        admin.unload_model("diabetes")
        assert not data.is_model_ready("diabetes")
        admin.load_model("diabetes")
        assert data.is_model_ready("diabetes")
    finally:
        data.close()
        admin.close()


# --- errors ----------------------------------------------------------------------------------------------


@client
def test_every_client_reads_the_errors(gateway: GatewayProcess, ask: Ask) -> None:
    inputs = EXAMPLES[0].draw(1, np.random.default_rng(7))
    if ask is CLIENTS["curl"]:
        answer = curl(gateway.data_url + infer_path("nobody"), body=json_body(inputs))
        assert (answer.status, answer.error) == (404, "no model or route 'nobody'")
        return
    with pytest.raises(Exception, match="no model or route 'nobody'"):
        ask(gateway, Question(model="nobody", inputs=inputs))
    with pytest.raises(Exception, match="breast_cancer:2: unexpected input 'wrong', expected 'features'"):
        ask(gateway, Question(model="breast_cancer", inputs={"wrong": inputs["features"]}))
    narrow = {"features": inputs["features"][:, :7]}
    with pytest.raises(Exception, match=r"input 'features' has shape \[1, 7\], expected \[rows, 30\]"):
        ask(gateway, Question(model="breast_cancer", inputs=narrow, binary=True))
    with pytest.raises(Exception, match="unexpected output 'nothing', expected 'label', 'probabilities'"):
        ask(gateway, Question(model="breast_cancer", inputs=inputs, outputs=["nothing"]))


def test_errors_are_never_compressed(gateway: GatewayProcess) -> None:
    """The asyncio client of Triton accepts gzip and reads errors as they are."""
    answer = gateway.ask(infer_path("nobody"), "POST", b"{}", {"accept-encoding": "gzip, deflate, br"})
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-type"] == "application/json"
    assert "nobody" in answer.error


# --- ids and headers -------------------------------------------------------------------------------------


def test_ids_are_echoed_where_the_client_put_them(gateway: GatewayProcess) -> None:
    oracle = EXAMPLES[0]
    inputs = oracle.draw(1, np.random.default_rng(8))
    body = json_body(inputs, request_id="in-the-body")
    answer = gateway.ask(infer_path(oracle.model), "POST", body, {"x-request-id": "in-the-header"})
    assert answer.json["id"] == "in-the-body"
    assert answer.headers["x-request-id"] == "in-the-header"
    without = gateway.ask(infer_path(oracle.model), "POST", json_body(inputs), {"x-request-id": "in-the-header"})
    assert without.json["id"] == "in-the-header"


def test_who_sends_no_id_gets_one_that_no_other_request_has(gateway: GatewayProcess) -> None:
    body = json_body(EXAMPLES[0].draw(1, np.random.default_rng(9)))
    answers = [gateway.ask(infer_path(EXAMPLES[0].model), "POST", body) for _ in range(3)]
    assert len({answer.json["id"] for answer in answers}) == 3
    assert all(answer.json["id"] == answer.headers["x-request-id"] for answer in answers)


def test_the_headers_say_who_answered(gateway: GatewayProcess) -> None:
    body = json_body(EXAMPLES[0].draw(1, np.random.default_rng(10)))
    routed = gateway.ask(infer_path("breast_cancer"), "POST", body).headers
    assert routed["x-gateway-model"] == "breast_cancer:2"
    assert routed["x-gateway-variant"] == "stable"
    assert routed["x-gateway-revision"] == "1"
    assert routed["x-gateway-assigned-by"] == "random"
    timings = dict(part.split(";dur=") for part in routed["server-timing"].split(", "))
    assert set(timings) == {"queue", "inference"}
    assert all(float(milliseconds) >= 0 for milliseconds in timings.values())
    sticky = gateway.ask(infer_path("breast_cancer"), "POST", body, {"x-routing-key": "somebody"}).headers
    assert sticky["x-gateway-assigned-by"] == "sticky"
    pinned = gateway.ask(infer_path("breast_cancer", 1), "POST", body).headers
    assert pinned["x-gateway-model"] == "breast_cancer:1"
    assert pinned["x-gateway-assigned-by"] == "pinned"
    assert not {"x-gateway-variant", "x-gateway-revision"} & set(pinned)


def test_content_type_is_what_the_body_is(gateway: GatewayProcess) -> None:
    inputs = EXAMPLES[0].draw(1, np.random.default_rng(11))
    path = infer_path(EXAMPLES[0].model)
    # tritonclient.aio says octet-stream of JSON: what the client says of its body is not believed
    as_json = gateway.ask(path, "POST", json_body(inputs), {"content-type": "application/octet-stream"})
    body, length = binary_body(inputs)
    as_binary = gateway.ask(path, "POST", body, {"inference-header-content-length": str(length)})
    assert as_json.headers["content-type"] == "application/json"
    assert as_binary.headers["content-type"] == "application/octet-stream"


def _check_names(reply: Reply, oracle: Oracle) -> None:
    assert reply.model_name == oracle.model
    assert reply.model_version in ("", str(oracle.version))
    assert reply.request_id == "a-client's-own-id"


def _host(gateway: GatewayProcess) -> str:
    return gateway.data_url.removeprefix("http://")
