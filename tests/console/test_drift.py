"""Owns the promises about drift in the console: the map names the feature, and a cell shows its distribution."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.console.browser import Console
from tests.console.conftest import DRIFTING, FIRST_WINDOWS_MS, ROUTE

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.browser]


async def test_the_map_leads_to_the_distribution_of_the_feature_that_drifts(console: Console) -> None:
    page = console.page
    await expect(page.locator("#attention")).to_contain_text(f"{ROUTE}:2 has drifted", timeout=FIRST_WINDOWS_MS)
    await page.get_by_role("button", name=f"{ROUTE}:2 drift", exact=True).click()
    row = page.locator(".heat tbody tr").filter(has_text=DRIFTING)
    newest = row.locator("[data-cell]").last
    await expect(newest).to_have_text("◆")
    await newest.click()
    drill = page.get_by_role("region", name=DRIFTING)
    await expect(drill.get_by_role("heading", name=DRIFTING)).to_be_focused()
    await expect(drill).to_contain_text("usable rows in the window")
    await expect(drill).to_contain_text("Why: ")
    assert await drill.locator("svg rect.current").count() > 10
    await drill.get_by_text("The same as a table").click()
    shares = await drill.locator("details td.number").all_inner_texts()
    assert len(shares) > 20
    await page.keyboard.press("Escape")
    await expect(drill).to_have_count(0)


async def test_the_map_is_walked_with_arrow_keys(console: Console) -> None:
    page = console.page
    cells = page.get_by_role("gridcell")
    await expect(cells.first).to_be_visible(timeout=FIRST_WINDOWS_MS)
    assert await page.locator('[role=gridcell][tabindex="0"]').count() == 1
    await page.locator('[role=gridcell][tabindex="0"]').focus()
    first = await page.evaluate("document.activeElement.dataset.cell")
    await page.keyboard.press("ArrowDown")
    second = await page.evaluate("document.activeElement.dataset.cell")
    assert second.split()[0] != first.split()[0]
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=second.split()[0])).to_be_focused()
