"""Owns a page as a person has it: the console in a real Chromium, with everything that it asked and said written down.

Never reaches into the page's modules; what a test knows, it read on the screen or in the accessibility tree.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP, PHONE = (1360, 900), (390, 844)
WITHIN_MS = 15_000

_REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (\d+)")


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run one Chromium until the block is left."""
    expect.set_options(timeout=WITHIN_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Console:
    """The console in a browser.

    Attributes:
        requests: Addresses that were asked.
        errors: What the browser complained of, less answers with an expected status.
        expected: Statuses of refusals that the test provokes.
    """

    page: Page
    url: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    expected: set[int] = field(default_factory=set)

    def route(self, name: str) -> Locator:
        """Find a route's card."""
        return self.page.locator(f"#route-{name}")

    def button(self, name: str) -> Locator:
        """Find a button by the whole of its name."""
        return self.page.get_by_role("button", name=name, exact=True)

    async def hold(self) -> None:
        """Hold the page to what is true of every visit: nothing asked elsewhere, no complaint, nothing kept."""
        origin = urlsplit(self.url)[:2]
        assert [url for url in self.requests if urlsplit(url)[:2] != origin] == []
        assert self.errors == []
        kept = await self.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]")
        assert kept == [0, 0, ""]

    def listen(self) -> None:
        """Write down what the page asks for and what the browser says of it."""
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        self.page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        refused = _REFUSED.match(message.text)
        if refused is None or int(refused[1]) not in self.expected:
            self.errors.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")


@asynccontextmanager
async def opened_console(
    browser: Browser,
    admin_url: str,
    *,
    scheme: Literal["light", "dark"] = "light",
    size: tuple[int, int] = DESKTOP,
    expected: tuple[int, ...] = (),
) -> AsyncIterator[Console]:
    """Open the console in a context of its own, and hold the visit to its promises at the end."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(WITHIN_MS)
    try:
        page = await context.new_page()
        console = Console(page, admin_url, expected=set(expected))
        console.listen()
        await page.goto(f"{admin_url}/console")
        yield console
        await console.hold()
    finally:
        await context.close()
