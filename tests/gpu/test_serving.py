"""A gateway on a GPU lets go of what it loads, outlives a request that is too large for it, and shares the card."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loadtests.bench import models as bench
from tests.e2e.family import running_family
from tests.e2e.wire import binary_body, infer_path, json_body, read_outputs
from tests.store.redis_server import RedisServer
from tests.support import onnx_models
from tests.support.repositories import add_version, configure, copy_examples
from tests.support.server import ROOT, GatewayProcess, HttpAnswer, eventually, running_gateway

CUDA = '[execution]\nproviders = ["cuda"]\n'
LIMITED = """
[batching]
enabled = false

[execution]
providers = [{name = "cuda", options = {gpu_mem_limit = 8388608}}]
"""
IMAGE = {"image": np.random.default_rng(1).standard_normal((2, 3, 64, 64), dtype=np.float32)}


def used_mib() -> int:
    """Return the memory in use on the first card."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def ask_binary(server: GatewayProcess, model: str, inputs: dict[str, np.ndarray]) -> HttpAnswer:
    body, length = binary_body(inputs)
    return server.ask(infer_path(model), "POST", body, {"inference-header-content-length": str(length)})


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the example models and one of convolutions, all for CUDA alone, and one with little memory."""
    repository = copy_examples(tmp_path_factory.mktemp("serving"))
    add_version(repository, "cnn", 1, bench.cnn().SerializeToString())
    add_version(repository, "limited", 1, onnx_models.affine(1 << 16))
    for model in repository.iterdir():
        configure(repository, model.name, CUDA)
    configure(repository, "limited", LIMITED)
    return repository


@pytest.fixture(scope="module")
def server(cuda: None, repository: Path) -> Iterator[GatewayProcess]:
    """Serve them."""
    with running_gateway(repository) as process:
        yield process


def test_cuda_alone_takes_networks_and_refuses_what_it_has_no_operators_for(server: GatewayProcess) -> None:
    states = {
        f"{model}:{version}": (found["state"], found.get("reason", ""))
        for model in ("breast_cancer", "diabetes", "digits", "digits_sequence", "penguins", "cnn")
        for version, found in server.versions(model).items()
    }
    assert {name for name, (state, _) in states.items() if state == "READY"} == {
        "digits:1",
        "digits_sequence:1",
        "cnn:1",
    }
    assert "does not run TreeEnsembleClassifier of this model" in states["breast_cancer:2"][1]
    refused = server.ask(infer_path("breast_cancer", 2), "POST", json_body({"features": np.zeros((1, 30), np.float32)}))
    assert refused.status == 503
    assert "'cpu' at the end of execution.providers would" in refused.error


@pytest.mark.parametrize("providers", ['["cuda"]', '["cuda", "cpu"]'])
def test_without_a_device_nothing_slips_to_the_cpu(tmp_path: Path, providers: str) -> None:
    add_version(tmp_path, "cnn", 1, bench.cnn().SerializeToString())
    configure(tmp_path, "cnn", f"[execution]\nproviders = {providers}\n")
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check", str(tmp_path), "--json"],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 1
    (fault,) = json.loads(checked.stdout)["faults"]
    assert "CUDA" in fault["reason"] or "'cuda' did not start" in fault["reason"]
    assert "does not run" not in fault["reason"]


def test_loading_and_unloading_leaves_no_memory_behind(server: GatewayProcess) -> None:
    used = []
    for _ in range(6):
        assert server.ask_admin("/admin/v1/models/cnn/versions/1/unload", "POST").status == 200
        used.append(used_mib())
        assert server.ask_admin("/admin/v1/models/cnn/versions/1/load", "POST").status == 200
        eventually(lambda: server.state("cnn", 1) == "READY", what="loaded")
        assert ask_binary(server, "cnn", IMAGE).status == 200
    assert max(used[1:]) <= used[0] + 8, used


def test_a_request_beyond_the_memory_limit_fails_and_nobody_else(server: GatewayProcess) -> None:
    few, many = ({"x": np.ones((rows, 1 << 16), np.float32)} for rows in (2, 64))
    assert ask_binary(server, "limited", few).status == 200
    failed = ask_binary(server, "limited", many)
    assert failed.status == 500
    assert "Available memory" in failed.error
    for model, inputs in (("limited", few), ("cnn", IMAGE)):
        assert ask_binary(server, model, inputs).status == 200


@pytest.mark.redis
def test_replicas_share_the_card(cuda: None, repository: Path, tmp_path: Path) -> None:
    add_version(tmp_path, "cnn", 1, bench.cnn().SerializeToString())
    configure(tmp_path, "cnn", CUDA)
    with RedisServer() as redis, running_family(tmp_path, redis.url) as family:
        first = read_outputs(ask_binary(family.gateway, "cnn", IMAGE))["probabilities"]
        for _ in range(20):
            answer = ask_binary(family.gateway, "cnn", IMAGE)
            np.testing.assert_allclose(read_outputs(answer)["probabilities"], first, rtol=1e-5, atol=1e-6)
        assert family.ready() == [200] * 3
