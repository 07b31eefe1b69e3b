"""Plays the requests of Triton's perf_analyzer in its order, and reads the answers as strictly as it does.

The binary itself is not run: what it sends and reads was taken from its source.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.e2e.oracle import Oracle, example_oracles
from tests.e2e.wire import RawSocket, binary_body, infer_path, request_bytes
from tests.support.server import GatewayProcess

EXAMPLES = example_oracles()
DURATIONS = ("success", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


class PerfAnalyzer:
    """Its view of one model: GETs with the headers of libcurl, numbers taken without a second look."""

    def __init__(self, gateway: GatewayProcess, oracle: Oracle, version: str) -> None:
        self._gateway = gateway
        self._oracle = oracle
        self._model = f"/v2/models/{oracle.model}{version and f'/versions/{version}'}"
        self._version = int(version) if version else None

    def get(self, path: str) -> Any:  # noqa: ANN401 - any JSON value
        """Read one description; any failure ends its run."""
        answer = self._gateway.ask(path, headers={"user-agent": "libcurl-agent/1.0"})
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"] == "application/json"
        return answer.json

    def parse_model(self) -> None:
        """Read metadata and configuration, and hold one against the other."""
        metadata, config = self.get(self._model), self.get(f"{self._model}/config")
        assert config["name"] == metadata["name"] == self._oracle.model
        assert config["platform"] != "ensemble"
        assert "sequence_batching" not in config
        assert config["model_transaction_policy"]["decoupled"] is False
        assert config["response_cache"]["enable"] is False
        assert isinstance(config["max_batch_size"], int)
        for role in ("input", "output"):
            described = {tensor["name"]: tensor for tensor in metadata[f"{role}s"]}
            for tensor in config[role]:
                assert tensor["is_shape_tensor"] is False
                assert tensor.get("optional", False) is False
                shape = described[tensor["name"]]["shape"]
                assert tensor["dims"] == (shape[1:] if config["max_batch_size"] else shape)
        assert "dynamic_batching" in config

    def has_statistics(self) -> bool:
        """Ask the server for its extensions."""
        return "statistics" in self.get("/v2")["extensions"]

    def statistics(self) -> dict[str, int]:
        """Read what it reads before and after every window, flat; without a version it looks for the one that grows."""
        every = {int(one["version"]): one for one in self.get(f"{self._model}/stats")["model_stats"]}
        assert self._version is None or list(every) == [self._version]
        found = every[self._oracle.version]
        assert found["name"] == self._oracle.model
        flat = {"inference_count": found["inference_count"], "execution_count": found["execution_count"]}
        for name in DURATIONS:
            flat |= {f"{name}.{key}": found["inference_stats"][name][key] for key in ("count", "ns")}
        assert all(type(value) is int and value >= 0 for value in flat.values())
        return flat

    def window(self, connection: RawSocket, requests: int) -> None:
        """Send requests as its C++ client does: binary, the id empty, the length of the JSON part in a header."""
        inputs = self._oracle.draw(1, np.random.default_rng(requests))
        body, length = binary_body(inputs, outputs=[tensor.name for tensor in self._oracle.outputs])
        message = json.dumps({"id": ""} | json.loads(body[:length])).encode()
        headers = {
            "user-agent": "libcurl-agent/1.0",
            "accept": "*/*",
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(message)),
        }
        path = infer_path(self._oracle.model, self._version)
        for _ in range(requests):
            connection.send(request_bytes(path, message + body[length:], headers=headers))
            answer = connection.receive()
            assert answer.status == 200, answer.body
            header = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])
            assert [output["name"] for output in header["outputs"]] == [tensor.name for tensor in self._oracle.outputs]
            assert header["id"]


@pytest.mark.parametrize("oracle", [one for one in EXAMPLES if one.model in ("breast_cancer", "digits")], ids=repr)
@pytest.mark.parametrize("is_pinned", [False, True], ids=["route", "version"])
def test_its_sequence_is_answered_and_its_windows_grow(
    gateway: GatewayProcess, oracle: Oracle, *, is_pinned: bool
) -> None:
    if not is_pinned:
        oracle = max((one for one in EXAMPLES if one.model == oracle.model), key=lambda one: one.version)
    analyzer = PerfAnalyzer(gateway, oracle, str(oracle.version) if is_pinned else "")
    analyzer.parse_model()
    assert analyzer.has_statistics()
    with RawSocket(gateway.data_address) as connection:
        for requests in (3, 5):
            before = analyzer.statistics()
            analyzer.window(connection, requests)
            after = analyzer.statistics()
            grown = {key: after[key] - before[key] for key in after}
            assert grown["inference_count"] == grown["success.count"] == grown["queue.count"] == requests
            assert 0 < grown["execution_count"] <= requests
            assert grown["compute_infer.ns"] > 0
            assert grown["queue.ns"] >= 0
            assert grown["cache_hit.count"] == grown["cache_miss.count"] == 0


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/trace/setting"),
        ("POST", "/v2/systemsharedmemory/unregister"),
        ("POST", "/v2/cudasharedmemory/unregister"),
    ],
)
def test_what_it_asks_only_with_options_that_are_not_here_says_so(
    gateway: GatewayProcess, method: str, path: str
) -> None:
    """`--trace-level` and `--shared-memory`: it stops with this text."""
    answer = gateway.ask(path, method, b"{}")
    assert answer.status == 501
    assert "not supported" in answer.error
