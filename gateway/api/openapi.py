"""OpenAPI 3.1 descriptions of both planes, each served by its own listener.

Written beside the code it describes; tests hold every answer they see against them.
"""

from __future__ import annotations

from gateway import __version__
from gateway.api.schemas import ADMIN, DATA, Json, ref

_EVERYWHERE = {
    400: "Not a request in HTTP/1.1.",
    408: "The request did not arrive whole in time.",
    413: "The body is too large.",
    431: "The headers are too large.",
    500: "A fault of the gateway's own, logged with the request's id.",
    503: "Too many connections; Retry-After says when to try again.",
}
_UNKNOWN = {404: "No such model or version, or unloaded.", 503: "Known but not READY."}
_INFER_ERRORS = _UNKNOWN | {
    400: "The request is wrong.",
    413: "The body, a tensor, or more rows than the queue can ever hold.",
    415: "The content encoding is neither gzip nor deflate.",
    500: "The model failed on these inputs.",
    503: "Overloaded, or known but not READY; Retry-After says when to try again.",
    504: "The deadline passed.",
}
_MODEL: Json = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION: Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def data_description() -> Json:
    """Describe the data plane."""
    paths: dict[str, Json] = {
        "/v2": {"get": _get("The server and its extensions", "ServerMetadata")},
        "/v2/": {"get": _get("The server and its extensions", "ServerMetadata")},
        "/v2/health/live": {"get": _get("Whether the process runs", "Live")},
        "/v2/health/ready": {"get": _get("Whether traffic may come", "Ready", refusal="Ready")},
        "/v2/models": {"get": _get("Names that can be asked for", "ModelNames")},
        "/v2/models/stats": {"get": _get("Statistics of every READY version", "Statistics")},
        "/": {"get": _get("Whether the process runs, as KServe's v1 client asks", "Alive")},
        "/v1/models": {"get": _get("Names that can be asked for", "ModelNames")},
        "/openapi.json": {"get": _get("This description", "Description")},
        **_repository_paths({403: "Switched off here; use the admin port."}),
    }
    for pinned, parameters in (("", [_MODEL]), ("/versions/{version}", [_MODEL, _VERSION])):
        v2, v1 = f"/v2/models/{{model}}{pinned}", f"/v1/models/{{model}}{pinned}"
        operations: dict[str, Json] = {
            v2: {"get": _get("Inputs and outputs", "ModelMetadata", _UNKNOWN)},
            f"{v2}/ready": {"get": _get("Whether it is READY", "ModelReady", _UNKNOWN, refusal="ModelReady")},
            f"{v2}/config": {"get": _get("Settings, as Triton writes them", "ModelConfiguration", _UNKNOWN)},
            f"{v2}/stats": {"get": _get("Counters since the load", "Statistics", _UNKNOWN)},
            f"{v2}/infer": {"post": _infer()},
            v1: {"get": _get("States of its versions", "ModelStatus", _UNKNOWN)},
            f"{v1}/metadata": {"get": _get("Inputs and outputs", "ModelSignature", _UNKNOWN)},
            f"{v1}:predict": {"post": _predict()},
        }
        paths |= {path: {"parameters": parameters, **operation} for path, operation in operations.items()}
    return _document("onnx-gateway data plane", paths, DATA)


def admin_description() -> Json:
    """Describe the admin plane."""
    change_errors = {
        400: "The version cannot be loaded; the text says why.",
        404: "No such model or version.",
        409: "In use.",
    }
    paths: dict[str, Json] = {
        "/livez": {"get": _get("Whether the process runs; depends on nothing else", "Live")},
        "/readyz": {"get": _get("Whether traffic may come", "Ready", refusal="Ready")},
        "/metrics": {"get": _operation("Prometheus text", {}, {"text/plain": {"schema": {"type": "string"}}})},
        "/openapi.json": {"get": _get("This description", "Description")},
        "/console": {"get": _operation("A page for people", {}, {"text/html": {"schema": {"type": "string"}}})},
        "/admin/v1/models": {"get": _get("Models: states, reasons, signatures, batching, memory", "Models")},
        **_drift_paths(),
        **_repository_paths({}),
    }
    for action in ("load", "unload"):
        operation = _operation(f"{action.capitalize()} a version on this replica", change_errors, _json("Models"))
        path = f"/admin/v1/models/{{model}}/versions/{{version}}/{action}"
        paths[path] = {"parameters": [_MODEL, _VERSION], "post": operation}
    return _document("onnx-gateway admin plane", paths, ADMIN)


def _drift_paths() -> dict[str, Json]:
    unknown = {404: "No such version is loaded.", 503: "The store does not answer."}
    role = _query("role", "Rows answered to callers, or seen as a shadow.", {"enum": ["primary", "shadow"]})
    report = _get("The last decided window of a version", "DriftReport", unknown | {400: "A query is wrong."})
    baseline = _operation(
        "Declare the windows of a period in control: later ones are ranked against them, on every replica",
        unknown | {400: "The body is not JSON.", 422: "No period, or fewer than 200 windows with enough rows in it."},
        _json("Baseline"),
    )
    return {
        "/admin/v1/drift": {"get": _get("The state of every version, without its features", "DriftReports")},
        "/admin/v1/drift/{model}/{version}": {
            "parameters": [_MODEL, _VERSION],
            "get": report
            | {
                "parameters": [
                    role,
                    _query("history", "Adds so many earlier windows, at most 500.", {"type": "integer", "minimum": 0}),
                    _query("counts", "Adds the rows per bin of window and reference.", {"enum": ["false", "true"]}),
                    _query(
                        "window",
                        "The last decided one, or the latest complete buckets, which decide nothing.",
                        {"enum": ["decided", "sliding"]},
                    ),
                ]
            },
        },
        "/admin/v1/drift/{model}/{version}/baseline": {
            "parameters": [_MODEL, _VERSION],
            "post": baseline
            | {"parameters": [role], "requestBody": {"required": True, "content": _json("BaselinePeriod")}},
        },
    }


def _repository_paths(refusals: dict[int, str]) -> dict[str, Json]:
    wrong = {400: "The body is not what this call takes."}
    index = _operation("Every model version and its state", wrong, _json("Index"))
    paths: dict[str, Json] = {"/v2/repository/index": {"post": index | _optional_body("IndexRequest")}}
    for action in ("load", "unload"):
        errors = {
            400: "The body is not what this call takes, or the load failed.",
            404: "No such model.",
            409: "In use.",
        }
        change = _operation(f"{action.capitalize()} a model's versions on this replica", errors | refusals, {})
        paths[f"/v2/repository/models/{{model}}/{action}"] = {
            "parameters": [_MODEL],
            "post": change | _optional_body("LoadRequest"),
        }
    return paths


def _infer() -> Json:
    binary: Json = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    length = _header(
        "inference-header-content-length",
        "Bytes of the JSON part when binary tensors follow it; 0 for a raw body.",
        {"type": "integer", "minimum": 0},
    )
    return _operation("Predict", _INFER_ERRORS, _json("InferResponse") | binary) | {
        "parameters": [*_infer_headers(), length],
        "requestBody": {"required": True, "content": _json("InferRequest") | binary},
    }


def _predict() -> Json:
    errors = _INFER_ERRORS | {501: "A label, or another verb than predict."}
    return _operation("Predict", errors, _json("PredictResponse")) | {
        "parameters": _infer_headers(),
        "requestBody": {"required": True, "content": _json("PredictRequest")},
    }


def _infer_headers() -> list[Json]:
    text: Json = {"type": "string"}
    milliseconds: Json = {"type": "integer", "minimum": 1}
    return [
        _header("x-request-id", "Echoed; made up when absent.", text),
        _header("x-routing-key", "Sticky assignment to a variant.", text),
        _header("x-gateway-variant", "Asks for a variant by name.", text),
        _header("x-request-timeout-ms", "The answer is worthless after this long.", milliseconds),
    ]


def _query(name: str, says: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": says, "schema": schema}


def _header(name: str, says: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "required": False, "description": says, "schema": schema}


def _optional_body(form: str) -> Json:
    return {"requestBody": {"required": False, "content": _json(form)}}


def _json(form: str) -> Json:
    return {"application/json": {"schema": ref(form)}}


def _get(summary: str, form: str, errors: dict[int, str] | None = None, *, refusal: str = "Error") -> Json:
    return _operation(summary, errors or {}, _json(form), refusal=refusal)


def _operation(summary: str, errors: dict[int, str], content: Json, *, refusal: str = "Error") -> Json:
    """Describe a call.

    Args:
        errors: Beside those that any address may answer.
        content: Of a 200, by media type; empty for no body.
        refusal: The form that 503 may have, too: readiness says no in words of its own.
    """
    responses: dict[str, Json] = {"200": {"description": "Done.", **({"content": content} if content else {})}}
    for status, says in sorted((_EVERYWHERE | errors).items()):
        form = _json("Error")
        if status == 503 and refusal != "Error":
            form = {"application/json": {"schema": {"anyOf": [ref(refusal), ref("Error")]}}}
        responses[str(status)] = {"description": says, "content": form}
    return {"summary": summary, "responses": responses}


def _document(title: str, paths: dict[str, Json], forms: dict[str, Json]) -> Json:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {"schemas": forms},
    }
