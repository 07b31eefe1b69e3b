"""Owns the way to an admin application without a server, and what all its answers owe.

Never decides what an answer should say.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx

from gateway.api.admin import admin_app
from gateway.api.admin_comparison import comparison_calls
from gateway.api.admin_drift import drift_calls
from gateway.api.admin_models import model_calls, replica_calls
from gateway.api.admin_openapi import admin_description
from gateway.api.admin_routes import route_calls
from gateway.api.auth import AdminAccess
from gateway.api.console import console_routes
from gateway.settings import AuthSettings
from tests.api.descriptions import Description
from tests.api.planes import Plane

DECLARED = Description(admin_description())


class AdminClient:
    """Asks the admin plane of one replica, and holds every answer to the description."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ask(
        self, method: str, path: str, body: object = b"", headers: Mapping[str, str] | None = None, *, bearer: str = ""
    ) -> httpx.Response:
        """Ask.

        Args:
            body: Bytes as they are, anything else as JSON.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = dict(headers or {}) | ({"authorization": f"Bearer {bearer}"} if bearer else {})
        answer = await self._client.request(method, path, content=content, headers=given)
        media_type = answer.headers.get("content-type", "").partition(";")[0]
        DECLARED.check(method, httpx.URL(path).path, answer.status_code, media_type, answer.content)
        assert answer.headers["x-request-id"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.status_code >= 400 and media_type == "application/problem+json":
            problem = answer.json()
            assert problem["status"] == answer.status_code
            assert problem["type"].startswith("urn:onnx-gateway:problem:")
            assert problem["request_id"] == answer.headers["x-request-id"]
            assert problem["instance"] == httpx.URL(path).path
        return answer


@asynccontextmanager
async def admin_client(
    plane: Plane, auth: AuthSettings | None = None, *, listens: str = "127.0.0.1"
) -> AsyncIterator[AdminClient]:
    """Ask the admin application of a plane, as app.py builds it."""
    calls = [
        *replica_calls(plane.controlplane, plane.metrics),
        *model_calls(plane.controlplane, plane.exchange),
        *route_calls(plane.routeplane, plane.dataplane, plane.shadowing),
        *drift_calls(plane.monitor),
        *comparison_calls(plane.monitor, plane.routeplane.in_force),
        *console_routes(),
    ]
    app = admin_app(calls, AdminAccess(auth or AuthSettings(), listens), plane.exchange.desk.request_id)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield AdminClient(client)
