"""The admin plane as an application: every noun's calls behind one gate, and every failure as its address writes it.

Knows no call itself: `admin_*.py` have them, a file for each noun.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from gateway.api.auth import AdminAccess
from gateway.api.infer import HttpResponse
from gateway.api.middleware import AdminGate, refusal
from gateway.api.problems import CLIENT_CLOSED
from gateway.errors import GatewayError, InferenceFailed, InvalidRequest, MethodNotAllowed, UnknownPath


def admin_app(calls: Sequence[BaseRoute], access: AdminAccess, request_id: Callable[[bytes | None], bytes]) -> ASGIApp:
    """Build the admin application.

    Args:
        calls: Of every noun; the first one that fits an address answers.
        request_id: Echoes the caller's id where it can be one, else makes one.
    """
    app = Starlette(
        routes=calls,
        exception_handlers={
            GatewayError: _refuse,
            HTTPException: _not_found,
            ClientDisconnect: _gone,
            Exception: _crashed,
        },
    )
    app.router.redirect_slashes = False  # no client of the protocol follows redirects
    return AdminGate(app, access, request_id)


def json_answer(value: object, status: int = 200) -> Response:
    """Answer with a JSON document."""
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


def carried(response: HttpResponse) -> Response:
    """Carry an answer of the exchange over to this application."""
    answer = Response(response.body, status_code=response.status)
    for name, value in response.headers:
        answer.headers[name.decode("latin-1")] = value.decode("latin-1")
    return answer


async def _refuse(request: Request, error: Exception) -> Response:
    if not isinstance(error, GatewayError):
        raise TypeError(f"expected a GatewayError, got {error!r}")
    return carried(refusal(error, request.scope))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)  # nobody reads it, and it is no fault worth a traceback


async def _crashed(request: Request, error: Exception) -> Response:
    failure = InferenceFailed(f"the gateway failed ({type(error).__name__}); its log has the request id")
    return carried(refusal(failure, request.scope))


async def _not_found(request: Request, error: Exception) -> Response:
    """Write what the router says as one of our own failures."""
    if not isinstance(error, HTTPException):
        raise TypeError(f"expected an HTTPException, got {error!r}")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "").split(", ")
        return carried(refusal(MethodNotAllowed(request.method, tuple(sorted(allowed))), request.scope))
    if error.status_code == 404:
        return carried(refusal(UnknownPath(f"no such path: {request.scope['path'][:200]}"), request.scope))
    return carried(refusal(InvalidRequest(str(error.detail)), request.scope))
