"""Owns a data plane without a server: the real parts over a repository on disk, asked as a door would ask them.

Holds every answer to what all answers owe; never decides what an answer should say.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.api.admin_comparison import pairs_to_compare
from gateway.api.auth import OPEN, DataAccess
from gateway.api.exchange import Exchange
from gateway.api.openapi import data_description
from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane
from gateway.inference.registry import Registry
from gateway.inference.repository import Repository
from gateway.monitoring.monitor import Monitor
from gateway.routeplane import RoutePlane
from gateway.routing.published import PublishedRoute
from gateway.settings import LimitSettings
from gateway.shadowing import Shadowing
from gateway.store.memory_store import MemoryStore
from gateway.store.memory_windows import MemoryWindowStore
from gateway.telemetry.metrics import Metrics
from gateway.yardsticks import Yardsticks
from tests.api.descriptions import Description
from tests.support.server import HttpAnswer

JSON_TYPE = "application/json"
BINARY_TYPE = "application/octet-stream"
DECLARED = Description(data_description())


@dataclass(frozen=True, slots=True)
class Plane:
    """One replica's data plane, loaded."""

    exchange: Exchange
    controlplane: ControlPlane
    metrics: Metrics
    monitor: Monitor
    routeplane: RoutePlane
    dataplane: DataPlane
    shadowing: Shadowing

    async def ask(
        self, method: str, path: str, body: object = b"", headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Ask, and hold the answer to what all answers owe.

        Args:
            body: Bytes as they are, anything else as JSON.
            headers: Names in lower case.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        response = await self.exchange.answer(method, path, given, content)
        answered = {name.decode(): value.decode("latin-1") for name, value in response.headers}
        assert len(answered) == len(response.headers), f"a header twice: {response.headers}"
        assert all(name == name.lower() for name in answered)
        answer = HttpAnswer(response.status, answered, response.body)
        assert answered["content-length"] == str(len(response.body))
        if "content-encoding" not in answered:
            DECLARED.check(method, path, response.status, answered["content-type"], response.body)
        if answer.status >= 400 and "error" not in json.loads(answer.body):
            assert answer.status == 503, "only readiness says no in words of its own"
        if answer.status >= 400:
            assert answered["content-type"] == JSON_TYPE
            assert "content-encoding" not in answered
        if answer.status >= 400 and "error" in answer.json:
            assert answer.error
            assert answered["x-request-id"]
        return answer

    async def infer(
        self, model: str, body: object, headers: Mapping[str, str] | None = None, *, version: int | None = None
    ) -> HttpAnswer:
        """Ask for a prediction."""
        pinned = "" if version is None else f"/versions/{version}"
        return await self.ask("POST", f"/v2/models/{model}{pinned}/infer", body, headers)

    def counted(self, **labels: str) -> float:
        """Return how many answers were counted under these labels, whatever the others are."""
        return self.metric("requests_total", **labels)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a series over everything that these labels select."""
        total = 0.0
        for line in self.metrics.exposition().decode().splitlines():
            found, _, rest = line.partition("{")
            if found == f"gateway_{name}" and all(f'{label}="{value}"' in rest for label, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


@asynccontextmanager
async def data_plane(
    repository: Path,
    *,
    limits: LimitSettings | None = None,
    repository_control: bool = False,
    access: DataAccess = OPEN,
    wall_clock: Callable[[], float] = time.time,
) -> AsyncIterator[Plane]:
    """Load a repository and take requests until the end of the block."""
    metrics = Metrics()
    registry = Registry()
    shadowing = Shadowing(metrics)
    dataplane = DataPlane(registry, metrics, shadowing=shadowing)
    monitor = Monitor(MemoryWindowStore(), wall_clock=wall_clock)
    store = MemoryStore()

    def publish(routes: Mapping[str, PublishedRoute]) -> None:
        dataplane.publish(routes)
        monitor.compare(pairs_to_compare(routes.values()))

    routeplane = RoutePlane(store, registry, publish)
    controlplane = ControlPlane(
        Repository(repository), registry, routeplane, metrics, yardsticks=Yardsticks(monitor), observer=monitor
    )
    exchange = Exchange(
        dataplane, controlplane, limits or LimitSettings(), repository_control=repository_control, access=access
    )
    async with store:
        await routeplane.start()
        await controlplane.start()
        await routeplane.settle()
        try:
            yield Plane(exchange, controlplane, metrics, monitor, routeplane, dataplane, shadowing)
        finally:
            await shadowing.stop()
            await controlplane.stop()
            await routeplane.stop()
            await monitor.stop()
            exchange.close()
