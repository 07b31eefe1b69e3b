"""One inference request over HTTP, in two synchronous halves: begin() up to the queue, settle() from the answer on.

Waits for nothing itself: a door awaits `answer`, or hangs a callback on it.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Iterable, Mapping

import msgspec

from gateway.api.address import Address
from gateway.api.auth import DataAccess
from gateway.api.incoming_body import Body
from gateway.api.payload import DecodedRequest, Limits, decode_request
from gateway.api.problems import (
    CLIENT_CLOSED,
    REASON,
    Headers,
    error_body,
    extra_headers,
    header_lines,
    status_of,
)
from gateway.api.v1 import decode_predict
from gateway.call import Call
from gateway.dataplane import DataPlane
from gateway.endpoints import Assignment, Endpoint
from gateway.errors import (
    DeadlineExceeded,
    Forbidden,
    GatewayError,
    InferenceFailed,
    InvalidRequest,
)
from gateway.messages import Array, Timings
from gateway.settings import LimitSettings

log = logging.getLogger(__name__)

_JSON_LINE = b"content-type: application/json\r\n"
_BINARY_LINES = b"content-type: application/octet-stream\r\ninference-header-content-length: %d\r\n"
_LINES = b"content-length: %d\r\nx-request-id: %b\r\nserver-timing: queue;dur=%.3f, inference;dur=%.3f\r\n"
_MAX_ID_LENGTH = 128


class HttpResponse(msgspec.Struct, frozen=True):
    """A whole answer.

    Attributes:
        own_lines: Header lines of this answer alone, as they are sent; content-length is among them.
        accept_encoding: Set where the client would take the body compressed.
        assignment: Who answered a prediction; it says so in header lines that are made once for many answers.
    """

    status: int
    own_lines: bytes
    body: bytes
    accept_encoding: bytes = b""
    assignment: Assignment | None = None

    @property
    def headers(self) -> Headers:
        """All headers."""
        lines = self.own_lines if self.assignment is None else self.own_lines + self.assignment.header_lines
        return [(name, value) for name, _, value in (line.partition(b": ") for line in lines.splitlines())]


class InferCall(Call):
    """An inference request that waits for its answer.

    A door waits until `answer` is done, asks falls_back(), waits again if it says so, and then calls settle().
    """

    __slots__ = ("_desk", "_given", "_name", "decoded", "request_id")

    def __init__(  # noqa: PLR0917 - a call with keywords costs a tenth of the whole
        self,
        desk: InferDesk,
        endpoint: Endpoint,
        assignment: Assignment,
        request: DecodedRequest,
        name: str,
        given: Mapping[bytes, bytes],
        request_id: bytes,
        key: bytes | None,
        dealt: int | None,
        began: float,
        deadline: float,
    ) -> None:
        Call.__init__(self, endpoint, assignment, request, key, dealt, began, deadline)  # super() is an object more
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
        if self.endpoint.shadows:
            desk.dataplane.answered(self, outputs, timings, self.request_id)
        return response

    def _encode(self, outputs: dict[str, Array], timings: Timings) -> HttpResponse:
        assignment = self.assignment
        content, json_length = self.decoded.encode(
            outputs,
            self.endpoint.signature,
            model_name=self._name,
            version=assignment.target.version,
            request_id=self.request_id.decode(),
        )
        lines = _LINES % (len(content), self.request_id, timings.queue_s * 1000, timings.inference_s * 1000)
        lines += _JSON_LINE if json_length is None else _BINARY_LINES % json_length
        return HttpResponse(200, lines, content, self._given.get(b"accept-encoding", b""), assignment)


class InferDesk:
    """Takes inference requests in and writes their answers."""

    def __init__(self, dataplane: DataPlane, limits: LimitSettings, access: DataAccess) -> None:
        self.dataplane = dataplane
        self._access = access
        self._limits = limits
        self._timeout_s = limits.request_timeout_s
        self._payload_limits = Limits(limits.max_json_depth, limits.max_tensor_elements)
        self._id_prefix = os.urandom(6).hex().encode()
        self._ids = itertools.count(1)

    def begin(self, address: Address, given: Mapping[bytes, bytes], body: Body) -> InferCall | HttpResponse:
        """Read a POST to an infer path and queue it.

        Args:
            given: Headers by lower-case name.
            body: Inflated.
        Returns: The waiting call, or at once the answer that refuses it.
        """
        began = time.monotonic()
        dataplane = self.dataplane
        supplied = given.get(b"x-request-id")
        request_id = self._new_id() if supplied is None else self.request_id(supplied)
        is_v1, name, version = address
        endpoint: Endpoint | None = None
        call: InferCall | None = None
        try:
            if self._access.needs_token:
                self._access.check_predict(given.get(b"authorization"))
            endpoint = dataplane.endpoint(name, version)
            request = (self._decode_v1 if is_v1 else self._decode_v2)(given, body, endpoint)
            override = given.get(b"x-gateway-variant")
            if override is not None and version is None:
                self._check_override(given)
            key = given.get(endpoint.routing_key_header)
            timeout_s = self._timeout_s
            if request.parameters:
                key = key or _routing_key(request)
                timeout_s = min(timeout_s, _timeout_parameter_s(request, timeout_s))
            if b"x-request-timeout-ms" in given:
                timeout_s = min(timeout_s, _timeout_header_s(given[b"x-request-timeout-ms"]))
            assignment, dealt = endpoint.assign(key, override)
            call = InferCall(
                self, endpoint, assignment, request, name, given, request_id, key, dealt, began, began + timeout_s
            )
            dataplane.submit(call)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the caller gets an answer and it is logged
            if call is not None:
                return self._refuse_assigned(exc, call)
            return self.failure(exc, endpoint, request_id, began, asked=(name, version))
        return call

    def _decode_v1(self, _: Mapping[bytes, bytes], body: Body, endpoint: Endpoint) -> DecodedRequest:
        return decode_predict(body, endpoint.signature, self._payload_limits, model=endpoint.reader.model)

    def _decode_v2(self, given: Mapping[bytes, bytes], body: Body, endpoint: Endpoint) -> DecodedRequest:
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
        return error_response(error, call.request_id, call.assignment)

    def _check_override(self, given: Mapping[bytes, bytes]) -> None:
        if not self._access.may_override(given.get(b"authorization")):
            raise Forbidden("header 'x-gateway-variant': choosing a variant needs a token with the scope 'override'")

    def request_id(self, supplied: bytes | None) -> bytes:
        """Echo the caller's id when it may stand in a header and a log line, else make one."""
        if supplied and len(supplied) <= _MAX_ID_LENGTH and supplied.isascii() and supplied.decode().isprintable():
            return supplied
        return self._new_id()

    def _new_id(self) -> bytes:
        return b"%s-%x" % (self._id_prefix, next(self._ids))


def error_response(error: GatewayError, request_id: bytes, assignment: Assignment | None = None) -> HttpResponse:
    """Write an error as every client of the protocol reads it."""
    headers = [(b"x-request-id", request_id), *extra_headers(error)]
    return json_response(status_of(error), error_body(error), headers, assignment=assignment)


def json_response(
    status: int,
    body: bytes,
    headers: Iterable[tuple[bytes, bytes]] = (),
    *,
    media_type: bytes = b"application/json",
    assignment: Assignment | None = None,
) -> HttpResponse:
    """Make an answer of a JSON body."""
    own = [(b"content-type", media_type), (b"content-length", b"%d" % len(body)), *headers]
    return HttpResponse(status, header_lines(own), body, assignment=assignment)


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


def _timeout_header_s(value: bytes) -> float:
    if not (value.isdigit() and len(value) <= 12 and int(value)):
        raise InvalidRequest("header 'x-request-timeout-ms': expected a whole number of milliseconds above 0")
    return int(value) / 1000


def _timeout_parameter_s(request: DecodedRequest, most_s: float) -> float:
    """Read the parameter `timeout`, in microseconds; 0 and what is absent ask for nothing."""
    timeout = request.parameters.get("timeout", 0)
    if timeout is None:
        return most_s
    if type(timeout) is not int or timeout < 0:
        raise InvalidRequest("parameter 'timeout': expected a whole number of microseconds")
    # An integer of JSON may be too large to become a float.
    return timeout / 1e6 if 0 < timeout < most_s * 1e6 else most_s


def _routing_key(request: DecodedRequest) -> bytes | None:
    key = request.parameters.get("routing_key")
    if key is None:
        return None
    if type(key) is not str:
        raise InvalidRequest("parameter 'routing_key': expected a string")
    return key.encode("utf-8", "surrogatepass")
