"""The control plane alone, on a real repository with real models, and a wall clock of the test's own."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane
from gateway.endpoints import Endpoint
from gateway.errors import LoadFailed, ModelInUse, NotReady, UnknownModel
from gateway.inference.batcher import Answer
from gateway.inference.registry import Registry, VersionState
from gateway.inference.repository import INCOMPLETE_AFTER_S, ModelFolder, Repository
from gateway.messages import Array, ModelVersion
from gateway.routeplane import RoutePlane
from gateway.store.memory_store import MemoryStore
from gateway.telemetry.metrics import Metrics
from tests.support import onnx_models
from tests.support.repositories import add_version, configure, manifest_of

SCAN_INTERVAL_S = 0.1
PATIENCE_S = 20.0
"""How long a test waits for something that is to happen: far longer than it takes."""


@dataclass
class Bench:
    """A control plane and what it changes."""

    root: Path
    registry: Registry = field(default_factory=Registry)
    metrics: Metrics = field(default_factory=Metrics)
    clock_ahead_s: float = 0.0

    def __post_init__(self) -> None:
        self.dataplane = DataPlane(self.registry, self.metrics)
        self.store = MemoryStore()
        self.routeplane = RoutePlane(self.store, self.registry, self.dataplane.publish)
        self.controlplane = ControlPlane(
            Repository(self.root),
            self.registry,
            self.routeplane,
            self.metrics,
            wall_clock=lambda: time.time() + self.clock_ahead_s,
            scan_interval_s=SCAN_INTERVAL_S,
        )

    def state(self, model: str, version: int) -> str:
        """Return a version's state, "" when it is not known."""
        record = self.registry.record(ModelVersion(model, version))
        return record.state.value if record else ""

    def reason(self, model: str, version: int) -> str:
        """Return why a version is in its state."""
        record = self.registry.record(ModelVersion(model, version))
        assert record is not None
        return record.reason

    def routed(self, model: str) -> int:
        """Return the version behind a model's route."""
        return self.dataplane.endpoint(model, None).served.key.version

    def submit(self, endpoint: Endpoint, value: float) -> asyncio.Future[Answer]:
        """Ask a version as a request that has chosen it does."""
        batcher = endpoint.served.batcher
        inputs: dict[str, Array] = {"x": np.array([[value]], np.float32)}
        answer = batcher.submit(inputs, 1, (), time.monotonic() + PATIENCE_S)
        batcher.acquire()
        answer.add_done_callback(lambda _: batcher.release())
        return answer

    async def until(self, happened: Callable[[], bool]) -> None:
        """Let the loop go on until something has happened."""
        async with asyncio.timeout(PATIENCE_S):
            while not happened():  # noqa: ASYNC110 - looks from outside, where there is no event to wait for
                await asyncio.sleep(0.01)

    async def until_state(self, model: str, version: int, state: str) -> None:
        """Let the loop go on until a version is in a state."""
        await self.until(lambda: self.state(model, version) == state)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Build a control plane on an empty repository, not yet started; stop it in the end."""
    made = Bench(tmp_path)
    async with made.store:
        await made.routeplane.start()
        yield made
        await made.controlplane.stop()
        await made.routeplane.stop()


# --- patience with files that arrive ---------------------------------------------------------------------


async def test_a_wrong_hash_is_failed_only_after_thirty_seconds(bench: Bench) -> None:
    folder = add_version(bench.root, "m", 1, onnx_models.affine())
    (folder / "manifest.toml").write_text(manifest_of(b"another file"))
    await bench.controlplane.start()
    assert bench.state("m", 1) == "LOADING"
    assert "the manifest says" in bench.reason("m", 1)
    assert bench.controlplane.routes == {}
    bench.clock_ahead_s = INCOMPLETE_AFTER_S
    await bench.until_state("m", 1, "FAILED")
    assert "model.onnx: hash is sha256:" in bench.reason("m", 1)
    with pytest.raises(NotReady, match="the manifest says"):
        bench.dataplane.endpoint("m", 1)
    (folder / "manifest.toml").write_text(manifest_of(onnx_models.affine()))
    await bench.until_state("m", 1, "READY")


async def test_a_directory_without_a_model_is_failed_after_thirty_seconds(bench: Bench) -> None:
    (bench.root / "m" / "1").mkdir(parents=True)
    await bench.controlplane.start()
    assert (bench.state("m", 1), bench.reason("m", 1)) == ("LOADING", "waiting for model.onnx")
    bench.clock_ahead_s = INCOMPLETE_AFTER_S
    await bench.until_state("m", 1, "FAILED")
    assert bench.reason("m", 1).endswith("model.onnx: no such file")


async def test_a_model_without_a_manifest_is_loaded_when_it_has_settled(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.affine(), manifest=None)
    await bench.controlplane.start()
    assert (bench.state("m", 1), bench.reason("m", 1)) == ("LOADING", "waiting until the files stay unchanged")
    bench.clock_ahead_s = 2.0
    await bench.until_state("m", 1, "READY")


async def test_an_operator_who_loads_is_not_kept_waiting_for_a_hash(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.affine(), manifest=manifest_of(b"another file"))
    with pytest.raises(LoadFailed, match=r"m:1: model\.onnx: hash is .* the manifest says"):
        await bench.controlplane.load("m", 1)
    assert bench.state("m", 1) == "FAILED"


# --- routes ------------------------------------------------------------------------------------------------------


async def test_the_route_leads_to_the_highest_ready_version_of_the_first_scan(bench: Bench) -> None:
    for version in (1, 2, 10):
        add_version(bench.root, "m", version, onnx_models.affine())
    add_version(bench.root, "m", 11, b"noise")
    await bench.controlplane.start()
    assert bench.routed("m") == 10
    assert bench.controlplane.routes["m"].revision == 1
    await bench.controlplane.unload("m", 10)
    assert bench.routed("m") == 2
    await bench.controlplane.load("m", 10)
    assert bench.routed("m") == 2


async def test_the_route_waits_for_every_version_of_the_first_scan_and_no_other(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.affine())
    add_version(bench.root, "m", 2, onnx_models.affine(), manifest=manifest_of(b"not here yet"))
    await bench.controlplane.start()
    assert bench.state("m", 1) == "READY"
    with pytest.raises(NotReady, match="2 is LOADING"):
        bench.dataplane.endpoint("m", None)
    (bench.root / "m" / "2" / "manifest.toml").write_text(manifest_of(onnx_models.affine()))
    await bench.until_state("m", 2, "READY")
    assert bench.routed("m") == 2
    add_version(bench.root, "m", 3, onnx_models.affine(), manifest=manifest_of(b"not here yet"))
    await bench.until_state("m", 3, "LOADING")
    await bench.controlplane.unload("m", 2)
    assert bench.routed("m") == 1


async def test_a_model_that_left_and_came_back_is_scanned_for_the_first_time(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.affine())
    await bench.controlplane.start()
    shutil.rmtree(bench.root / "m")
    await bench.until(lambda: bench.registry.models() == [])
    with pytest.raises(UnknownModel, match="no model or route 'm'"):
        bench.dataplane.endpoint("m", None)
    staged = bench.root / ".staged"
    add_version(staged, "m", 1, onnx_models.affine())
    add_version(staged, "m", 2, onnx_models.affine(), manifest=manifest_of(b"not here yet"))
    (staged / "m").rename(bench.root / "m")
    await bench.until_state("m", 1, "READY")
    with pytest.raises(NotReady):
        bench.dataplane.endpoint("m", None)


# --- readiness ----------------------------------------------------------------------------------------------------


async def test_readiness_needs_a_scan_and_something_ready(bench: Bench) -> None:
    add_version(bench.root, "m", 1, b"noise")
    assert not bench.controlplane.is_ready()
    await bench.controlplane.start()
    assert bench.controlplane.first_scan_done.is_set()
    assert not bench.controlplane.is_ready()
    add_version(bench.root, "n", 1, onnx_models.affine())
    await bench.until_state("n", 1, "READY")
    assert bench.controlplane.is_ready()  # the bad one blocks nobody
    bench.controlplane.begin_stop()
    assert not bench.controlplane.is_ready()


async def test_a_repository_that_cannot_be_read_stops_the_start_but_not_the_service(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = Bench(bench.root / "nowhere")
    with pytest.raises(LoadFailed, match="nowhere: no such directory"):
        await nowhere.controlplane.start()
    await nowhere.controlplane.stop()
    add_version(bench.root, "m", 1, onnx_models.affine())
    await bench.controlplane.start()
    moved = bench.root.rename(bench.root.with_name("moved"))
    await bench.until(lambda: "repository_unreadable" in caplog.messages)
    assert bench.routed("m") == 1
    moved.rename(bench.root)
    add_version(bench.root, "m", 2, onnx_models.affine())
    await bench.until_state("m", 2, "READY")


async def test_a_fault_of_one_look_does_not_end_the_watch(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    class Stumbling(Repository):
        stumbles = False

        def scan(self) -> dict[str, ModelFolder]:
            if self.stumbles:
                raise RuntimeError("nobody thought of this")
            return super().scan()

    repository = Stumbling(bench.root)
    watching = ControlPlane(
        repository, bench.registry, bench.routeplane, bench.metrics, scan_interval_s=SCAN_INTERVAL_S
    )
    await watching.start()
    try:
        repository.stumbles = True
        await bench.until(lambda: "repository_scan_failed" in caplog.messages)
        repository.stumbles = False
        add_version(bench.root, "m", 1, onnx_models.affine())
        await bench.until_state("m", 1, "READY")
    finally:
        await watching.stop()


async def test_names_that_nobody_could_ask_for_are_said_once(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("stats", "with space", "-dash"):
        add_version(bench.root, name, 1, onnx_models.affine())
    with caplog.at_level(logging.WARNING):
        await bench.controlplane.start()
    ignored = [vars(record)["directory"] for record in caplog.records if record.message == "model_ignored"]
    assert ignored == ["-dash", "stats", "with space"]
    assert bench.registry.models() == []


# --- loading and unloading --------------------------------------------------------------------------------------------


async def test_a_load_that_fails_leaves_the_ready_version_serving(bench: Bench) -> None:
    folder = add_version(bench.root, "m", 1, onnx_models.affine())
    await bench.controlplane.start()
    before = bench.dataplane.endpoint("m", None).served
    (folder / "model.onnx").write_bytes(b"noise")
    with pytest.raises(LoadFailed, match="the manifest says"):
        await bench.controlplane.load("m", 1)
    assert bench.state("m", 1) == "READY"
    assert bench.dataplane.endpoint("m", None).served is before


async def test_a_load_replaces_a_version_only_when_something_changed(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.slow_on_demand(2000))
    await bench.controlplane.start()
    before = bench.dataplane.endpoint("m", None)
    await bench.controlplane.load("m")
    assert bench.dataplane.endpoint("m", None).served is before.served
    running = bench.submit(before, 2e5)
    configure(bench.root, "m", "[batching]\nmax_rows = 8\n")
    await bench.controlplane.load("m", 1)
    after = bench.dataplane.endpoint("m", None)
    assert after.served is not before.served
    assert after.served.loaded.config.batching.max_rows == 8
    assert not running.done()  # the old session is still answering whoever chose it
    outputs, _ = await running
    assert outputs["y"] == 2e5


async def test_loads_of_one_version_at_the_same_time_are_one_load(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.affine())
    await asyncio.gather(*(bench.controlplane.load("m", 1) for _ in range(5)))
    served = bench.dataplane.endpoint("m", 1).served
    await asyncio.gather(*(bench.controlplane.load("m", 1) for _ in range(5)))
    assert bench.dataplane.endpoint("m", 1).served is served


async def test_an_unload_waits_for_the_load_and_wins(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.slow(3000))
    loading = asyncio.create_task(bench.controlplane.load("m", 1))
    await bench.until_state("m", 1, "LOADING")
    await bench.controlplane.unload("m", 1)
    await loading
    await bench.until_state("m", 1, "UNLOADED")


async def test_who_chose_a_version_is_answered_before_it_goes(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.slow_on_demand(2000))
    await bench.controlplane.start()
    answer = bench.submit(bench.dataplane.endpoint("m", None), 3e5)
    await bench.controlplane.unload("m", 1)
    assert bench.state("m", 1) == "DRAINING"
    with pytest.raises(NotReady, match="m:1: is DRAINING: unloaded"):
        bench.dataplane.endpoint("m", 1)
    outputs, _ = await answer
    assert outputs["y"] == 3e5
    await bench.until_state("m", 1, "UNLOADED")
    with pytest.raises(UnknownModel, match="model 'm' has no version 1"):
        bench.dataplane.endpoint("m", 1)


async def test_a_version_may_come_back_while_it_still_drains(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.slow_on_demand(2000))
    await bench.controlplane.start()
    answer = bench.submit(bench.dataplane.endpoint("m", None), 5e5)
    await bench.controlplane.unload("m", 1)
    await bench.controlplane.load("m", 1)
    assert bench.state("m", 1) == "READY"
    outputs, _ = await answer
    assert outputs["y"] == 5e5
    await asyncio.sleep(0)
    assert bench.state("m", 1) == "READY"
    assert bench.routed("m") == 1


async def test_a_version_removed_while_it_drains_is_forgotten_afterwards(bench: Bench) -> None:
    folder = add_version(bench.root, "m", 1, onnx_models.slow_on_demand(2000))
    await bench.controlplane.start()
    answer = bench.submit(bench.dataplane.endpoint("m", None), 8e5)
    shutil.rmtree(folder)
    await bench.until_state("m", 1, "DRAINING")
    assert bench.reason("m", 1) == "removed from the repository"
    outputs, _ = await answer
    assert outputs["y"] == 8e5
    await bench.until_state("m", 1, "")


async def test_all_of_a_model_is_what_model_toml_selects(bench: Bench) -> None:
    configure(bench.root, "m", "versions = {latest = 2}\n")
    for version in (1, 2, 3):
        add_version(bench.root, "m", version, onnx_models.affine())
    await bench.controlplane.load("m")
    assert [bench.state("m", version) for version in (1, 2, 3)] == ["", "READY", "READY"]
    await bench.controlplane.unload("m")
    await bench.until(lambda: {record.state for record in bench.registry} == {VersionState.UNLOADED})


async def test_what_does_not_exist_is_neither_loaded_nor_unloaded(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.affine())
    await bench.controlplane.start()
    with pytest.raises(UnknownModel, match="the repository has no model 'n'"):
        await bench.controlplane.load("n")
    with pytest.raises(UnknownModel, match="the repository has no version 2 of model 'm'"):
        await bench.controlplane.load("m", 2)
    with pytest.raises(UnknownModel, match="no model 'n'"):
        await bench.controlplane.unload("n")
    with pytest.raises(UnknownModel, match="model 'm' has no version 2"):
        await bench.controlplane.unload("m", 2)
    for name in ("..", "", "m/1", "stats"):
        with pytest.raises(UnknownModel):
            await bench.controlplane.load(name)


# --- stopping ------------------------------------------------------------------------------------------


async def test_a_stop_gives_up_loads_that_are_under_way(bench: Bench) -> None:
    add_version(bench.root, "m", 1, onnx_models.slow(30_000))
    starting = asyncio.create_task(bench.controlplane.start())
    await bench.until_state("m", 1, "LOADING")
    await bench.controlplane.stop()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert bench.state("m", 1) == "LOADING"
    with pytest.raises(ModelInUse):
        await bench.controlplane.unload("m", 1)


# --- series --------------------------------------------------------------------------------------------


async def test_the_series_of_a_version_follow_it(bench: Bench) -> None:
    folder = add_version(bench.root, "m", 1, onnx_models.affine())
    await bench.controlplane.start()
    text = bench.metrics.exposition().decode()
    assert 'gateway_model_version_state{model="m",state="READY",version="1"} 1.0' in text
    assert 'gateway_model_version_state{model="m",state="FAILED",version="1"} 0.0' in text
    assert 'gateway_queue_rows{model="m",version="1"} 0.0' in text
    assert 'gateway_model_load_duration_seconds{model="m",version="1"}' in text
    shutil.rmtree(folder)
    await bench.until(lambda: bench.registry.models() == [])
    assert 'model="m"' not in bench.metrics.exposition().decode()
