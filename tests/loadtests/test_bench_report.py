from pathlib import Path

import msgspec
import pytest

from loadtests.bench.__main__ import main
from loadtests.bench.client import Measurement
from loadtests.bench.machine import Machine, describe
from loadtests.bench.plot import draw
from loadtests.bench.report import render
from loadtests.bench.results import CellResult, Plan, Run, StartResult

TITLES = {"gateway": "gateway", "bare": "bare ASGI", "naive": "Starlette"}
ALONE = {1: [400.0, 400.0, 400.0], 8: [500.0, 500.0, 500.0]}


def measured(requests_per_s: float, cpu_ms: float, *, other_cores: float = 0.0, client: float = 0.4) -> Measurement:
    requests = int(requests_per_s * 2)
    return Measurement(
        requests=requests,
        errors=0,
        first_error="",
        measured_s=2.0,
        p50_ms=0.5,
        p99_ms=1.25,
        max_ms=9.0,
        server_cpu_s=cpu_ms * requests / 1e6,
        client_busy_s=client * 2.0,
        other_cpu_s=other_cores * 2.0,
        resident_bytes=120_000_000,
        peak_resident_bytes=125_000_000,
    )


def run_of(
    bare: tuple[float, float, float] = (50.0, 49.0, 51.0), *, other_cores: float = 0.0, client: float = 0.4
) -> Run:
    """Make a run of three rounds: gateway 30 ms, its repetition 30, 33 and 30, the bare app as given, Starlette 60."""

    def rounds(*cpu_ms: float) -> list[Measurement]:
        return [measured(100_000 / cpu, cpu, other_cores=other_cores, client=client) for cpu in cpu_ms]

    cells = [
        CellResult(
            cell=f"image-binary-{connections}",
            body="image",
            encoding="binary",
            connections=connections,
            rows=1,
            request_bytes=49_300,
            answer_bytes=187,
            measurements={
                "gateway": rounds(30, 30, 30),
                "gateway:again": rounds(30, 33, 30),
                "bare": rounds(*bare),
                "naive": rounds(60, 60, 60),
            },
            ceiling_rows_per_s=ALONE,
        )
        for connections in (1, 64)
    ]
    machine = Machine(
        at="2026-01-01T00:00:00Z",
        commit="abc",
        processor="a processor",
        cores=2,
        threads_per_core=1,
        memory_gib=23.6,
        kernel="Linux 6",
        load_average=0.1,
        versions={"Python": "3.11", "onnxruntime": "1.31.1"},
    )
    plan = Plan(rounds=3, warmup_s=0.4, measure_s=2.0, ceiling_s=0.5, server_cores=[0], client_cores=[1])
    starts = [
        StartResult(server="gateway", repository="examples", ready_s=[0.5, 0.7, 0.6], resident_bytes=[99_000_000])
    ]
    return Run(machine=machine, plan=plan, titles=TITLES, cells=cells, starts=starts)


def rows(report: str, server: str) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in report.splitlines() if line.startswith("| ")]
    return [line for line in lines if line[1] == server or line[0] == server]


def test_each_server_is_shown_with_its_medians_and_its_ratios_to_the_bare_app() -> None:
    gateway = rows(render(run_of()), "gateway")[0]
    assert gateway[:9] == [
        "1", "gateway", "3,333", "1.67 [1.63–1.70]", "0.5", "1.25", "1.00 [1.00–1.00] ≈", "30", "0.60 [0.59–0.61]"
    ]  # fmt: skip
    assert gateway[9:] == ["120 (125)", "40%"]


def test_the_spread_of_identical_runs_stands_under_the_ratios_it_judges() -> None:
    identical = rows(render(run_of()), "*identical runs*")
    assert len(identical) == 2
    assert identical[0][3] == identical[0][8] == "0.91–1.10"
    assert identical[0][6] == "1.00–1.00"


def test_a_ratio_that_identical_runs_could_have_given_is_marked() -> None:
    assert rows(render(run_of(bare=(31.0, 29.0, 30.0))), "gateway")[0][8] == "1.00 [0.97–1.03] ≈"


def test_images_are_compared_with_the_best_batch_size_of_onnxruntime_alone() -> None:
    report = render(run_of())
    starlette = [row for row in rows(report, "Starlette") if row[0] == "image-binary-64"]
    assert starlette == [["image-binary-64", "Starlette", "1,666", "500 (batches of 8)", "333% [333%–333%]"]]
    assert not [row for row in rows(report, "bare ASGI") if row[0].startswith("image-")]


def test_starts_are_shown_with_their_extremes() -> None:
    assert rows(render(run_of()), "gateway")[-1] == ["gateway", "examples", "0.60 [0.50–0.70]", "99", "3"]


def test_a_run_that_was_disturbed_says_so_before_its_figures() -> None:
    assert "Disturbed run" not in render(run_of())
    warned = render(run_of(other_cores=0.7))
    assert warned.index("Disturbed run.** Other processes used 0.70 cores") < warned.index("## image")


def test_a_load_generator_at_its_limit_is_named_with_the_cells_it_limited() -> None:
    assert "at its limit" not in render(run_of())
    assert "gateway in image-binary-1, gateway in image-binary-64" in render(run_of(client=0.97))


def test_a_run_without_the_bare_app_has_figures_and_no_ratios() -> None:
    run = run_of()
    cells = [
        msgspec.structs.replace(cell, measurements={k: v for k, v in cell.measurements.items() if k != "bare"})
        for cell in run.cells
    ]
    alone = msgspec.structs.replace(run, cells=cells, titles={"gateway": "gateway", "naive": "Starlette"})
    assert rows(render(alone), "gateway")[0][3:9:5] == ["", ""]


def test_a_result_file_can_be_rendered_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_bytes(msgspec.json.encode(run_of()))
    assert main(["--render", str(earlier), "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "bench.md").read_text(encoding="utf-8") == render(run_of())
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert msgspec.json.decode((tmp_path / "out" / "latest.json").read_bytes(), type=Run) == run_of()
    assert "wrote latest.json" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--cells", "tabular-xml-1"], ["--servers", "apache"], ["--servers", "bare"], ["--rounds", "0"],
     ["--seconds", "600"], ["--server-cores", "4096"]],
)  # fmt: skip
def test_wrong_usage_is_named_and_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_a_result_that_cannot_be_read_is_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.json").write_text("{}")
    assert main(["--render", str(tmp_path / "broken.json"), "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("bench: ")


def test_the_machine_is_described_without_its_name() -> None:
    facts = describe()
    assert facts.cores >= 1
    assert facts.versions["onnxruntime"]
    assert facts.at.endswith("Z")


def test_the_plot_draws_a_single_cell_too(tmp_path: Path) -> None:
    run = run_of()
    draw(msgspec.structs.replace(run, cells=run.cells[:1]), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 10_000
