"""Owns the promises about a store that is away, or lost a revision: said plainly, and what can be done about it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.console.browser import opened_console
from tests.store.redis_server import RedisServer, free_port
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import GatewayProcess, ask, eventually, running_gateway

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.browser, pytest.mark.redis]

SPLIT = {
    "variants": [
        {"name": "stable", "model": "echo", "version": 2, "weight": 90},
        {"name": "challenger", "model": "echo", "version": 1, "weight": 10},
    ]
}


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(port=free_port()) as server:
        yield server


@pytest.fixture
def lonely(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Serve a split whose store is then stopped."""
    repository = tmp_path_factory.mktemp("lonely")
    add_version(repository, "echo", 1, onnx_models.identity())
    add_version(repository, "echo", 2, onnx_models.affine())
    with running_gateway(repository, arguments=["--redis", redis.url]) as process:
        place = f"{process.admin_url}/admin/v1/routes/echo"

        def is_split() -> bool:
            current = {"if-match": ask(place).headers.get("etag", "")}
            return ask(place, "PUT", SPLIT, current).status == 200

        eventually(is_split, what="the split")
        yield process


async def test_without_the_store_changes_are_refused_and_abort_works_here(
    browser: Browser, lonely: GatewayProcess, redis: RedisServer
) -> None:
    async with opened_console(browser, lonely.admin_url, expected=(503,)) as console:
        page, card = console.page, console.route("echo")
        await expect(page.locator("#state")).to_contain_text("StoreUp")
        redis.kill()
        await expect(page.locator("#state")).to_contain_text("StoreDown")
        await expect(page.locator("#attention")).to_contain_text("The store does not answer. Predictions go on")
        await console.button("Shift weights: echo").click()
        await expect(card).to_contain_text("A shift is refused until it is back.")
        await card.get_by_label("challenger weight in percent").fill("25")
        await card.get_by_role("button", name="Shift", exact=True).click()
        await expect(card.locator(".refused")).to_be_visible()
        await console.button("Abort: echo").click()
        await console.button("Abort now").click()
        await expect(card).to_contain_text("Aborted.")
        await expect(card.locator("tbody tr").first).to_contain_text("100 %")
        redis.start()
        await expect(page.locator("#state")).to_contain_text("StoreUp")
        await expect(card.locator("tbody tr").first).to_contain_text("100 %")
        await expect(page.locator("#audit li").filter(has_text="aborted").first).to_be_visible()


async def test_a_store_that_went_backwards_is_shown_until_somebody_adopts_it(
    browser: Browser, lonely: GatewayProcess, redis: RedisServer
) -> None:
    redis.save()
    shift = f"{lonely.admin_url}/admin/v1/routes/echo/shift"
    assert ask(shift, "POST", {"weights": {"challenger": 40}}).status == 200
    redis.restore()
    async with opened_console(browser, lonely.admin_url, expected=(503,)) as console:
        card = console.route("echo")
        await expect(console.page.locator("#attention")).to_contain_text("echo: the store went backwards")
        await expect(card.locator("tbody tr").nth(1)).to_contain_text("40 %")
        await card.get_by_role("button", name="Adopt what the store says about echo").click()
        await expect(card).to_contain_text("Adopted.")
        await expect(card.locator("tbody tr").nth(1)).to_contain_text("10 %")
        await expect(console.page.locator("#attention")).not_to_contain_text("went backwards")
