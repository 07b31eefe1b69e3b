"""Splits and shadows through a real server: shares by key, exact disagreements, who stands in, and what is counted."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from gateway.routing.route import Route, Variant
from tests.routing.routes import publish
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import QUICK_STOP, GatewayProcess, HttpAnswer, eventually, running_gateway

ROUTES = """
[routes.split]
variants = [
  {name = "stable", model = "echo", version = 1, weight = 70},
  {name = "challenger", model = "echo", version = 2, weight = 30},
]
routing_key_header = "x-customer"

[routes.shadowed]
variants = [{name = "stable", model = "echo", version = 1, weight = 100}]
shadows = [
  {name = "next", model = "rectified", version = 1},
  {name = "crashing", model = "fragile", version = 1},
  {name = "slow", model = "slow", version = 1},
]

[routes.risky]
variants = [
  {name = "stable", model = "echo", version = 1, weight = 0},
  {name = "fragile", model = "fragile", version = 1, weight = 100},
]
"""


@pytest.fixture(scope="module")
def split_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve the routes above over models of one input x and one output y, FP32 [rows, 1]."""
    repository = tmp_path_factory.mktemp("split")
    add_version(repository, "echo", 1, onnx_models.identity(shape=("rows", 1)))
    add_version(repository, "echo", 2, onnx_models.affine(1))
    add_version(repository, "rectified", 1, onnx_models.rectified())
    add_version(repository, "fragile", 1, onnx_models.fragile())
    add_version(repository, "slow", 1, onnx_models.slow(20_000))
    with running_gateway(repository, config=QUICK_STOP + ROUTES) as process:
        yield process


class Client:
    """One kept connection, as a client's session has."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._connection = http.client.HTTPConnection(*gateway.data_address, timeout=20)

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def infer(self, route: str, *values: float, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """Ask for one row a value."""
        tensor = {"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": values}
        body = json.dumps({"inputs": [tensor]}).encode()
        self._connection.request("POST", f"/v2/models/{route}/infer", body, dict(headers or {}))
        response = self._connection.getresponse()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, answered, response.read())


@pytest.fixture
def client(split_gateway: GatewayProcess) -> Iterator[Client]:
    """Keep one connection for the test."""
    made = Client(split_gateway)
    yield made
    made.close()


def test_keys_are_split_as_the_splitter_deals_them_and_stay_where_they_are(
    split_gateway: GatewayProcess, client: Client
) -> None:
    variants = tuple(
        Variant(name=name, model="echo", version=version, weight_bp=weight_bp)
        for name, version, weight_bp in (("stable", 1, 7000), ("challenger", 2, 3000))
    )
    splitter = publish(Route(name="split", variants=variants, routing_key_header="x-customer")).splitter
    seen: Counter[str] = Counter()
    for number in range(600):
        key = f"customer-{number}"
        answer = client.infer("split", 1, headers={"x-customer": key})
        variant = variants[splitter.variant_of(key)]
        assert answer.headers["x-gateway-variant"] == variant.name
        assert answer.headers["x-gateway-assigned-by"] == "sticky"
        assert answer.json["outputs"][0]["data"] == [1 if variant.version == 1 else 3]
        seen[variant.name] += 1
    assert 120 < seen["challenger"] < 240  # more than five standard deviations
    counted = split_gateway.metric("gateway_assignments_total", route="split", variant="challenger", by="sticky")
    assert counted == seen["challenger"]
    assert split_gateway.metric("gateway_route_weight", route="split", variant="challenger") == 30
    assert split_gateway.metric("gateway_sample_ratio_mismatch", route="split") == 0


def test_a_crafted_pair_disagrees_exactly_where_it_was_made_to(split_gateway: GatewayProcess, client: Client) -> None:
    """A crashing and a slow shadow of the same route change nothing for the callers, nor for this one."""
    values = [float(number - 40) for number in range(120)]
    for value in values:
        answer = client.infer("shadowed", value, headers={"x-request-id": f"id{value:g}"})
        assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [value])

    def compared(shadow: str, **labels: str) -> float:
        return split_gateway.metric("gateway_shadow_requests_total", route="shadowed", shadow=shadow, **labels)

    eventually(lambda: compared("next") == len(values), what="every answer compared")
    eventually(lambda: compared("crashing") == len(values), what="every answer tried")
    assert compared("next", result="mismatch") == 40
    assert compared("next", result="match") == 80
    assert split_gateway.metric("gateway_shadow_disagreement_total", route="shadowed", shadow="next") == 40
    assert split_gateway.metric("gateway_shadow_difference_sum", route="shadowed", shadow="next") == 820
    assert compared("crashing", result="error") == 40
    assert compared("crashing", result="match") == 80
    assert split_gateway.metric("gateway_shadow_dropped_total", shadow="next") == 0
    assert split_gateway.metric("gateway_requests_total", route="shadowed") == len(values)
    assert split_gateway.log.count("shadow_failed") == 1


def test_a_candidate_that_fails_is_stood_in_for_until_its_breaker_opens(
    split_gateway: GatewayProcess, client: Client
) -> None:
    answer = client.infer("risky", 1)
    assert answer.headers["x-gateway-variant"] == "fragile"
    for _ in range(8):
        answer = client.infer("risky", -1)
        assert (answer.status, answer.json["outputs"][0]["data"]) == (200, [-1])
        assert answer.headers["x-gateway-assigned-by"] == "fallback"
        assert answer.headers["x-gateway-variant"] == "stable"
    attempts = split_gateway.metric("gateway_variant_attempts_total", route="risky", variant="fragile", code="500")
    assert attempts == 5
    assert split_gateway.metric("gateway_variant_attempts_total", route="risky", variant="fragile", code="503") == 3
    assert split_gateway.metric("gateway_variant_breaker_open", route="risky", variant="fragile") == 1
    assert split_gateway.metric("gateway_requests_total", route="risky", variant="stable", code="200") == 8
    assert client.infer("risky", 1).headers["x-gateway-assigned-by"] == "fallback"


def test_a_route_that_is_no_model_speaks_for_its_first_variant(split_gateway: GatewayProcess) -> None:
    metadata = split_gateway.ask("/v2/models/split").json
    assert metadata["name"] == "split"
    assert split_gateway.ask("/v2/models/split/ready").status == 200
    assert split_gateway.ask("/v2/models/split/config").json["name"] == "split"
    assert split_gateway.ask("/v2/models/split/versions/1").status == 404
