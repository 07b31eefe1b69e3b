"""Owns how the console's files are served, and what stands in none of them.

What the page does in a browser is held in tests/console.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib import resources

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from gateway.api import console

FILES = {entry.name: entry.read_text() for entry in resources.files(console).iterdir() if "." in entry.name}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
ADDRESS = re.compile(r"""(?:https?:)?//[\w.-]+\.\w""")
NAMESPACE = "http://www.w3.org/2000/svg"  # a name, not an address that anything is asked of


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(Starlette(routes=console.console_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as found:
        yield found


async def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(client: httpx.AsyncClient) -> None:
    answer = await client.get("/console")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".py")])
async def test_every_file_is_served_with_its_type_and_its_tag(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/console/{name}")
    assert answer.status_code == 200
    assert answer.text == FILES[name]
    kind = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.headers["content-type"].partition(";")[0] == kind[name.rpartition(".")[2]]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    again = await client.get(f"/console/{name}", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304
    assert not again.content


@pytest.mark.parametrize("name", ["__init__.py", "nobody.js", "%2e%2e", "..%2fadmin.py", "index.html/x"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/console/{name}")).status_code == 404


async def test_a_slash_too_many_leads_to_the_page(client: httpx.AsyncClient) -> None:
    answer = await client.get("/console/")
    assert answer.is_redirect
    assert answer.next_request is not None
    assert answer.next_request.url.path == "/console"


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".py")])
def test_no_file_names_another_address(name: str) -> None:
    assert ADDRESS.findall(FILES[name].replace(NAMESPACE, "")) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_text_runs_text_or_stores_anything(name: str) -> None:
    forbidden = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|srcdoc|eval\(|new Function"
        r"|localStorage|sessionStorage|indexedDB|document\.cookie|caches\."
    )
    assert re.findall(forbidden, SCRIPTS[name]) == []


def test_the_page_has_no_style_and_no_script_of_its_own() -> None:
    page = FILES["index.html"]
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page) == []
