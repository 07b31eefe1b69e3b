"""Owns the servers that tests share: one with every example model, one with tight limits.

Tests that change what is loaded, or stop a server, start their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import onnx_models
from tests.support.repositories import add_version, configure, copy_examples
from tests.support.server import QUICK_STOP, GatewayProcess, running_gateway

BODY_TIMEOUT_S = 1.0
MAX_BODY_BYTES = 8192
MAX_HEADER_BYTES = 2048
MAX_CONNECTIONS = 24

TIGHT = f"""
{QUICK_STOP}
[limits]
max_body_bytes = {MAX_BODY_BYTES}
max_header_bytes = {MAX_HEADER_BYTES}
body_timeout_s = {BODY_TIMEOUT_S}
max_connections = {MAX_CONNECTIONS}
"""

NARROW = """
[batching]
max_rows = 2
max_queue_rows = 4
"""


@pytest.fixture(scope="session")
def example_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy every example model, and add one whose rows influence each other."""
    repository = copy_examples(tmp_path_factory.mktemp("examples"))
    add_version(repository, "mean_centred", 1, onnx_models.mean_centred())
    return repository


@pytest.fixture(scope="session")
def gateway(example_repository: Path) -> Iterator[GatewayProcess]:
    """Serve the example models with the limits that a user gets."""
    with running_gateway(example_repository) as process:
        yield process


@pytest.fixture(scope="session")
def tight_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve tiny models within limits that a test can reach.

    `echo` answers at once. `patient` takes as many microseconds as the largest row says, each request alone.
    `narrow` is the same with a queue of 4 rows and runs of 2.
    """
    repository = tmp_path_factory.mktemp("tight")
    add_version(repository, "echo", 1, onnx_models.identity(shape=("rows", 1)))
    # Slow enough by itself to run in a thread: the event loop stays free for what the tests want to see.
    for name in ("patient", "narrow"):
        add_version(repository, name, 1, onnx_models.slow_on_demand(2000))
    configure(repository, "patient", "[batching]\nenabled = false\n")
    configure(repository, "narrow", NARROW)
    with running_gateway(repository, config=TIGHT) as process:
        yield process
