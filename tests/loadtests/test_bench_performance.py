from pathlib import Path

import msgspec
import pytest

from loadtests.bench import performance_plot
from loadtests.bench.__main__ import main
from loadtests.bench.client import Measurement
from loadtests.bench.performance import AIMS, against, best, render, verdict
from loadtests.bench.report import P99, RATE
from loadtests.bench.report import render as render_report
from loadtests.bench.results import CellResult, Peer, Run
from tests.loadtests.test_bench_report import measured, run_of

PEERS = {
    "mlserver": Peer(name="MLServer", dialect="v2", versions={"mlserver": "1.7.1"}),
    "mlserver-batching": Peer(name="MLServer", dialect="v2", versions={"mlserver": "1.7.1"}),
    "litserve": Peer(name="LitServe", dialect="rows", versions={"litserve": "0.2.19"}),
    "triton": Peer(name="Triton", dialect="v2", versions={"tritonserver": "2.51.0"}),
}
TITLES = {
    "gateway": "gateway",
    "bare": "bare ASGI",
    "mlserver": "MLServer",
    "mlserver-batching": "MLServer, batching",
    "litserve": "LitServe",
    "triton": "Triton",
}


def rounds(*requests_per_s: float, p99_ms: float) -> list[Measurement]:
    return [msgspec.structs.replace(measured(rate, 50), p99_ms=p99_ms) for rate in requests_per_s]


def peers_run() -> Run:
    """Make a run: MLServer has the most requests/s without batching, and the least p99 with it; LitServe failed."""
    cell = CellResult(
        cell="tabular-json-64",
        body="tabular",
        encoding="json",
        connections=64,
        rows=1,
        request_bytes=640,
        answer_bytes=226,
        measurements={
            "gateway": rounds(24_000, 24_000, 24_000, p99_ms=3.0),
            "gateway:again": rounds(24_000, 25_200, 24_000, p99_ms=3.0),
            "bare": rounds(40_000, 40_000, 40_000, p99_ms=2.0),
            "mlserver": rounds(3_000, 3_000, 4_000, p99_ms=40.0),
            "mlserver-batching": rounds(2_000, 2_000, 2_000, p99_ms=8.0),
            "triton": rounds(10_000, 12_000, 24_100, p99_ms=3.0),
        },
        ceiling_rows_per_s={},
        failures={"litserve": "answered 500: oh"},
    )
    return msgspec.structs.replace(
        run_of(), titles=TITLES, cells=[cell], starts=[], peers=PEERS, left_out={"BentoML": "no such release"}
    )


def lines(page: str, start: str) -> list[list[str]]:
    found = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return [line for line in found if line[0].startswith(start)]


def test_a_peer_is_judged_by_its_best_configuration_in_each_figure() -> None:
    run = peers_run()
    assert best(run, run.cells[0], "MLServer", RATE) == "mlserver"
    assert best(run, run.cells[0], "MLServer", P99) == "mlserver-batching"
    assert best(run, run.cells[0], "LitServe", RATE) is None


def test_the_gateway_is_compared_with_a_peer_round_by_round() -> None:
    assert against(peers_run().cells[0], "mlserver", RATE) == (8.0, 6.0, 8.0)


def test_the_page_shows_each_server_with_the_ratio_that_judges_it() -> None:
    page = render(peers_run(), details="bench.md")
    assert lines(page, "**MLServer** (its best)")[0][1:3] == ["3,000", "8.00 [6.00–8.00]"]
    assert lines(page, "MLServer, batching")[0][5] == "0.38 [0.38–0.38]"
    assert lines(page, "Triton")[0][2] == "2.00 [1.00–2.40] ≈"
    assert lines(page, "LitServe")[0][1] == "failed"
    assert lines(page, "*identical runs*")[0][2] == "0.95–1.05"
    assert "## 30 numbers as JSON, 64 connections" in page
    assert "(bench.md)" in page


def test_the_page_counts_the_rounds_in_which_an_aim_was_reached() -> None:
    rows = {(row[1], row[2]): row[3:] for row in lines(render(peers_run(), details=""), "30 numbers as JSON, 64")}
    assert rows["requests/s", "MLServer"] == ["≥ 7 ×", "8.00 [6.00–8.00]", "0.95–1.05", "in 2 of 3 rounds"]
    assert rows["p99", "MLServer, batching"] == ["≤ 0.333 ×", "0.38 [0.38–0.38]", "1.00–1.00", "no"]
    assert rows["requests/s", "Triton"][-1] == "in 2 of 3 rounds"
    assert rows["p99", "Triton"][-1] == "yes"


@pytest.mark.parametrize(("ratios", "expected"), [([7.0, 9.0], "yes"), ([6.9, 7.0], "in 1 of 2 rounds"), ([6.9], "no")])
def test_an_aim_is_reached_only_when_every_round_reaches_it(ratios: list[float], expected: str) -> None:
    assert verdict(AIMS[0], ratios) == expected


def test_what_could_not_be_measured_is_said_in_both_reports() -> None:
    run = peers_run()
    page, report = render(run, details=""), render_report(run)
    assert "LitServe failed with 30 numbers as JSON, 64 connections: answered 500: oh" in page
    assert "BentoML could not be installed: no such release" in page
    assert "LitServe failed in tabular-json-64: answered 500: oh" in report
    assert "BentoML was left out: no such release" in report
    assert "native onnxruntime backend was not run" in page


def test_a_disturbed_run_says_so_on_the_page() -> None:
    run = peers_run()
    (cell,) = run.cells
    noisy = {
        key: [msgspec.structs.replace(one, other_cpu_s=1.0) for one in found]
        for key, found in cell.measurements.items()
    }
    disturbed = msgspec.structs.replace(run, cells=[msgspec.structs.replace(cell, measurements=noisy)])
    assert "Disturbed run" in render(disturbed, details="")
    assert "Disturbed run" not in render(run, details="")


def test_the_plot_shows_one_bar_for_each_peer_that_was_measured(tmp_path: Path) -> None:
    run = peers_run()
    assert performance_plot.shown(run, run.cells[0]) == ["gateway", "bare", "mlserver", "triton"]
    performance_plot.draw(run, tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000


def test_a_result_with_peers_is_rendered_to_the_page_and_one_without_is_not(tmp_path: Path) -> None:
    for name, run in (("peers", peers_run()), ("ours", run_of())):
        (tmp_path / f"{name}.json").write_bytes(msgspec.json.encode(run))
        assert main(["--render", str(tmp_path / f"{name}.json"), "--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "peers" / "performance.md").read_text(encoding="utf-8") == render(
        peers_run(), details="bench.md"
    )
    assert (tmp_path / "peers" / "images" / "performance.png").is_file()
    assert not (tmp_path / "ours" / "performance.md").exists()
