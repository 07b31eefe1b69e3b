"""Owns the promises about the page as a whole: what it shows at a glance, for whom it can be used, on what it fits."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.console.browser import DESKTOP, PHONE, Console, opened_console
from tests.console.conftest import DRIFTING, FIRST_WINDOWS_MS
from tests.support.server import GatewayProcess, ask

pytestmark = [pytest.mark.asyncio(loop_scope="package"), pytest.mark.browser]


async def settled(page: Page, route: str) -> None:
    """Wait until every part of the page has had its answer."""
    await expect(page.locator(f"#route-{route} tbody tr").first).to_contain_text("ms")
    for part in ("shadow-list", "drift-view", "model-list", "replica-list", "audit-list"):
        await expect(page.locator(f"#{part}")).not_to_contain_text("Asking")


async def test_the_state_of_everything_is_on_the_page(console: Console, route: str) -> None:
    page = console.page
    await settled(page, route)
    state = page.locator("#state")
    for words in ("Ready", "1 FAILED", "Store", "Up", "1 alive"):
        await expect(state).to_contain_text(words)
    await expect(page.locator("#attention")).to_contain_text("broken:1 failed to load")
    await expect(page.locator("#models")).to_contain_text("broken:1")
    await expect(page.locator("#replicas")).to_contain_text("this one")
    await expect(page.locator("#shadows")).to_contain_text("comparisons agree")
    await page.get_by_text("Revisions of 2 routes").click()
    await expect(page.locator("#replicas .applied")).to_contain_text("echo")
    rate = page.locator(f"#route-{route} tbody tr").first.locator("td").nth(2)
    await expect(rate).not_to_have_text("0")


async def test_a_shadow_that_disagrees_names_the_requests(console: Console, gateway: GatewayProcess) -> None:
    current = gateway.ask_admin("/admin/v1/routes/echo")
    document = {
        "variants": [{"name": "stable", "model": "echo", "version": 2, "weight": 100}],
        "shadows": [{"name": "before", "model": "echo", "version": 1, "sample": 100}],
    }
    place = f"{gateway.admin_url}/admin/v1/routes/echo"
    assert ask(place, "PUT", document, {"if-match": current.headers["etag"]}).status == 200
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    assert gateway.ask("/v2/models/echo/infer", "POST", body, {"x-request-id": "one-to-look-at"}).status == 200
    shadow = console.page.get_by_role("article", name="before")
    await expect(shadow).to_contain_text("0 % of 1 comparison agrees")
    await shadow.get_by_text("Requests that differed most (1)").click()
    row = shadow.get_by_role("row", name="one-to-look-at")
    await expect(row).to_contain_text("4")  # 2 x 3 + 1 and 3
    await expect(row).to_be_visible()


@pytest.mark.parametrize(("scheme", "size"), [("light", DESKTOP), ("dark", PHONE)], ids=["light", "dark-phone"])
async def test_the_page_breaks_no_rule_of_accessibility_and_fits(
    browser: Browser, gateway: GatewayProcess, route: str, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    async with opened_console(browser, gateway.admin_url, scheme=scheme, size=size) as console:
        page = console.page
        await settled(page, route)
        await console.button(f"Shift weights: {route}").click()
        await console.route(route).get_by_label("challenger weight in percent").fill("20")
        await expect(console.route(route)).to_contain_text("would move")
        await page.locator(f'[data-cell="{DRIFTING} 0"]').click(timeout=FIRST_WINDOWS_MS)
        await expect(page.get_by_role("heading", name=DRIFTING)).to_be_visible()
        assert await violations(page) == []
        await console.button(f"Abort: {route}").click()
        await expect(console.button("Abort now")).to_be_visible()
        assert await violations(page, within=f"#route-{route}") == []
        wider = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wider == 0, "the page scrolls sideways"


async def violations(page: Page, *, within: str = "body") -> list[str]:
    """Run axe, and name each element that breaks a rule."""
    found: dict[str, Any] = (await Axe().run(page, context=within)).response
    return [f"{rule['id']}: {node['html'][:160]}" for rule in found["violations"] for node in rule["nodes"]]


async def test_the_theme_can_be_chosen(console: Console) -> None:
    page = console.page
    background = "getComputedStyle(document.body).backgroundColor"
    light = await page.evaluate(background)
    await console.button("Theme: auto").click()
    await console.button("Theme: light").click()
    await expect(console.button("Theme: dark")).to_be_visible()
    assert await page.evaluate(background) != light


async def test_a_page_that_is_paused_asks_nothing(console: Console) -> None:
    page = console.page
    await expect(page.locator("#pulse")).to_contain_text("live")
    await console.button("Pause").click()
    await expect(page.locator("#pulse")).to_contain_text("paused")
    await page.wait_for_load_state("networkidle")
    asked = len(console.requests)
    await page.wait_for_load_state("networkidle")
    await page.wait_for_timeout(2500)  # longer than the shortest interval between two answers
    assert len(console.requests) == asked


async def test_a_gateway_that_is_gone_is_said_to_be_gone(browser: Browser, guarded: GatewayProcess) -> None:
    """What was known stays on the page, and is called old."""
    async with opened_console(browser, guarded.admin_url, expected=(401,)) as console:
        await console.page.route("**/metrics", lambda intercepted: intercepted.abort())
        await console.page.route("**/readyz", lambda intercepted: intercepted.abort())
        await expect(console.page.locator("#attention")).to_contain_text("The gateway does not answer")
        console.errors.clear()


async def test_rates_and_quantiles_follow_from_two_readings(console: Console) -> None:
    """The reader of the Prometheus text, asked by itself: labels with quotes, a restart, an empty histogram."""
    found = await console.page.evaluate(
        r"""async () => {
          const { parseMetrics, quantile, Traffic } = await import("/console/metrics.js");
          const text = (requests, failed, fast, all) => parseMetrics([
            "# HELP gateway_requests_total x",
            `gateway_requests_total{route="a \\"b\\" \\\\ c",variant="v",code="200"} ${requests}`,
            `gateway_requests_total{route="a \\"b\\" \\\\ c",variant="v",code="503"} ${failed}`,
            `gateway_request_duration_seconds_bucket{route="a \\"b\\" \\\\ c",variant="v",le="0.001"} ${fast}`,
            `gateway_request_duration_seconds_bucket{route="a \\"b\\" \\\\ c",variant="v",le="0.002"} ${all}`,
            `gateway_request_duration_seconds_bucket{route="a \\"b\\" \\\\ c",variant="v",le="+Inf"} ${all}`,
          ].join("\n"));
          const traffic = new Traffic();
          traffic.add(text(100, 0, 100, 100), 10);
          traffic.add(text(190, 10, 150, 200), 20);
          const { rate, errorRatio, p50, p99 } = traffic.over(10, 'a "b" \\ c', "v");
          const restarted = new Traffic();
          restarted.add(text(100, 0, 1, 1), 10);
          restarted.add(text(5, 0, 1, 1), 20);
          return { rate, errorRatio, p50, p99, none: quantile([], 0.5), restarted: restarted.over(10) };
        }"""
    )
    assert found["rate"] == 10
    assert found["errorRatio"] == 0.1
    assert found["p50"] == pytest.approx(0.001)
    assert found["p99"] == pytest.approx(0.00198)
    assert found["none"] is None
    assert found["restarted"] is None
