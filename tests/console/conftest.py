"""Owns what the console's tests share: one browser, and a gateway with callers and a feature that drifts.

Two small gateways stand beside it: one behind tokens, one whose Redis is taken away.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from tests.console.browser import Console, opened_console, running_browser
from tests.console.callers import Callers
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import EXAMPLE_MODELS, QUICK_STOP, GatewayProcess, ask, eventually, running_gateway

ROUTE = "penguins"
FIRST_WINDOWS_MS = 90_000
"""Until a version is judged for the first time, on a machine that has much else to do."""
DRIFTING = "body_mass_g"
WATCHED = """
[monitoring]
bucket_s = 1
window_buckets = 2
min_rows = 100
"""
DOCUMENT: dict[str, Any] = {
    "variants": [
        {"name": "stable", "model": ROUTE, "version": 2, "weight": 90},
        {"name": "challenger", "model": ROUTE, "version": 1, "weight": 10},
    ],
    "shadows": [{"name": "twin", "model": ROUTE, "version": 1, "sample": 100, "tolerance": 0.001}],
}
OPERATOR, READER = "operators-token-of-forty-characters-xxxxx", "readers-token-of-forty-characters-xxxxxxx"


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    async with running_browser() as running:
        yield running


@pytest.fixture(scope="package")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve an example twice, a model whose versions disagree, and one that cannot be loaded; callers ask always."""
    repository = tmp_path_factory.mktemp("watched")
    for version in ("1", "2"):
        shutil.copytree(EXAMPLE_MODELS / ROUTE / "1", repository / ROUTE / version)
    add_version(repository, "echo", 1, onnx_models.identity())
    add_version(repository, "echo", 2, onnx_models.affine())
    add_version(repository, "broken", 1, b"no model")
    config = QUICK_STOP + WATCHED
    with (
        running_gateway(repository, config=config) as process,
        Callers(process.data_url, ROUTE, drifting=DRIFTING),
    ):
        yield process


@pytest.fixture
def route(gateway: GatewayProcess) -> str:
    """Give the route its split and its shadow, whatever the test before left."""
    place = gateway.admin_url + f"/admin/v1/routes/{ROUTE}"

    def is_put() -> bool:
        """Tell whether it was taken: a store that has just come back may still be made to agree."""
        current = ask(place)
        etag = current.headers.get("etag", "")
        return current.status == 200 and ask(place, "PUT", DOCUMENT, {"if-match": etag}).status == 200

    eventually(is_put, what="the route's split")
    return ROUTE


@pytest_asyncio.fixture(loop_scope="package")
async def console(browser: Browser, gateway: GatewayProcess, route: str) -> AsyncIterator[Console]:
    """Open the console on a desktop."""
    async with opened_console(browser, gateway.admin_url) as opened:
        yield opened


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve a tiny model behind tokens: one may do everything, one may only look."""
    repository: Path = tmp_path_factory.mktemp("guarded")
    add_version(repository, "echo", 1, onnx_models.identity())
    add_version(repository, "echo", 2, onnx_models.affine())
    config = QUICK_STOP + _token("operator", OPERATOR, "read", "write", "abort") + _token("reader", READER, "read")
    with running_gateway(repository, config=config) as process:
        yield process


def _token(name: str, token: str, *scopes: str) -> str:
    listed = ", ".join(f'"{scope}"' for scope in scopes)
    digest = hashlib.sha256(token.encode()).hexdigest()
    return f'\n[[auth.tokens]]\nname = "{name}"\nsha256 = "{digest}"\nscopes = [{listed}]\n'
