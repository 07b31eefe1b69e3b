"""The admin calls about routes: documents, changes by compare-and-set, history, shadows, audit, replicas.

Changes nothing itself: every call goes to the route plane, and every answer is what it holds, in words.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.api.admin import json_answer
from gateway.api.bodies import limited_body, parse_json
from gateway.api.middleware import caller_of
from gateway.api.preconditions import read_precondition
from gateway.api.problems import quoted
from gateway.api.route_answers import agreement, audited, replica, revision, route_status
from gateway.api.route_bodies import read_abort, read_reason, read_rollback, read_shift
from gateway.api.v2 import Json
from gateway.dataplane import DataPlane
from gateway.errors import InvalidRequest, UnknownRoute
from gateway.routeplane import Actor, Changed, RoutePlane
from gateway.routing.document import NAME
from gateway.routing.published import PublishedRoute
from gateway.shadowing import Shadowing

MAX_AUDIT_RECORDS = 1000
_WEAK = "W/"  # no store ever gives such a tag
_PLACE = "/admin/v1/routes"

_Act = Callable[[Request, str, object], Awaitable[Response]]


def route_calls(routeplane: RoutePlane, dataplane: DataPlane, shadowing: Shadowing) -> list[BaseRoute]:
    """List the calls."""
    calls = _RouteCalls(routeplane, dataplane, shadowing)
    one = f"{_PLACE}/{{route}}"
    acts: dict[str, _Act] = {
        "validate": calls.validate,
        "shift": calls.shift,
        "abort": calls.abort,
        "rollback": calls.rollback,
        "adopt": calls.adopt,
    }
    return [
        Route(_PLACE, calls.every),
        Route(one, calls.one, methods=["GET", "PUT", "DELETE"]),
        *(Route(f"{one}/{name}", _acting(act), methods=["POST"]) for name, act in acts.items()),
        Route(f"{one}/history", calls.history),
        Route(f"{one}/shadows", calls.shadows),
        Route("/admin/v1/audit", calls.audit),
        Route("/admin/v1/replicas", calls.replicas),
    ]


class _RouteCalls:
    """What each call does, in the order of reading it, doing it and answering."""

    def __init__(self, routeplane: RoutePlane, dataplane: DataPlane, shadowing: Shadowing) -> None:
        self._routeplane = routeplane
        self._dataplane = dataplane
        self._shadowing = shadowing

    async def every(self, _: Request) -> Response:
        return json_answer({"routes": [self._shown(route) for route in await self._routeplane.list_routes()]})

    async def one(self, request: Request) -> Response:
        if request.method == "PUT":
            return await self.put(request)
        if request.method == "DELETE":
            return await self.delete(request)
        return await self.show(request)

    async def show(self, request: Request) -> Response:
        return self._answer(await self._routeplane.read(_known_name(request)))

    async def put(self, request: Request) -> Response:
        name: str = request.path_params["route"]
        condition = read_precondition(request.scope["headers"])
        document = parse_json(await limited_body(request))
        changed = await self._routeplane.put(
            name,
            document,
            if_match=await self._one_tag(name, condition.tags),
            must_be_new=condition.must_be_new,
            by=_actor(request),
        )
        return self._changed(changed)

    async def delete(self, request: Request) -> Response:
        name = _known_name(request)
        tags = read_precondition(request.scope["headers"]).tags
        reason = read_reason(name, await _optional(request))
        await self._routeplane.delete(name, if_match=await self._one_tag(name, tags), by=_actor(request, reason))
        return Response(status_code=204)

    async def validate(self, _: Request, name: str, body: object) -> Response:
        found = await self._routeplane.validate(name, body)
        return json_answer(
            {
                "valid": found.valid,
                "errors": [{"pointer": pointer, "detail": detail} for pointer, detail in found.errors],
                "moved_percent": found.moved_percent,
                "changes": list(found.changes),
            }
        )

    async def shift(self, request: Request, name: str, body: object) -> Response:
        asked = read_shift(name, body)
        tag = await self._one_tag(name, read_precondition(request.scope["headers"]).tags)
        by = _actor(request, asked.reason)
        return self._changed(await self._routeplane.shift(name, asked.weights, if_match=tag, by=by))

    async def abort(self, request: Request, name: str, body: object) -> Response:
        asked = read_abort(name, body)
        by = _actor(request, asked.reason)
        return self._changed(await self._routeplane.abort(name, shadows=asked.shadows, by=by))

    async def rollback(self, request: Request, name: str, body: object) -> Response:
        asked = read_rollback(name, body)
        tag = await self._one_tag(name, read_precondition(request.scope["headers"]).tags)
        by = _actor(request, asked.reason)
        return self._changed(await self._routeplane.rollback(name, asked.revision, if_match=tag, by=by))

    async def adopt(self, request: Request, name: str, body: object) -> Response:
        by = _actor(request, read_reason(name, body))
        return self._changed(await self._routeplane.adopt(name, by=by))

    async def history(self, request: Request) -> Response:
        records = await self._routeplane.history(_known_name(request))
        return json_answer({"revisions": [revision(record) for record in records]})

    async def shadows(self, request: Request) -> Response:
        name = _known_name(request)
        if name not in self._routeplane.in_force():
            await self._routeplane.read(name)  # 404 unless it exists, and is only not served here
        return json_answer({"shadows": [agreement(found) for found in self._shadowing.agreements(name)]})

    async def audit(self, request: Request) -> Response:
        limit = _limit(request.query_params)
        return json_answer({"records": [audited(record) for record in await self._routeplane.audit(limit)]})

    async def replicas(self, _: Request) -> Response:
        return json_answer({"replicas": [replica(report) for report in await self._routeplane.replicas()]})

    # --- answers ------------------------------------------------------------------------------------

    def _changed(self, changed: Changed) -> Response:
        answer = self._answer(changed.route, 201 if changed.is_created else 200)
        if changed.is_created:
            answer.headers["location"] = f"{_PLACE}/{changed.route.route.name}"
        return answer

    def _answer(self, published: PublishedRoute, status: int = 200) -> Response:
        answer = json_answer(self._shown(published), status)
        answer.headers["etag"] = quoted(published.position.etag)
        return answer

    def _shown(self, published: PublishedRoute) -> Json:
        name = published.route.name
        in_force = self._routeplane.in_force().get(name)
        status: Json | None = None
        if in_force is not None:
            status = {"revision": in_force.revision} | route_status(self._dataplane.status(name, time.monotonic()))
        return published.document | {"status": status}

    async def _one_tag(self, name: str, tags: tuple[str, ...] | None) -> str | None:
        """Choose the one of several tags that the route has, if it has any."""
        if tags is None:
            return None
        if len(tags) <= 1:
            return tags[0] if tags else _WEAK
        try:
            current = (await self._routeplane.read(name)).position.etag
        except UnknownRoute:
            current = ""
        return current if current in tags else tags[0]


def _acting(act: _Act) -> Callable[[Request], Awaitable[Response]]:
    """Read what every POST to a route has: a name, and a body that may be left out."""

    async def acted(request: Request) -> Response:
        is_validate = request.scope["path"].endswith("/validate")
        name: str = request.path_params["route"] if is_validate else _known_name(request)
        body = parse_json(await limited_body(request)) if is_validate else await _optional(request)
        return await act(request, name, body)

    return acted


async def _optional(request: Request) -> object:
    body = await limited_body(request)
    return parse_json(body) if body else {}


def _known_name(request: Request) -> str:
    name: str = request.path_params["route"]
    if NAME.fullmatch(name) is None:
        raise UnknownRoute(f"there is no route '{name[:64]}'")
    return name


def _actor(request: Request, reason: str = "") -> Actor:
    caller = caller_of(request.scope)
    return Actor(name=caller.name, reason=reason, request_id=caller.request_id)


def _limit(query: Mapping[str, str]) -> int:
    given = query.get("limit", str(MAX_AUDIT_RECORDS))
    if not (given.isascii() and given.isdigit() and len(given) <= 9 and int(given)):
        raise InvalidRequest(f"query 'limit': expected a number of records, at most {MAX_AUDIT_RECORDS}")
    return min(int(given), MAX_AUDIT_RECORDS)
