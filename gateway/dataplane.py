"""What happens to one request, in arrays: which version a name means now, and the way to its queue.

Speaks no HTTP, loads nothing and never waits for a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from gateway.errors import InvalidRequest, NotReady, UnknownModel
from gateway.inference.registry import Registry, ServedVersion, VersionState
from gateway.inference.signature import Signature
from gateway.messages import ModelVersion, Tensors
from gateway.telemetry.metrics import CounterCell, HistogramCell, Metrics

FIRST_VARIANT = "stable"
PINNED = "pinned"


@dataclass(frozen=True, slots=True)
class PublishedRoute:
    """A route as this replica applies it: its name, its revision and the version behind its one variant."""

    name: str
    revision: int
    target: ModelVersion
    variant: str = FIRST_VARIANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a path's name meant when the request arrived; it stays so until the answer.

    Attributes:
        route, variant: As in the metrics' labels: "" and "pinned" for a pinned version.
        revision: Of the route; None for a pinned version.
        model: The version as it is written: `fraud:3`.
        answers: Counters of this endpoint's answers by status.
        headers: What every answer says of the endpoint, by reason of assignment.
    """

    served: ServedVersion
    route: str
    variant: str
    revision: int | None
    model: str
    duration: HistogramCell
    answers: dict[int, CounterCell] = field(default_factory=dict)
    headers: dict[str, list[tuple[bytes, bytes]]] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        """The signature a request must fit."""
        return self.served.loaded.signature

    def assigned_by(self, *, routing_key: str | None, override: str | None) -> str:
        """Say why this variant answers.

        Raises: InvalidRequest: the override names no variant of the route.
        """
        if self.revision is None:
            return PINNED
        if override is not None:
            if override != self.variant:
                raise InvalidRequest(f"route '{self.route}' has no variant '{override}', expected '{self.variant}'")
            return "override"
        return "random" if routing_key is None else "sticky"


class Observer(Protocol):
    """Takes the rows of answered requests; never raises and never waits."""

    def record(
        self, key: ModelVersion, role: Literal["primary", "shadow"], inputs: Tensors, outputs: Tensors, rows: int
    ) -> None:
        """Take the rows of one request after it was answered; the arrays must not be written to afterwards."""


class DataPlane:
    """Resolves names and hands requests to queues.

    Attributes:
        observer: Is told of every answered request.
    """

    def __init__(self, registry: Registry, metrics: Metrics) -> None:
        self.observer: Observer | None = None
        self._registry = registry
        self._metrics = metrics
        self._routes: Mapping[str, PublishedRoute] = {}
        self._routed: dict[str, Endpoint] = {}
        self._pinned: dict[ModelVersion, Endpoint] = {}

    def publish(self, routes: Mapping[str, PublishedRoute]) -> None:
        """Swap in the routes, and forget endpoints of versions that are no longer served."""
        self._routes = routes
        self._routed = {}
        self._pinned = {key: endpoint for key, endpoint in self._pinned.items() if self._is_current(endpoint)}
        for name, route in routes.items():
            record = self._registry.record(route.target)
            if record is not None and record.served is not None:
                self._routed[name] = self._endpoint(record.served, name, route.variant, route.revision)

    def endpoint(self, name: str, version: int | None) -> Endpoint:
        """Return what a request for `name` means now.

        Args:
            version: Pins a version of the model of that name; None follows the route.
        Raises:
            UnknownModel: no such route, model or version, or unloaded.
            NotReady: it is known, but nothing behind it is READY.
        """
        if version is None:
            endpoint = self._routed.get(name)
            if endpoint is None:
                raise self._why_not(name)
            return endpoint
        key = ModelVersion(name, version)
        endpoint = self._pinned.get(key)
        if endpoint is None or not self._is_current(endpoint):
            served = self._registry.served(name, version)
            endpoint = self._pinned[key] = self._endpoint(served, "", PINNED, None)
        return endpoint

    def count_answer(self, endpoint: Endpoint | None, code: int, seconds: float) -> None:
        """Count one answer to one caller; without an endpoint the name was not known."""
        if endpoint is None:
            self._metrics.counter("requests_total", "", "", "", "", str(code)).add()
            return
        cell = endpoint.answers.get(code)
        if cell is None:
            key = endpoint.served.key
            labels = (endpoint.route, endpoint.variant, key.model, str(key.version), str(code))
            cell = endpoint.answers[code] = self._metrics.counter("requests_total", *labels)
        cell.value += 1
        endpoint.duration.observe(seconds)

    def count_rejection(self, endpoint: Endpoint | None, reason: str) -> None:
        """Count a request that was refused or given up."""
        model = endpoint.served.key.model if endpoint else ""
        self._metrics.counter("rejected_total", model, reason).add()

    def _endpoint(self, served: ServedVersion, route: str, variant: str, revision: int | None) -> Endpoint:
        return Endpoint(
            served=served,
            model=str(served.key),
            route=route,
            variant=variant,
            revision=revision,
            duration=self._metrics.histogram("request_duration_seconds", route, variant),
        )

    def _is_current(self, endpoint: Endpoint) -> bool:
        record = self._registry.record(endpoint.served.key)
        return record is not None and record.served is endpoint.served

    def _why_not(self, name: str) -> UnknownModel | NotReady:
        route = self._routes.get(name)
        if route is not None:
            return NotReady(f"route '{name}': {route.target} is not READY")
        records = self._registry.versions(name)
        waiting = [record for record in records if record.state is not VersionState.UNLOADED]
        if waiting:
            states = ", ".join(f"{record.key.version} is {record.state}" for record in waiting)
            reasons = "; ".join(record.reason for record in waiting if record.reason)
            return NotReady(f"model '{name}' has no READY version: {states}{f' ({reasons})' if reasons else ''}")
        return UnknownModel(f"model '{name}' is unloaded" if records else f"no model or route '{name}'")
