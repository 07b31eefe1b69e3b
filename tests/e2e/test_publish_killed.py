"""A publisher that is killed at any moment leaves whole versions, and what else it leaves can be found."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections import Counter
from pathlib import Path

import pytest

from gateway.inference.repository import Repository
from tests.e2e.test_publish import gateway
from tests.support import onnx_models
from tests.support.publishers import Publisher
from tests.support.server import START_WITHIN_S, eventually, running_gateway

KILLS = 200
CALIBRATION = 5
SEED = 20261121


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Write a model with external data, and rows: every version has four files."""
    (tmp_path / "model.onnx").write_bytes(onnx_models.external_data("weights.bin", tmp_path))
    (tmp_path / "rows.csv").write_text("a,b,c\n" + "1,2,3\n" * 50)
    return tmp_path


def whole_versions(repository: Path, known: set[int]) -> set[int]:
    """Read every new version that a server would see, hashes and all; one that is half there fails the test."""
    read = Repository(repository)
    folder = read.scan_model("fraud") if repository.exists() else None
    if folder is None:
        return set()
    for number in folder.versions.keys() - known:
        version = folder.versions[number]
        files = read.read_version(version)
        assert files.manifest is not None
        assert files.manifest.files.keys() == {"model.onnx", "weights.bin", "golden.json"}
        assert version.has("manifest.toml")
    return set(folder.versions)


def undisturbed(publisher: Publisher, arguments: dict[str, object]) -> tuple[float, int]:
    """Publish to the end and return the seconds it took and the lines it said."""
    publisher.begin(**arguments)
    started = time.perf_counter()
    said = publisher.finish()
    assert said[-1].startswith("fraud:")
    return time.perf_counter() - started, len(said)


def kill_after(publisher: Publisher, lines: int, delay_s: float) -> None:
    """Kill the publish so long after it has said so many lines."""
    line: str | None = ""
    for _ in range(lines):
        line = publisher.next_line(START_WITHIN_S)
        assert line not in (None, "ended")
    kill_at = time.monotonic() + delay_s
    while line not in (None, "ended"):
        line = publisher.next_line(kill_at - time.monotonic())
    publisher.kill()
    if line is None:
        publisher.finish()
    else:
        publisher.reap()


@pytest.mark.timeout(240)
def test_kill_9_at_any_moment_of_a_publish_leaves_no_half_version(work: Path) -> None:
    """200 publishes, each killed a random while after a line it says; a server watches the repository all the time."""
    repository = work / "models"
    arguments: dict[str, object] = {
        "model": "fraud",
        "file": str(work / "model.onnx"),
        "repository": str(repository),
        "data": str(work / "rows.csv"),
        "golden_rows": 3,
    }
    draw = random.Random(SEED)
    outcomes: Counter[str] = Counter()
    with Publisher() as publisher:
        calibrated = [undisturbed(publisher, arguments) for _ in range(CALIBRATION)]
        takes_s, lines = statistics.median(seconds for seconds, _ in calibrated), calibrated[-1][1]
        before = whole_versions(repository, set())
        with running_gateway(repository) as server:
            for _ in range(KILLS):
                publisher.begin(**arguments)
                kill_after(publisher, draw.randrange(lines + 1), draw.uniform(0, 0.4) * takes_s)
                after = whole_versions(repository, before)
                assert after >= before
                assert len(after - before) <= 1
                outcomes["published" if after > before else "nothing"] += 1
                before = after
            leftovers = sorted(path.name for path in repository.iterdir() if path.name != "fraud")
            eventually(
                lambda: (
                    len(server.versions("fraud")) == len(before)
                    and all(version["state"] == "READY" for version in server.versions("fraud").values())
                ),
                within_s=60,
                what="every version READY",
            )
            assert "version_failed" not in server.log
    checked = gateway(work, "check", "models", "--json")
    assert checked.code == 0, checked.output
    found = json.loads(checked.output)
    assert sorted(note["file"] for note in found["notes"]) == [f"models/{name}" for name in leftovers]
    assert all("left behind by a publish that was killed" in note["reason"] for note in found["notes"])
    assert found["versions"] == len(before)
    # The kills came early, late and between.
    figures = f"{takes_s * 1000:.0f} ms each; {dict(outcomes)}; {len(leftovers)} leftovers"
    assert outcomes["published"] >= KILLS / 20, figures
    assert len(leftovers) >= KILLS / 5, figures
