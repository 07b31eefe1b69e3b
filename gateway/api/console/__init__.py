"""The console's page, style and scripts, read once and served from memory under a policy that lets nothing else in.

Never answers data: the page asks the admin API as any other client does.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # kept, and asked about each time: a new release shows at once
}

_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGE = "index.html"


def console_routes() -> list[Route]:
    """Build the routes of the page at `/console` and of its files beside it."""
    files = _read_files()

    async def page(request: Request) -> Response:
        return _answer(request, *files[_PAGE])

    async def file(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        return Response(status_code=404, headers=HEADERS) if found is None else _answer(request, *found)

    async def moved(_: Request) -> Response:
        return RedirectResponse("../console", headers=HEADERS)

    return [
        Route("/console", page),
        Route("/console/", moved),
        Route("/console/{name}", file),
    ]


def _read_files() -> dict[str, tuple[bytes, str, str]]:
    """Read every file: its content, media type and entity tag, by name."""
    found = {}
    for entry in resources.files(__name__).iterdir():
        media_type = _MEDIA_TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            found[entry.name] = (content, media_type, f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"')
    return found


def _answer(request: Request, content: bytes, media_type: str, etag: str) -> Response:
    headers = HEADERS | {"etag": etag}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
