"""Holds the registry to its promises: who can be reached, in which state, and what is said of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.errors import NotReady, UnknownModel
from gateway.inference.batcher import Batcher
from gateway.inference.registry import Registry, ServedVersion, VersionRecord, VersionState
from gateway.messages import ModelVersion
from gateway.telemetry.metrics import Metrics
from tests.inference.stub_session import StubSession, loaded_version

THIRD = ModelVersion("fraud", 3)


@pytest.fixture
async def served() -> AsyncIterator[ServedVersion]:
    """Return a version that could answer."""
    loaded = loaded_version(StubSession())
    batcher = Batcher(loaded, Metrics(), loop=asyncio.get_running_loop())
    yield ServedVersion(THIRD, loaded, batcher)
    await batcher.drain()


def registry_of(*records: VersionRecord) -> Registry:
    registry = Registry()
    for record in records:
        registry.put(record)
    return registry


def record(model: str, version: int, state: VersionState, reason: str = "") -> VersionRecord:
    return VersionRecord(ModelVersion(model, version), state, reason)


async def test_a_ready_version_is_reached(served: ServedVersion) -> None:
    registry = registry_of(VersionRecord(THIRD, VersionState.READY, served=served))
    assert registry.served("fraud", 3) is served
    assert registry.ready_versions("fraud") == [3]


@pytest.mark.parametrize(
    ("state", "reason", "said"),
    [
        (VersionState.LOADING, "", "fraud:3: is LOADING"),
        (VersionState.LOADING, "waiting for model.onnx", "fraud:3: is LOADING: waiting for model.onnx"),
        (VersionState.DRAINING, "unloaded", "fraud:3: is DRAINING: unloaded"),
        (VersionState.FAILED, "hash differs", "fraud:3: is FAILED: hash differs"),
    ],
)
def test_a_version_that_is_known_but_not_ready_says_its_state_and_why(
    state: VersionState, reason: str, said: str
) -> None:
    registry = registry_of(record("fraud", 3, state, reason))
    with pytest.raises(NotReady) as caught:
        registry.served("fraud", 3)
    assert str(caught.value) == said


async def test_a_version_that_is_not_there_is_told_with_those_that_are(served: ServedVersion) -> None:
    registry = registry_of(
        VersionRecord(THIRD, VersionState.READY, served=served), record("fraud", 4, VersionState.UNLOADED)
    )
    for version in (4, 5):
        with pytest.raises(UnknownModel) as caught:
            registry.served("fraud", version)
        assert str(caught.value) == f"model 'fraud' has no version {version} (READY versions: 3)"


def test_a_model_without_ready_versions_says_so() -> None:
    registry = registry_of(record("fraud", 4, VersionState.UNLOADED))
    with pytest.raises(UnknownModel, match=r"^model 'fraud' has no version 4 \(no version of it is READY\)$"):
        registry.served("fraud", 4)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UnknownModel, match=r"^no model 'fraud'$"):
        Registry().served("fraud", 1)


def test_records_come_by_name_and_then_by_number() -> None:
    registry = registry_of(
        record("fraud", 10, VersionState.LOADING),
        record("digits", 1, VersionState.FAILED),
        record("fraud", 9, VersionState.UNLOADED),
    )
    assert [str(found.key) for found in registry] == ["digits:1", "fraud:9", "fraud:10"]
    assert registry.models() == ["digits", "fraud"]
    assert [found.key.version for found in registry.versions("fraud")] == [9, 10]
    assert registry.versions("penguins") == []
    assert registry.ready_versions("fraud") == []


def test_a_record_replaces_the_one_before() -> None:
    registry = registry_of(record("fraud", 3, VersionState.LOADING), record("fraud", 3, VersionState.FAILED, "why"))
    assert registry.record(THIRD) == record("fraud", 3, VersionState.FAILED, "why")
    assert len(list(registry)) == 1


def test_what_was_removed_was_never_there() -> None:
    registry = registry_of(record("fraud", 3, VersionState.FAILED), record("fraud", 4, VersionState.FAILED))
    registry.remove(THIRD)
    assert registry.record(THIRD) is None
    assert registry.models() == ["fraud"]
    registry.remove(ModelVersion("fraud", 4))
    registry.remove(ModelVersion("fraud", 4))
    assert registry.models() == []
    with pytest.raises(UnknownModel, match=r"^no model 'fraud'$"):
        registry.served("fraud", 4)


def test_whoever_walks_the_records_may_change_them() -> None:
    registry = registry_of(*(record("fraud", version, VersionState.FAILED) for version in (1, 2, 3)))
    for found in registry:
        registry.remove(found.key)
    assert list(registry) == []
