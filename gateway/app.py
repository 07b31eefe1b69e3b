"""Builds everything and wires it together; nothing else constructs across packages.

Opens no socket and runs no loop: the server does.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from starlette.types import ASGIApp

from gateway import __version__
from gateway.api.admin import admin_app
from gateway.api.admin_comparison import comparison_calls, pairs_to_compare
from gateway.api.admin_drift import drift_calls
from gateway.api.admin_models import model_calls, replica_calls
from gateway.api.admin_routes import route_calls
from gateway.api.asgi import Door
from gateway.api.auth import AdminAccess, DataAccess
from gateway.api.console import console_routes
from gateway.api.exchange import Exchange
from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane
from gateway.inference.memory import give_back
from gateway.inference.model_config import ModelConfig
from gateway.inference.registry import Registry
from gateway.inference.repository import Repository
from gateway.monitoring.exposition import expose_monitor
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.webhook import Webhook, http_post
from gateway.route_exposition import expose_routes
from gateway.routeplane import RoutePlane
from gateway.routing.document import configured_routes
from gateway.routing.published import PublishedRoute
from gateway.settings import MonitoringSettings, Settings
from gateway.shadowing import Shadowing
from gateway.store.memory_store import MemoryStore
from gateway.store.memory_windows import MemoryWindowStore
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_store import RedisStore
from gateway.store.redis_windows import RedisWindowStore
from gateway.store.state_folder import StateFolder
from gateway.telemetry.metrics import Metrics
from gateway.yardsticks import Yardsticks

_LAG_INTERVAL_S = 0.5
_GC_THRESHOLDS = (50_000, 20, 50)


class Gateway:
    """One replica, built and ready to start.

    Args:
        replica_id: Tells this replica from the others that share its Redis.
        admin_url: Where its admin plane is reached.
    Raises:
        CannotStart: the state directory cannot be written.
        InvalidSetting: a route of the settings or the address of Redis cannot be read.
    """

    def __init__(self, settings: Settings, *, replica_id: str = "gateway", admin_url: str = "") -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.registry = Registry()
        self.shadowing = Shadowing(self.metrics)
        self.dataplane = DataPlane(self.registry, self.metrics, shadowing=self.shadowing)
        self._redis = RedisConnection(settings.server.redis) if settings.server.redis else None
        self._resources = AsyncExitStack()
        self.monitor = Monitor(
            RedisWindowStore(self._redis) if self._redis else MemoryWindowStore(),
            webhook=_webhook(settings.monitoring),
            observe_flush_s=self.metrics.histogram("store_flush_duration_seconds").observe,
        )
        self.shadowing.observer = self.monitor
        expose_monitor(self.monitor, self.metrics)
        configured = configured_routes(settings.routes)
        self._state, path = _claimed_state(settings)
        redis = settings.server.redis
        self._store = RedisStore(redis, path=path) if redis else MemoryStore(path)
        self.routeplane = RoutePlane(
            self._store,
            self.registry,
            self._publish,
            configured=configured,
            replica_id=replica_id,
            admin_url=admin_url,
            aborts_path=None if path is None else path.with_suffix(".aborts"),
        )
        expose_routes(self.routeplane, self.metrics, windows_up=self.monitor.store_up)
        self.controlplane = ControlPlane(
            Repository(Path(settings.server.repository), ModelConfig(monitoring=settings.monitoring.model_defaults)),
            self.registry,
            self.routeplane,
            self.metrics,
            yardsticks=Yardsticks(self.monitor),
            observer=self.monitor,
        )
        self.exchange = Exchange(
            self.dataplane,
            self.controlplane,
            settings.limits,
            repository_control=settings.server.repository_control,
            access=DataAccess(settings.auth, settings.server.host),
        )
        self.is_draining = False
        self.door = Door(self.exchange, settings.limits, is_draining=lambda: self.is_draining)
        self.admin: ASGIApp = admin_app(
            [
                *replica_calls(self.controlplane, self.metrics),
                *model_calls(self.controlplane, self.exchange),
                *route_calls(self.routeplane, self.dataplane, self.shadowing),
                *drift_calls(self.monitor),
                *comparison_calls(self.monitor, self.routeplane.in_force),
                *console_routes(),
            ],
            AdminAccess(settings.auth, settings.server.admin_host),
            self.exchange.desk.request_id,
        )
        self._lag_s = 0.0
        self._lag_task: asyncio.Task[None] | None = None
        self.metrics.gauge("event_loop_lag_seconds", lambda: [((), self._lag_s)])
        self.metrics.gauge("build_info", lambda: [((__version__,), 1.0)])

    async def start(self) -> None:
        """Load the repository; what was built until then is no longer looked at by the collector.

        Raises: LoadFailed: the repository cannot be read.
        """
        self._lag_task = asyncio.create_task(self._measure_lag(), name="event-loop-lag")
        await self._resources.enter_async_context(self._store)
        await self.routeplane.start()
        if self._redis is not None:
            await self._resources.enter_async_context(self._redis)
        await self.monitor.start()  # before the first load is done: its version answers while others still load
        await self.controlplane.start()
        gc.collect()
        give_back()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)

    def begin_drain(self) -> None:
        """Turn readiness off and ask every client to reconnect elsewhere."""
        self.is_draining = True
        self.controlplane.begin_stop()

    async def stop(self) -> None:
        """End every task and thread."""
        if self._lag_task is not None:
            self._lag_task.cancel()
            await asyncio.gather(self._lag_task, return_exceptions=True)
        await self.shadowing.stop()
        await self.controlplane.stop()
        await self.routeplane.stop()
        await self.monitor.stop()
        await self._resources.aclose()
        if self._state is not None:
            self._state.release()
        self.exchange.close()

    def _publish(self, routes: Mapping[str, PublishedRoute]) -> None:
        """Serve these routes from now on, and count what their variants predict side by side."""
        self.dataplane.publish(routes)
        self.monitor.compare(pairs_to_compare(routes.values()))

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            expected = loop.time() + _LAG_INTERVAL_S
            await asyncio.sleep(_LAG_INTERVAL_S)
            self._lag_s = max(0.0, loop.time() - expected)


def _claimed_state(settings: Settings) -> tuple[StateFolder | None, Path | None]:
    """Claim a file of the state directory for this replica, unless nothing shall be kept."""
    folder = settings.server.state_folder
    # A missing repository is the better thing to say than the state directory that cannot be made in it.
    if folder is None or not Path(settings.server.repository).is_dir():
        return None, None
    state = StateFolder(folder)
    return state, state.claim()


def _webhook(settings: MonitoringSettings) -> Webhook | None:
    if not settings.webhook:
        return None
    secret = settings.webhook_authorization
    return Webhook(http_post(settings.webhook, {"authorization": secret} if secret else None))
