"""Owns the promises about changing routes in the console: what is shown before, what happens, what a refusal says."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.console.browser import Console
from tests.console.conftest import FIRST_WINDOWS_MS
from tests.support.server import GatewayProcess

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.browser]


def weights(gateway: GatewayProcess, route: str) -> dict[str, float]:
    document = gateway.ask_admin(f"/admin/v1/routes/{route}").json
    return {variant["name"]: variant["weight"] for variant in document["variants"]}


async def test_a_shift_shows_what_would_move_and_then_moves_it(
    console: Console, gateway: GatewayProcess, route: str
) -> None:
    card = console.route(route)
    await console.button(f"Shift weights: {route}").click()
    await card.get_by_label("challenger weight in percent").fill("25.5")
    await expect(card).to_contain_text("15.5 % of the keys would move")
    await expect(card).to_contain_text("challenger 10 % → 25.5 %")
    assert weights(gateway, route) == {"stable": 90, "challenger": 10}
    await card.get_by_label("Reason").fill("the canary looks good")
    await card.get_by_role("button", name="Shift", exact=True).click()
    await expect(card).to_contain_text("is in force: stable 74.5 %, challenger 25.5 %")
    await expect(console.page.locator("#announcer")).to_contain_text("Shifted. Revision")
    await expect(console.button(f"Shift weights: {route}")).to_be_focused()
    assert weights(gateway, route) == {"stable": 74.5, "challenger": 25.5}
    audit = console.page.locator("#audit")
    await expect(audit.locator("li").first).to_contain_text("the canary looks good")


async def test_a_refused_shift_says_why_and_changes_nothing(
    console: Console, gateway: GatewayProcess, route: str
) -> None:
    console.expected.add(422)
    card = console.route(route)
    await console.button(f"Shift weights: {route}").click()
    await card.get_by_label("challenger weight in percent").fill("120")
    await expect(card.locator(".check-result")).to_contain_text("Not valid")
    await card.get_by_role("button", name="Shift", exact=True).click()
    await expect(card.locator(".refused")).to_contain_text("/weights/challenger")
    await expect(card.locator(".refused")).to_contain_text("120")
    assert weights(gateway, route) == {"stable": 90, "challenger": 10}


async def test_a_shift_does_not_overrule_somebody_who_was_faster(
    console: Console, gateway: GatewayProcess, route: str
) -> None:
    console.expected.add(412)
    card = console.route(route)
    await console.button(f"Shift weights: {route}").click()
    await card.get_by_label("challenger weight in percent").fill("50")
    await expect(card).to_contain_text("40 % of the keys would move")
    await console.button("Pause").click()
    assert gateway.ask_admin(f"/admin/v1/routes/{route}/shift", "POST", {"weights": {"challenger": 1}}).status == 200
    await card.get_by_role("button", name="Shift", exact=True).click()
    await expect(card.locator(".refused")).to_contain_text("Somebody changed this route meanwhile")
    assert weights(gateway, route) == {"stable": 99, "challenger": 1}
    await card.get_by_role("button", name="Go on from what it is now").click()
    await expect(card).to_contain_text("49 % of the keys would move")
    await card.get_by_role("button", name="Shift", exact=True).click()
    await expect(card).to_contain_text("stable 50 %, challenger 50 %")
    assert weights(gateway, route) == {"stable": 50, "challenger": 50}


async def test_an_abort_takes_a_click_and_an_enter(console: Console, gateway: GatewayProcess, route: str) -> None:
    await console.button(f"Abort: {route}").click()
    await expect(console.button("Abort now")).to_be_focused()
    await console.page.keyboard.press("Enter")
    await expect(console.route(route)).to_contain_text("Aborted.")
    assert weights(gateway, route) == {"stable": 100, "challenger": 0}
    assert gateway.ask_admin(f"/admin/v1/routes/{route}").json["shadows"]


async def test_an_abort_can_take_the_shadows_along_and_can_be_left(
    console: Console, gateway: GatewayProcess, route: str
) -> None:
    await console.button(f"Abort: {route}").click()
    await console.page.keyboard.press("Escape")
    await expect(console.button(f"Abort: {route}")).to_be_focused()
    assert weights(gateway, route) == {"stable": 90, "challenger": 10}
    await console.button(f"Abort: {route}").click()
    await console.page.get_by_label("Remove its shadows, too").check()
    await console.button("Abort now").click()
    await expect(console.route(route)).to_contain_text("Aborted.")
    assert not gateway.ask_admin(f"/admin/v1/routes/{route}").json["shadows"]


async def test_a_panel_that_is_not_there_yet_can_be_left(console: Console, route: str) -> None:
    """It is drawn with the next frame; a key that comes before is none the less heard."""
    opener = console.button(f"Abort: {route}")
    await opener.evaluate(
        "node => { node.click(); node.dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape', bubbles: true })); }"
    )
    await console.page.evaluate(
        "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
    )
    await expect(opener).to_have_attribute("aria-expanded", "false")
    await expect(opener).to_be_focused()


async def test_a_rollback_brings_an_earlier_revision_back(
    console: Console, gateway: GatewayProcess, route: str
) -> None:
    before = gateway.ask_admin(f"/admin/v1/routes/{route}").json["revision"]
    assert gateway.ask_admin(f"/admin/v1/routes/{route}/shift", "POST", {"weights": {"challenger": 60}}).status == 200
    card = console.route(route)
    await console.button(f"History: {route}").click()
    await card.get_by_role("button", name=f"Roll back to this: revision {before}", exact=True).click()
    await card.get_by_role("button", name=f"Roll back to revision {before}", exact=True).click()
    await expect(card).to_contain_text("Rolled back.")
    assert weights(gateway, route) == {"stable": 90, "challenger": 10}


async def test_a_document_can_be_edited_whole(console: Console, gateway: GatewayProcess, route: str) -> None:
    card = console.route(route)
    await console.button(f"Edit: {route}").click()
    editor = card.get_by_label("Document")
    text = await editor.input_value()
    await editor.fill("{")
    await expect(card.locator(".check-result")).to_contain_text("This is not JSON")
    await editor.fill(text.replace('"weight": 90', '"weight": 80').replace('"weight": 10', '"weight": 20'))
    await expect(card).to_contain_text("10 % of the keys would move")
    await card.get_by_role("button", name="Save", exact=True).click()
    await expect(card).to_contain_text("Saved.")
    assert weights(gateway, route) == {"stable": 80, "challenger": 20}


async def test_words_of_others_are_shown_as_words(console: Console, gateway: GatewayProcess, route: str) -> None:
    """A reason comes from whoever holds a token; it must never become markup."""
    reason = "<img src=x onerror=alert(1)><b>bold</b>"
    body = {"weights": {"challenger": 3}, "reason": reason}
    assert gateway.ask_admin(f"/admin/v1/routes/{route}/shift", "POST", body).status == 200
    await expect(console.route(route)).to_contain_text(reason)
    await expect(console.page.locator("#audit")).to_contain_text(reason)
    assert await console.page.locator("main img, main b:text-is('bold')").count() == 0


async def test_what_the_variants_predict_stands_side_by_side(
    console: Console, gateway: GatewayProcess, route: str
) -> None:
    card = console.route(route)
    await card.get_by_text("What the variants predict").click()
    await expect(card.locator(".comparison")).to_contain_text("p-value", timeout=FIRST_WINDOWS_MS)
    assert await card.locator(".comparison .histogram, .comparison .categories").count() >= 1
    await expect(card.locator(".comparison")).to_have_attribute("open", "")
    await card.get_by_text("What the variants predict").click()
    await expect(card.locator(".comparison .key")).to_have_count(0)
    # One is measured after the other: none is under way any more when the gateway is stopped.
    assert gateway.ask_admin(f"/admin/v1/routes/{route}/comparison").status == 200
