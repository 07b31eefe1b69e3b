"""How routes change, on real replicas that share a store in memory: by operators, unasked, and not at all.

What becomes of them while Redis is away stands in `test_routeplane_redis.py`.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.errors import (
    InvalidRoute,
    ModelInUse,
    PreconditionRequired,
    RevisionMismatch,
    UnknownModel,
    UnknownRoute,
)
from gateway.routeplane import Actor
from gateway.store.memory_store import MemoryStore
from gateway.store.records import AppliedRoute
from tests.support import onnx_models
from tests.support.replicas import ANA, BEN, PATIENCE_S, Replica, document, running_replica
from tests.support.repositories import add_version, configure


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Write a repository with three versions of a model that take and give the same."""
    root = tmp_path / "models"
    for version in (1, 2, 3):
        add_version(root, "m", version, onnx_models.affine(offset=float(version)))
    return root


@pytest.fixture
async def store() -> AsyncIterator[MemoryStore]:
    async with MemoryStore() as opened:
        yield opened


@pytest.fixture
async def replica(repository: Path, store: MemoryStore) -> AsyncIterator[Replica]:
    """Run a replica whose route `m` leads to `m:3`."""
    async with running_replica(repository, store) as running:
        yield running


async def put(replica: Replica, *weights: float, name: str = "m", by: Actor = ANA, shadows: object = ()) -> int:
    """Put a route over whatever is there and return its revision."""
    changed = await replica.routes.put(name, document(*weights, shadows=shadows), if_match="*", by=by)
    return changed.route.revision


async def refused(replica: Replica, name: str) -> AppliedRoute:
    """Wait until a replica says that it does not apply the newest revision, and return its word."""
    async with asyncio.timeout(PATIENCE_S):
        while (report := await replica.report(name)) is None or report.applied:  # noqa: ASYNC110 - asked from outside
            await asyncio.sleep(0.005)
    return report


# --- automatic routes -----------------------------------------------------------------------------------


async def test_an_automatic_route_is_in_the_store_when_the_replica_is_ready(
    replica: Replica, store: MemoryStore
) -> None:
    record = await store.read("m")
    assert record is not None
    assert (record.revision, record.action, record.actor) == (1, "automatic", "gateway")
    assert (await replica.routes.read("m")).position == record.position
    assert replica.versions("m") == [3]
    assert await replica.report("m") is not None


async def test_replicas_that_start_together_agree_on_one_automatic_route(tmp_path: Path, store: MemoryStore) -> None:
    """Each knows other versions; whoever is first decides for all."""
    roots = [tmp_path / name for name in ("one", "two")]
    for root, versions in zip(roots, ((1, 2), (1, 2, 3)), strict=True):
        for version in versions:
            add_version(root, "m", version, onnx_models.affine())
    async with (
        running_replica(roots[0], store, until_ready=False) as first,
        running_replica(roots[1], store, replica_id="b", until_ready=False) as second,
    ):
        await first.until(lambda: first.controlplane.is_ready() and second.controlplane.is_ready())
        await first.until(lambda: first.routes.in_force()["m"].position == second.routes.in_force()["m"].position)
        assert len(await store.history("m")) == 1


async def test_a_new_version_gets_no_traffic_until_a_route_names_it(replica: Replica, repository: Path) -> None:
    add_version(repository, "m", 4, onnx_models.affine())
    await replica.until(lambda: replica.state("m", 4) == "READY")
    assert replica.versions("m") == [3]


async def test_unloading_the_version_of_an_automatic_route_makes_another_at_revision_one(
    replica: Replica, store: MemoryStore
) -> None:
    before = replica.routes.in_force()["m"]
    await replica.controlplane.unload("m", 3)
    after = await store.read("m")
    assert after is not None
    assert (after.revision, after.action) == (1, "automatic")
    assert after.epoch > before.epoch
    assert replica.versions("m") == [2]
    assert replica.routes.in_force()["m"].position == after.position
    await replica.controlplane.load("m", 3)
    assert replica.versions("m") == [2]


async def test_unloading_all_of_a_model_removes_its_automatic_route(replica: Replica, store: MemoryStore) -> None:
    await replica.controlplane.unload("m")
    assert await store.read("m") is None
    assert await replica.routes.list_routes() == []
    with pytest.raises(UnknownModel):
        replica.dataplane.endpoint("m", None)
    await replica.controlplane.load("m", 1)
    assert replica.versions("m") == [1]


async def test_a_replica_passes_over_an_automatic_route_to_a_version_it_has_unloaded(
    replica: Replica, repository: Path, store: MemoryStore
) -> None:
    """Loads are per replica: the others go on, and the route is theirs."""
    async with running_replica(repository, store, replica_id="b") as other:
        before = replica.routes.in_force()["m"]
        await replica.controlplane.unload("m")
        await other.until(lambda: other.routes.in_force()["m"].epoch > before.epoch)
        assert other.versions("m") == [3]
        record = await store.read("m")
        assert record is not None
        assert (record.revision, record.action) == (1, "automatic")
        assert replica.served("m") is None
        assert replica.controlplane.is_ready() is False  # nothing at all is READY on it


async def test_an_automatic_route_goes_with_its_model(replica: Replica, repository: Path, store: MemoryStore) -> None:
    add_version(repository, "n", 1, onnx_models.affine())
    await replica.until(lambda: replica.versions("n") == [1])
    shutil.rmtree(repository / "n")
    await replica.until(lambda: replica.served("n") is None)
    await replica.routes.settle()
    assert await store.read("n") is None
    assert replica.controlplane.is_ready()


async def test_an_automatic_route_of_a_model_that_left_meanwhile_is_dropped_at_the_next_start(
    repository: Path, store: MemoryStore
) -> None:
    add_version(repository, "n", 1, onnx_models.affine())
    async with running_replica(repository, store):
        pass
    shutil.rmtree(repository / "n")
    shutil.rmtree(repository / "m" / "3")
    async with running_replica(repository, store) as again:
        await again.routes.settle()
        assert await store.read("n") is None
        assert again.versions("m") == [2]
        assert [route.route.name for route in await again.routes.list_routes()] == ["m"]


# --- put ------------------------------------------------------------------------------------------------


async def test_a_route_is_created_replaced_and_left_alone(replica: Replica, store: MemoryStore) -> None:
    made = await replica.routes.put("split", document(90, 10), if_match=None, must_be_new=True, by=ANA)
    assert (made.route.revision, made.is_new_revision, made.is_created) == (1, True, True)
    assert replica.served("split") == {"stable": 90, "b": 10}
    etag = made.route.position.etag
    same = await replica.routes.put("split", document(90, 10, reason="again"), if_match=etag, by=BEN)
    assert (same.route.revision, same.is_new_revision, same.is_created) == (1, False, False)
    other = await replica.routes.put("split", document(80, 20, reason="more"), if_match=etag, by=BEN)
    assert (other.route.revision, other.is_new_revision, other.is_created) == (2, True, False)
    assert (other.route.actor, other.route.reason) == ("ben", "more")
    audit = (await replica.routes.audit(1))[0]
    assert (audit.actor, audit.action, audit.route, audit.revision, audit.reason) == ("ben", "put", "split", 2, "more")
    assert [change["pointer"] for change in audit.changes] == ["/variants/0/weight", "/variants/1/weight"]
    assert [record.revision for record in await replica.routes.history("split")] == [2, 1]


async def test_a_change_states_the_revision_it_means(replica: Replica) -> None:
    with pytest.raises(PreconditionRequired, match="If-Match"):
        await replica.routes.put("m", document(100), if_match=None, by=ANA)
    with pytest.raises(PreconditionRequired):
        await replica.routes.delete("m", if_match=None, by=ANA)
    with pytest.raises(RevisionMismatch):
        await replica.routes.put("m", document(100), if_match=None, must_be_new=True, by=ANA)
    with pytest.raises(RevisionMismatch) as caught:
        await replica.routes.put("m", document(100), if_match="7-7-7", by=ANA)
    assert caught.value.current == replica.routes.in_force()["m"].position.etag
    with pytest.raises(RevisionMismatch):
        await replica.routes.put("new", document(100), if_match="*", by=ANA)


@pytest.mark.parametrize(
    ("bad", "pointers"),
    [
        ({"variants": []}, ["/variants"]),
        ([], [""]),
        (document(50, 40), ["/variants"]),
        (
            {"variants": [{"name": "a", "model": "m", "version": 9, "weight": 100}]},
            ["/variants/0/version"],
        ),
        (
            document(100, shadows=[{"name": "s", "model": "nobody", "version": 1}]),
            ["/shadows/0/version"],
        ),
    ],
)
async def test_a_bad_document_is_refused_and_judged_by_the_same_words(
    replica: Replica, bad: object, pointers: list[str]
) -> None:
    with pytest.raises(InvalidRoute) as caught:
        await replica.routes.put("m", bad, if_match="*", by=ANA)
    assert [pointer for pointer, _ in caught.value.errors] == pointers
    validation = await replica.routes.validate("m", bad)
    assert not validation.valid
    assert validation.errors == caught.value.errors
    assert replica.versions("m") == [3]


async def test_variants_take_and_give_the_same_and_shadows_take_the_same(replica: Replica, repository: Path) -> None:
    add_version(repository, "wide", 1, onnx_models.affine(columns=4))
    add_version(repository, "other", 1, onnx_models.identity(output_shape=("rows", 3), shape=("rows", 3)))
    add_version(repository, "mean", 1, onnx_models.cast("FP32", "FP64"))
    await replica.until(lambda: replica.state("wide", 1) == replica.state("mean", 1) == "READY")
    stable = {"name": "stable", "model": "m", "version": 1, "weight": 90}
    for model in ("wide", "mean"):
        candidate = {"name": "b", "model": model, "version": 1, "weight": 10}
        result = await replica.routes.validate("m", {"variants": [stable, candidate]})
        assert [pointer for pointer, _ in result.errors] == ["/variants/1"]
        assert f"{model}:1 differs from 'stable' (m:1)" in result.errors[0][1]
    shadow = {"name": "s", "model": "wide", "version": 1}
    result = await replica.routes.validate("m", document(100, shadows=[shadow]))
    assert [pointer for pointer, _ in result.errors] == ["/shadows/0"]
    result = await replica.routes.validate("m", document(100, shadows=[shadow | {"model": "mean"}]))
    assert (result.valid, result.errors) == (True, ())


async def test_a_validation_says_what_a_put_would_do_and_does_nothing(replica: Replica, store: MemoryStore) -> None:
    await put(replica, 90, 10)
    before = await store.read("m")
    result = await replica.routes.validate("m", document(75, 25))
    assert (result.valid, result.moved_percent) == (True, 15)
    assert list(result.changes) == [
        {"pointer": "/variants/0/weight", "from": 90, "to": 75},
        {"pointer": "/variants/1/weight", "from": 10, "to": 25},
    ]
    assert await store.read("m") == before
    new = await replica.routes.validate("new", document(75, 25))
    assert (new.valid, new.moved_percent, [change["from"] for change in new.changes]) == (True, 0, [None])


async def test_a_deleted_route_is_gone_and_a_models_own_comes_back_as_automatic(
    replica: Replica, store: MemoryStore
) -> None:
    await put(replica, 90, 10)
    made = await replica.routes.put("split", document(50, 50), if_match=None, must_be_new=True, by=ANA)
    await replica.routes.delete("split", if_match=made.route.position.etag, by=ANA)
    assert replica.served("split") is None
    with pytest.raises(UnknownRoute):
        await replica.routes.read("split")
    with pytest.raises(UnknownRoute):
        await replica.routes.delete("split", if_match="*", by=ANA)
    await replica.routes.delete("m", if_match="*", by=ANA)
    await replica.routes.settle()
    record = await store.read("m")
    assert record is not None
    assert (record.revision, record.action) == (1, "automatic")
    assert replica.versions("m") == [3]


async def test_a_route_that_another_replica_deleted_is_gone_at_once(
    replica: Replica, repository: Path, store: MemoryStore
) -> None:
    await replica.routes.put("split", document(50, 50), if_match=None, must_be_new=True, by=ANA)
    async with running_replica(repository, store, replica_id="b") as other:
        await other.until(lambda: other.served("split") is not None)
        await replica.routes.delete("split", if_match="*", by=ANA)
        with pytest.raises(UnknownRoute):
            await other.routes.read("split")


# --- shift, abort, rollback ----------------------------------------------------------------------------


async def test_a_shift_moves_the_named_weights_on_the_current_document(replica: Replica) -> None:
    revision = await put(replica, 90, 10)
    shifted = await replica.routes.shift("m", {"b": 25}, by=Actor("ana", "looks good"))
    assert (shifted.route.revision, shifted.route.reason) == (revision + 1, "looks good")
    assert replica.served("m") == {"stable": 75, "b": 25}
    again = await replica.routes.shift("m", {"b": 25}, by=ANA)
    assert (again.route.revision, again.is_new_revision) == (revision + 1, False)
    with pytest.raises(RevisionMismatch):
        await replica.routes.shift("m", {"b": 30}, if_match="1-1-1", by=ANA)
    with pytest.raises(InvalidRoute) as caught:
        await replica.routes.shift("m", {"b": 101, "nobody": 1}, by=ANA)
    assert [pointer for pointer, _ in caught.value.errors] == ["/weights/b", "/weights/nobody"]
    with pytest.raises(UnknownRoute):
        await replica.routes.shift("nobody", {"b": 1}, by=ANA)


async def test_more_traffic_needs_a_ready_version_and_less_of_it_does_not(replica: Replica, repository: Path) -> None:
    await put(replica, 90, 10)
    shutil.rmtree(repository / "m" / "2")
    await replica.until(lambda: replica.state("m", 2) == "")
    with pytest.raises(InvalidRoute, match="m:2 is not READY"):
        await replica.routes.shift("m", {"b": 11}, by=ANA)
    await replica.routes.shift("m", {"b": 5}, by=ANA)
    await replica.routes.abort("m", by=ANA)
    assert replica.served("m") == {"stable": 100, "b": 0}


async def test_shifts_of_many_operators_at_once_all_happen_one_after_the_other(replica: Replica) -> None:
    first = await put(replica, 90, 10)
    weights = range(11, 19)
    changed = await asyncio.gather(*(replica.routes.shift("m", {"b": weight}, by=ANA) for weight in weights))
    assert sorted(change.route.revision for change in changed) == [first + 1 + index for index in range(len(weights))]


async def test_of_two_operators_who_state_the_same_revision_one_is_refused(replica: Replica) -> None:
    await put(replica, 90, 10)
    etag = (await replica.routes.read("m")).position.etag
    outcomes = await asyncio.gather(
        replica.routes.put("m", document(80, 20), if_match=etag, by=ANA),
        replica.routes.put("m", document(70, 30), if_match=etag, by=BEN),
        return_exceptions=True,
    )
    assert sorted(isinstance(outcome, RevisionMismatch) for outcome in outcomes) == [False, True]


async def test_an_abort_gives_everything_to_the_first_variant_and_again_is_no_revision(replica: Replica) -> None:
    shadow = {"name": "s", "model": "m", "version": 3}
    revision = await put(replica, 90, 10, shadows=[shadow])
    aborted = await replica.routes.abort("m", by=Actor("ana", "errors"))
    assert (aborted.route.revision, aborted.is_new_revision) == (revision + 1, True)
    assert replica.served("m") == {"stable": 100, "b": 0}
    assert len(replica.routes.in_force()["m"].route.shadows) == 1
    again = await replica.routes.abort("m", by=BEN)
    assert (again.route.revision, again.is_new_revision) == (revision + 1, False)
    without = await replica.routes.abort("m", shadows=True, by=BEN)
    assert without.route.revision == revision + 2
    assert replica.routes.in_force()["m"].route.shadows == ()


async def test_a_rollback_brings_the_same_keys_back(replica: Replica) -> None:
    first = await put(replica, 60, 20, 20)
    slots = replica.routes.in_force()["m"].slots
    for weights in ({"b": 40}, {"c": 0}, {"c": 30, "b": 10}):
        await replica.routes.shift("m", weights, by=ANA)
    back = await replica.routes.rollback("m", first, by=Actor("ben", "was better"))
    assert back.route.slots == slots
    assert (back.route.revision, back.route.reason) == (first + 4, "was better")
    assert replica.routes.in_force()["m"].slots == slots
    previous = await replica.routes.rollback("m", by=BEN)
    assert previous.route.route.weights_bp == {"stable": 6000, "b": 1000, "c": 3000}
    with pytest.raises(UnknownRoute, match="revision 99"):
        await replica.routes.rollback("m", 99, by=BEN)
    with pytest.raises(RevisionMismatch):
        await replica.routes.rollback("m", first, if_match="1-1-1", by=BEN)


async def test_a_rollback_to_a_version_that_is_gone_is_refused(replica: Replica, repository: Path) -> None:
    first = await put(replica, 90, 10)
    await put(replica, 100)
    shutil.rmtree(repository / "m" / "2")
    await replica.until(lambda: replica.state("m", 2) == "")
    with pytest.raises(InvalidRoute) as caught:
        await replica.routes.rollback("m", first, by=ANA)
    assert caught.value.errors[0][0] == "/variants/1/version"


# --- what a replica refuses ------------------------------------------------------------------------------


async def test_a_replica_that_lacks_a_candidate_keeps_its_revision_says_why_and_applies_it_later(
    replica: Replica, store: MemoryStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await put(replica, 100)
    elsewhere = tmp_path / "elsewhere"
    add_version(elsewhere, "m", 1, onnx_models.affine())
    async with running_replica(elsewhere, store, replica_id="b") as other:
        await put(replica, 90, 10)
        await other.until(lambda: bool(other.routes.in_force()))
        report = await refused(other, "m")
        assert report.revision == 2
        assert "m:2 is not READY: the repository has no such version" in report.reason
        assert other.served("m") == {"stable": 100}
        assert other.controlplane.is_ready()
        (said,) = [vars(record) for record in caplog.records if record.message == "route_not_whole"]
        assert (said["route"], said["revision"], said["reason"]) == ("m", 2, report.reason)
        add_version(elsewhere, "m", 2, onnx_models.affine())
        await other.until(lambda: other.served("m") == {"stable": 90, "b": 10})
        applied = await other.report("m")
        assert applied is not None
        assert (applied.revision, applied.applied, applied.reason) == (3, True, "")


async def test_a_shadow_that_a_replica_cannot_run_keeps_the_revision_from_it(
    replica: Replica, store: MemoryStore, tmp_path: Path
) -> None:
    await put(replica, 100)
    elsewhere = tmp_path / "elsewhere"
    add_version(elsewhere, "m", 1, onnx_models.affine())
    async with running_replica(elsewhere, store, replica_id="b") as other:
        await put(replica, 100, shadows=[{"name": "s", "model": "m", "version": 2}])
        await other.until(lambda: other.routes.in_force()["m"].revision == 2)
        report = await refused(other, "m")
        assert "m:2 is not READY" in report.reason
        assert other.routes.in_force()["m"].route.shadows == ()


async def test_an_abort_takes_effect_on_a_replica_that_could_not_apply_what_was_aborted(
    replica: Replica, store: MemoryStore, tmp_path: Path
) -> None:
    await put(replica, 50, 50)
    elsewhere = tmp_path / "elsewhere"
    for version in (1, 2):
        add_version(elsewhere, "m", version, onnx_models.affine())
    async with running_replica(elsewhere, store, replica_id="b") as other:
        await put(replica, 50, 50, shadows=[{"name": "s", "model": "m", "version": 3}])
        await refused(other, "m")
        await replica.routes.abort("m", by=ANA)
        await other.until(lambda: other.served("m") == {"stable": 100, "b": 0})


async def test_replicas_say_that_they_are_alive_and_what_they_serve(
    replica: Replica, repository: Path, store: MemoryStore
) -> None:
    async with running_replica(repository, store, replica_id="b") as other:
        await put(replica, 90, 10)

        async def others_word() -> int:
            reports = {report.id: report for report in await replica.routes.replicas()}
            return reports["b"].routes["m"].revision if "b" in reports else 0

        async with asyncio.timeout(20):
            while await others_word() != 2:  # noqa: ASYNC110 - asked from outside
                await asyncio.sleep(0.01)
        ids = [(report.id, report.admin) for report in await other.routes.replicas()]
        assert ids == [("a", "http://a"), ("b", "http://b")]


# --- loads and unloads -------------------------------------------------------------------------------------


async def test_a_version_that_a_route_names_cannot_be_unloaded(replica: Replica) -> None:
    await put(replica, 100, shadows=[{"name": "s", "model": "m", "version": 2}])
    await replica.routes.put("split", document(50, 50), if_match=None, must_be_new=True, by=ANA)
    with pytest.raises(ModelInUse, match=r"m:1 .* routes 'm', 'split' name it"):
        await replica.controlplane.unload("m", 1)
    with pytest.raises(ModelInUse, match=r"m:2 .* routes 'm', 'split'"):
        await replica.controlplane.unload("m", 2)
    with pytest.raises(ModelInUse):
        await replica.controlplane.unload("m")
    assert [replica.state("m", version) for version in (1, 2, 3)] == ["READY"] * 3
    await replica.controlplane.unload("m", 3)
    assert replica.state("m", 3) in ("DRAINING", "UNLOADED")


async def test_a_routed_version_loads_whatever_model_toml_selects(repository: Path, store: MemoryStore) -> None:
    async with running_replica(repository, store) as replica:
        await put(replica, 90, 10)
    configure(repository, "m", "versions = {latest = 1}\n")
    async with running_replica(repository, store) as again:
        assert [again.state("m", version) for version in (1, 2, 3)] == ["READY"] * 3
        assert again.served("m") == {"stable": 90, "b": 10}


async def test_every_route_says_whether_the_store_regressed(replica: Replica) -> None:
    assert replica.metric("route_store_regressed", route="m") == 0
    assert replica.metric("route_applied", route="m") == 1


async def test_a_route_loads_again_what_was_unloaded_before(
    replica: Replica, repository: Path, store: MemoryStore
) -> None:
    """An unload stands against the watcher, but not against a later decision; who decides loads it first."""
    async with running_replica(repository, store, replica_id="b") as other:
        for each in (replica, other):
            await each.controlplane.unload("m", 2)
        with pytest.raises(InvalidRoute, match="m:2 is not READY, it is"):
            await put(replica, 90, 10)
        await replica.controlplane.load("m", 2)
        await put(replica, 90, 10)
        await other.until(lambda: other.served("m") == {"stable": 90, "b": 10})
        assert other.state("m", 2) == "READY"


# --- restarts ----------------------------------------------------------------------------------------------------


async def test_routes_survive_a_restart(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "routes.state"
    async with MemoryStore(path) as store, running_replica(repository, store) as replica:
        await put(replica, 60, 40)
        await replica.routes.put("split", document(50, 50), if_match=None, must_be_new=True, by=ANA)
        before = replica.routes.in_force()
    async with MemoryStore(path) as store, running_replica(repository, store) as again:
        assert again.routes.in_force() == before
        assert [record.revision for record in await again.routes.history("m")] == [2, 1]


async def test_a_bad_candidate_never_blocks_a_restart(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "routes.state"
    async with MemoryStore(path) as store, running_replica(repository, store) as replica:
        await put(replica, 60, 20, 20, shadows=[{"name": "s", "model": "m", "version": 3}])
    (repository / "m" / "2" / "model.onnx").write_bytes(b"noise")
    (repository / "m" / "2" / "manifest.toml").unlink()
    shutil.rmtree(repository / "m" / "3")
    async with MemoryStore(path) as store, running_replica(repository, store) as again:
        assert again.served("m") == {"stable": 60, "b": 20, "c": 20}
        report = await again.report("m")
        assert report is not None
        assert (report.revision, report.applied) == (2, True)
        assert "m:3 is not READY" in report.reason


async def test_a_first_variant_that_is_gone_does(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "routes.state"
    async with MemoryStore(path) as store, running_replica(repository, store) as replica:
        await put(replica, 60, 40)
    shutil.rmtree(repository / "m" / "1")
    async with MemoryStore(path) as store, running_replica(repository, store, until_ready=False) as again:
        await again.routes.settle()
        assert again.controlplane.first_scan_done.is_set()
        assert not again.controlplane.is_ready()
        add_version(repository, "m", 1, onnx_models.affine())
        await again.until(again.controlplane.is_ready)


# --- routes of gateway.toml ------------------------------------------------------------------------------------------


async def test_a_configured_route_is_made_where_there_is_none_and_never_overrules(
    repository: Path, store: MemoryStore
) -> None:
    configured = {"m": document(90, 10), "split": document(50, 50, reason="to begin with")}
    async with running_replica(repository, store, configured=configured) as replica:
        assert replica.served("m") == {"stable": 90, "b": 10}
        record = await store.read("split")
        assert record is not None
        assert (record.revision, record.action, record.reason) == (1, "configured", "to begin with")
        with pytest.raises(ModelInUse, match="'m', 'split'"):
            await replica.controlplane.unload("m", 1)
        await put(replica, 80, 20)
    async with running_replica(repository, store, configured=configured) as again:
        assert again.served("m") == {"stable": 80, "b": 20}
        await again.routes.delete("split", if_match="*", by=ANA)
        await again.routes.settle()
        assert again.served("split") is None


async def test_a_configured_route_with_a_bad_candidate_is_made_all_the_same(
    repository: Path, store: MemoryStore
) -> None:
    shutil.rmtree(repository / "m" / "2")
    async with running_replica(repository, store, configured={"m": document(90, 10)}) as replica:
        assert replica.served("m") == {"stable": 90, "b": 10}
