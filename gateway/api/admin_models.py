"""The admin calls about models and this replica itself: probes, metrics, states, load and unload.

Changes nothing itself: every call goes to the control plane.
"""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.api.admin import carried, json_answer
from gateway.api.admin_openapi import admin_description
from gateway.api.bodies import limited_body
from gateway.api.exchange import Exchange
from gateway.api.v2 import Json, signature_json
from gateway.controlplane import ControlPlane
from gateway.errors import UnknownModel
from gateway.inference.model_config import ModelConfig
from gateway.inference.registry import VersionRecord
from gateway.inference.triton_config import TritonModelConfig
from gateway.telemetry.metrics import CONTENT_TYPE, Metrics

_ANY_METHOD = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def replica_calls(controlplane: ControlPlane, metrics: Metrics) -> list[BaseRoute]:
    """List the calls that probes, scrapers and readers of the description make."""

    async def livez(_: Request) -> Response:
        return json_answer({"live": True})

    async def readyz(_: Request) -> Response:
        ready = controlplane.is_ready()
        return json_answer({"ready": ready}, 200 if ready else 503)

    async def metrics_text(_: Request) -> Response:
        # Ten versions of 256 features are 22,000 lines: a sixth of a second in which nobody would be answered.
        return Response(await asyncio.to_thread(metrics.snapshot().text), media_type=CONTENT_TYPE)

    async def description(_: Request) -> Response:
        return json_answer(admin_description())

    return [
        Route("/livez", livez),
        Route("/readyz", readyz),
        Route("/metrics", metrics_text),
        Route("/openapi.json", description),
    ]


def model_calls(controlplane: ControlPlane, exchange: Exchange) -> list[BaseRoute]:
    """List the calls about what is loaded."""

    async def models(_: Request) -> Response:
        registry = controlplane.registry
        return json_answer(
            {
                "models": [
                    {"name": name, "versions": [_describe(record) for record in registry.versions(name)]}
                    for name in registry.models()
                ]
            }
        )

    async def change(request: Request) -> Response:
        action = request.path_params["action"]
        if action not in ("load", "unload"):
            raise HTTPException(404)
        model, digits = request.path_params["model"], request.path_params["version"]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
            raise UnknownModel(f"model '{model}' has no version '{digits[:50]}': versions are numbers")
        version = int(digits)
        if action == "load":
            await controlplane.load(model, version)
        else:
            await controlplane.unload(model, version)
        return await models(request)

    async def repository(request: Request) -> Response:
        body = await limited_body(request)
        rest = request.path_params["rest"].split("/")
        return carried(await exchange.answer_repository(request.method, rest, body, may_change=True))

    return [
        Route("/admin/v1/models", models),
        Route("/admin/v1/models/{model}/versions/{version}/{action:str}", change, methods=["POST"]),
        Route("/v2/repository/{rest:path}", repository, methods=_ANY_METHOD),
    ]


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
