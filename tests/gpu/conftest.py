"""Owns what the tests on a GPU share: where they run at all, and a gateway whose example models ask for CUDA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnxruntime as ort
import pytest

from tests.support import onnx_models
from tests.support.repositories import add_version, configure, copy_examples
from tests.support.server import GatewayProcess, running_gateway


@pytest.fixture(scope="session", autouse=True)
def cuda() -> None:
    """Fail with the reason where there is nothing to run on: whoever asks for these tests means them."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.fail("needs onnxruntime-gpu and an NVIDIA GPU: make test-gpu")


@pytest.fixture(scope="session")
def gateway(cuda: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve every example model on CUDA, and on the CPU what CUDA lacks of it; also one whose rows are dependent."""
    repository: Path = copy_examples(tmp_path_factory.mktemp("examples"))
    add_version(repository, "mean_centred", 1, onnx_models.mean_centred())
    for model in repository.iterdir():
        configure(repository, model.name, '[execution]\nproviders = ["cuda", "cpu"]\n')
    with running_gateway(repository) as process:
        yield process
