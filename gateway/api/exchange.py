"""The data plane's HTTP without a server: method, path, headers and body in, status, headers and body out.

Knows no ASGI and no socket; a door brings whole requests and carries whole responses away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec
import orjson

from gateway.api import v1, v2
from gateway.api.address import address_of, is_infer, version_in
from gateway.api.auth import OPEN, DataAccess
from gateway.api.compression import MIN_BYTES, choose_encoding, deflate, inflate
from gateway.api.infer import (
    HttpResponse,
    InferDesk,
    error_response,
    json_response,
)
from gateway.api.openapi import data_description
from gateway.api.problems import REASON, Headers, header_lines, header_value, status_of
from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane
from gateway.errors import (
    Forbidden,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotReady,
    NotSupported,
    UnknownPath,
)
from gateway.inference.registry import ServedVersion, VersionRecord, VersionState
from gateway.settings import LimitSettings

T = TypeVar("T")
OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)

OFFLOAD_BYTES = 65_536
"""Bodies beyond this are inflated and deflated off the loop. zlib lets go of the interpreter lock meanwhile; JSON
parsers do not, so that parsing in a thread would hold up the loop all the same and cost two thread switches more."""


class Exchange:
    """Answers every request of the data plane."""

    def __init__(
        self,
        dataplane: DataPlane,
        controlplane: ControlPlane,
        limits: LimitSettings,
        *,
        repository_control: bool,
        access: DataAccess = OPEN,
    ) -> None:
        self._dataplane = dataplane
        self._controlplane = controlplane
        self._limits = limits
        self._access = access
        self.desk = InferDesk(dataplane, limits, access)
        self._repository_control = repository_control
        self._compressors = ThreadPoolExecutor(1, thread_name_prefix="zlib")

    async def answer(self, method: str, path: str, headers: Headers, body: bytes) -> HttpResponse:
        """Answer one whole request; raises nothing but cancellation.

        Args:
            path: Percent-decoded, without the query.
            headers: Names in lower case.
        """
        parts = path.split("/")
        try:
            if not is_infer(parts):
                return await self._route(method, parts, headers, body)
            _allow(method, "POST")
            address = address_of(parts)
            encoding = header_value(headers, b"content-encoding")
            if encoding:
                self._access.check_predict(header_value(headers, b"authorization"))
                self._dataplane.endpoint(address.name, address.version)  # an unknown name is the first thing to say
                body = await self._inflate(body, encoding)
        except Exception as exc:  # noqa: BLE001 - whatever went wrong, the caller gets an answer and it is logged
            return self.refuse(exc, headers, path=path)
        begun = self.desk.begin(address, dict(headers), body)
        if isinstance(begun, HttpResponse):
            return begun
        try:
            while True:
                with contextlib.suppress(Exception):  # settle() answers whatever it was
                    await begun.answer
                if not begun.falls_back():
                    break
        finally:
            response = begun.settle()
        if response is None:  # cancelled under us: only a stopping server does that
            raise asyncio.CancelledError
        return await self.compressed(response)

    async def compressed(self, response: HttpResponse) -> HttpResponse:
        """Compress an answer if the client takes that and it is worth it; off the loop when it is long."""
        if len(response.body) < MIN_BYTES:
            return response
        encoding = choose_encoding(response.accept_encoding.decode("latin-1"))
        if not encoding:
            return response
        if len(response.body) > OFFLOAD_BYTES:
            body = await self._offload(lambda: deflate(response.body, encoding))
        else:
            body = deflate(response.body, encoding)
        kept = [header for header in response.headers if header[0] != b"content-length"]
        sizes = [(b"content-encoding", encoding.encode()), (b"content-length", b"%d" % len(body))]
        return HttpResponse(response.status, header_lines(kept + sizes), body)

    def refuse(self, error: Exception, headers: Headers, *, path: str = "") -> HttpResponse:
        """Answer with an error; with the path of an inference request, or as a fault of ours, it is also counted."""
        supplied = header_value(headers, b"x-request-id")
        if is_infer(path.split("/")) or not isinstance(error, GatewayError):
            return self.desk.failure(error, None, self.desk.request_id(supplied))
        return error_response(error, self.desk.request_id(supplied))

    def count_refusal(self, error: GatewayError) -> None:
        """Count a request that was refused before anything of it could be read."""
        self._dataplane.count_rejection(None, REASON.get(type(error), "invalid"))

    def close(self) -> None:
        """End the compressor's thread."""
        self._compressors.shutdown(wait=False, cancel_futures=True)

    async def _inflate(self, body: bytes, encoding: bytes) -> bytes:
        name = encoding.decode("latin-1").strip().lower()
        limit = self._limits.max_body_bytes
        return await self._offload(lambda: inflate(body, name, max_bytes=limit))

    async def _offload(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._compressors, work)

    # --- everything else ----------------------------------------------------------------------------

    async def _route(self, method: str, parts: list[str], headers: Headers, body: bytes) -> HttpResponse:
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
            case ["v2", "trace", "setting"] | ["v2", "models", _, "trace", "setting"] | ["v2", "logging"]:
                raise NotSupported("the trace and logging extensions are not supported; see 'extensions' in /v2")
            case ["v2", "models", "stats"]:
                _allow(method, "GET")
                return _json({"model_stats": self._statistics(None, None)})
            case ["v1" | "v2", "models"]:
                _allow(method, "GET")
                return _json({"models": self._names()})
            case ["v1" | "v2" as protocol, "models", _, *_]:
                return self._model_v1(method, parts) if protocol == "v1" else self._model(method, parts)
            case [""]:  # what KServe's v1 client takes for liveness
                _allow(method, "GET")
                return _json({"status": "alive"})
            case ["v2", "repository", *rest]:
                return await self.answer_repository(method, rest, body, may_change=self._may_change(rest, headers))
            case ["v2", "systemsharedmemory" | "cudasharedmemory", *_]:
                raise NotSupported("shared memory is not supported; send tensors in the body")
            case _:
                raise UnknownPath(f"no such path: {'/'.join(parts)[:200]}")

    def _may_change(self, rest: list[str], headers: Headers) -> bool:
        if self._repository_control and rest[-1] in ("load", "unload"):
            self._access.check_change(header_value(headers, b"authorization"))
        return self._repository_control

    def _model(self, method: str, parts: list[str]) -> HttpResponse:
        """Answer what stands below /v2/models/{m}[/versions/{v}]."""
        version = version_in(parts)
        name = parts[3]
        action = parts[6:] if version is not None else parts[4:]
        if action not in ([], ["ready"], ["config"], ["stats"]):
            if action in (["generate"], ["generate_stream"]):
                raise NotSupported(f"the extension behind '{action[0]}' is not supported; see 'extensions' in /v2")
            raise UnknownPath(f"no such path: {'/'.join(parts)[:200]}")
        _allow(method, "GET")
        if action == ["ready"]:
            try:
                _ = self._dataplane.endpoint(name, version).served
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

    def _model_v1(self, method: str, parts: list[str]) -> HttpResponse:
        """Answer what stands below /v1/models/{m}[/versions/{n}], but for predictions."""
        parts, verb = v1.split_verb(parts)
        version = version_in(parts[:-1] if parts[-1] == "metadata" else parts)
        name = parts[3]
        action = parts[6:] if version is not None else parts[4:]
        if verb or action not in ([], ["metadata"]):
            raise UnknownPath(f"no such path: {'/'.join(parts)[:200]}{verb and f':{verb[:50]}'}")
        _allow(method, "GET")
        if action:
            served = self._dataplane.endpoint(name, version).served
            return _json(v1.model_metadata(name, served.key.version, served.loaded.signature))
        records = [r for r in self._controlplane.registry.versions(name) if version in (None, r.key.version)]
        try:
            served = self._dataplane.endpoint(name, version).served
        except NotReady as exc:
            status = v1.model_status(name, records, ready=False) | {"error": str(exc)}
            return _json(status, status=status_of(exc))
        if not records:  # a route that is no model
            records = [VersionRecord(served.key, VersionState.READY)]
        return _json(v1.model_status(name, records, ready=True))

    def _names(self) -> list[str]:
        """List what can be asked for by name: routes, and models with a READY version."""
        ready = {record.key.model for record in self._controlplane.registry if record.served is not None}
        return sorted(ready | self._controlplane.routes.keys())

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
                return json_response(200, b"")
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


def _allow(method: str, allowed: str) -> None:
    if method != allowed:
        raise MethodNotAllowed(method, (allowed,))


def _json(value: object, *, status: int = 200) -> HttpResponse:
    return json_response(status, orjson.dumps(value))
