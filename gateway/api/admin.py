"""The admin plane: probes, metrics, model states, load and unload, its own description.

Changes nothing itself: every call goes to the control plane.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.api.admin_drift import drift_routes
from gateway.api.bodies import limited_body
from gateway.api.console import console_routes
from gateway.api.exchange import Exchange
from gateway.api.infer import HttpResponse
from gateway.api.openapi import admin_description
from gateway.api.problems import CLIENT_CLOSED, Headers, error_body, extra_headers, status_of
from gateway.api.v2 import Json, signature_json
from gateway.controlplane import ControlPlane
from gateway.errors import GatewayError, InferenceFailed, UnknownModel
from gateway.inference.model_config import ModelConfig
from gateway.inference.registry import VersionRecord
from gateway.inference.triton_config import TritonModelConfig
from gateway.monitoring.monitor import Monitor
from gateway.telemetry.metrics import CONTENT_TYPE, Metrics

Handler = Callable[[Request], Awaitable[Response]]


def admin_app(controlplane: ControlPlane, exchange: Exchange, metrics: Metrics, monitor: Monitor) -> Starlette:
    """Build the admin application."""

    async def livez(_: Request) -> Response:
        return _json({"live": True})

    async def readyz(_: Request) -> Response:
        ready = controlplane.is_ready()
        return _json({"ready": ready}, 200 if ready else 503)

    async def metrics_text(_: Request) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    async def description(_: Request) -> Response:
        return _json(admin_description())

    async def models(_: Request) -> Response:
        registry = controlplane.registry
        return _json(
            {
                "models": [
                    {"name": name, "versions": [_describe(record) for record in registry.versions(name)]}
                    for name in registry.models()
                ]
            }
        )

    async def change(request: Request) -> Response:
        model, digits = request.path_params["model"], request.path_params["version"]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise UnknownModel(f"model '{model}' has no version '{digits[:50]}': versions are numbers")
        version = int(digits)
        if request.path_params["action"] == "load":
            await controlplane.load(model, version)
        else:
            await controlplane.unload(model, version)
        return await models(request)

    async def repository(request: Request) -> Response:
        body = await limited_body(request)
        rest = request.path_params["rest"].split("/")
        return _carry(await exchange.answer_repository(request.method, rest, body, may_change=True))

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    app = Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics_text),
            Route("/openapi.json", description),
            *console_routes(),
            Route("/admin/v1/models", models),
            Route("/admin/v1/models/{model}/versions/{version}/{action:str}", _known_actions(change), methods=["POST"]),
            *drift_routes(monitor),
            Route("/v2/repository/{rest:path}", repository, methods=methods),
        ],
        exception_handlers={
            GatewayError: _refuse,
            HTTPException: _not_found,
            ClientDisconnect: _gone,
            Exception: _crashed,
        },
    )
    app.router.redirect_slashes = False  # no client of the protocol follows redirects
    return app


def _known_actions(handler: Handler) -> Handler:
    async def checked(request: Request) -> Response:
        if request.path_params["action"] not in ("load", "unload"):
            raise HTTPException(404)
        return await handler(request)

    return checked


async def _refuse(_: Request, error: Exception) -> Response:
    if not isinstance(error, GatewayError):
        raise TypeError(f"expected a GatewayError, got {error!r}")
    return _carry(HttpResponse(status_of(error), extra_headers(error), error_body(error)))


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED)  # nobody reads it, and it is no fault worth a traceback


async def _crashed(request: Request, error: Exception) -> Response:
    failure = InferenceFailed(f"the gateway failed ({type(error).__name__}) at {request.scope['path'][:200]}")
    return _carry(HttpResponse(status_of(failure), [], error_body(failure)))


async def _not_found(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise TypeError(f"expected an HTTPException, got {error!r}")
    text = f"{request.method} {request.scope['path'][:200]}: {error.detail.lower()}"
    headers: Headers = [(name.lower().encode(), value.encode()) for name, value in (error.headers or {}).items()]
    return _carry(HttpResponse(error.status_code, headers, orjson.dumps({"error": text})))


def _carry(response: HttpResponse) -> Response:
    carried = Response(response.body, status_code=response.status, media_type="application/json")
    for name, value in response.headers:
        if name not in (b"content-type", b"content-length"):
            carried.headers[name.decode("latin-1")] = value.decode("latin-1")
    return carried


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")


def _describe(record: VersionRecord) -> Json:
    described: Json = {"version": record.key.version, "state": record.state.value, "reason": record.reason}
    if record.served is None:
        return described
    loaded = record.served.loaded
    batching, execution = loaded.config.batching, loaded.config.execution
    return described | {
        "sha256": loaded.sha256,
        "providers": list(loaded.sessions[0].providers),
        "instances": execution.instances,
        "intra_op_threads": execution.intra_op_threads,
        "signature": signature_json(loaded.signature),
        "batching": {
            "shares_runs": loaded.sharing.shares_runs,
            "reason": loaded.sharing.reason,
            "fixed_rows": loaded.sharing.fixed_rows,
            "max_rows": batching.max_rows,
            "max_queue_delay_ms": batching.max_queue_delay_ms,
            "max_queue_rows": batching.max_queue_rows,
            "queued_rows": record.served.batcher.queued_rows,
        },
        "memory": {"file_bytes": loaded.file_bytes, "grown_bytes": loaded.grown_bytes},
        "load_s": round(loaded.load_s, 6),
        "manifest": _lineage(record),
        "warnings": _warnings(loaded.config),
    }


def _warnings(config: ModelConfig) -> list[str]:
    return [str(setting) for setting in config.ignored] if isinstance(config, TritonModelConfig) else []


def _lineage(record: VersionRecord) -> Json | None:
    manifest = record.served.loaded.manifest if record.served else None
    if manifest is None:
        return None
    return {
        "created": manifest.created,
        "data": manifest.data,
        "source": manifest.source,
        "metrics": manifest.metrics,
        "features": manifest.features,
        "labels": manifest.labels,
    }
