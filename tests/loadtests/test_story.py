"""The parts of the story that need no running gateway; the whole of it is a command of its own, `make story`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from onnxruntime.capi import onnxruntime_pybind11_state

from gateway.routing.document import configured_routes, parse_route
from gateway.toml_files import read_toml
from loadtests.datasets import load_dataset
from loadtests.demo import SETTINGS
from loadtests.injection import check_injection, read_injection
from loadtests.processes import LoadTestFailure
from loadtests.story.candidate import fragile_copy
from loadtests.story.phases import (
    BROKEN,
    CANDIDATE_PERCENT,
    EXPECTED_AREA,
    SHIFT,
    STABLE,
    UNIT_ERROR,
    shadow_document,
    split_document,
    write_rows,
)
from loadtests.story.report import page
from loadtests.story.stage import MODEL, prometheus_settings
from loadtests.story.telling import Chapter, Told, tell
from tests.support.server import EXAMPLE_MODELS

PREDECESSOR = EXAMPLE_MODELS / MODEL / str(STABLE) / "model.onnx"


def sessions() -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession, int]:
    column = load_dataset(MODEL).inputs[0].features.index(BROKEN)
    made = fragile_copy(PREDECESSOR, input_name="features", column=column, limit=EXPECTED_AREA)
    return onnxruntime.InferenceSession(PREDECESSOR), onnxruntime.InferenceSession(made), column


def test_the_candidate_answers_as_its_predecessor_does_on_every_row_there_is() -> None:
    before, after, _ = sessions()
    rows = np.stack(list(load_dataset(MODEL).columns.values()), axis=1)
    for expected, answered in zip(
        before.run(None, {"features": rows}), after.run(None, {"features": rows}), strict=True
    ):
        assert np.array_equal(expected, answered)


def test_the_candidate_fails_on_one_row_in_another_unit_and_not_for_the_callers_fault() -> None:
    """An invalid argument would be the caller's fault, answered 400 and no reason to fall back."""
    before, after, column = sessions()
    rows = np.stack(list(load_dataset(MODEL).columns.values()), axis=1)[:3].copy()
    rows[1, column] *= 1000
    before.run(None, {"features": rows})
    with pytest.raises(onnxruntime_pybind11_state.Fail):
        after.run(None, {"features": rows})


@pytest.mark.parametrize("fault", [SHIFT, UNIT_ERROR])
def test_the_faults_of_the_story_can_be_injected(fault: str) -> None:
    check_injection(read_injection(fault), load_dataset(MODEL))


def test_the_routes_of_story_and_demo_are_valid(tmp_path: Path) -> None:
    route = parse_route(split_document(shadows=[shadow_document()]), name=MODEL)
    assert [variant.name for variant in route.variants] == ["stable", "challenger"]
    assert CANDIDATE_PERCENT == 10
    (tmp_path / "gateway.toml").write_text(SETTINGS)
    assert set(configured_routes(read_toml(tmp_path / "gateway.toml")["routes"])) == {MODEL}


def test_the_data_of_the_candidate_is_every_row_with_its_header(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    header, *lines = (tmp_path / "rows.csv").read_text().splitlines()
    assert header.split(",") == list(load_dataset(MODEL).columns)
    assert len(lines) == 569


def test_prometheus_gets_every_replica_our_rules_and_the_name_they_rely_on() -> None:
    settings = yaml.safe_load(prometheus_settings(["http://127.0.0.1:1", "http://127.0.0.1:2"], 1))
    (scraped,) = settings["scrape_configs"]
    assert scraped == {"job_name": "gateway", "static_configs": [{"targets": ["127.0.0.1:1", "127.0.0.1:2"]}]}
    (rules,) = settings["rule_files"]
    assert list(Path(rules).parent.glob(Path(rules).name))


def refuse() -> dict[str, str]:
    raise LoadTestFailure("the alarm: not within 60 s")


CHAPTERS = [
    Chapter(title="Start", promise="It starts.", tell=lambda: {"replicas": "2"}),
    Chapter(title="Drift <1>", promise="It is seen.", tell=refuse),
    Chapter(title="Stop", promise="It stops.", tell=dict),
]


def test_after_a_phase_that_fails_the_rest_is_not_reached() -> None:
    said: list[str] = []
    told = tell(CHAPTERS, say=said.append)
    assert [(one.verdict, one.fault) for one in told] == [
        ("passed", ""),
        ("failed", "the alarm: not within 60 s"),
        ("not reached", None),
    ]
    assert told[0].figures == {"replicas": "2"}
    assert any("the alarm" in line for line in said)


def test_the_report_shows_every_phase_with_its_figures_and_escapes_them() -> None:
    shown = page(tell(CHAPTERS, say=lambda _: None), title="A story", about="now & here")
    assert "1 of 3 phases passed" in shown
    for text in ("now &amp; here", "Drift &lt;1&gt;", "the alarm: not within 60 s", "not reached", "<dd>2</dd>"):
        assert text in shown
    assert "http" not in shown.replace("http-equiv", "")  # it needs nothing else


def test_the_report_of_a_story_that_passes_says_so() -> None:
    told = [Told(title="Start", promise="It starts.", begun_s=0, took_s=2)]
    assert "1 of 1 phases passed" in page(told, title="A story", about="")
