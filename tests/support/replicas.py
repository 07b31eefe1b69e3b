"""Owns a replica without its sockets: the real control plane, route plane and data plane over a repository and a store.

Never holds an expectation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane
from gateway.inference.registry import Registry
from gateway.inference.repository import Repository
from gateway.messages import ModelVersion
from gateway.route_exposition import expose_routes
from gateway.routeplane import Actor, RoutePlane
from gateway.routing.document import configured_routes
from gateway.store.interface import Store
from gateway.store.records import AppliedRoute
from gateway.telemetry.metrics import Metrics

SCAN_INTERVAL_S = 0.05
PATIENCE_S = 20.0
"""How long a test waits for something that is to happen: far longer than it takes."""

ANA, BEN = Actor("ana", request_id="1"), Actor("ben", request_id="2")


class Replica:
    """One replica's planes, not started."""

    def __init__(
        self,
        repository: Path,
        store: Store,
        *,
        replica_id: str = "a",
        configured: Mapping[str, object] | None = None,
        aborts_path: Path | None = None,
    ) -> None:
        self.id = replica_id
        self.metrics = Metrics()
        self.registry = Registry()
        self.dataplane = DataPlane(self.registry, self.metrics)
        self.routes = RoutePlane(
            store,
            self.registry,
            self.dataplane.publish,
            configured=configured_routes(configured or {}),
            replica_id=replica_id,
            admin_url=f"http://{replica_id}",
            aborts_path=aborts_path,
        )
        expose_routes(self.routes, self.metrics, windows_up=list)
        self.controlplane = ControlPlane(
            Repository(repository), self.registry, self.routes, self.metrics, scan_interval_s=SCAN_INTERVAL_S
        )

    def state(self, model: str, version: int) -> str:
        """Return a version's state, "" when it is not known."""
        record = self.registry.record(ModelVersion(model, version))
        return record.state.value if record else ""

    def served(self, name: str) -> dict[str, int | float] | None:
        """Return the weights, by variant, that this replica serves under a name; None when it serves none."""
        route = self.routes.in_force().get(name)
        return None if route is None else {key: share / 100 for key, share in route.route.weights_bp.items()}

    def versions(self, name: str) -> list[int]:
        """Return the versions of the variants that this replica serves under a name."""
        route = self.routes.in_force().get(name)
        return [] if route is None else [variant.version for variant in route.route.variants]

    def metric(self, name: str, **labels: str) -> float | None:
        """Return the value of a gauge under these labels, None when it has none."""
        return self.metrics.registry.get_sample_value(f"gateway_{name}", labels)

    async def report(self, name: str) -> AppliedRoute | None:
        """Return what this replica says of a route."""
        own = next(report for report in await self.routes.replicas() if report.id == self.id)
        return own.routes.get(name)

    async def until(self, happened: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
        """Let the loop go on until something has happened."""
        async with asyncio.timeout(within_s):
            while not happened():  # noqa: ASYNC110 - looks from outside, where there is no event to wait for
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running_replica(
    repository: Path,
    store: Store,
    *,
    replica_id: str = "a",
    configured: Mapping[str, object] | None = None,
    aborts_path: Path | None = None,
    until_ready: bool = True,
) -> AsyncIterator[Replica]:
    """Run a replica over an open store."""
    replica = Replica(repository, store, replica_id=replica_id, configured=configured, aborts_path=aborts_path)
    await replica.routes.start()
    try:
        await replica.controlplane.start()
        if until_ready:
            await replica.until(replica.controlplane.is_ready)
        yield replica
    finally:
        await replica.controlplane.stop()
        await replica.routes.stop()


def document(*weights: float, model: str = "m", shadows: object = (), reason: str = "") -> dict[str, object]:
    """Write a route whose variants are called stable, b, c and serve versions 1, 2, 3."""
    names = ("stable", "b", "c")
    return {
        "variants": [
            {"name": names[index], "model": model, "version": index + 1, "weight": weight}
            for index, weight in enumerate(weights)
        ],
        "shadows": list(shadows) if isinstance(shadows, list | tuple) else shadows,
        "reason": reason,
    }
