"""REST v1 as its callers use it: KServe's own client, and what used to talk to TensorFlow Serving."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import kserve
import numpy as np
import pytest

from tests.e2e.conftest import MAX_BODY_BYTES
from tests.e2e.oracle import NUMPY_TYPES, Array, Oracle, Tensors, assert_same, example_oracles
from tests.e2e.traffic import await_queue
from tests.e2e.wire import RawSocket, infer_path, json_body, request_bytes
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import GatewayProcess, eventually, running_gateway

T = TypeVar("T")

EXAMPLES = example_oracles()
HIGHEST = {oracle.model: oracle.version for oracle in EXAMPLES}
AGES = 6e7
"""Microseconds that no test waits for: a minute."""

every_model = pytest.mark.parametrize("oracle", EXAMPLES, ids=repr)


def predict_path(model: str, version: int | None = None) -> str:
    return f"/v1/models/{model}{'' if version is None else f'/versions/{version}'}:predict"


def with_kserve(use: Callable[[Any], Awaitable[T]]) -> T:
    """Run `use` with an open KServe v1 client in a loop of its own."""

    async def run() -> T:
        async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v1")) as client:
            return await use(client)

    return asyncio.run(run())


def rows_of(inputs: Tensors) -> list[object]:
    """Write tensors as the examples of a predict request: bare for one input, else objects."""
    count = len(next(iter(inputs.values())))
    if len(inputs) == 1:
        return list(next(iter(inputs.values())).tolist())
    return [{name: array[row].tolist() for name, array in inputs.items()} for row in range(count)]


def tensors_in(answer: dict[str, Any], oracle: Oracle) -> Tensors:
    """Read the outputs of either form back into tensors."""
    kinds = {tensor.name: NUMPY_TYPES[tensor.datatype] for tensor in oracle.outputs}
    several = len(kinds) > 1
    if "predictions" in answer:
        rows = answer["predictions"]
        columns = {name: [row[name] for row in rows] if several else rows for name in kinds}
    else:
        columns = answer["outputs"] if several else {next(iter(kinds)): answer["outputs"]}
    return {name: np.array(column, kinds[name]) for name, column in columns.items()}


# --- KServe ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("oracle", [one for one in EXAMPLES if one.version == HIGHEST[one.model]], ids=repr)
def test_kserve_gets_what_onnxruntime_says(gateway: GatewayProcess, oracle: Oracle) -> None:
    """Its client has no words for a version."""
    inputs = oracle.draw(3, np.random.default_rng(1))

    async def ask(client: Any) -> dict[str, Any]:  # noqa: ANN401 - kserve ships no types
        answer = await client.infer(gateway.data_url, {"instances": rows_of(inputs)}, model_name=oracle.model)
        return dict(answer)

    assert_same(oracle.answer(inputs), tensors_in(with_kserve(ask), oracle))


def test_kserve_reads_the_server_and_its_models(gateway: GatewayProcess) -> None:
    async def use(client: Any) -> None:  # noqa: ANN401 - kserve ships no types
        assert await client.is_server_live(gateway.data_url) is True
        assert await client.is_model_ready(gateway.data_url, "digits") is True

    with_kserve(use)


def test_kserve_reads_the_errors(gateway: GatewayProcess) -> None:
    async def use(client: Any) -> None:  # noqa: ANN401 - kserve ships no types
        with pytest.raises(httpx.HTTPStatusError, match="no model or route 'nobody', '404 Not Found'"):
            await client.infer(gateway.data_url, {"instances": [[1]]}, model_name="nobody")
        with pytest.raises(httpx.HTTPStatusError, match=r"has shape \[1, 2\], expected \[rows, 30\], '400 Bad"):
            await client.infer(gateway.data_url, {"instances": [[1, 2]]}, model_name="breast_cancer")
        with pytest.raises(httpx.HTTPStatusError, match="'explain' is not supported, only 'predict' is, '501"):
            await client.explain(gateway.data_url, "breast_cancer", {"instances": [[1] * 30]})

    with_kserve(use)


def test_kserve_knows_a_model_that_is_not_ready_from_one_that_is_not_there(
    gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repository = tmp_path_factory.mktemp("failing")
    add_version(repository, "good", 1, onnx_models.affine())
    add_version(repository, "broken", 1, onnx_models.zipmap())
    with running_gateway(repository) as failing:
        eventually(lambda: failing.state("broken", 1) == "FAILED", what="the broken model's failure")

        async def use(client: Any) -> None:  # noqa: ANN401 - kserve ships no types
            assert await client.is_model_ready(failing.data_url, "broken") is False
            assert await client.is_model_ready(failing.data_url, "good") is True
            with pytest.raises(httpx.HTTPStatusError, match="404"):
                await client.is_model_ready(failing.data_url, "nobody")

        with_kserve(use)
        answer = failing.ask("/v1/models/broken")
        assert answer.status == 503
        assert answer.json["ready"] is False
        assert "ZipMap" in answer.error or "seq(map" in answer.error
        (status,) = answer.json["model_version_status"]
        assert (status["version"], status["state"], status["status"]["error_code"]) == ("1", "END", "UNKNOWN")
        assert status["status"]["error_message"] in answer.error


# --- TensorFlow Serving's callers ---------------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("form", ["rows", "named rows", "columns", "named columns"])
def test_a_predict_request_of_any_form_gets_what_onnxruntime_says(
    gateway: GatewayProcess, oracle: Oracle, form: str
) -> None:
    inputs = oracle.draw(3, np.random.default_rng(2))
    columns: object = {name: array.tolist() for name, array in inputs.items()}
    body: dict[str, object]
    if form == "rows":
        body = {"signature_name": "serving_default", "instances": rows_of(inputs)}
    elif form == "named rows":
        body = {"instances": [{name: array[row].tolist() for name, array in inputs.items()} for row in range(3)]}
    elif form == "columns":
        body = {"inputs": next(iter(inputs.values())).tolist() if len(inputs) == 1 else columns}
    else:
        body = {"inputs": columns}
    answer = gateway.ask(predict_path(oracle.model, oracle.version), "POST", body)
    assert answer.status == 200, answer.body
    assert list(answer.json) == ["predictions" if "rows" in form else "outputs"]
    assert_same(oracle.answer(inputs), tensors_in(answer.json, oracle))


def test_the_content_type_does_not_matter(gateway: GatewayProcess) -> None:
    """By default curl says that it sends a form, and TensorFlow Serving never looked."""
    body = json.dumps({"instances": [[[[0.0] * 8] * 8]]}).encode()
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "application/json"):
        answer = gateway.ask(predict_path("digits"), "POST", body, {"content-type": content_type})
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_bodies_may_be_compressed_both_ways(
    gateway: GatewayProcess, encoding: str, pack: Callable[[bytes], bytes]
) -> None:
    inputs = EXAMPLES[0].draw(50, np.random.default_rng(3))
    body = pack(json.dumps({"instances": rows_of(inputs)}).encode())
    headers = {"content-encoding": encoding, "accept-encoding": encoding}
    answer = gateway.ask(predict_path(EXAMPLES[0].model, EXAMPLES[0].version), "POST", body, headers)
    assert answer.headers["content-encoding"] == encoding
    plain = gzip.decompress(answer.body) if encoding == "gzip" else zlib.decompress(answer.body)
    assert_same(EXAMPLES[0].answer(inputs), tensors_in(json.loads(plain), EXAMPLES[0]))


def test_status_lists_every_version_and_metadata_every_tensor(gateway: GatewayProcess) -> None:
    status = gateway.ask("/v1/models/breast_cancer").json
    assert status["ready"] is True
    assert [(one["version"], one["state"]) for one in status["model_version_status"]] == [
        ("1", "AVAILABLE"),
        ("2", "AVAILABLE"),
    ]
    (pinned,) = gateway.ask("/v1/models/breast_cancer/versions/1").json["model_version_status"]
    assert pinned == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path, version in (("breast_cancer", "2"), ("breast_cancer/versions/1", "1")):
        metadata = gateway.ask(f"/v1/models/{path}/metadata").json
        assert metadata["model_spec"] == {"name": "breast_cancer", "signature_name": "", "version": version}
        served = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert [dim["size"] for dim in served["inputs"]["features"]["tensor_shape"]["dim"]] == ["-1", "30"]
        assert served["outputs"]["probabilities"]["dtype"] == "DT_FLOAT"


def test_both_protocols_list_the_names_that_can_be_asked_for(gateway: GatewayProcess) -> None:
    names = gateway.ask("/v1/models").json["models"]
    assert set(HIGHEST) <= set(names)
    assert names == sorted(names) == gateway.ask("/v2/models").json["models"]


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("POST", "/v1/models/nobody:predict", 404, "no model or route 'nobody'"),
        ("POST", "/v1/models/digits/versions/9:predict", 404, "model 'digits' has no version 9 (READY versions: 1)"),
        ("POST", "/v1/models/digits/versions/x:predict", 404, "versions are numbers, got 'x'"),
        ("POST", "/v1/models/digits:guess", 404, "no such path: /v1/models/digits:guess"),
        ("POST", "/v1/models/digits:classify", 501, "'classify' is not supported, only 'predict' is"),
        ("POST", "/v1/models/digits:regress", 501, "'regress' is not supported, only 'predict' is"),
        ("POST", "/v1/models/digits/labels/stable:predict", 501, "labels are not supported"),
        ("GET", "/v1/models/digits:predict", 405, "method GET is not allowed here, expected POST"),
        ("POST", "/v1/models/digits", 405, "method POST is not allowed here, expected GET"),
        ("POST", "/v1/models", 405, "method POST is not allowed here, expected GET"),
        ("GET", "/v1/models/nobody", 404, "no model or route 'nobody'"),
        ("GET", "/v1/models/nobody/metadata", 404, "no model or route 'nobody'"),
        ("GET", "/v1/models/digits/nothing", 404, "no such path: /v1/models/digits/nothing"),
        ("GET", "/v1/nothing", 404, "no such path: /v1/nothing"),
    ],
)
def test_wrong_addresses_get_a_readable_error(
    gateway: GatewayProcess, method: str, path: str, status: int, text: str
) -> None:
    answer = gateway.ask(path, method, b"{}" if method == "POST" else None)
    assert answer.status == status
    assert text in answer.error


def test_an_unknown_model_is_said_before_anything_about_the_body(gateway: GatewayProcess) -> None:
    assert gateway.ask(predict_path("nobody"), "POST", b"not JSON").status == 404
    assert gateway.ask(predict_path("nobody"), "POST", b"x", {"content-encoding": "br"}).status == 404
    assert gateway.ask(predict_path("digits"), "POST", b"x", {"content-encoding": "br"}).status == 415


# --- the same way as v2 -----------------------------------------------------------------------------------------


def test_the_answer_says_who_gave_it(gateway: GatewayProcess) -> None:
    body = {"instances": rows_of(EXAMPLES[0].draw(1, np.random.default_rng(4)))}
    routed = gateway.ask(predict_path("breast_cancer"), "POST", body, {"x-request-id": "mine", "x-routing-key": "me"})
    assert routed.headers["x-request-id"] == "mine"
    assert routed.headers["x-gateway-model"] == "breast_cancer:2"
    assert routed.headers["x-gateway-variant"] == "stable"
    assert routed.headers["x-gateway-assigned-by"] == "sticky"
    assert routed.headers["server-timing"].startswith("queue;dur=")
    pinned = gateway.ask(predict_path("breast_cancer", 1), "POST", body)
    assert pinned.headers["x-gateway-model"] == "breast_cancer:1"
    assert pinned.headers["x-gateway-assigned-by"] == "pinned"
    assert "x-gateway-variant" not in pinned.headers
    refused = gateway.ask(predict_path("breast_cancer"), "POST", body, {"x-gateway-variant": "nobody"})
    assert (refused.status, "has no variant 'nobody'" in refused.error) == (400, True)


@pytest.mark.parametrize("way", ["short", "asgi"])
def test_predictions_are_counted_where_inferences_are(gateway: GatewayProcess, way: str) -> None:
    headers = {"accept-encoding": "identity"} | ({"content-encoding": "identity"} if way == "asgi" else {})
    good = {"instances": rows_of(EXAMPLES[0].draw(1, np.random.default_rng(5)))}
    before = {
        code: gateway.metric("gateway_requests_total", model="breast_cancer", code=code) for code in ("200", "400")
    }
    assert gateway.ask(predict_path("breast_cancer"), "POST", good, headers).status == 200
    assert gateway.ask(predict_path("breast_cancer"), "POST", {"instances": []}, headers).status == 400
    for code, count in before.items():
        assert gateway.metric("gateway_requests_total", model="breast_cancer", code=code) == count + 1


def test_both_protocols_share_runs(tight_gateway: GatewayProcess) -> None:
    """One row of each waits behind a long run of the same model, and both go with the next."""
    address = tight_gateway.data_address
    runs = tight_gateway.metric("gateway_batch_rows_count", model="narrow")
    rows = tight_gateway.metric("gateway_batch_rows_sum", model="narrow")
    with RawSocket(address) as first, RawSocket(address) as older, RawSocket(address) as newer:
        first.send(request_bytes(predict_path("narrow"), b'{"instances": [[300000]]}'))
        eventually(lambda: tight_gateway.metric("gateway_queue_rows", model="narrow") == 0, what="an empty queue")
        older.send(request_bytes(predict_path("narrow"), b'{"instances": [[1]]}'))
        newer.send(request_bytes(infer_path("narrow"), json_body({"x": np.array([[2]], np.float32)})))
        assert first.receive().json == {"predictions": [[300000]]}
        assert older.receive().json == {"predictions": [[1]]}
        assert newer.receive().json["outputs"][0]["data"] == [2]
    assert tight_gateway.metric("gateway_batch_rows_sum", model="narrow") == rows + 3
    assert tight_gateway.metric("gateway_batch_rows_count", model="narrow") <= runs + 2


def test_a_deadline_holds(tight_gateway: GatewayProcess) -> None:
    answer = tight_gateway.ask(predict_path("patient"), "POST", {"instances": [[AGES]]}, {"x-request-timeout-ms": "50"})
    assert answer.status == 504
    assert "the deadline passed" in answer.error


@pytest.mark.parametrize("way", ["short", "asgi"])
def test_a_client_that_goes_away_takes_its_work_along(tight_gateway: GatewayProcess, way: str) -> None:
    closed = tight_gateway.metric("gateway_requests_total", model="patient", code="499")
    headers = {"content-encoding": "identity"} if way == "asgi" else {}
    content = request_bytes(predict_path("patient"), json.dumps({"instances": [[AGES]]}).encode(), headers=headers)
    with RawSocket(tight_gateway.data_address) as first, RawSocket(tight_gateway.data_address) as second:
        first.send(content)
        second.send(content)
        await_queue(tight_gateway, "patient", 1)
    eventually(
        lambda: tight_gateway.metric("gateway_requests_total", model="patient", code="499") == closed + 2,
        what="both being cancelled",
    )
    assert tight_gateway.ask(predict_path("patient"), "POST", {"instances": [[1]]}).status == 200


def test_limits_hold(tight_gateway: GatewayProcess) -> None:
    large = b'{"instances": [[1]]}' + b" " * MAX_BODY_BYTES
    assert tight_gateway.ask(predict_path("echo"), "POST", large).status == 413
    too_many = tight_gateway.ask(predict_path("narrow"), "POST", {"instances": [[1]] * 5})
    assert (too_many.status, "the queue holds at most 4" in too_many.error) == (413, True)
    packed = gzip.compress(large)
    assert len(packed) < MAX_BODY_BYTES
    assert tight_gateway.ask(predict_path("echo"), "POST", packed, {"content-encoding": "gzip"}).status == 413


def test_numbers_that_are_not_finite_are_null_both_ways(tight_gateway: GatewayProcess) -> None:
    for body in (b'{"instances": [[NaN], [Infinity], [1]]}', b'{"instances": [[null], [-Infinity], [1]]}'):
        answer = tight_gateway.ask(predict_path("echo"), "POST", body)
        assert answer.json == {"predictions": [[None], [None], [1]]}


def test_httpx_asks_with_many_requests_at_once(gateway: GatewayProcess) -> None:
    (oracle,) = (one for one in EXAMPLES if one.model == "penguins")
    inputs = oracle.draw(20, np.random.default_rng(6))
    expected: Array = oracle.answer(inputs)["label"]

    async def ask() -> list[str]:
        async with httpx.AsyncClient(base_url=gateway.data_url, timeout=20) as client:
            answers = await asyncio.gather(
                *(
                    client.post(
                        predict_path("penguins"), content=json.dumps({"instances": [row]})
                    )  # NaN as Python says
                    for row in rows_of(inputs)
                )
            )
        return [answer.json()["predictions"][0]["label"] for answer in answers]

    assert asyncio.run(ask()) == expected.tolist()
