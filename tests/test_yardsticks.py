"""A version's reference is found, held against its model, and noticed when it changes; a bad one harms nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Self

import numpy as np
import pytest
import pytest_asyncio

from gateway.checking import check_repository
from gateway.controlplane import ControlPlane
from gateway.dataplane import DataPlane
from gateway.inference.model_config import ModelConfig
from gateway.inference.registry import Registry, VersionState
from gateway.inference.repository import Repository
from gateway.messages import ModelVersion
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.reference import encode_reference
from gateway.monitoring.reference_builder import build_reference
from gateway.monitoring.report import Report
from gateway.routeplane import RoutePlane
from gateway.settings import MonitoringOptions
from gateway.store.memory_store import MemoryStore
from gateway.store.memory_windows import MemoryWindowStore
from gateway.telemetry.metrics import Metrics
from gateway.yardsticks import Yardsticks
from tests.support import onnx_models
from tests.support.repositories import add_version, configure

FRAUD = ModelVersion("fraud", 1)


def reference(columns: int = 3, *, tensor: str = "x", seed: int = 1) -> bytes:
    rows = np.random.default_rng(seed).normal(size=(500, columns)).astype(np.float32)
    return encode_reference(build_reference({tensor: rows}, {"y": 2 * rows}))


def text_reference() -> bytes:
    rows = np.array([["a", "b", "c"]] * 30, object)
    return encode_reference(build_reference({"x": rows}, {}))


class Place:
    """A repository, and the control plane that watches it.

    Attributes:
        wall_s: Added to the clock, so that nothing waits for files to settle.
    """

    def __init__(self, root: Path, defaults: MonitoringOptions | None = None) -> None:
        self.root = root
        self.monitor = Monitor(MemoryWindowStore())
        self.registry = Registry()
        metrics = Metrics()
        self._store = MemoryStore()
        self._routeplane = RoutePlane(self._store, self.registry, DataPlane(self.registry, metrics).publish)
        self.controlplane = ControlPlane(
            Repository(root, ModelConfig(monitoring=defaults or MonitoringOptions())),
            self.registry,
            self._routeplane,
            metrics,
            yardsticks=Yardsticks(self.monitor),
            wall_clock=lambda: time.time() + 10,
            scan_interval_s=0.02,
        )

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        await self._routeplane.start()
        await self.controlplane.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.controlplane.stop()
        await self._routeplane.stop()
        await self._store.__aexit__(None, None, None)
        await self.monitor.stop()

    async def report(self) -> Report:
        found = await self.monitor.report("fraud", 1)
        assert found is not None
        return found

    async def until(self, holds: Callable[[Report], bool]) -> Report:
        async with asyncio.timeout(10):
            while not holds(found := await self.report()):  # noqa: ASYNC110 - it is what an operator sees, polled
                await asyncio.sleep(0.01)
        return found

    def put(self, body: bytes) -> None:
        """Replace reference.json in one rename."""
        staged = self.root / "fraud" / "1" / ".staged"
        staged.write_bytes(body)
        staged.rename(staged.with_name("reference.json"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a repository with one version."""
    add_version(tmp_path, "fraud", 1, onnx_models.affine())
    return tmp_path


@pytest_asyncio.fixture
async def place(root: Path) -> AsyncIterator[Place]:
    """Watch that repository."""
    async with Place(root) as place:
        yield place


async def test_without_a_reference_a_version_is_known_and_nothing_is_counted(place: Place) -> None:
    report = await place.report()
    assert (report.state, report.reason, report.reference) == ("insufficient", "no reference", None)
    assert place.monitor.seen_rows("primary") == []


async def test_a_reference_that_comes_later_or_is_replaced_is_taken_without_a_reload(place: Place) -> None:
    before = place.registry.served("fraud", 1)
    place.put(reference())
    first = await place.until(lambda report: report.reference is not None)
    place.put(reference(seed=2))
    second = await place.until(lambda report: report.reference != first.reference)
    assert second.reason == "no window decided yet"
    assert place.registry.served("fraud", 1) is before


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "invalid reference: reference.json: "),
        (reference().replace(b'"rows":500', b'"rows":501'), "invalid reference: reference: feature"),
        (reference(4), "invalid reference: reference: input 'x' has 4 values a row, the model's has 3"),
        (reference(tensor="w"), "invalid reference: reference: feature 'w_0': input: unknown 'w'"),
        (text_reference(), "invalid reference: reference: feature 'x_0' does not fit input 'x', FP32"),
    ],
    ids=["not JSON", "changed", "of another width", "of another input", "of strings"],
)
async def test_an_invalid_reference_leaves_the_version_served_and_is_said(
    place: Place, body: bytes, reason: str
) -> None:
    place.put(body)
    report = await place.until(lambda report: report.reason != "no reference")
    assert report.reason.startswith(reason)
    assert report.state == "insufficient"
    record = place.registry.record(FRAUD)
    assert record is not None
    assert record.state is VersionState.READY
    (fault,) = check_repository(place.root).faults
    assert fault.file.endswith("fraud/1/reference.json")


async def test_settings_of_a_model_are_noticed_and_win_over_the_defaults(root: Path) -> None:
    (root / "fraud" / "1" / "reference.json").write_bytes(reference())
    async with Place(root, MonitoringOptions(bucket_s=7, min_rows=3)) as place:
        (watch, _) = place.monitor.watches
        assert (watch.yardstick.options.bucket_s, watch.yardstick.options.min_rows) == (7, 3)
        configure(root, "fraud", '[monitoring]\nbucket_s = 2\nfeatures = ["x_1"]\n')
        await place.until(lambda _: place.monitor.watches[0].yardstick.options.bucket_s == 2)
        (watch, _) = place.monitor.watches
        assert watch.yardstick.options == MonitoringOptions(bucket_s=2, min_rows=3, features=("x_1",))
        configure(root, "fraud", "[monitoring]\nenabled = false\n")
        report = await place.until(lambda report: "switched off" in report.reason)
        assert report.reason == "switched off by [monitoring] enabled"
        configure(root, "fraud", '[monitoring]\nfeatures = ["nothing"]\n')
        report = await place.until(lambda report: "unknown" in report.reason)
        assert "[monitoring] features: unknown 'nothing'" in report.reason


async def test_rows_seen_stay_counted_over_a_new_reference_and_go_with_the_version(place: Place) -> None:
    place.put(reference())
    first = await place.until(lambda report: report.reference is not None)
    rows = np.zeros((5, 3), np.float32)
    place.monitor.record(FRAUD, "primary", {"x": rows}, {"y": rows}, 5)
    place.put(reference(seed=2))
    await place.until(lambda report: report.reference != first.reference)
    place.monitor.record(FRAUD, "primary", {"x": rows}, {"y": rows}, 5)
    assert place.monitor.seen_rows("primary") == [(("fraud", "1"), 10.0)]
    await place.controlplane.unload("fraud")
    async with asyncio.timeout(10):
        while await place.monitor.report("fraud", 1) is not None:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert place.monitor.seen_rows("primary") == []
