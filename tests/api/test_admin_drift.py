"""Holds the calls about drift to their form: reports with history and counts, baselines, comparison of variants."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio

from gateway.messages import ModelVersion
from gateway.monitoring.reference import encode_reference
from gateway.monitoring.reference_builder import build_reference
from tests.api.admin_client import AdminClient, admin_client
from tests.api.planes import Plane, data_plane
from tests.support import onnx_models
from tests.support.repositories import add_version, configure

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLACE = "/admin/v1/drift/score/1"
START_S = 1_700_000_000
WINDOW_S = 5
BASELINE = {"from": "2023-11-14T22:13:20Z", "to": "2023-11-14T23:00:00Z"}

Rows = npt.NDArray[np.float32]
ROWS: Rows = np.random.default_rng(1).normal(size=(4_000, 3)).astype(np.float32)


class Clock:
    """Seconds since the epoch, as the tests set them."""

    def __init__(self) -> None:
        self.now_s = float(START_S)

    def __call__(self) -> float:
        return self.now_s


class Watched:
    """A plane whose windows pass as the tests say."""

    def __init__(self, plane: Plane, admin: AdminClient, clock: Clock) -> None:
        self.plane = plane
        self.admin = admin
        self._clock = clock
        self._rng = np.random.default_rng(2)

    async def live(self, windows: int, *, shift: float = 0.0, rows: int = 250, settle_s: int = WINDOW_S) -> None:
        """Answer requests of these many rows in each window, and let it be decided."""
        for _ in range(windows):
            some = ROWS[self._rng.integers(0, len(ROWS), rows)] + np.array([0, shift, 0], np.float32)
            made = 2 * some + np.arange(1, 4, dtype=np.float32)
            for version in (1, 2):
                self.plane.monitor.record(ModelVersion("score", version), "primary", {"x": some}, {"y": made}, rows)
            await self.plane.monitor.flush()
            self._clock.now_s += WINDOW_S
            await self.plane.monitor.evaluate()
        self._clock.now_s += settle_s
        await self.plane.monitor.evaluate()

    async def get(self, path: str) -> Any:  # noqa: ANN401 - whatever the plane says is what the test is about
        answer = await self.admin.ask("GET", path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    """Serve `score` 1 with a reference and 2 without, and let four windows pass: the last two have drifted."""
    root: Path = tmp_path_factory.mktemp("watched")
    place = add_version(root, "score", 1, onnx_models.affine())
    made = 2 * ROWS + np.arange(1, 4, dtype=np.float32)
    (place / "reference.json").write_bytes(encode_reference(build_reference({"x": ROWS}, {"y": made})))
    add_version(root, "score", 2, onnx_models.affine())
    configure(root, "score", f"[monitoring]\nbucket_s = 1\nwindow_buckets = {WINDOW_S}\n")
    clock = Clock()
    async with data_plane(root, wall_clock=clock) as plane, admin_client(plane) as admin:
        found = Watched(plane, admin, clock)
        route = {
            "variants": [
                {"name": name, "model": "score", "version": version, "weight": weight}
                for name, version, weight in (("stable", 1, 90), ("challenger", 2, 10))
            ]
        }
        answer = await admin.ask("PUT", "/admin/v1/routes/both", route, {"if-none-match": "*"})
        assert answer.status_code == 201, answer.text
        await found.live(2)
        await found.live(3, shift=1.0)
        yield found


async def test_the_list_has_every_version_without_its_features(watched: Watched) -> None:
    reports = (await watched.get("/admin/v1/drift"))["reports"]
    assert [(report["version"], report["state"], report["reason"]) for report in reports] == [
        (1, "drift", ""),
        (2, "insufficient", "no reference"),
    ]
    assert all("features" not in report for report in reports)


async def test_a_report_has_the_last_decided_window_feature_by_feature(watched: Watched) -> None:
    report = await watched.get(PLACE)
    assert (report["model"], report["version"], report["role"], report["mode"]) == ("score", 1, "primary", "iid")
    assert report["window"] == {
        "start": "2023-11-14T22:13:45Z",
        "end": "2023-11-14T22:13:50Z",
        "rows": 250,
        "attempt": 1,
    }
    features = {feature["name"]: feature for feature in report["features"]}
    assert list(features) == ["x_0", "x_1", "x_2", "y_0", "y_1", "y_2"]
    moved = features["x_1"]
    assert (moved["state"], moved["reason"], moved["role"], moved["kind"]) == (
        "drift",
        "distribution",
        "input",
        "numeric",
    )
    assert moved["statistics"].keys() == {"ad", "chi2", "ks", "w1", "psi", "js", "tvd"}
    assert moved["statistics"]["w1"] == pytest.approx(1.0, abs=0.15)
    assert moved["quality"].keys() == {"null", "non_finite", "out_of_range", "unseen"}
    assert moved["quality"]["unseen"] is None
    assert "bins" not in moved
    assert "history" not in report
    assert report["assumptions"][0].startswith("rows are independent")


async def test_history_is_newest_first_and_as_long_as_asked(watched: Watched) -> None:
    everything = await watched.get(f"{PLACE}?history=500")
    starts = [entry["window"]["start"] for entry in everything["history"]]
    assert starts == sorted(starts, reverse=True)
    assert len(starts) == 4
    assert everything["window"]["start"] > starts[0]
    assert [entry["state"] for entry in everything["history"]][-2:] == ["ok", "ok"]
    assert len((await watched.get(f"{PLACE}?history=2"))["history"]) == 2
    assert (await watched.get(f"{PLACE}?history=0"))["history"] == []
    assert (await watched.get(f"{PLACE}?history=99999"))["history"] == everything["history"]


async def test_counts_are_those_of_the_window_and_of_the_reference(watched: Watched) -> None:
    for query in ("counts=true", "counts=true&window=sliding"):
        for feature in (await watched.get(f"{PLACE}?{query}"))["features"]:
            bins = feature["bins"]
            assert sum(bins["reference"]) == len(ROWS)
            assert sum(bins["current"]) == feature["rows"]
            assert len(bins["edges"]) + 1 == len(bins["reference"]) == len(bins["current"])
            assert "values" not in bins


async def test_what_was_seen_as_a_shadow_is_a_report_of_its_own(watched: Watched) -> None:
    report = await watched.get(f"{PLACE}?role=shadow")
    assert (report["role"], report["window"], report["reason"]) == ("shadow", None, "no window decided yet")


async def test_variants_are_compared_on_the_first_ones_edges(watched: Watched) -> None:
    await watched.live(1, settle_s=3)
    found = await watched.get("/admin/v1/routes/both/comparison")
    await watched.live(0, settle_s=2)
    assert (found["route"], found["revision"], found["reason"]) == ("both", 1, "")
    prediction = found["predictions"][0]
    assert [(one["variant"], one["version"]) for one in prediction["variants"]] == [("stable", 1), ("challenger", 2)]
    first, second = prediction["variants"]
    assert first["counts"] == second["counts"]
    assert len(first["counts"]) == len(prediction["edges"]) + 1
    assert first["p_value"] is None
    assert second["p_value"] == 1
    assert (second["rows"], second["statistics"]["ks"]) == (first["rows"], 0)


async def test_a_route_whose_first_variant_has_no_reference_has_nothing_to_compare(watched: Watched) -> None:
    route = {"variants": [{"name": "stable", "model": "score", "version": 2, "weight": 100}]}
    await watched.admin.ask("PUT", "/admin/v1/routes/bare", route, {"if-none-match": "*"})
    found = await watched.get("/admin/v1/routes/bare/comparison")
    assert (found["predictions"], found["reason"]) == ([], "score:2, the first variant: no reference")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/admin/v1/drift/nobody/1", 404),
        ("/admin/v1/drift/score/9", 404),
        ("/admin/v1/drift/score/x", 404),
        ("/admin/v1/routes/nobody/comparison", 404),
        (f"{PLACE}?role=both", 400),
        (f"{PLACE}?history=-1", 400),
        (f"{PLACE}?history=many", 400),
        (f"{PLACE}?counts=yes", 400),
        (f"{PLACE}?window=hopping", 400),
    ],
)
async def test_what_cannot_be_answered_is_refused(watched: Watched, path: str, status: int) -> None:
    answer = await watched.admin.ask("GET", path)
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("body", "status", "pointers"),
    [
        (b"{", 400, None),
        (b"\xff", 400, None),
        ({}, 422, [""]),
        ({"from": "2023-11-14T22:13:20Z"}, 422, [""]),
        ({"from": "yesterday", "to": "2023-11-14T22:13:20Z"}, 422, ["/from"]),
        ({"from": "2023-11-14T22:13:20", "to": "2023-11-14T23:13:20Z"}, 422, ["/from"]),
        ({"from": "2023-11-14T23:13:20Z", "to": "2023-11-14T22:13:20Z"}, 422, ["/to"]),
        (BASELINE | {"role": "primary"}, 422, [""]),
        (BASELINE, 422, None),
    ],
)
async def test_a_baseline_that_names_no_period_or_too_few_windows_is_refused(
    watched: Watched, body: object, status: int, pointers: list[str] | None
) -> None:
    answer = await watched.admin.ask("POST", f"{PLACE}/baseline", body)
    assert answer.status_code == status, answer.text
    if pointers is not None:
        assert [fault["pointer"] for fault in answer.json()["errors"]] == pointers


async def test_windows_declared_in_control_calibrate_the_next_ones(watched: Watched) -> None:
    await watched.live(200)
    history = (await watched.get(f"{PLACE}?history=198"))["history"]
    period = {"from": history[-1]["window"]["start"], "to": (await watched.get(PLACE))["window"]["end"]}
    refused = await watched.admin.ask("POST", f"{PLACE}/baseline", period)
    assert refused.status_code == 422
    assert "199 windows" in json.dumps(refused.json())
    period["from"] = (await watched.get(f"{PLACE}?history=199"))["history"][-1]["window"]["start"]
    declared = await watched.admin.ask("POST", f"{PLACE}/baseline", period)
    assert declared.status_code == 200, declared.text
    assert (declared.json()["windows"], declared.json()["from"]) == (200, period["from"])
    await watched.live(1)
    report = await watched.get(PLACE)
    assert report["mode"] == "calibrated"
    assert "the 200 windows declared in control" in report["assumptions"][0]
    unknown = await watched.admin.ask("POST", "/admin/v1/drift/score/2/baseline", period)
    assert unknown.status_code == 404
