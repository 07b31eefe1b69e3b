"""Owns the promises of the monitor as its callers see it: one result a window, late rows, history, reports, series."""

from __future__ import annotations

import asyncio
import json

import msgspec
import numpy as np
import pytest

from gateway.errors import InsufficientBaseline, InvalidReference, StoreUnavailable, UnknownModel
from gateway.messages import ModelVersion
from gateway.monitoring import gauges
from gateway.monitoring.bins import FloatArray
from gateway.monitoring.monitor import Monitor
from gateway.monitoring.report import Report
from gateway.monitoring.schedule import WindowSchedule
from gateway.monitoring.webhook import Webhook
from gateway.settings import MonitoringOptions
from gateway.store.memory_windows import MemoryWindowStore
from gateway.store.redis_connection import RedisConnection
from gateway.store.redis_windows import RedisWindowStore
from gateway.store.windows import CountPacket, Counts, CountSeries, Receipt, WindowStore
from tests.monitoring.replicas import FRAUD, QUICK, START_S, Clock, Replica, reference_rows, score, yardstick
from tests.store.fault_proxy import FaultProxy
from tests.store.redis_server import RedisServer

ROWS = reference_rows(2)
STICK = yardstick(ROWS)


def drawn(rng: np.random.Generator, rows: int = 250, shift: float = 0.0) -> FloatArray:
    batch = ROWS[rng.integers(0, len(ROWS), rows)]
    batch[:, 0] += shift
    return batch


async def decide(*replicas: Replica, after_s: int = 10) -> None:
    """Flush, then let the windows fall due."""
    for replica in replicas:
        await replica.monitor.flush()
    replicas[0].clock.now_s += after_s
    for replica in replicas:
        await replica.monitor.evaluate()


async def report_of(replica: Replica, *, history: int | None = None) -> Report:
    report = await replica.monitor.report("fraud", 3, history=history)
    assert report is not None
    return report


def window(report: Report) -> tuple[str, int, int]:
    assert report.window is not None
    return report.window.start, report.window.rows, report.window.attempt


# --- one result a window --------------------------------------------------------------------------------


async def test_a_window_is_decided_three_seconds_after_its_end(store: WindowStore) -> None:
    replica = Replica(store, Clock(), STICK)
    replica.record(drawn(np.random.default_rng(1)))
    await replica.monitor.flush()
    # The end, a flush interval and two seconds; and up to half a second, so that mostly one replica decides.
    for second, is_decided in [(0, False), (4, False), (7.9, False), (8.5, True)]:
        replica.clock.now_s = START_S + second
        await replica.monitor.evaluate()
        report = await report_of(replica)
        assert (report.window is not None) == is_decided
        assert report.reason == ("" if is_decided else "no window decided yet")


async def test_every_replica_shows_the_one_result_whoever_decided_it(store: WindowStore) -> None:
    clock = Clock()
    replicas = [Replica(store, clock, STICK, seed=seed) for seed in range(3)]
    rng = np.random.default_rng(2)
    for number in range(4):
        clock.now_s = START_S + 5 * number
        for replica in replicas:
            replica.record(drawn(rng, 90))
            await replica.monitor.flush()
    clock.now_s += 8
    await asyncio.gather(*(replica.monitor.evaluate() for replica in replicas))
    clock.now_s += 12
    await asyncio.gather(*(replica.monitor.evaluate() for replica in replicas))
    histories = [msgspec.json.encode(await report_of(replica, history=10)) for replica in replicas]
    assert len(set(histories)) == 1
    seen = json.loads(histories[0])
    assert [entry["window"]["attempt"] for entry in [seen, *seen["history"]]] == [1] * 4
    assert [entry["window"]["rows"] for entry in [seen, *seen["history"]]] == [270] * 4


async def test_late_rows_replace_the_result_and_history_follows(store: WindowStore) -> None:
    """The late replica was cut off: what it saw in the first window makes that window drift after all."""
    clock, rng = Clock(), np.random.default_rng(3)
    punctual, late = Replica(store, clock, STICK), Replica(store, clock, STICK, seed=1)
    punctual.record(drawn(rng))
    late.record(drawn(rng, 400, shift=2.0))
    await punctual.monitor.flush()
    clock.now_s += 5
    punctual.record(drawn(rng, shift=2.0))
    await decide(punctual)
    before = await report_of(punctual, history=5)
    await decide(late)
    await decide(punctual)
    after = await report_of(punctual, history=5)
    assert (before.state, window(before)[1:]) == ("watch", (250, 1))
    # The second window's own rows are the same; its state is new because the window before it changed.
    assert (after.state, window(after)[1:]) == ("drift", (250, 2))
    assert isinstance(before.history, list)
    assert isinstance(after.history, list)
    assert [(entry.state, entry.window.rows, entry.window.attempt) for entry in before.history] == [("ok", 250, 1)]
    assert [(entry.state, entry.window.rows, entry.window.attempt) for entry in after.history] == [("watch", 650, 2)]


async def test_rows_beyond_the_horizon_change_no_result() -> None:
    options = MonitoringOptions(bucket_s=1, window_buckets=5, buffer_buckets=10)
    store, clock, stick = MemoryWindowStore(), Clock(), yardstick(ROWS, options)
    rng = np.random.default_rng(4)
    punctual, late = Replica(store, clock, stick), Replica(store, clock, stick, seed=1)
    punctual.record(drawn(rng))
    late.record(drawn(rng))
    await decide(punctual)
    clock.now_s += 30
    await decide(late)
    await decide(punctual)
    assert window(await report_of(punctual))[1:] == (250, 1)
    assert late.dropped == {"buffer_full": 250}


async def test_a_window_without_rows_is_not_reported(store: WindowStore) -> None:
    replica, rng = Replica(store, Clock(), STICK), np.random.default_rng(5)
    replica.record(drawn(rng))
    replica.clock.now_s += 60
    await replica.monitor.flush()
    replica.record(drawn(rng))
    await decide(replica)
    report = await report_of(replica, history=10)
    assert report.window is not None
    assert report.window.start == "2023-11-14T22:14:20Z"
    assert isinstance(report.history, list)
    assert [entry.window.start for entry in report.history] == ["2023-11-14T22:13:20Z"]


async def test_few_rows_are_insufficient_and_neither_raise_nor_clear_an_alarm(store: WindowStore) -> None:
    replica, rng = Replica(store, Clock(), STICK), np.random.default_rng(6)
    states = []
    for rows, shift in [(250, 0.7), (20, 0.7), (250, 0.7), (20, 0.0), (250, 0.0), (250, 0.0), (250, 0.0)]:
        replica.record(drawn(rng, rows, shift))
        await decide(replica)
        report = await report_of(replica)
        assert isinstance(report.features, list)
        states.append((report.state, report.features[0].reason))
    few = "20 usable rows, expected at least 200"
    assert states == [
        ("watch", "distribution"),
        ("insufficient", few),
        ("drift", "distribution"),
        ("drift", "distribution"),
        ("drift", "distribution"),
        ("drift", "distribution"),
        ("ok", ""),
    ]


async def test_a_restarted_replica_goes_on_where_the_last_one_stopped(store: WindowStore) -> None:
    clock, rng = Clock(), np.random.default_rng(7)
    old = Replica(store, clock, STICK)
    old.record(drawn(rng, shift=2.0))
    await decide(old)
    await old.monitor.stop()
    new = Replica(store, clock, STICK, seed=1)
    new.record(drawn(rng, shift=2.0))
    await decide(new)
    report = await report_of(new, history=1)
    assert report.state == "drift"
    assert isinstance(report.history, list)
    assert len(report.history) == 1


async def test_a_fault_in_one_versions_windows_leaves_the_others_watched(caplog: pytest.LogCaptureFixture) -> None:
    class Faulty(MemoryWindowStore):
        async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
            counts = await super().read(series, start_s, end_s)
            return counts[:-1] if series.model == "broken" else counts

    clock, rng = Clock(), np.random.default_rng(8)
    replica = Replica(Faulty(), clock, STICK)
    broken = ModelVersion("broken", 1)
    replica.monitor.watch(broken, STICK)
    rows = drawn(rng)
    replica.monitor.record(broken, "primary", {"x": rows}, {"score": score(rows)}, len(rows))
    replica.record(rows)
    await decide(replica)
    assert (await report_of(replica)).state == "ok"
    assert "window_not_decided" in caplog.text


# --- calibrated mode ------------------------------------------------------------------------------------


def in_runs(rng: np.random.Generator, rows: int = 250) -> FloatArray:
    """Draw rows that come in runs of similar ones: all of a window are moved together."""
    return drawn(rng, rows) + rng.normal(scale=0.35, size=(1, ROWS.shape[1]))


async def test_windows_declared_in_control_calibrate_the_ones_after_them(store: WindowStore) -> None:
    clock, rng = Clock(), np.random.default_rng(9)
    replica, other = Replica(store, clock, STICK), Replica(store, clock, STICK, seed=1)
    for _ in range(210):
        replica.record(in_runs(rng))
        await replica.monitor.flush()
        clock.now_s += 5
        if clock.now_s % 50 == 0:
            await replica.monitor.evaluate()
    await decide(replica)
    with pytest.raises(InsufficientBaseline, match="100 windows"):
        await replica.monitor.declare_baseline("fraud", 3, from_s=START_S, to_s=START_S + 500)
    noisy = await report_of(replica, history=209)
    baseline = await replica.monitor.declare_baseline("fraud", 3, from_s=START_S, to_s=clock.now_s)
    assert baseline.windows == 210
    states = []
    for _ in range(30):
        other.record(in_runs(rng))
        await decide(other, after_s=5)
        states.append((await report_of(other)).state)
    other.record(drawn(rng, shift=3.0))
    await decide(other)
    other.record(drawn(rng, shift=3.0))
    await decide(other)
    report = await report_of(other)
    assert (noisy.mode, noisy.state) == ("iid", "drift")
    assert (report.mode, report.state) == ("calibrated", "drift")
    assert "210 windows declared in control" in report.assumptions[0]
    assert states.count("drift") <= 3


async def test_a_baseline_needs_a_version_with_a_reference() -> None:
    replica = Replica(MemoryWindowStore(), Clock(), STICK)
    replica.monitor.watch(ModelVersion("bare", 1), None)
    for name in ("bare", "unknown"):
        with pytest.raises(UnknownModel):
            await replica.monitor.declare_baseline(name, 1, from_s=0, to_s=1)


# --- versions that come and go --------------------------------------------------------------------------


async def test_a_version_without_a_reference_says_so_and_counts_nothing() -> None:
    monitor = Monitor(MemoryWindowStore(), wall_clock=Clock())
    monitor.watch(FRAUD, None)
    monitor.record(FRAUD, "primary", {"x": ROWS}, {}, len(ROWS))
    report = await monitor.report("fraud", 3, history=3)
    assert json.loads(msgspec.json.encode(report)) == {
        "model": "fraud",
        "version": 3,
        "role": "primary",
        "state": "insufficient",
        "mode": "iid",
        "reference": None,
        "window": None,
        "features": [],
        "reason": "no reference",
        "assumptions": [],
        "warnings": [],
        "history": [],
    }
    assert await monitor.report("fraud", 4) is None
    assert monitor.seen_rows("primary") == []
    assert not monitor.waiting_rows


async def test_monitoring_that_is_off_counts_nothing() -> None:
    replica = Replica(MemoryWindowStore(), Clock(), yardstick(ROWS, MonitoringOptions(enabled=False)))
    replica.record(ROWS[:100])
    assert replica.seen_rows == 0
    assert (await report_of(replica)).state == "insufficient"


async def test_rows_of_a_forgotten_version_are_still_flushed_and_its_series_are_gone(store: WindowStore) -> None:
    replica, rng = Replica(store, Clock(), STICK), np.random.default_rng(10)
    replica.record(drawn(rng))
    await decide(replica)
    replica.record(drawn(rng, 70))
    second = int(replica.clock.now_s)
    replica.monitor.forget(FRAUD)
    assert gauges.drift_scores(replica.monitor.watches) == []
    assert replica.monitor.seen_rows("primary") == []
    assert replica.monitor.reports() == []
    await replica.monitor.flush()
    counts = await store.read(STICK.series(FRAUD, "primary"), second, second + 1)
    assert counts[0] == 70
    # It comes back within the same bucket: what was sent before is remembered.
    replica.monitor.watch(FRAUD, STICK)
    replica.record(drawn(rng, 30))
    await replica.monitor.flush()
    assert (await store.read(STICK.series(FRAUD, "primary"), second, second + 1))[0] == 100
    assert replica.dropped == {}


async def test_counts_on_another_reference_start_anew(store: WindowStore) -> None:
    replica, rng = Replica(store, Clock(), STICK), np.random.default_rng(11)
    replica.record(drawn(rng))
    await decide(replica)
    other = yardstick(reference_rows(3))
    replica.monitor.watch(FRAUD, other)
    report = await report_of(replica)
    assert (report.window, report.reference) == (None, other.hash)


# --- reports --------------------------------------------------------------------------------------------


async def test_the_report_has_the_contracts_keys() -> None:
    replica, rng = Replica(MemoryWindowStore(), Clock(), STICK), np.random.default_rng(12)
    replica.record(drawn(rng, shift=3.0))
    await decide(replica)
    report = json.loads(msgspec.json.encode(await report_of(replica, history=1)))
    assert list(report)[:8] == ["model", "version", "role", "state", "mode", "reference", "window", "features"]
    assert report["reference"] == STICK.hash
    assert report["window"] == {
        "start": "2023-11-14T22:13:20Z",
        "end": "2023-11-14T22:13:25Z",
        "rows": 250,
        "attempt": 1,
    }
    assert report["history"] == []
    first, prediction = report["features"][0], report["features"][-1]
    assert (first["name"], first["role"], first["kind"], first["rows"]) == ("x_0", "input", "numeric", 250)
    assert list(first["statistics"]) == ["ad", "chi2", "ks", "w1", "psi", "js", "tvd"]
    assert list(first["quality"]) == ["null", "non_finite", "out_of_range", "unseen"]
    assert first["quality"]["unseen"] is None
    assert first["w1_is_lower_bound"] is True
    assert (first["state"], first["reason"]) == ("watch", "distribution, out_of_range")
    assert (prediction["name"], prediction["role"]) == ("score", "prediction")


async def test_the_list_of_reports_has_every_version_once_and_shadow_rows_where_there_are_any() -> None:
    replica, rng = Replica(MemoryWindowStore(), Clock(), STICK), np.random.default_rng(13)
    replica.monitor.watch(ModelVersion("bare", 1), None)
    replica.record(drawn(rng), role="shadow")
    await decide(replica)
    reports = replica.monitor.reports()
    assert [(report.model, report.role, report.reason) for report in reports] == [
        ("bare", "primary", "no reference"),
        ("fraud", "primary", "no window decided yet"),
        ("fraud", "shadow", ""),
    ]
    assert all("features" not in json.loads(msgspec.json.encode(report)) for report in reports)
    shadow = await replica.monitor.report("fraud", 3, "shadow")
    assert shadow is not None
    assert window(shadow)[1] == 250


async def test_the_report_warns_of_what_makes_it_less_sure() -> None:
    rows = reference_rows(5, rows=1_000)
    replica = Replica(MemoryWindowStore(), Clock(), yardstick(rows, MonitoringOptions(bucket_s=1, sampling=0.5)))
    for _ in range(800):
        replica.record(rows[:1])
    await decide(replica, after_s=60)
    report = await report_of(replica)
    assert len(report.warnings) == 2
    assert "over a tenth of the reference's 1000" in report.warnings[0]
    assert "0.5 of the rows are counted" in report.warnings[1]


async def test_the_sliding_window_ends_with_the_last_complete_bucket(store: WindowStore) -> None:
    replica, rng = Replica(store, Clock(), STICK), np.random.default_rng(14)
    for _ in range(9):
        replica.record(drawn(rng, 60))
        replica.clock.now_s += 1
        await replica.monitor.flush()
    report = await replica.monitor.sliding("fraud", 3)
    assert report is not None
    # Nine seconds in, the last complete and flushed second is the sixth.
    assert window(report) == ("2023-11-14T22:13:21Z", 300, 0)
    assert (await report_of(replica)).window is None
    assert await replica.monitor.sliding("unknown", 3) is None


# --- what the metrics read ------------------------------------------------------------------------------


async def test_series_have_the_labels_of_the_contract() -> None:
    replica, rng = Replica(MemoryWindowStore(), Clock(), STICK), np.random.default_rng(15)
    assert gauges.drift_states(replica.monitor.watches) == []
    replica.record(drawn(rng))
    replica.record(drawn(rng, 40), role="shadow")
    await decide(replica)
    watches = replica.monitor.watches
    assert ("fraud", "3", "score", "ks") in dict(gauges.drift_scores(watches))
    assert ("fraud", "3", "x_0") in dict(gauges.drift_p_values(watches))
    states = dict(gauges.drift_states(watches))
    assert states["fraud", "3", "x_0", "ok"] == 1
    assert sum(states.values()) == 5
    assert len(states) == 20
    infos = {labels for labels, _ in gauges.feature_infos(watches)}
    assert {("fraud", "3", "x_0", "input", "numeric"), ("fraud", "3", "score", "prediction", "numeric")} <= infos
    assert dict(gauges.drift_window_rows(watches)) == {("fraud", "3"): 250.0}
    assert dict(gauges.drift_evaluated_timestamps(watches)) == {("fraud", "3"): START_S + 10}
    ratios = dict(gauges.feature_quality_ratios(watches))
    assert ratios["fraud", "3", "x_0", "null"] == 0
    assert ("fraud", "3", "x_0", "unseen") not in ratios
    assert dict(gauges.capped_features(watches)) == {("fraud", "3"): 0.0}
    assert dict(replica.monitor.seen_rows("primary")) == {("fraud", "3"): 250.0}
    assert dict(replica.monitor.seen_rows("shadow")) == {("fraud", "3"): 40.0}
    assert dict(replica.monitor.store_up()) == {(): 1.0}
    assert dict(replica.monitor.flush_errors()) == {(): 0.0}
    assert set(dict(replica.monitor.dropped_rows()).values()) == {0.0}


async def test_scores_of_the_first_64_features_are_exported_predictions_first() -> None:
    rows = np.random.default_rng(16).normal(size=(3_000, 80))
    replica = Replica(MemoryWindowStore(), Clock(), yardstick(rows))
    replica.record(rows[:250])
    await decide(replica)
    names = {labels[2] for labels, _ in gauges.drift_scores(replica.monitor.watches)}
    assert len(names) == gauges.MAX_SCORED_FEATURES
    assert "score" in names
    assert len(gauges.drift_states(replica.monitor.watches)) == 81 * 4


# --- comparison of variants -----------------------------------------------------------------------------


async def test_variants_are_compared_on_the_first_ones_edges(store: WindowStore) -> None:
    challenger = ModelVersion("fraud", 4)
    replica, rng = Replica(store, Clock(), STICK), np.random.default_rng(17)
    monitor = replica.monitor
    monitor.watch(challenger, None)
    monitor.compare([(challenger, FRAUD), (FRAUD, FRAUD)])
    for _ in range(5):
        replica.record(drawn(rng, 80))
        rows = drawn(rng, 80)
        monitor.record(challenger, "primary", {"x": rows}, {"score": score(rows + 0.8)}, 80)
        await monitor.flush()
        replica.clock.now_s += 1
    replica.clock.now_s += 3
    report = await monitor.comparison(FRAUD, [FRAUD, challenger])
    (prediction,) = report.predictions
    assert (prediction.name, prediction.kind) == ("score", "numeric")
    first, second = prediction.variants
    assert (first.version, first.rows, second.version, second.rows) == (3, 400, 4, 400)
    assert len(first.counts) == len(second.counts) == len(prediction.edges) + 1
    assert second.p_value < 0.001
    assert second.statistics["ks"] > 0.2
    assert b'"p_value":null' in msgspec.json.encode(first)
    monitor.compare([])
    monitor.record(challenger, "primary", {"x": ROWS[:80]}, {"score": score(ROWS[:80])}, 80)
    assert not monitor.waiting_rows


async def test_a_first_variant_without_a_reference_has_no_edges() -> None:
    replica = Replica(MemoryWindowStore(), Clock(), STICK)
    bare = ModelVersion("bare", 1)
    replica.monitor.watch(bare, None)
    with pytest.raises(InvalidReference, match="bare:1: no reference"):
        await replica.monitor.comparison(bare, [FRAUD])


# --- webhooks -------------------------------------------------------------------------------------------


async def test_each_change_of_state_is_told_once_by_one_replica(store: WindowStore) -> None:
    told: list[dict[str, object]] = []

    async def post(body: bytes) -> int:
        told.append(json.loads(body))
        return 204

    clock, rng = Clock(), np.random.default_rng(18)
    replicas = [Replica(store, clock, STICK, seed=n, webhook=Webhook(post)) for n in range(2)]
    for replica in replicas:
        await replica.monitor.start()
    for shift in (0.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0):
        replicas[0].record(drawn(rng, shift=shift))
        await decide(*replicas)
    for replica in replicas:
        await replica.monitor.stop()
    changes = [(event["data"]["previous_state"], event["data"]["state"]) for event in told]  # type: ignore[index]  # JSON
    assert sorted(changes) == sorted([("ok", "watch"), ("watch", "drift"), ("drift", "ok")])
    assert len({str(event["id"]) for event in told}) == 3


async def test_a_replaced_result_tells_nothing_and_the_next_window_does(store: WindowStore) -> None:
    told: list[str] = []

    async def post(body: bytes) -> int:
        told.append(json.loads(body)["data"]["state"])
        return 200

    clock, rng = Clock(), np.random.default_rng(19)
    hook = Webhook(post)
    punctual, late = Replica(store, clock, STICK, webhook=hook), Replica(store, clock, STICK, seed=1)
    hook.start()
    punctual.record(drawn(rng))
    late.record(drawn(rng, 400, shift=2.0))
    await decide(punctual)
    await late.monitor.flush()
    clock.now_s += 5
    await punctual.monitor.evaluate()
    assert (await report_of(punctual)).state == "watch"
    punctual.record(drawn(rng, shift=2.0))
    await decide(punctual)
    await hook.stop()
    assert told == ["drift"]


# --- never in the way of a request ----------------------------------------------------------------------


async def test_recording_never_raises_whatever_it_is_given() -> None:
    replica = Replica(MemoryWindowStore(), Clock(), STICK)
    monitor = replica.monitor
    rows = ROWS[:5]
    monitor.record(FRAUD, "primary", {"x": rows}, {"score": score(rows)}, "five")  # type: ignore[arg-type]  # on purpose
    monitor.record(FRAUD, "primary", {"y": rows}, {}, 5)
    monitor.record(FRAUD, "primary", {"x": rows[:, :2]}, {}, 5)
    monitor.record(ModelVersion("unknown", 1), "primary", {"x": rows}, {}, 5)
    replica.record(rows)
    await monitor.flush()
    assert replica.dropped["uncountable"] >= 5
    counts = await MemoryWindowStore().read(STICK.series(FRAUD, "primary"), START_S, START_S + 1)
    assert counts[0] == 0


async def test_full_blocks_are_counted_between_the_loops_other_work() -> None:
    replica = Replica(MemoryWindowStore(), Clock(), STICK)
    await replica.monitor.start()
    for _ in range(30):
        replica.record(ROWS[:1_000])
        for _ in range(3):
            await asyncio.sleep(0)
    assert replica.dropped == {}
    assert replica.seen_rows == 30_000
    await replica.monitor.stop()
    assert not replica.monitor.waiting_rows


@pytest.mark.redis
async def test_a_store_that_hangs_holds_up_neither_recording_nor_reports(forgetful_redis: RedisServer) -> None:
    async with RedisConnection(forgetful_redis.url) as connection:
        replica = Replica(RedisWindowStore(connection), Clock(), STICK)
        await replica.monitor.start()
        forgetful_redis.pause()
        try:
            loop = asyncio.get_running_loop()
            flushing = asyncio.gather(replica.monitor.flush(), replica.monitor.evaluate())
            longest = 0.0
            while not flushing.done():
                before = loop.time()
                replica.record(ROWS[:10])
                await report_of(replica)
                longest = max(longest, loop.time() - before)
                await asyncio.sleep(0)
            assert longest < 0.1
            with pytest.raises(StoreUnavailable):
                await replica.monitor.sliding("fraud", 3)
        finally:
            forgetful_redis.resume()
        await replica.monitor.stop()
        assert not replica.monitor.waiting_rows


@pytest.mark.redis
async def test_stopping_gives_up_after_two_seconds_and_says_what_is_lost(
    forgetful_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with FaultProxy(forgetful_redis) as door, RedisConnection(door.url) as connection:
        replica = Replica(RedisWindowStore(connection), Clock(), STICK)
        await replica.monitor.start()
        door.shut()
        replica.record(ROWS[:10])
        async with asyncio.timeout(3):
            await replica.monitor.stop()
        assert [record.rows for record in caplog.records if record.message == "rows_not_flushed"] == [10]  # type: ignore[attr-defined]  # a field of the log


async def test_stopping_flushes_everything_however_many_buckets_it_is() -> None:
    options = MonitoringOptions(bucket_s=1, window_buckets=5, buffer_buckets=600)
    store = MemoryWindowStore()
    replica = Replica(store, Clock(), yardstick(ROWS, options))
    for _ in range(500):
        replica.record(ROWS[:2])
        replica.clock.now_s += 1
    await replica.monitor.stop()
    assert not replica.monitor.waiting_rows
    survey = await store.survey(replica.stick.series(FRAUD, "primary"))
    assert sum(survey.landed.values()) == 1_000


async def test_the_tasks_flush_every_second_and_go_on_after_a_fault(caplog: pytest.LogCaptureFixture) -> None:
    class Once(MemoryWindowStore):
        calls = 0
        added = asyncio.Event()

        async def add(self, series: CountSeries, packet: CountPacket) -> Receipt:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("a fault that nobody foresaw")
            receipt = await super().add(series, packet)
            self.added.set()
            return receipt

    store = Once()
    replica = Replica(store, Clock(), STICK)
    await replica.monitor.start()
    replica.record(ROWS[:10])
    async with asyncio.timeout(5):
        await store.added.wait()
    await replica.monitor.stop()
    assert "monitoring_step_failed" in caplog.text
    assert (await store.read(STICK.series(FRAUD, "primary"), START_S, START_S + 1))[0] == 10


def test_the_defaults_are_those_of_the_contract() -> None:
    options = MonitoringOptions()
    assert (options.bucket_s, options.window_buckets, options.min_rows, options.buffer_buckets) == (10, 30, 200, 120)
    assert WindowSchedule.of(QUICK).window_s == 5
