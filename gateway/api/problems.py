"""Errors as answers: the one place that knows which failure has which HTTP status.

Words come from the error itself; no path of the disk, no traceback, no token.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import orjson

from gateway import errors
from gateway.errors import GatewayError

STATUS: dict[type[GatewayError], int] = {
    errors.InvalidRequest: 400,
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.MissingScope: 403,
    errors.ForeignHost: 403,
    errors.ForeignOrigin: 403,
    errors.UnknownPath: 404,
    errors.UnknownModel: 404,
    errors.MethodNotAllowed: 405,
    errors.BodyTimeout: 408,
    errors.ModelInUse: 409,
    errors.TooLarge: 413,
    errors.UnsupportedEncoding: 415,
    errors.HeadersTooLarge: 431,
    errors.UnknownRoute: 404,
    errors.RevisionMismatch: 412,
    errors.StoreRegressed: 409,
    errors.InvalidRoute: 422,
    errors.InvalidBaseline: 422,
    errors.PreconditionRequired: 428,
    errors.InsufficientBaseline: 422,
    errors.UnreadableRevision: 500,
    errors.WindowMismatch: 500,
    errors.NotSupported: 501,
    errors.NotReady: 503,
    errors.Overloaded: 503,
    errors.ShuttingDown: 503,
    errors.StoreUnavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.InferenceFailed: 500,
    errors.LoadFailed: 400,
    errors.InvalidModel: 400,
    errors.InvalidReference: 400,
    errors.InvalidSetting: 400,
    errors.WrongUsage: 400,
    errors.CannotStart: 500,
    errors.InvalidData: 400,
    errors.PublishRefused: 409,
    errors.CallRefused: 502,
}
"""Every leaf of the error tree; a test checks that none is missing."""

REASON: dict[type[GatewayError], str] = {
    errors.InvalidRequest: "invalid",
    errors.InvalidInput: "invalid",
    errors.BodyTimeout: "body_timeout",
    errors.TooLarge: "too_large",
    errors.UnsupportedEncoding: "encoding",
    errors.HeadersTooLarge: "headers_too_large",
    errors.Unauthenticated: "unauthorised",
    errors.MissingScope: "unauthorised",
    errors.UnknownModel: "unknown_model",
    errors.NotReady: "not_ready",
    errors.Overloaded: "overloaded",
    errors.ShuttingDown: "shutting_down",
    errors.DeadlineExceeded: "deadline",
    errors.InferenceFailed: "failed",
}
"""Label values of `rejected_total` for failures of inference requests; "cancelled" is counted without an error."""

PROBLEM_JSON = "application/problem+json"
PROBLEM_TYPES = "urn:onnx-gateway:problem:"
"""What every problem type begins with; the rest is the failure's name and stays when its words change."""

CLIENT_CLOSED = 499
_MAX_TEXT = 2000

Headers = list[tuple[bytes, bytes]]


def header_value(headers: Headers, name: bytes) -> bytes | None:
    """Find a header's first value."""
    return next((value for given, value in headers if given == name), None)


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write headers as they are sent."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def status_of(error: GatewayError) -> int:
    """Return the HTTP status of a failure."""
    return STATUS[type(error)]


def extra_headers(error: GatewayError) -> Headers:
    """Return what the status obliges to say beside the text: when to retry, what is allowed, what is understood."""
    if isinstance(error, errors.Unavailable):
        return [(b"retry-after", str(error.retry_after_s).encode())]
    if isinstance(error, errors.MethodNotAllowed):
        return [(b"allow", ", ".join(error.allowed).encode())]
    if isinstance(error, errors.UnsupportedEncoding):
        return [(b"accept-encoding", b"gzip, deflate")]
    if isinstance(error, errors.Unauthenticated):
        return [(b"www-authenticate", b'Bearer realm="onnx-gateway"')]
    if isinstance(error, errors.MissingScope):
        scopes = " ".join(error.scopes).encode()
        return [(b"www-authenticate", b'Bearer realm="onnx-gateway", error="insufficient_scope", scope="%b"' % scopes)]
    if isinstance(error, errors.RevisionMismatch) and error.current is not None:
        return [(b"etag", quoted(error.current).encode())]
    return []


def error_body(error: GatewayError) -> bytes:
    """Write `{"error": "<text>"}`, the form every client of the protocol reads; what the text quotes may be long."""
    return orjson.dumps({"error": _cut(str(error))})


def problem_body(error: GatewayError, *, instance: str, request_id: str) -> bytes:
    """Write problem details (RFC 9457), the form of the admin API.

    Args:
        instance: The path that was asked for.
    """
    name = type(error).__name__
    words = [word.lower() for word in re.findall("[A-Z][a-z]*", name)]
    problem: dict[str, object] = {
        "type": PROBLEM_TYPES + "-".join(words),
        "title": " ".join(words).capitalize(),
        "status": status_of(error),
        "detail": _cut(str(error)),
        "error": _cut(str(error)),  # as every other answer of the gateway has it: one reader does for both forms
        "instance": _cut(instance),
        "request_id": request_id,
    }
    match error:
        case errors.InvalidRoute() | errors.InvalidBaseline():
            problem["errors"] = [{"pointer": pointer, "detail": _cut(detail)} for pointer, detail in error.errors]
        case errors.RevisionMismatch():
            problem["etag"] = None if error.current is None else quoted(error.current)
        case errors.StoreUnavailable():
            problem["outcome"] = error.outcome
        case errors.StoreRegressed():
            problem["known"] = None if error.known is None else quoted(error.known)
            problem["stored"] = None if error.stored is None else quoted(error.stored)
        case _:
            pass
    return orjson.dumps(problem)


def quoted(etag: str) -> str:
    """Write an entity tag as it stands in a header."""
    return f'"{etag}"'


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]} …"
