"""Owns a data plane over sessions that a test can hold and break, asked as a door asks it.

Never loads a model and never decides what an answer should say.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Unpack

from gateway.api.auth import OPEN, DataAccess
from gateway.api.exchange import Exchange
from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane
from gateway.inference.batcher import Batcher
from gateway.inference.registry import Registry, ServedVersion, VersionRecord, VersionState
from gateway.inference.repository import Repository
from gateway.messages import ModelVersion
from gateway.routeplane import RoutePlane
from gateway.routing.published import PublishedRoute
from gateway.routing.route import Route
from gateway.settings import LimitSettings
from gateway.shadowing import Observer, Shadowing
from gateway.store.memory_store import MemoryStore
from gateway.telemetry.metrics import Metrics
from tests.inference.stub_session import Settings, StubSession, loaded_version
from tests.routing.routes import publish
from tests.support.server import HttpAnswer

SHADOW_LIMIT_S = 0.5
"""How long a shadow's run may take here; a session that is held ends with it."""


class SplitPlane:
    """Versions of `fraud` on stub sessions, the routes in force, and a clock that the test may turn.

    Attributes:
        run_delay_s: How long the loop is said to have waited for a processor so far.
    """

    def __init__(self, limits: LimitSettings, access: DataAccess, repository: Path, stack: AsyncExitStack) -> None:
        self.ahead_s = 0.0
        self.run_delay_s = 0.0
        self.observer: Observer | None = None
        self.metrics = Metrics()
        self.registry = Registry()
        self.shadowing = Shadowing(
            self.metrics, clock=self.now, run_limit_s=SHADOW_LIMIT_S, run_delay=lambda: self.run_delay_s
        )
        self.dataplane = DataPlane(self.registry, self.metrics, shadowing=self.shadowing, clock=self.now)
        routeplane = RoutePlane(MemoryStore(), self.registry, self.dataplane.publish)  # never started, as the next
        controlplane = ControlPlane(Repository(repository), self.registry, routeplane, self.metrics)
        self.exchange = Exchange(self.dataplane, controlplane, limits, repository_control=False, access=access)
        self._stack = stack
        self._routes: dict[str, PublishedRoute] = {}

    def now(self) -> float:
        """Read the clock: the real one, as far ahead as the test has turned it."""
        return time.monotonic() + self.ahead_s

    def serve(self, version: int, session: StubSession | None = None, **settings: Unpack[Settings]) -> StubSession:
        """Make a version of `fraud` READY on a session, and have the routes see it."""
        session = session or StubSession()
        key = settings["key"] = ModelVersion("fraud", version)
        loaded = loaded_version(session, **settings)
        observe = None if self.observer is None else partial(self.observer.record, key, "primary")
        batcher = Batcher(loaded, self.metrics, loop=asyncio.get_running_loop(), observe=observe)
        self._stack.push_async_callback(batcher.drain)
        self._stack.callback(session.may_finish.set)
        self.registry.put(VersionRecord(key, VersionState.READY, served=ServedVersion(key, loaded, batcher)))
        self.dataplane.publish(self._routes)
        return session

    def batcher(self, version: int) -> Batcher:
        """Return the way to a READY version's session."""
        return self.registry.served("fraud", version).batcher

    def withdraw(self, version: int) -> None:
        """Take a version out of service, as an unload does."""
        self.registry.put(VersionRecord(ModelVersion("fraud", version), VersionState.UNLOADED))
        self.dataplane.publish(self._routes)

    def publish(self, *routes: Route) -> None:
        """Put the next revisions of these routes in force, and no others."""
        self._routes = {route.name: publish(route, self._routes.get(route.name)) for route in routes}
        self.dataplane.publish(self._routes)

    async def ask(
        self, *values: float, route: str = "fraud", version: int | None = None, headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """Ask for predictions of one row a value."""
        pinned = "" if version is None else f"/versions/{version}"
        tensor = {"name": "x", "shape": [len(values), 1], "datatype": "FP32", "data": values}
        given = [(name.encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
        body = json.dumps({"inputs": [tensor]}).encode()
        response = await self.exchange.answer("POST", f"/v2/models/{route}{pinned}/infer", given, body)
        answered = {name.decode(): value.decode("latin-1") for name, value in response.headers}
        return HttpAnswer(response.status, answered, response.body)

    def counted(self, name: str, **labels: str) -> float:
        """Return the sum of a series over everything that these labels select."""
        total = 0.0
        for line in self.metrics.exposition().decode().splitlines():
            found, _, rest = line.partition("{")
            if found == f"gateway_{name}" and all(f'{label}="{value}"' in rest for label, value in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


@asynccontextmanager
async def split_plane(
    repository: Path, *, limits: LimitSettings | None = None, access: DataAccess = OPEN
) -> AsyncIterator[SplitPlane]:
    """Take requests until the end of the block; then every lease must have been given back.

    Args:
        repository: An empty directory.
    """
    async with AsyncExitStack() as stack:
        plane = SplitPlane(limits or LimitSettings(), access, repository, stack)
        stack.callback(plane.exchange.close)
        stack.push_async_callback(plane.shadowing.stop)
        async with asyncio.timeout(60):
            yield plane


def who(answer: HttpAnswer) -> tuple[str, str, str]:
    """Return which variant answered, why, and with which model version."""
    names = ("x-gateway-variant", "x-gateway-assigned-by", "x-gateway-model")
    variant, assigned_by, model = (answer.headers.get(name, "") for name in names)
    return variant, assigned_by, model
