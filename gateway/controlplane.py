"""Which versions are loaded: watches the repository, loads and unloads, and tells the route plane.

Answers no predictions and changes no route. All state it changes is swapped whole on the event loop; files are read in
loader threads.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from gateway.errors import GatewayError, LoadFailed, ModelInUse, UnknownModel
from gateway.inference.batcher import Batcher
from gateway.inference.gathering import Gathering
from gateway.inference.loader import LoadedVersion, load_version
from gateway.inference.model_config import ModelConfig
from gateway.inference.registry import Registry, ServedVersion, VersionRecord, VersionState
from gateway.inference.repository import (
    MANIFEST_FILE,
    ModelFolder,
    Repository,
    Stamp,
    VersionFiles,
    VersionFolder,
)
from gateway.inference.triton_config import TritonModelConfig
from gateway.inference.triton_execution import IgnoredSetting
from gateway.messages import ModelVersion
from gateway.routeplane import RoutePlane
from gateway.routing.published import PublishedRoute
from gateway.shadowing import Observer
from gateway.telemetry.metrics import Metrics
from gateway.yardsticks import Yardsticks, prepare_yardstick

log = logging.getLogger(__name__)

T = TypeVar("T")

SCAN_INTERVAL_S = 1.0
_LOADERS = 2


@dataclass(slots=True)
class _Tried:
    """What a load was last tried with, so that only changed files are tried again."""

    stamp: Stamp
    config: object


@dataclass(slots=True)
class _Memory:
    """What the watcher must not undo or repeat.

    Attributes:
        awaited: Per model the versions its first scan found that are still LOADING: its route waits for these alone.
        ignored: Per model what of its config.pbtxt has no effect, as it was logged.
    """

    tried: dict[ModelVersion, _Tried] = field(default_factory=dict)
    wanted: set[ModelVersion] = field(default_factory=set)
    unwanted: set[ModelVersion] = field(default_factory=set)
    awaited: dict[str, set[int]] = field(default_factory=dict)
    ignored: dict[str, tuple[IgnoredSetting, ...]] = field(default_factory=dict)


class ControlPlane:
    """The one owner of loads and unloads on this replica."""

    def __init__(
        self,
        repository: Repository,
        registry: Registry,
        routeplane: RoutePlane,
        metrics: Metrics,
        *,
        yardsticks: Yardsticks | None = None,
        observer: Observer | None = None,
        wall_clock: Callable[[], float] = time.time,
        scan_interval_s: float = SCAN_INTERVAL_S,
    ) -> None:
        self._yardsticks = yardsticks
        self._observer = observer
        self._gathering = Gathering()
        self._repository = repository
        self._registry = registry
        self._routeplane = routeplane
        self._metrics = metrics
        self._wall_clock = wall_clock
        self._scan_interval_s = scan_interval_s
        self._loaders = ThreadPoolExecutor(_LOADERS, thread_name_prefix="load")
        self._memory = _Memory()
        self._locks: dict[ModelVersion, asyncio.Lock] = {}
        self._loads: dict[ModelVersion, asyncio.Task[VersionRecord]] = {}
        self._draining: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._load_seconds: dict[ModelVersion, float] = {}
        self._stopping = False
        self.first_scan_done = asyncio.Event()
        metrics.gauge("model_version_state", self._read_states)
        metrics.gauge("queue_rows", self._read_queues)
        metrics.gauge("max_queue_rows", self._read_queue_limits)
        metrics.gauge(
            "model_load_duration_seconds",
            lambda: [((key.model, str(key.version)), seconds) for key, seconds in self._load_seconds.items()],
        )

    @property
    def registry(self) -> Registry:
        """What is loaded."""
        return self._registry

    @property
    def routes(self) -> dict[str, PublishedRoute]:
        """The routes this replica serves, by name."""
        return self._routeplane.in_force()

    def is_ready(self) -> bool:
        """Tell whether traffic may come: scanned once, something READY, every route's first variant READY."""
        if self._stopping or not self.first_scan_done.is_set():
            return False
        return any(record.served for record in self._registry) and self._routeplane.is_ready()

    async def start(self) -> None:
        """Scan once, begin the loads, and go on watching."""
        for name in await self._in_loader(self._repository.misnamed):
            log.warning("model_ignored", extra={"directory": name, "reason": "not a name a client could ask for"})
        await self._scan()
        await asyncio.gather(*self._loads.values())
        self.first_scan_done.set()
        self._review_routes()
        self._watcher = asyncio.create_task(self._watch(), name="repository-watcher")

    def begin_stop(self) -> None:
        """Turn readiness off."""
        self._stopping = True

    async def stop(self) -> None:
        """End the watcher, the loads and the versions' threads."""
        self._stopping = True
        running: list[asyncio.Task[object]] = [*self._loads.values(), *([self._watcher] if self._watcher else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for record in list(self._registry):
            if record.served is not None:
                record.served.batcher.abort()
                self._retire(record.served)
        await asyncio.gather(*self._draining, return_exceptions=True)
        self._loaders.shutdown(wait=False, cancel_futures=True)

    async def load(self, model: str, version: int | None = None) -> None:
        """Load a version, or all that model.toml selects, as an operator asked; a READY unchanged one stays.

        The answer comes when the versions are READY. The loaded version is replaced only by a READY one.
        Raises:
            UnknownModel: the repository has no such model or version.
            LoadFailed: a version could not become READY.
        """
        folder = await self._in_loader(lambda: self._repository.scan_model(model))
        if folder is None or not folder.versions:
            raise UnknownModel(f"the repository has no model '{model}'")
        if version is not None and version not in folder.versions:
            raise UnknownModel(f"the repository has no version {version} of model '{model}'")
        numbers = {version} if version is not None else folder.config.selects(folder.versions)
        failures = []
        for number in sorted(numbers):
            key = ModelVersion(model, number)
            self._memory.unwanted.discard(key)
            self._memory.wanted.add(key)
            record = await self._load(folder, folder.versions[number], patient=False)
            if record.state is VersionState.FAILED:
                failures.append(f"{key}: {record.reason}")
        self._memory.awaited.setdefault(model, set())
        self._review_routes()
        if failures:
            raise LoadFailed("; ".join(failures))

    async def unload(self, model: str, version: int | None = None) -> None:
        """Unload a version, or all of a model, as an operator asked; requests in flight are answered.

        Raises:
            UnknownModel: no such model or version is known.
            ModelInUse: a route names the version.
        """
        records = [r for r in self._registry.versions(model) if version is None or r.key.version == version]
        if not records:
            raise UnknownModel(
                f"no model '{model}'" if version is None else f"model '{model}' has no version {version}"
            )
        if self._stopping:
            raise ModelInUse(f"model '{model}': the server is stopping")
        for record in records:
            self._refuse_held(record.key)
        for record in records:
            async with self._lock(record.key):
                self._refuse_held(record.key)  # a route may have come while a load was waited for
                self._memory.unwanted.add(record.key)
                self._memory.wanted.discard(record.key)
                self._unload(record.key, "unloaded")
        self._review_routes()
        await self._routeplane.settle()

    def _refuse_held(self, key: ModelVersion) -> None:
        holders = self._routeplane.holders(key)
        if holders:
            names = ", ".join(f"'{name}'" for name in holders)
            raise ModelInUse(f"{key} cannot be unloaded: {'route' if len(holders) == 1 else 'routes'} {names} name it")

    # --- watching ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._scan_interval_s)
            try:
                await self._scan()
            except LoadFailed as exc:
                log.warning("repository_unreadable", extra={"reason": str(exc)})
            except Exception:  # a repository that nobody watches any more would show no new version until a restart
                log.exception("repository_scan_failed")

    async def _scan(self) -> None:
        """Look at the whole repository once, forget what is gone and begin the loads that are due."""
        folders = await self._in_loader(self._repository.scan)
        routed, held = self._routeplane.routed_versions, self._routeplane.held_versions
        self._memory.unwanted -= held  # an operator unloaded it, and later somebody routed to it
        for record in list(self._registry):
            folder = folders.get(record.key.model)
            if folder is None or record.key.version not in folder.versions:
                self._forget(record.key)
        for folder in folders.values():
            selected = folder.config.selects(folder.versions)
            for number, version in folder.versions.items():
                key = version.key
                if number in selected or key in self._memory.wanted or key in routed:
                    if key not in self._loads and self._is_due(folder, version):
                        self._begin_load(folder, version)
                elif (kept := self._registry.record(key)) is not None and kept.served is not None:
                    self._unload(key, "no longer selected by model.toml")
            self._memory.awaited.setdefault(folder.name, selected)
            self._name_ignored(folder)
        self._review_routes()
        for folder in folders.values():
            await self._renew_yardsticks(folder)

    def _name_ignored(self, folder: ModelFolder) -> None:
        """Say once of every config.pbtxt what of it has no effect here."""
        ignored = folder.config.ignored if isinstance(folder.config, TritonModelConfig) else ()
        if ignored != self._memory.ignored.get(folder.name, ()):
            for setting in ignored:
                facts = {"model": folder.name, "field": setting.field, "reason": setting.reason}
                log.warning("triton_setting_ignored", extra=facts)
            self._memory.ignored[folder.name] = ignored

    def _begin_load(self, folder: ModelFolder, version: VersionFolder) -> None:
        """Load in the background; the watcher goes on meanwhile."""
        key = version.key
        if self._registry.record(key) is None:
            self._registry.put(VersionRecord(key, VersionState.LOADING))
        task = asyncio.create_task(self._load(folder, version, patient=True), name=f"load-{key}")
        self._loads[key] = task
        task.add_done_callback(lambda _: self._loads.pop(key, None))

    def _is_due(self, folder: ModelFolder, version: VersionFolder) -> bool:
        """Tell whether a listed version should be tried now; shows what is still incomplete as LOADING."""
        key = version.key
        if key in self._memory.unwanted:
            return False
        record = self._registry.record(key)
        if record is not None and record.state in (VersionState.READY, VersionState.DRAINING):
            return False
        tried = self._memory.tried.get(key)
        if tried and tried.stamp == version.stamp and tried.config == (folder.config, folder.fault):
            # A load that failed is tried again when its files change, or once more when they had time to be whole.
            if record is None or record.state is not VersionState.LOADING:
                return False
            return not version.may_still_change(self._wall_clock())
        now = self._wall_clock()
        if version.is_settled(now):
            return True
        reason = "waiting until the files stay unchanged"
        if not version.has(version.model_file):
            reason = f"waiting for {version.model_file}"
        if not version.may_still_change(now):
            return True
        if record is None or record.reason != reason:
            self._registry.put(VersionRecord(key, VersionState.LOADING, reason))
        return False

    # --- loading and unloading --------------------------------------------------------------------------

    async def _load(self, folder: ModelFolder, version: VersionFolder, *, patient: bool) -> VersionRecord:
        """Bring one version to READY or FAILED; the one that is READY stays until then.

        Args:
            patient: A version that may be half written stays LOADING.
        """
        key = version.key
        async with self._lock(key):
            before = self._registry.record(key)
            current = before.served if before else None
            if current is None:
                self._registry.put(VersionRecord(key, VersionState.LOADING))
            self._memory.tried[key] = _Tried(version.stamp, (folder.config, folder.fault))
            half_written = False
            try:
                if folder.fault:
                    raise LoadFailed(folder.fault)
                half_written = patient and version.has(MANIFEST_FILE)  # maybe, until the hashes match
                files = await self._in_loader(lambda: self._repository.read_version(version))
                half_written = False
                loaded = await self._in_loader(lambda: _load_changed(key, files, folder.config, current))
            except GatewayError as exc:
                return self._record_failure(version, str(exc), current, patient=half_written)
            except Exception as exc:
                log.exception("version_load_crashed", extra={"model": key.model, "version": key.version})
                return self._record_failure(version, f"{type(exc).__name__}: {exc}", current, patient=False)
            if loaded is None:
                return VersionRecord(key, VersionState.READY, served=current)
            await self._watch_rows(version, loaded, folder.config)
            observe = None if self._observer is None else partial(self._observer.record, key, "primary")
            batcher = Batcher(
                loaded,
                self._metrics,
                loop=asyncio.get_running_loop(),
                observe=observe,
                gathering=self._gathering,
            )
            served = ServedVersion(key, loaded, batcher)
            record = VersionRecord(key, VersionState.READY, served=served)
            self._registry.put(record)
            self._load_seconds[key] = loaded.load_s
            self._review_routes()
            if current is not None:
                self._retire(current)
            log.info(
                "version_loaded",
                extra={
                    "model": key.model,
                    "version": key.version,
                    "load_s": round(loaded.load_s, 3),
                    "providers": ",".join(loaded.sessions[0].providers),
                    "shares_runs": loaded.sharing.shares_runs,
                },
            )
            return record

    async def _renew_yardsticks(self, folder: ModelFolder) -> None:
        """Take note of references and `[monitoring]` tables that have changed since their versions were loaded."""
        for version in folder.versions.values():
            lock, record = self._lock(version.key), self._registry.record(version.key)
            if record is None or record.served is None or lock.locked():
                continue
            if self._yardsticks and not self._yardsticks.is_current(version, folder.config.monitoring):
                async with lock:
                    record = self._registry.record(version.key)
                    if record is not None and record.served is not None:
                        await self._watch_rows(version, record.served.loaded, folder.config)

    async def _watch_rows(self, version: VersionFolder, loaded: LoadedVersion, config: ModelConfig) -> None:
        """Have the version's rows counted, before the first one can arrive."""
        if self._yardsticks is not None:
            prepared = await self._in_loader(lambda: prepare_yardstick(version, loaded.signature, config.monitoring))
            self._yardsticks.watch(version.key, prepared)

    def _record_failure(
        self, version: VersionFolder, reason: str, current: ServedVersion | None, *, patient: bool
    ) -> VersionRecord:
        key = version.key
        facts = {"model": key.model, "version": key.version, "reason": reason}
        if current is not None:
            log.error("version_reload_failed", extra=facts)
            return VersionRecord(key, VersionState.FAILED, reason)
        if patient and version.may_still_change(self._wall_clock()):
            record = VersionRecord(key, VersionState.LOADING, reason)
        else:
            record = VersionRecord(key, VersionState.FAILED, reason)
            log.error("version_failed", extra=facts)
        self._registry.put(record)
        self._review_routes()  # the model's route may have waited for this one
        return record

    def _unload(self, key: ModelVersion, reason: str) -> None:
        """Take a version out of service; it is UNLOADED once its last request is answered."""
        record = self._registry.record(key)
        self._memory.tried.pop(key, None)
        if record is None or record.state is VersionState.DRAINING:
            return
        self._routeplane.release(key)
        if record.served is None:
            self._registry.put(VersionRecord(key, VersionState.UNLOADED, reason))
            return
        self._registry.put(VersionRecord(key, VersionState.DRAINING, reason))
        self._review_routes()
        self._retire(record.served)

    def _forget(self, key: ModelVersion) -> None:
        """Act on a version that is gone from the disk."""
        record = self._registry.record(key)
        self._memory.wanted.discard(key)
        self._memory.unwanted.discard(key)
        if record is not None and record.served is not None:
            self._unload(key, "removed from the repository")
        elif record is not None and record.state is not VersionState.DRAINING and key not in self._loads:
            self._memory.tried.pop(key, None)
            self._registry.remove(key)
            self._routeplane.release(key)
            if not self._registry.versions(key.model):
                self._memory.awaited.pop(key.model, None)
            self._metrics.forget(key.model, str(key.version))
            self._load_seconds.pop(key, None)
            self._locks.pop(key, None)

    def _retire(self, served: ServedVersion) -> None:
        """Let a version answer everybody who chose it, then let it go."""

        async def drain() -> None:
            await served.batcher.drain()
            gc.collect()  # failed requests and closed connections leave cycles that name it; its memory is wanted now
            record = self._registry.record(served.key)
            if record is not None and record.state is VersionState.DRAINING:
                self._registry.put(VersionRecord(served.key, VersionState.UNLOADED, record.reason))
                if self._yardsticks is not None:
                    self._yardsticks.forget(served.key)
                log.info(
                    "version_unloaded",
                    extra={"model": served.key.model, "version": served.key.version, "reason": record.reason},
                )

        task = asyncio.create_task(drain(), name=f"drain-{served.key}")
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    # --- routes -------------------------------------------------------------------------------------------

    def _review_routes(self) -> None:
        """Tell the route plane that versions came or went, and which models' first scan is settled."""
        for name, awaited in self._memory.awaited.items():
            awaited -= {number for number in awaited if not self._is_loading(ModelVersion(name, number))}
        settled = frozenset(name for name, awaited in self._memory.awaited.items() if not awaited)
        self._routeplane.review(settled, is_scanned=self.first_scan_done.is_set())

    def _is_loading(self, key: ModelVersion) -> bool:
        record = self._registry.record(key)
        return record is not None and record.state is VersionState.LOADING

    # --- small things ---------------------------------------------------------------------------------------

    async def _in_loader(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loaders, work)

    def _lock(self, key: ModelVersion) -> asyncio.Lock:
        return self._locks.setdefault(key, asyncio.Lock())

    def _read_states(self) -> list[tuple[tuple[str, ...], float]]:
        return [
            ((record.key.model, str(record.key.version), state.value), float(record.state is state))
            for record in self._registry
            for state in VersionState
        ]

    def _read_queues(self) -> list[tuple[tuple[str, ...], float]]:
        return [
            ((record.key.model, str(record.key.version)), float(record.served.batcher.queued_rows))
            for record in self._registry
            if record.served is not None
        ]

    def _read_queue_limits(self) -> list[tuple[tuple[str, ...], float]]:
        return [
            ((record.key.model, str(record.key.version)), float(record.served.loaded.config.batching.max_queue_rows))
            for record in self._registry
            if record.served is not None
        ]


def _load_changed(
    key: ModelVersion, files: VersionFiles, config: ModelConfig, current: ServedVersion | None
) -> LoadedVersion | None:
    """In a loader thread: None when what is loaded already is what the files say."""
    if (
        current is not None
        and current.loaded.sha256 == files.sha256
        and replace(current.loaded.config, monitoring=config.monitoring) == config
        and current.loaded.manifest == files.manifest
    ):
        return None
    return load_version(key, files, config)
