"""One inference request over HTTP, in two synchronous halves: begin() up to the queue, settle() from the answer on.

Waits for nothing itself: a door awaits `answer`, or hangs a callback on it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time

import msgspec

from gateway.api.payload import DecodedRequest, Limits, decode_request
from gateway.api.problems import CLIENT_CLOSED, REASON, Headers, error_body, extra_headers, status_of
from gateway.api.v1 import PREDICT, decode_predict, split_verb
from gateway.dataplane import DataPlane, Endpoint
from gateway.errors import GatewayError, InferenceFailed, InvalidRequest, UnknownModel, UnknownPath
from gateway.inference.batcher import Answer
from gateway.messages import Array, Timings
from gateway.settings import LimitSettings

log = logging.getLogger(__name__)

JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_MAX_ID_LENGTH = 128
_MAX_VERSION_DIGITS = 18
_HEADERS_READ = frozenset(
    {
        b"x-request-id",
        b"x-routing-key",
        b"x-gateway-variant",
        b"x-request-timeout-ms",
        b"inference-header-content-length",
        b"content-encoding",
        b"accept-encoding",
    }
)


class HttpResponse(msgspec.Struct, frozen=True):
    """A whole answer; content-length is among the headers.

    Attributes:
        accept_encoding: Set where the client would take the body compressed.
    """

    status: int
    headers: Headers
    body: bytes
    accept_encoding: bytes = b""


class InferCall:
    """An inference request that waits for its answer, holding a lease on its version.

    Attributes:
        answer: Resolves when settle() may be called; cancel it when the client has gone.
    """

    __slots__ = ("_assigned_by", "_began", "_desk", "_given", "_name", "_request", "_request_id", "answer", "endpoint")

    def __init__(
        self,
        desk: InferDesk,
        endpoint: Endpoint,
        *,
        name: str,
        given: dict[bytes, bytes],
        request_id: bytes,
        began: float,
        request: DecodedRequest,
        assigned_by: str,
        answer: asyncio.Future[Answer],
    ) -> None:
        self._desk = desk
        self._name = name
        self._given = given
        self._request_id = request_id
        self._began = began
        self._request = request
        self._assigned_by = assigned_by
        self.endpoint = endpoint
        self.answer = answer

    def settle(self) -> HttpResponse | None:
        """Write and count the answer; None when the client has gone. To be called once, when `answer` is done."""
        endpoint = self.endpoint
        endpoint.served.batcher.release()
        if self.answer.cancelled():
            self._desk.count(endpoint, CLIENT_CLOSED, self._began, "cancelled")
            return None
        try:
            outputs, timings = self.answer.result()
            response = self._encode(outputs, timings)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the caller gets an answer and it is logged
            return self._desk.failure(exc, endpoint, self._request_id, self._began)
        self._desk.count(endpoint, 200, self._began)
        observer = self._desk.dataplane.observer
        if observer is not None:
            request = self._request
            observer.record(endpoint.served.key, "primary", request.inputs, outputs, request.rows)
        return response

    def _encode(self, outputs: dict[str, Array], timings: Timings) -> HttpResponse:
        request = self._request
        endpoint = self.endpoint
        content, json_length = request.encode(
            outputs,
            endpoint.signature,
            model_name=self._name,
            version=str(endpoint.served.key.version),
            request_id=self._request_id.decode(),
        )
        headers = [
            JSON if json_length is None else _BINARY,
            (b"content-length", b"%d" % len(content)),
            (b"x-request-id", self._request_id),
            (
                b"server-timing",
                b"queue;dur=%.3f, inference;dur=%.3f" % (timings.queue_s * 1000, timings.inference_s * 1000),
            ),
            *_assignment_headers(endpoint, self._assigned_by),
        ]
        if json_length is not None:
            headers.append((b"inference-header-content-length", b"%d" % json_length))
        return HttpResponse(200, headers, content, self._given.get(b"accept-encoding", b""))


class InferDesk:
    """Takes inference requests in and writes their answers."""

    def __init__(self, dataplane: DataPlane, limits: LimitSettings) -> None:
        self.dataplane = dataplane
        self._limits = limits
        self._payload_limits = Limits(limits.max_json_depth, limits.max_tensor_elements)
        self._id_prefix = os.urandom(6).hex().encode()
        self._ids = itertools.count(1)

    def begin(self, parts: list[str], headers: Headers, body: bytes) -> InferCall | HttpResponse:
        """Read a POST to an infer path and queue it.

        Args:
            parts: The path split at its slashes.
            body: Inflated.
        Returns: The waiting call, or at once the answer that refuses it.
        """
        began = time.perf_counter()
        given = {name: value for name, value in headers if name in _HEADERS_READ}
        request_id = self.request_id(given.get(b"x-request-id"))
        endpoint: Endpoint | None = None
        name = ""
        try:
            name, version = address_of(parts)
            endpoint = self.dataplane.endpoint(name, version)
            request = self._decode(parts[1], given, body, endpoint)
            assigned_by = endpoint.assigned_by(
                routing_key=_text_of(given.get(b"x-routing-key")) or _routing_key(request),
                override=_text_of(given.get(b"x-gateway-variant")),
            )
            answer = endpoint.served.batcher.submit(
                request.inputs, request.rows, request.outputs, time.monotonic() + self._timeout_s(given, request)
            )
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the caller gets an answer and it is logged
            return self.failure(exc, endpoint, request_id, began)
        endpoint.served.batcher.acquire()
        return InferCall(
            self,
            endpoint,
            name=name,
            given=given,
            request_id=request_id,
            began=began,
            request=request,
            assigned_by=assigned_by,
            answer=answer,
        )

    def _decode(self, protocol: str, given: dict[bytes, bytes], body: bytes, endpoint: Endpoint) -> DecodedRequest:
        """Read a body as the protocol writes it."""
        if protocol == "v1":
            return decode_predict(body, endpoint.signature, self._payload_limits, model=endpoint.model)
        length = given.get(b"inference-header-content-length")
        return decode_request(
            body,
            None if length is None else _header_length(length),
            endpoint.signature,
            self._payload_limits,
            model=endpoint.model,
        )

    def failure(
        self, error: Exception, endpoint: Endpoint | None, request_id: bytes, began: float | None = None
    ) -> HttpResponse:
        """Write and count the answer to a request that failed; what is not our own error is logged as a fault."""
        if not isinstance(error, GatewayError):
            log.error("request_crashed", exc_info=error, extra={"request_id": request_id.decode()})
            error = InferenceFailed(f"the gateway failed ({type(error).__name__}); request id {request_id.decode()}")
        status = status_of(error)
        self.count(endpoint, status, began, REASON.get(type(error), "invalid"))
        return error_response(error, request_id)

    def count(self, endpoint: Endpoint | None, code: int, began: float | None, rejected: str = "") -> None:
        """Count one answer."""
        self.dataplane.count_answer(endpoint, code, 0.0 if began is None else time.perf_counter() - began)
        if rejected:
            self.dataplane.count_rejection(endpoint, rejected)

    def request_id(self, supplied: bytes | None) -> bytes:
        """Echo the caller's id when it may stand in a header and a log line, else make one."""
        if supplied and len(supplied) <= _MAX_ID_LENGTH and supplied.isascii() and supplied.decode().isprintable():
            return supplied
        return b"%s-%x" % (self._id_prefix, next(self._ids))

    def _timeout_s(self, given: dict[bytes, bytes], request: DecodedRequest) -> float:
        """Return the shortest of the server's limit, the header (ms) and the parameter (microseconds)."""
        timeout_s = self._limits.request_timeout_s
        header = given.get(b"x-request-timeout-ms")
        if header is not None:
            if not (header.isdigit() and len(header) <= 12 and int(header)):
                raise InvalidRequest("header 'x-request-timeout-ms': expected a whole number of milliseconds above 0")
            timeout_s = min(timeout_s, int(header) / 1000)
        parameter = request.parameters.get("timeout")
        if parameter is not None:
            if type(parameter) is not int or parameter < 0:
                raise InvalidRequest("parameter 'timeout': expected a whole number of microseconds")
            if 0 < parameter < timeout_s * 1e6:  # an integer of JSON may be too large to become a float
                timeout_s = parameter / 1e6
        return timeout_s


def is_infer(parts: list[str]) -> bool:
    """Tell whether a split path has the form of an infer path of v2, or of a predict path of v1."""
    if parts[-1] == "infer":
        return parts[1:3] == ["v2", "models"] and len(parts) in (5, 7)
    return parts[-1].endswith(PREDICT) and parts[1:3] == ["v1", "models"] and len(parts) in (4, 6)


def address_of(parts: list[str]) -> tuple[str, int | None]:
    """Return the name and the version that an infer path asks for; see version_in."""
    if parts[1] == "v1":
        parts, _ = split_verb(parts)
    return parts[3], version_in(parts)


def version_in(parts: list[str]) -> int | None:
    """Return the version that a path below /v2/models/{m} or /v1/models/{m}, without its verb, pins, or None.

    Raises:
        UnknownPath: the path has another form, or the version is no number.
        UnknownModel: the number is too long to be a version.
    """
    if len(parts) < 6 or parts[4] != "versions":
        if len(parts) > 5 or (len(parts) == 5 and parts[4] == "versions"):
            raise UnknownPath(f"no such path: {'/'.join(parts)[:200]}")
        return None
    digits = parts[5]
    if not (digits.isascii() and digits.isdigit()):
        raise UnknownPath(f"no such path: versions are numbers, got '{digits[:50]}'")
    if len(digits) > _MAX_VERSION_DIGITS:
        raise UnknownModel(f"model '{parts[3]}' has no version {digits[:50]}")
    return int(digits)


def error_response(error: GatewayError, request_id: bytes) -> HttpResponse:
    """Write an error as every client of the protocol reads it."""
    return json_response(status_of(error), error_body(error), (b"x-request-id", request_id), *extra_headers(error))


def json_response(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> HttpResponse:
    """Make an answer of a JSON body."""
    return HttpResponse(status, [JSON, (b"content-length", b"%d" % len(body)), *headers], body)


def _assignment_headers(endpoint: Endpoint, assigned_by: str) -> Headers:
    """Say who answers and why; made once for each endpoint and reason."""
    headers = endpoint.headers.get(assigned_by)
    if headers is None:
        headers = [(b"x-gateway-model", endpoint.model.encode()), (b"x-gateway-assigned-by", assigned_by.encode())]
        if endpoint.revision is not None:
            headers.append((b"x-gateway-variant", endpoint.variant.encode()))
            headers.append((b"x-gateway-revision", b"%d" % endpoint.revision))
        endpoint.headers[assigned_by] = headers
    return headers


def _header_length(value: bytes) -> int:
    if not (value.isdigit() and len(value) <= 18):
        raise InvalidRequest("header 'inference-header-content-length': expected a number of bytes")
    return int(value)


def _routing_key(request: DecodedRequest) -> str | None:
    key = request.parameters.get("routing_key")
    if key is not None and type(key) is not str:
        raise InvalidRequest("parameter 'routing_key': expected a string")
    return key


def _text_of(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None
