"""Owns the pictures of the console in docs/images: `make screenshots` takes them of two replicas under real traffic.

Draws nothing itself: what is on a picture, the gateway said.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, Page, expect

from loadtests.processes import ROOT, RunningGateway, ask, gateway, locust, redis_server, until
from tests.console.browser import running_browser

IMAGES = ROOT / "docs" / "images"
ROUTE, DRIFTING = "breast_cancer", "worst_texture"
LOAD_S, DRIFT_FROM_S = 900, 90
WINDOW_S = 6
TOKENS = {"maria": "a-token-for-the-pictures-of-maria", "deploy-bot": "a-token-for-the-pictures-of-the-bot"}
VIEWS: Mapping[str, tuple[Literal["light", "dark"], tuple[int, int]]] = {
    "light": ("light", (1280, 940)),
    "dark": ("dark", (1280, 940)),
    "phone": ("light", (390, 844)),
}
CONFIG = f"""
[server]
drain_delay_s = 0
[monitoring]
bucket_s = 1
window_buckets = {WINDOW_S}
min_rows = 100
""" + "".join(
    f"""
[[auth.tokens]]
name = "{name}"
sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"
scopes = ["read", "write", "abort", "override", "predict"]
"""
    for name, token in TOKENS.items()
)
SPLIT = {
    "variants": [
        {"name": "stable", "model": ROUTE, "version": 2, "weight": 98},
        {"name": "challenger", "model": ROUTE, "version": 1, "weight": 2},
    ],
    "shadows": [{"name": "previous", "model": ROUTE, "version": 1, "sample": 50, "tolerance": 0.05}],
    "reason": "the smaller trees, two percent to begin with",
}


def main() -> None:
    """Take every picture; it takes five minutes."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-pictures-")))
        store = stack.enter_context(redis_server(folder / "redis"))
        replicas = []
        for number in ("1", "2"):
            arguments = ["--redis", store, "--state-dir", str(folder / number / "state")]
            started = gateway(ROOT / "models", folder=folder / number, config=CONFIG, arguments=arguments)
            replicas.append(stack.enter_context(started))
        asyncio.run(_take_all(replicas[0], folder))


async def _take_all(replica: RunningGateway, folder: Path) -> None:
    IMAGES.mkdir(exist_ok=True)
    async with running_browser() as browser, AsyncExitStack() as stack:
        pages = {name: await stack.enter_async_context(_opened(browser, replica, name)) for name in VIEWS}
        _change(replica, "deploy-bot", "", SPLIT, method="PUT")
        _change(replica, "maria", "/shift", {"weights": {"challenger": 10}, "reason": "no complaints at two percent"})
        await asyncio.sleep(8)
        await _take(pages, "idle")
        drift = [
            "--drift",
            f"shift:{ROUTE}/{DRIFTING}:2@{DRIFT_FROM_S}",
            "--drift",
            f"nulls:penguins/sex@{DRIFT_FROM_S}",
        ]
        options = [
            "--duration-s",
            str(LOAD_S),
            "--peak-users",
            "10",
            "--rate",
            "10",
            "--models",
            f"{ROUTE},penguins",
            *drift,
        ]
        with locust(replica.data_url, options, folder=folder) as users:
            await asyncio.sleep(DRIFT_FROM_S - 15)
            await _take(pages, "load")
            for page in pages.values():
                await page.get_by_role("button", name=f"Shift weights: {ROUTE}", exact=True).click()
                card = page.locator(f"#route-{ROUTE}")
                await card.get_by_label("challenger weight in percent").fill("25")
                await card.get_by_label("Reason").fill("p99 and errors as good as stable's")
                await expect(card).to_contain_text("would move")
            await _take(pages, "shift", at=f"#route-{ROUTE}")
            for page in pages.values():
                await page.locator(f"#route-{ROUTE}").get_by_role("button", name="Cancel", exact=True).click()
            await asyncio.to_thread(until, lambda: _drifts(replica), within_s=500, what="the drift is seen")
            await asyncio.sleep(8 * WINDOW_S)
            for page in pages.values():
                await page.get_by_role("button", name=f"{ROUTE}:2 drift", exact=True).click()
                await page.locator(f'[data-cell="{DRIFTING} 0"]').click()
                await expect(page.locator(".histogram")).to_be_visible()
            await _take({view: page for view, page in pages.items() if view != "phone"}, "drift", at="#drift")
            await _take({"phone": pages["phone"]}, "drift", at=".drill")
            users.stop()


@asynccontextmanager
async def _opened(browser: Browser, replica: RunningGateway, view: str) -> AsyncIterator[Page]:
    scheme, (width, height) = VIEWS[view]
    context = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    try:
        page = await context.new_page()
        await page.goto(f"{replica.admin_url}/console")
        await page.get_by_role("dialog").get_by_label("Token").fill(TOKENS["maria"])
        await page.get_by_role("button", name="Use this token").click()
        await expect(page.locator("#route-list")).to_contain_text(ROUTE)
        yield page
    finally:
        await context.close()


async def _take(pages: Mapping[str, Page], phase: str, *, at: str = "body") -> None:
    """Take one picture of each page, scrolled to what it is about."""
    for view, page in pages.items():
        await page.locator(at).evaluate(
            "node => scrollTo({ top: node.getBoundingClientRect().top + scrollY - 64, behavior: 'instant' })"
        )
        await page.mouse.move(0, 0)
        await page.evaluate("new Promise(requestAnimationFrame)")
        file = IMAGES / f"console-{phase}-{view}.png"
        await page.screenshot(path=file)
        sys.stdout.write(f"{file.relative_to(ROOT)}  {file.stat().st_size // 1024} KB\n")


def _change(replica: RunningGateway, who: str, action: str, body: object, *, method: str = "POST") -> None:
    place = f"{replica.admin_url}/admin/v1/routes/{ROUTE}"
    headers = {"authorization": f"Bearer {TOKENS[who]}"}
    if method == "PUT":
        headers["if-match"] = ask(place, headers=headers).headers["etag"]
    answer = ask(place + action, method, body, headers)
    if answer.status != 200:
        raise RuntimeError(f"{method} {action or ROUTE}: {answer.status} {answer.content!r}")


def _drifts(replica: RunningGateway) -> bool:
    return replica.metric("gateway_drift_state", model=ROUTE, version="2", feature=DRIFTING, state="drift") == 1


if __name__ == "__main__":
    main()
