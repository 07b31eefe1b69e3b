"""A reference is what the data and the model's own answers look like, beside the model, or nothing changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gateway.cli import main
from gateway.errors import InvalidData, InvalidReference, UnknownModel
from gateway.monitoring.reference import CategoricalFeature, NumericFeature, Reference, decode_reference
from gateway.publishing import publish
from gateway.referencing import WrittenReference, write_reference
from tests.support import onnx_models
from tests.support.repositories import add_version, configure

COLUMNS = ("age", "bmi", "bp")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with `fraud:1` of three columns: y = 2 · x + 1."""
    path = tmp_path / "models"
    path.mkdir()
    add_version(path, "fraud", 1, onnx_models.affine())
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write rows of three features and a target."""
    path = tmp_path / "train.csv"
    lines = [f"{row},{row % 7}.5,,1" if row % 10 == 0 else f"{row},{row % 7}.5,{row + 1},1" for row in range(3_000)]
    path.write_text("\n".join(["age,bmi,bp,target", *lines, ""]))
    return path


def make(repository: Path, data: Path, *, model: str = "fraud", version: int = 1) -> WrittenReference:
    return write_reference(model, version, data, repository=repository, drop=["target"])


def numeric(reference: Reference, name: str) -> NumericFeature:
    (feature,) = [feature for feature in reference.features if feature.name == name]
    assert isinstance(feature, NumericFeature)
    return feature


def test_it_holds_the_data_and_what_the_model_says_to_it(repository: Path, data: Path) -> None:
    written = make(repository, data)
    reference = decode_reference(written.path.read_bytes())
    assert reference == written.reference
    assert written.path == repository / "fraud" / "1" / "reference.json"
    assert reference.rows == 3_000
    assert [(feature.name, feature.role) for feature in reference.features] == [
        *((name, "input") for name in COLUMNS),
        *((f"y_{column}", "prediction") for column in range(3)),
    ]
    assert numeric(reference, "bp").null == 300
    age, doubled = numeric(reference, "age"), numeric(reference, "y_0")
    assert (age.mean, age.maximum) == (1_499.5, 2_999)
    assert (doubled.mean, doubled.maximum) == (3_000, 5_999)
    assert doubled.counts == age.counts


def test_it_replaces_the_one_that_was_there_in_one_rename(repository: Path, data: Path) -> None:
    first = make(repository, data)
    inode = first.path.stat().st_ino
    data.write_text("age,bmi,bp,target\n" + "".join(f"{row},0.5,1,1\n" for row in range(50)))
    second = make(repository, data)
    assert second.path.stat().st_ino != inode
    assert second.reference.hash != first.reference.hash
    assert sorted(path.name for path in first.path.parent.iterdir()) == [
        "manifest.toml",
        "model.onnx",
        "reference.json",
    ]


def test_names_come_from_the_manifest_before_the_data(repository: Path, data: Path) -> None:
    version = publish(
        "named",
        onnx_models.affine(),
        repository=repository,
        features={"x": ["a", "b", "c"]},
        labels={"y": ["no", "maybe", "yes"]},
    )
    reference = make(repository, data, model="named", version=version.key.version).reference
    assert [feature.name for feature in reference.features] == ["a", "b", "c", "no", "maybe", "yes"]


def test_published_data_makes_a_reference_too(repository: Path, data: Path) -> None:
    version = publish("fraud", onnx_models.affine(), repository=repository, data=data, drop=["target"])
    assert version.reference == decode_reference((version.path / "reference.json").read_bytes())
    assert version.reference.features == make(repository, data, version=2).reference.features
    assert "reference.json" not in version.manifest.files


def test_rows_that_influence_each_other_are_run_one_by_one(repository: Path, data: Path) -> None:
    """Together their answers would be others than callers get."""
    add_version(repository, "centred", 1, onnx_models.mean_centred())
    reference = make(repository, data, model="centred").reference
    assert numeric(reference, "y_0").maximum == 0


def test_a_model_of_fixed_rows_is_run_with_padded_batches(repository: Path, data: Path) -> None:
    add_version(repository, "fixed", 1, onnx_models.affine(rows=7))
    assert numeric(make(repository, data, model="fixed").reference, "y_1").maximum == 14


def test_strings_and_integers_are_categories(repository: Path, tmp_path: Path) -> None:
    add_version(repository, "text", 1, onnx_models.identity("BYTES", ("rows", 1)))
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"x": "{"abc"[row % 3]}"}}\n' for row in range(30)))
    reference = write_reference("text", 1, file, repository=repository).reference
    kinds = {feature.name: feature for feature in reference.features}
    assert isinstance(kinds["x"], CategoricalFeature)
    assert kinds["x"].values == ("a", "b", "c")


def test_of_wide_tensors_the_selection_is_watched_and_the_rest_counted(repository: Path, tmp_path: Path) -> None:
    add_version(repository, "wide", 1, onnx_models.affine(300))
    file = tmp_path / "rows.npz"
    np.savez(file, x=np.random.default_rng(1).normal(size=(50, 300)).astype(np.float32))
    reference = write_reference("wide", 1, file, repository=repository).reference
    assert (len(reference.features), reference.capped) == (512, 88)
    configure(repository, "wide", '[monitoring]\nfeatures = ["x_299"]\n')
    reference = write_reference("wide", 1, file, repository=repository).reference
    assert [feature.name for feature in reference.features if feature.role == "input"] == ["x_299"]


def test_progress_reaches_the_last_row(repository: Path, data: Path) -> None:
    told: list[tuple[int, int]] = []
    write_reference("fraud", 1, data, repository=repository, drop=["target"], progress=lambda *done: told.append(done))
    assert told == [(1_024, 3_000), (2_048, 3_000), (3_000, 3_000)]


def test_a_column_that_fits_nowhere_is_an_error_unless_dropped(repository: Path, data: Path) -> None:
    with pytest.raises(InvalidData, match="'target'"):
        write_reference("fraud", 1, data, repository=repository)
    assert not (repository / "fraud" / "1" / "reference.json").exists()


def test_a_model_without_rows_has_no_reference(repository: Path, tmp_path: Path) -> None:
    add_version(repository, "rowless", 1, onnx_models.side_by_side((3,), ("rows", 3)))
    file = tmp_path / "rows.npz"
    np.savez(file, x=np.zeros(3, np.float32), z=np.zeros((3, 3), np.float32))
    with pytest.raises((InvalidReference, InvalidData)):
        write_reference("rowless", 1, file, repository=repository)


def test_an_unknown_version_is_named_with_those_there_are(repository: Path, data: Path) -> None:
    with pytest.raises(UnknownModel, match="no fraud:7; it has 1"):
        make(repository, data, version=7)


def test_the_command_prints_a_summary(repository: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["reference", "fraud", "1", "--data", str(data), "--repository", str(repository), "--drop", "target"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert said.out.startswith("3000 rows, 3 inputs, 3 predictions, sha256:")
    assert "bp" in said.out
    assert "█" not in said.err, "a bar is for terminals only"


def test_a_bar_is_drawn_on_a_terminal_and_wiped_out(repository: Path, data: Path) -> None:
    import pty
    import subprocess
    import sys

    main_end, terminal = pty.openpty()
    command = ["reference", "fraud", "1", "--data", str(data), "--repository", str(repository), "--drop", "target"]
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", *command], stderr=terminal, stdout=subprocess.PIPE, check=False, timeout=60
    )
    os.close(terminal)
    drawn = b""
    while chunk := _read(main_end):
        drawn += chunk
    os.close(main_end)
    assert ended.returncode == 0
    assert "fraud:1 ██████████░".encode() in drawn
    assert b"1,024 of 3,000 rows" in drawn


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # what a closed terminal says at its end
        return b""
