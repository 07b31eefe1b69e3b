"""One inference request over HTTP, in two synchronous halves: begin() up to the queue, settle() from the answer on.

Waits for nothing itself: a door awaits `answer`, or hangs a callback on it.
"""

from __future__ import annotations

import itertools
import logging
import os
import time

import msgspec

from gateway.api.auth import DataAccess
from gateway.api.payload import DecodedRequest, Limits, decode_request
from gateway.api.problems import CLIENT_CLOSED, REASON, Headers, error_body, extra_headers, status_of
from gateway.api.v1 import PREDICT, decode_predict, split_verb
from gateway.call import Call
from gateway.dataplane import DataPlane
from gateway.endpoints import Assignment, Endpoint
from gateway.errors import (
    DeadlineExceeded,
    Forbidden,
    GatewayError,
    InferenceFailed,
    InvalidRequest,
    UnknownModel,
    UnknownPath,
)
from gateway.messages import Array, Timings
from gateway.settings import LimitSettings

log = logging.getLogger(__name__)

JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_MAX_ID_LENGTH = 128
_MAX_VERSION_DIGITS = 18
_HEADERS_READ = frozenset(
    {
        b"authorization",
        b"x-request-id",
        b"x-gateway-variant",
        b"x-request-timeout-ms",
        b"inference-header-content-length",
        b"content-encoding",
        b"accept-encoding",
    }
)


class HttpResponse(msgspec.Struct, frozen=True):
    """A whole answer.

    Attributes:
        own_headers: Of this answer alone; content-length is among them.
        accept_encoding: Set where the client would take the body compressed.
        assignment: Who answered a prediction; it says so in headers that are made once for many answers.
    """

    status: int
    own_headers: Headers
    body: bytes
    accept_encoding: bytes = b""
    assignment: Assignment | None = None

    @property
    def headers(self) -> Headers:
        """All headers."""
        return self.own_headers if self.assignment is None else self.own_headers + self.assignment.headers


class InferCall(Call):
    """An inference request that waits for its answer.

    A door waits until `answer` is done, asks falls_back(), waits again if it says so, and then calls settle().
    """

    __slots__ = ("_desk", "_given", "_name", "decoded", "request_id")

    def __init__(
        self,
        desk: InferDesk,
        endpoint: Endpoint,
        assignment: Assignment,
        request: DecodedRequest,
        *,
        name: str,
        given: dict[bytes, bytes],
        request_id: bytes,
        key: bytes | None,
        key_hash: int,
        began: float,
        deadline: float,
    ) -> None:
        super().__init__(endpoint, assignment, request, key=key, key_hash=key_hash, began=began, deadline=deadline)
        self._desk = desk
        self._name = name
        self._given = given
        self.decoded = request
        self.request_id = request_id

    def falls_back(self) -> bool:
        """Tell whether the answer is to be waited for once more, because another variant gives it now."""
        return self.reserve is not None and self._desk.dataplane.falls_back(self)

    def settle(self) -> HttpResponse | None:
        """Write and count the answer; None when the client has gone. To be called once, when `answer` is done."""
        desk = self._desk
        if self.answer.cancelled():
            desk.dataplane.finish(self, CLIENT_CLOSED)
            desk.dataplane.count_rejection(self.assignment.target, "cancelled")
            return None
        try:
            outputs, timings = self.answer.result()
            response = self._encode(outputs, timings)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the caller gets an answer and it is logged
            return desk.refuse_call(exc, self)
        desk.dataplane.finish(self, 200, failed=False)
        desk.dataplane.answered(self, outputs, timings, self.request_id)
        return response

    def _encode(self, outputs: dict[str, Array], timings: Timings) -> HttpResponse:
        assignment = self.assignment
        content, json_length = self.decoded.encode(
            outputs,
            self.endpoint.signature,
            model_name=self._name,
            version=str(assignment.target.key.version),
            request_id=self.request_id.decode(),
        )
        headers = [
            JSON if json_length is None else _BINARY,
            (b"content-length", b"%d" % len(content)),
            (b"x-request-id", self.request_id),
            (
                b"server-timing",
                b"queue;dur=%.3f, inference;dur=%.3f" % (timings.queue_s * 1000, timings.inference_s * 1000),
            ),
        ]
        if json_length is not None:
            headers.append((b"inference-header-content-length", b"%d" % json_length))
        return HttpResponse(200, headers, content, self._given.get(b"accept-encoding", b""), assignment)


class InferDesk:
    """Takes inference requests in and writes their answers."""

    def __init__(self, dataplane: DataPlane, limits: LimitSettings, access: DataAccess) -> None:
        self.dataplane = dataplane
        self._access = access
        self._limits = limits
        self._payload_limits = Limits(limits.max_json_depth, limits.max_tensor_elements)
        self._id_prefix = os.urandom(6).hex().encode()
        self._ids = itertools.count(1)
        self._key_headers: frozenset[bytes] = frozenset()
        self._headers_read = _HEADERS_READ

    def begin(self, parts: list[str], headers: Headers, body: bytes) -> InferCall | HttpResponse:
        """Read a POST to an infer path and queue it.

        Args:
            parts: The path split at its slashes.
            body: Inflated.
        Returns: The waiting call, or at once the answer that refuses it.
        """
        began = time.monotonic()
        dataplane = self.dataplane
        if dataplane.routing_key_headers is not self._key_headers:  # other routes are in force
            self._key_headers = dataplane.routing_key_headers
            self._headers_read = _HEADERS_READ | self._key_headers
        wanted = self._headers_read
        given = {name: value for name, value in headers if name in wanted}
        request_id = self.request_id(given.get(b"x-request-id"))
        asked: tuple[str, int | None] = ("", None)
        endpoint: Endpoint | None = None
        call: InferCall | None = None
        try:
            if self._access.needs_token:
                self._access.check_predict(given.get(b"authorization"))
            name, version = asked = address_of(parts)
            endpoint = dataplane.endpoint(name, version)
            request = self._decode(parts[1], given, body, endpoint)
            override = given.get(b"x-gateway-variant")
            if override is not None and version is None:
                self._check_override(given)
            key = given.get(endpoint.routing_key_header) or _routing_key(request)
            assignment, key_hash = endpoint.assign(key, override)
            call = InferCall(
                self,
                endpoint,
                assignment,
                request,
                name=name,
                given=given,
                request_id=request_id,
                key=key,
                key_hash=key_hash,
                began=began,
                deadline=began + self._timeout_s(given, request),
            )
            dataplane.submit(call)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the caller gets an answer and it is logged
            if call is not None:
                return self._refuse_assigned(exc, call)
            return self.failure(exc, endpoint, request_id, began, asked=asked)
        return call

    def _decode(self, protocol: str, given: dict[bytes, bytes], body: bytes, endpoint: Endpoint) -> DecodedRequest:
        """Read a body as the protocol writes it."""
        if protocol == "v1":
            return decode_predict(body, endpoint.signature, self._payload_limits, model=endpoint.reader.model)
        length = given.get(b"inference-header-content-length")
        return decode_request(
            body,
            None if length is None else _header_length(length),
            endpoint.signature,
            self._payload_limits,
            model=endpoint.reader.model,
        )

    def failure(
        self,
        error: Exception,
        endpoint: Endpoint | None,
        request_id: bytes,
        began: float | None = None,
        *,
        asked: tuple[str, int | None] = ("", None),
    ) -> HttpResponse:
        """Write and count the answer to a request that failed before it had a variant.

        Args:
            asked: Name and version that it was for, where they could be read.
        """
        error = _own_error(error, request_id)
        seconds = 0.0 if began is None else time.monotonic() - began
        self.dataplane.count_answer(endpoint, status_of(error), seconds, asked=asked)
        self.dataplane.count_rejection(endpoint.reader if endpoint else None, REASON.get(type(error), "invalid"))
        return error_response(error, request_id)

    def refuse_call(self, error: Exception, call: InferCall) -> HttpResponse:
        """Write and count the answer to a call that failed in its variant's hands."""
        error = _own_error(error, call.request_id)
        # A caller who gives a variant less time than the server would is no witness of its health.
        failed = isinstance(error, InferenceFailed) or (
            isinstance(error, DeadlineExceeded) and time.monotonic() - call.began >= self._limits.request_timeout_s
        )
        self.dataplane.finish(call, status_of(error), failed=True if failed else None)
        return self._refusal(error, call)

    def _refuse_assigned(self, error: Exception, call: InferCall) -> HttpResponse:
        """Write and count the answer to a call that no queue took."""
        error = _own_error(error, call.request_id)
        self.dataplane.count_assigned(call.assignment, status_of(error), time.monotonic() - call.began)
        return self._refusal(error, call)

    def _refusal(self, error: GatewayError, call: InferCall) -> HttpResponse:
        self.dataplane.count_rejection(call.assignment.target, REASON.get(type(error), "invalid"))
        return error_response(error, call.request_id, *call.assignment.headers)

    def _check_override(self, given: dict[bytes, bytes]) -> None:
        if not self._access.may_override(given.get(b"authorization")):
            raise Forbidden("header 'x-gateway-variant': choosing a variant needs a token with the scope 'override'")

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


def error_response(error: GatewayError, request_id: bytes, *headers: tuple[bytes, bytes]) -> HttpResponse:
    """Write an error as every client of the protocol reads it."""
    said = ((b"x-request-id", request_id), *extra_headers(error), *headers)
    return json_response(status_of(error), error_body(error), *said)


def json_response(status: int, body: bytes, *headers: tuple[bytes, bytes]) -> HttpResponse:
    """Make an answer of a JSON body."""
    return HttpResponse(status, [JSON, (b"content-length", b"%d" % len(body)), *headers], body)


def _own_error(error: Exception, request_id: bytes) -> GatewayError:
    """Return an error of ours as it is; anything else is logged as a fault, and not told."""
    if isinstance(error, GatewayError):
        return error
    log.error("request_crashed", exc_info=error, extra={"request_id": request_id.decode()})
    return InferenceFailed(f"the gateway failed ({type(error).__name__}); request id {request_id.decode()}")


def _header_length(value: bytes) -> int:
    if not (value.isdigit() and len(value) <= 18):
        raise InvalidRequest("header 'inference-header-content-length': expected a number of bytes")
    return int(value)


def _routing_key(request: DecodedRequest) -> bytes | None:
    key = request.parameters.get("routing_key")
    if key is None:
        return None
    if type(key) is not str:
        raise InvalidRequest("parameter 'routing_key': expected a string")
    return key.encode("utf-8", "surrogatepass")
