"""Owns the repository that the data plane's tests ask: one tiny model for each thing that can happen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.api.planes import Plane, data_plane
from tests.support import onnx_models
from tests.support.repositories import add_version, configure

OTHER_HASH = f'[files]\n"model.onnx" = "sha256:{"0" * 64}"\n'


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Publish the models.

    `echo` 1 and 2 answer x and 2x + 1; `text` and `long_queue` take strings; `several` has two inputs and outputs;
    `bfloat` answers BF16; `lookup` and `fragile` fail on some values; `patient` takes as many microseconds as x says;
    `narrow` has a queue of four rows; `broken` is FAILED and `waiting` LOADING.
    """
    root = tmp_path_factory.mktemp("repository")
    add_version(root, "echo", 1, onnx_models.identity())
    add_version(root, "echo", 2, onnx_models.affine())
    add_version(root, "text", 1, onnx_models.identity("BYTES", ("rows",)))
    add_version(root, "long_queue", 1, onnx_models.identity("BYTES", ("rows",)))
    configure(root, "long_queue", "[batching]\nmax_queue_rows = 50000\n")
    add_version(root, "several", 1, onnx_models.several())
    add_version(root, "bfloat", 1, onnx_models.cast("FP32", "BF16"))
    add_version(root, "lookup", 1, onnx_models.lookup())
    add_version(root, "fragile", 1, onnx_models.fragile())
    add_version(root, "patient", 1, onnx_models.slow_on_demand(2000))
    add_version(root, "narrow", 1, onnx_models.identity())
    configure(root, "narrow", "[batching]\nmax_rows = 2\nmax_queue_rows = 4\n")
    add_version(root, "broken", 1, b"no model")
    add_version(root, "waiting", 1, onnx_models.identity(), manifest=OTHER_HASH)
    return root


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def plane(repository: Path) -> AsyncIterator[Plane]:
    """Serve them; tests that load or unload start a plane of their own."""
    async with data_plane(repository) as loaded:
        yield loaded
