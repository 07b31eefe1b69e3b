"""Owns the promises about tokens in the console: typed in, kept in memory, and refusals in words."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.console.browser import Console, opened_console
from tests.console.conftest import OPERATOR, READER
from tests.support.server import GatewayProcess

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.browser]


async def give(console: Console, token: str) -> None:
    await console.page.get_by_label("Token", exact=True).fill(token)
    await console.button("Use this token").click()


async def test_a_wrong_token_is_refused_and_a_right_one_opens_the_page(
    browser: Browser, guarded: GatewayProcess
) -> None:
    async with opened_console(browser, guarded.admin_url, expected=(401,)) as console:
        page = console.page
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_be_visible()
        await expect(page.get_by_label("Token", exact=True)).to_be_focused()
        await give(console, "not-the-token")
        await expect(dialog).to_contain_text("This gateway does not know that token.")
        asked = len([url for url in console.requests if "/admin/" in url])
        await expect(page.locator("#pulse")).to_contain_text("live")
        assert len([url for url in console.requests if "/admin/" in url]) == asked, "it asks on without a token"
        await expect(page.locator("#attention")).not_to_contain_text("Nothing needs a look")  # it cannot know
        await give(console, OPERATOR)
        await expect(dialog).to_be_hidden()
        await expect(console.route("echo")).to_contain_text("echo:2")
        assert OPERATOR not in await page.content()
        await page.reload()
        await expect(dialog).to_be_visible()  # nothing was kept


async def test_a_token_that_may_only_look_is_told_so(browser: Browser, guarded: GatewayProcess) -> None:
    async with opened_console(browser, guarded.admin_url, expected=(401, 403)) as console:
        await give(console, READER)
        await console.button("Edit: echo").click()
        card = console.page.get_by_role("form", name="Edit echo")
        editor = card.get_by_label("Document")
        await editor.fill((await editor.input_value()).replace('"version": 2', '"version": 1'))
        await expect(card).to_contain_text("/variants/0/version 2 → 1")
        await card.get_by_role("button", name="Save", exact=True).click()
        await expect(card).to_contain_text("Your token may not do this.")
        await expect(card).to_contain_text("write")
    assert guarded.ask_admin("/admin/v1/routes").status == 401
