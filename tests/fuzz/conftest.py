"""Owns the gateway that malformed requests are sent to, and what it serves as good requests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from tests.fuzz.cases import SETTINGS, ModelUnderTest, TensorUnderTest
from tests.support.server import EXAMPLE_MODELS, GatewayProcess, running_gateway


@pytest.fixture(scope="package")
def gateway() -> Iterator[GatewayProcess]:
    """Serve the example models; a traceback in the log fails the last test."""
    with running_gateway(EXAMPLE_MODELS, config=SETTINGS) as process:
        yield process


@pytest.fixture(scope="package")
def models(gateway: GatewayProcess) -> tuple[ModelUnderTest, ...]:
    """Take each example model's first golden request, and what the server says of its tensors."""
    found = []
    for path in sorted(EXAMPLE_MODELS.glob("*/1/golden.json")):
        name = path.parts[-3]
        golden = json.loads(path.read_text())["cases"][0]["inputs"]
        metadata = gateway.ask(f"/v2/models/{name}").json
        inputs = tuple(_tensor(spec, golden[spec["name"]]) for spec in metadata["inputs"])
        found.append(ModelUnderTest(name, inputs, tuple(spec["name"] for spec in metadata["outputs"])))
    return tuple(found)


def _tensor(spec: dict[str, str], data: object) -> TensorUnderTest:
    array = np.array(data, dtype=object)
    return TensorUnderTest(spec["name"], spec["datatype"], array.shape, tuple(array.ravel().tolist()))
