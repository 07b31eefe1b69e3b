"""The OpenAPI 3.1 description of the data plane, and the parts that both planes' descriptions are made of.

Written beside the code it describes; tests hold every answer they see against it.
"""

from __future__ import annotations

from gateway import __version__
from gateway.api.schemas import DATA, Json, ref

EVERYWHERE = {
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
    401: "Predictions need a token here, and there was none, or none that is known.",
    403: "The token lacks the scope, or the caller may not choose the variant.",
    413: "The body, a tensor, or more rows than the queue can ever hold.",
    415: "The content encoding is neither gzip nor deflate.",
    500: "The model failed on these inputs.",
    503: "Overloaded, or known but not READY; Retry-After says when to try again.",
    504: "The deadline passed.",
}
_TOKEN: Json = {"type": "http", "scheme": "bearer", "description": "As `gateway token` prints it."}
_PREDICT = [{"token": ["predict"]}, {}]  # the second one where the settings ask for no token
MODEL: Json = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
VERSION: Json = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


def data_description() -> Json:
    """Describe the data plane."""
    paths: dict[str, Json] = {
        "/v2": {"get": get("The server and its extensions", "ServerMetadata")},
        "/v2/": {"get": get("The server and its extensions", "ServerMetadata")},
        "/v2/health/live": {"get": get("Whether the process runs", "Live")},
        "/v2/health/ready": {"get": get("Whether traffic may come", "Ready", refusal="Ready")},
        "/v2/models": {"get": get("Names that can be asked for", "ModelNames")},
        "/v2/models/stats": {"get": get("Statistics of every READY version", "Statistics")},
        "/": {"get": get("Whether the process runs, as KServe's v1 client asks", "Alive")},
        "/v1/models": {"get": get("Names that can be asked for", "ModelNames")},
        "/openapi.json": {"get": get("This description", "Description")},
        **repository_paths(
            {
                401: "Where there are tokens: none, or none that is known.",
                403: "Switched off here; use the admin port. Or the token lacks the scope.",
            }
        ),
    }
    for pinned, parameters in (("", [MODEL]), ("/versions/{version}", [MODEL, VERSION])):
        v2, v1 = f"/v2/models/{{model}}{pinned}", f"/v1/models/{{model}}{pinned}"
        described: dict[str, Json] = {
            v2: {"get": get("Inputs and outputs", "ModelMetadata", _UNKNOWN)},
            f"{v2}/ready": {"get": get("Whether it is READY", "ModelReady", _UNKNOWN, refusal="ModelReady")},
            f"{v2}/config": {"get": get("Settings, as Triton writes them", "ModelConfiguration", _UNKNOWN)},
            f"{v2}/stats": {"get": get("Counters since the load", "Statistics", _UNKNOWN)},
            f"{v2}/infer": {"post": _infer()},
            v1: {"get": get("States of its versions", "ModelStatus", _UNKNOWN)},
            f"{v1}/metadata": {"get": get("Inputs and outputs", "ModelSignature", _UNKNOWN)},
            f"{v1}:predict": {"post": _predict()},
        }
        paths |= {path: {"parameters": parameters, **calls} for path, calls in described.items()}
    return document("onnx-gateway data plane", paths, DATA)


def repository_paths(refusals: dict[int, str]) -> dict[str, Json]:
    """Describe the model_repository extension, which both planes offer."""
    wrong = {400: "The body is not what this call takes."}
    index = operation("Every model version and its state", wrong, json_form("Index"))
    paths: dict[str, Json] = {"/v2/repository/index": {"post": index | _optional_body("IndexRequest")}}
    for action in ("load", "unload"):
        errors = {
            400: "The body is not what this call takes, or the load failed.",
            404: "No such model.",
            409: "In use.",
        }
        change = operation(f"{action.capitalize()} a model's versions on this replica", errors | refusals, {})
        paths[f"/v2/repository/models/{{model}}/{action}"] = {
            "parameters": [MODEL],
            "post": change | _optional_body("LoadRequest"),
        }
    return paths


def _infer() -> Json:
    binary: Json = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    length = header(
        "inference-header-content-length",
        "Bytes of the JSON part when binary tensors follow it; 0 for a raw body.",
        {"type": "integer", "minimum": 0},
    )
    return operation("Predict", _INFER_ERRORS, json_form("InferResponse") | binary) | {
        "parameters": [*_infer_headers(), length],
        "requestBody": {"required": True, "content": json_form("InferRequest") | binary},
        "security": _PREDICT,
    }


def _predict() -> Json:
    errors = _INFER_ERRORS | {501: "A label, or another verb than predict."}
    return operation("Predict", errors, json_form("PredictResponse")) | {
        "parameters": _infer_headers(),
        "requestBody": {"required": True, "content": json_form("PredictRequest")},
        "security": _PREDICT,
    }


def _infer_headers() -> list[Json]:
    text: Json = {"type": "string"}
    milliseconds: Json = {"type": "integer", "minimum": 1}
    return [
        header("x-request-id", "Echoed; made up when absent.", text),
        header("x-routing-key", "Sticky assignment to a variant.", text),
        header("x-gateway-variant", "Asks for a variant by name.", text),
        header("x-request-timeout-ms", "The answer is worthless after this long.", milliseconds),
    ]


def query(name: str, says: str, schema: Json) -> Json:
    """Describe a parameter in the query."""
    return {"name": name, "in": "query", "required": False, "description": says, "schema": schema}


def header(name: str, says: str, schema: Json) -> Json:
    """Describe a header of a request."""
    return {"name": name, "in": "header", "required": False, "description": says, "schema": schema}


def _optional_body(form: str) -> Json:
    return {"requestBody": {"required": False, "content": json_form(form)}}


def json_form(form: str) -> Json:
    """Name the form of a JSON body."""
    return {"application/json": {"schema": ref(form)}}


def get(summary: str, form: str, errors: dict[int, str] | None = None, *, refusal: str = "Error") -> Json:
    """Describe a GET that answers with JSON."""
    return operation(summary, errors or {}, json_form(form), refusal=refusal)


def operation(summary: str, errors: dict[int, str], content: Json, *, refusal: str = "Error") -> Json:
    """Describe a call.

    Args:
        errors: Beside those that any address may answer.
        content: Of a 200, by media type; empty for no body.
        refusal: The form that 503 may have, too: readiness says no in words of its own.
    """
    responses: dict[str, Json] = {"200": {"description": "Done.", **({"content": content} if content else {})}}
    for status, says in sorted((EVERYWHERE | errors).items()):
        form = json_form("Error")
        if status == 503 and refusal != "Error":
            form = {"application/json": {"schema": {"anyOf": [ref(refusal), ref("Error")]}}}
        responses[str(status)] = {"description": says, "content": form}
    return {"summary": summary, "responses": responses}


def document(title: str, paths: dict[str, Json], forms: dict[str, Json]) -> Json:
    """Put a description together."""
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {"schemas": forms, "securitySchemes": {"token": _TOKEN}},
    }
