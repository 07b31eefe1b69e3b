"""The data plane's HTTP without a server: method, path, headers and body in, status, headers and body out.

Knows no ASGI and no socket; a door brings whole requests and carries whole responses away.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import orjson

from gateway.api import v2
from gateway.api.compression import MIN_BYTES, choose_encoding, deflate, inflate
from gateway.api.openapi import data_description
from gateway.api.payload import DecodedRequest, Limits, decode_request, encode_response
from gateway.api.problems import CLIENT_CLOSED, REASON, Headers, error_body, extra_headers, status_of
from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane, Endpoint
from gateway.errors import (
    Forbidden,
    GatewayError,
    InferenceFailed,
    InvalidRequest,
    MethodNotAllowed,
    NotReady,
    NotSupported,
    UnknownModel,
    UnknownPath,
)
from gateway.inference.registry import ServedVersion
from gateway.settings import LimitSettings

log = logging.getLogger(__name__)

T = TypeVar("T")
OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)

OFFLOAD_BYTES = 65_536
"""JSON beyond this takes long enough to parse that other callers would notice: it is done off the loop."""

_MAX_ID_LENGTH = 128
_MAX_VERSION_DIGITS = 18
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")
_READ_BY_INFER = frozenset(
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
    """A whole answer; content-length is among the headers."""

    status: int
    headers: Headers
    body: bytes


class Exchange:
    """Answers every request of the data plane."""

    def __init__(
        self, dataplane: DataPlane, controlplane: ControlPlane, limits: LimitSettings, *, repository_control: bool
    ) -> None:
        self._dataplane = dataplane
        self._controlplane = controlplane
        self._limits = limits
        self._payload_limits = Limits(limits.max_json_depth, limits.max_tensor_elements)
        self._repository_control = repository_control
        self._parsers = ThreadPoolExecutor(1, thread_name_prefix="parse")
        self._id_prefix = os.urandom(6).hex()
        self._ids = itertools.count(1)

    async def answer(self, method: str, path: str, headers: Headers, body: bytes) -> HttpResponse:
        """Answer one whole request.

        Args:
            path: Percent-decoded, without the query.
            headers: Names in lower case.
        """
        parts = path.split("/")
        if parts[-1] == "infer" and parts[1:3] == ["v2", "models"] and len(parts) in (5, 7):
            return await self._answer_infer(method, parts, headers, body)
        try:
            return await self._route(method, parts, body)
        except GatewayError as exc:
            return self.refuse(exc, headers)

    def refuse(self, error: GatewayError, headers: Headers, *, path: str = "") -> HttpResponse:
        """Answer with an error; with the path of an inference request it is also counted."""
        status = status_of(error)
        if path.endswith("/infer"):
            self._dataplane.count_answer(None, status, 0.0)
            self._dataplane.count_rejection(None, REASON.get(type(error), "invalid"))
        supplied = next((value for name, value in headers if name == b"x-request-id"), None)
        return _json_response(
            status, error_body(error), [(b"x-request-id", self._request_id(supplied)), *extra_headers(error)]
        )

    def close(self) -> None:
        """End the parser's thread."""
        self._parsers.shutdown(wait=False, cancel_futures=True)

    # --- inference --------------------------------------------------------------------------------

    async def _answer_infer(self, method: str, parts: list[str], headers: Headers, body: bytes) -> HttpResponse:
        began = time.perf_counter()
        given = {name: value for name, value in headers if name in _READ_BY_INFER}
        request_id = self._request_id(given.get(b"x-request-id"))
        endpoint: Endpoint | None = None
        try:
            version = _version_of(parts)
            if method != "POST":
                raise MethodNotAllowed(method, ("POST",))
            endpoint = self._dataplane.endpoint(parts[3], version)
            batcher = endpoint.served.batcher
            batcher.acquire()
            try:
                response = await self._infer(endpoint, parts[3], given, request_id, body)
            finally:
                batcher.release()
        except GatewayError as exc:
            return self._failed_infer(exc, endpoint, request_id, began)
        except asyncio.CancelledError:
            self._dataplane.count_answer(endpoint, CLIENT_CLOSED, time.perf_counter() - began)
            self._dataplane.count_rejection(endpoint, "cancelled")
            raise
        except Exception as exc:
            log.exception("request_crashed", extra={"request_id": request_id.decode()})
            failure = InferenceFailed(f"the gateway failed ({type(exc).__name__}); request id {request_id.decode()}")
            return self._failed_infer(failure, endpoint, request_id, began)
        self._dataplane.count_answer(endpoint, 200, time.perf_counter() - began)
        return response

    async def _infer(
        self, endpoint: Endpoint, name: str, given: dict[bytes, bytes], request_id: bytes, body: bytes
    ) -> HttpResponse:
        arrived = time.monotonic()
        served = endpoint.served
        signature = endpoint.signature
        if b"content-encoding" in given:
            body = await self._inflate(body, given[b"content-encoding"])
        header_length = None
        if b"inference-header-content-length" in given:
            header_length = _header_length(given[b"inference-header-content-length"])
        model = str(served.key)
        if (len(body) if header_length is None else header_length) > OFFLOAD_BYTES:
            request = await self._offload(
                lambda: decode_request(body, header_length, signature, self._payload_limits, model=model)
            )
        else:
            request = decode_request(body, header_length, signature, self._payload_limits, model=model)
        assigned_by = endpoint.assigned_by(
            routing_key=_text_of(given.get(b"x-routing-key")) or _routing_key(request),
            override=_text_of(given.get(b"x-gateway-variant")),
        )
        deadline = arrived + self._timeout_s(given.get(b"x-request-timeout-ms"), request)
        outputs, timings = await self._dataplane.submit(
            endpoint, request.inputs, rows=request.rows, outputs=request.outputs, deadline=deadline
        )

        def encode() -> tuple[bytes, int | None]:
            return encode_response(
                model_name=name,
                model_version=str(served.key.version),
                request_id=request.id or request_id.decode(),
                outputs=outputs,
                signature=signature,
                binary=request.binary,
            )

        if request.binary == frozenset() and sum(array.size for array in outputs.values()) * 8 > OFFLOAD_BYTES:
            content, json_length = await self._offload(encode)
        else:
            content, json_length = encode()
        answer_headers = [
            _JSON if json_length is None else _BINARY,
            (b"x-request-id", request_id),
            (b"x-gateway-model", model.encode()),
            (b"x-gateway-assigned-by", assigned_by.encode()),
            (
                b"server-timing",
                b"queue;dur=%.3f, inference;dur=%.3f" % (timings.queue_s * 1000, timings.inference_s * 1000),
            ),
        ]
        if endpoint.revision is not None:
            answer_headers.append((b"x-gateway-variant", endpoint.variant.encode()))
            answer_headers.append((b"x-gateway-revision", b"%d" % endpoint.revision))
        if json_length is not None:
            answer_headers.append((b"inference-header-content-length", b"%d" % json_length))
        if b"accept-encoding" in given and len(content) >= MIN_BYTES:
            encoding = choose_encoding(given[b"accept-encoding"].decode("latin-1"))
            if encoding:
                plain = content
                content = await self._offload(lambda: deflate(plain, encoding))
                answer_headers.append((b"content-encoding", encoding.encode()))
        answer_headers.append((b"content-length", b"%d" % len(content)))
        return HttpResponse(200, answer_headers, content)

    def _failed_infer(
        self, error: GatewayError, endpoint: Endpoint | None, request_id: bytes, began: float
    ) -> HttpResponse:
        status = status_of(error)
        self._dataplane.count_answer(endpoint, status, time.perf_counter() - began)
        self._dataplane.count_rejection(endpoint, REASON.get(type(error), "invalid"))
        return _json_response(status, error_body(error), [(b"x-request-id", request_id), *extra_headers(error)])

    async def _inflate(self, body: bytes, encoding: bytes) -> bytes:
        name = encoding.decode("latin-1").strip().lower()
        limit = self._limits.max_body_bytes
        return await self._offload(lambda: inflate(body, name, max_bytes=limit))

    async def _offload(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._parsers, work)

    def _timeout_s(self, header: bytes | None, request: DecodedRequest) -> float:
        """Return the shortest of the server's limit, the header (ms) and the parameter (microseconds)."""
        timeout_s = self._limits.request_timeout_s
        if header is not None:
            if not (header.isdigit() and len(header) <= 12 and int(header)):
                raise InvalidRequest("header 'x-request-timeout-ms': expected a whole number of milliseconds above 0")
            timeout_s = min(timeout_s, int(header) / 1000)
        parameter = request.parameters.get("timeout")
        if parameter is not None:
            if type(parameter) is not int or parameter < 0:
                raise InvalidRequest("parameter 'timeout': expected a whole number of microseconds")
            if parameter:
                timeout_s = min(timeout_s, parameter / 1e6)
        return timeout_s

    def _request_id(self, supplied: bytes | None) -> bytes:
        """Echo the caller's id when it may stand in a header and a log line, else make one."""
        if (
            supplied
            and len(supplied) <= _MAX_ID_LENGTH
            and supplied.isascii()
            and supplied.decode("ascii").isprintable()
        ):
            return supplied
        return f"{self._id_prefix}-{next(self._ids):x}".encode()

    # --- everything else ----------------------------------------------------------------------------

    async def _route(self, method: str, parts: list[str], body: bytes) -> HttpResponse:
        match parts[1:]:
            case ["v2"] | ["v2", ""]:
                _allow(method, "GET")
                return _json(v2.server_metadata())
            case ["v2", "health", "live"]:
                _allow(method, "GET")
                return _json({"live": True})
            case ["v2", "health", "ready"]:
                _allow(method, "GET")
                ready = self._controlplane.is_ready()
                return _json({"ready": ready}, status=200 if ready else 503)
            case ["openapi.json"]:
                _allow(method, "GET")
                return _json(data_description())
            case ["v2", "models", "stats"]:
                _allow(method, "GET")
                return _json({"model_stats": self._statistics(None, None)})
            case ["v2", "models", *_]:
                return self._model(method, parts)
            case ["v2", "repository", *rest]:
                return await self.answer_repository(method, rest, body, may_change=self._repository_control)
            case ["v2", "trace", "setting"] | ["v2", "logging"]:
                raise NotSupported("the trace and logging extensions are not supported; see 'extensions' in /v2")
            case ["v2", "systemsharedmemory" | "cudasharedmemory", *_]:
                raise NotSupported("shared memory is not supported; send tensors in the body")
            case _:
                raise UnknownPath(f"no such path: {'/'.join(parts)[:200]}")

    def _model(self, method: str, parts: list[str]) -> HttpResponse:
        """Answer what stands below /v2/models/{m}[/versions/{v}]."""
        version = _version_of(parts)
        name = parts[3]
        action = parts[6:] if version is not None else parts[4:]
        if action not in ([], ["ready"], ["config"], ["stats"]):
            if action in (["trace", "setting"], ["generate"], ["generate_stream"]):
                raise NotSupported(f"the extension behind '{action[0]}' is not supported; see 'extensions' in /v2")
            raise UnknownPath(f"no such path: {'/'.join(parts)[:200]}")
        _allow(method, "GET")
        if action == ["ready"]:
            try:
                self._dataplane.endpoint(name, version)
            except NotReady:
                return _json({"name": name, "ready": False}, status=503)
            return _json({"name": name, "ready": True})
        if action == ["stats"]:
            return _json({"model_stats": self._statistics(name, version)})
        served = self._dataplane.endpoint(name, version).served
        if action == ["config"]:
            return _json(v2.model_configuration(name, served))
        versions = [version] if version is not None else self._controlplane.registry.ready_versions(name)
        return _json(v2.model_metadata(name, served, versions or [served.key.version]))

    def _statistics(self, name: str | None, version: int | None) -> list[v2.Json]:
        """Report every READY version of the model, of one version, or of all models."""
        found: list[tuple[str, ServedVersion]] = [
            (record.key.model, record.served)
            for record in self._controlplane.registry
            if record.served is not None and name in (None, record.key.model) and version in (None, record.key.version)
        ]
        if not found and name is not None:  # a route that is no model, or the reason there is nothing
            found = [(name, self._dataplane.endpoint(name, version).served)]
        return [v2.model_statistics(shown, served) for shown, served in found]

    async def answer_repository(self, method: str, rest: list[str], body: bytes, *, may_change: bool) -> HttpResponse:
        """Answer the model_repository extension, which both planes offer.

        Args:
            rest: The path's segments after /v2/repository.
            may_change: Whether load and unload are allowed here.
        """
        match rest:
            case ["index"]:
                _allow(method, "POST")
                wanted = _options(body, _IndexOptions)
                return _json(v2.repository_index(self._controlplane.registry, only_ready=wanted.ready))
            case ["models", name, "load" | "unload" as action]:
                _allow(method, "POST")
                if not may_change:
                    raise Forbidden(
                        f"{action} is not allowed here: use the admin port, or set repository_control in [server]"
                    )
                options = _options(body, _LoadOptions)
                unknown = options.parameters.keys() - {"unload_dependents"}
                if unknown:
                    raise InvalidRequest(
                        f"parameter '{min(unknown)}' is not supported: models come from the repository"
                    )
                await (self._controlplane.load(name) if action == "load" else self._controlplane.unload(name))
                return _json_response(200, b"", [])
            case [_, "index"] | [_, "models", _, "load" | "unload"]:
                raise NotSupported("repositories have no names here")
            case _:
                raise UnknownPath(f"no such path: /v2/repository/{'/'.join(rest)[:200]}")


class _IndexOptions(msgspec.Struct):
    ready: bool = False


class _LoadOptions(msgspec.Struct):
    parameters: dict[str, object] = {}


def _options(body: bytes, into: type[OptionsT]) -> OptionsT:
    """Read the optional JSON body of a repository call."""
    try:
        return msgspec.json.decode(body or b"{}", type=into)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"the body is not what this call takes: {exc}") from exc


def _version_of(parts: list[str]) -> int | None:
    """Return the version a path below /v2/models/{m} pins, or None.

    Raises: UnknownPath: the path has another form, or the version is no number.
    """
    if len(parts) > 4 and parts[4] == "versions":
        digits = parts[5] if len(parts) > 5 else ""
        if not (digits.isascii() and digits.isdigit()):
            raise UnknownPath(f"no such path: versions are numbers, got '{digits[:50]}'")
        if len(digits) > _MAX_VERSION_DIGITS:
            raise UnknownModel(f"model '{parts[3]}' has no version {digits[:50]}")
        return int(digits)
    return None


def _header_length(value: bytes) -> int:
    if not (value.isdigit() and len(value) <= 18):
        raise InvalidRequest("header 'inference-header-content-length': expected a number of bytes")
    return int(value)


def _routing_key(request: DecodedRequest) -> str | None:
    key = request.parameters.get("routing_key")
    if key is None:
        return None
    if type(key) is not str:
        raise InvalidRequest("parameter 'routing_key': expected a string")
    return key


def _text_of(value: bytes | None) -> str | None:
    return value.decode("latin-1") if value is not None else None


def _allow(method: str, allowed: str) -> None:
    if method != allowed:
        raise MethodNotAllowed(method, (allowed,))


def _json(value: object, *, status: int = 200) -> HttpResponse:
    return _json_response(status, orjson.dumps(value), [])


def _json_response(status: int, body: bytes, headers: Headers) -> HttpResponse:
    return HttpResponse(status, [_JSON, (b"content-length", b"%d" % len(body)), *headers], body)
