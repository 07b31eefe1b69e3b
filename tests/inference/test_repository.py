"""Holds the repository on disk to its promises: what is listed, what is read, and that no link is followed.

Writes real files; the wall clock is an argument.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import InvalidModel, LoadFailed
from gateway.inference.manifest import sha256_of
from gateway.inference.model_config import ModelConfig
from gateway.inference.repository import Repository, VersionFiles, VersionFolder, read_file
from gateway.messages import ModelVersion
from tests.support import onnx_models

MODEL = onnx_models.affine()


def manifest_of(**files: bytes) -> str:
    lines = (f'"{name}" = "{sha256_of(content)}"\n' for name, content in files.items())
    return "[files]\n" + "".join(lines)


def write_version(root: Path, name: str = "fraud/3", *, model: bytes = MODEL, manifest: str | None = None) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    if manifest is not None:
        (folder / "manifest.toml").write_text(manifest)
    return folder


def version(root: Path, name: str = "fraud", number: int = 3) -> VersionFolder:
    folder = Repository(root).scan_model(name)
    assert folder is not None
    return folder.versions[number]


def read(root: Path) -> VersionFiles:
    return Repository(root).read_version(version(root))


def fault(root: Path) -> str:
    with pytest.raises(InvalidModel) as caught:
        read(root)
    return str(caught.value)


# --- listing ------------------------------------------------------------------------------------------------


def test_models_and_their_versions_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("fraud/10", "fraud/2", "digits/1"):
        write_version(tmp_path, name)
    found = Repository(tmp_path).scan()
    assert {name: list(folder.versions) for name, folder in found.items()} == {"digits": [1], "fraud": [2, 10]}
    assert found["fraud"].versions[10].key == ModelVersion("fraud", 10)
    assert found["fraud"] == Repository(tmp_path).scan_model("fraud")


@pytest.mark.parametrize("entry", ["0", "01", "1.0", "-1", "+1", " 1", "1a", "latest", "1234567890123456789", "٣"])
def test_a_version_is_a_positive_integer_and_nothing_else(tmp_path: Path, entry: str) -> None:
    write_version(tmp_path, f"fraud/{entry}")
    assert Repository(tmp_path).scan()["fraud"].versions == {}


def test_the_largest_version_has_eighteen_digits(tmp_path: Path) -> None:
    write_version(tmp_path, f"fraud/{10**18 - 1}")
    assert list(Repository(tmp_path).scan()["fraud"].versions) == [10**18 - 1]


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "9", "x" * 64])
def test_a_name_that_a_path_can_carry_is_a_model(tmp_path: Path, name: str) -> None:
    write_version(tmp_path, f"{name}/1")
    assert list(Repository(tmp_path).scan()) == [name]
    assert Repository(tmp_path).misnamed() == []


@pytest.mark.parametrize("name", ["stats", ".hidden", "_x", "-x", "a b", "a+b", "größe", "x" * 65, "a\nb"])
def test_a_name_that_no_client_could_ask_for_is_no_model_but_is_reported(tmp_path: Path, name: str) -> None:
    write_version(tmp_path, f"{name}/1")
    repository = Repository(tmp_path)
    assert (repository.scan(), repository.scan_model(name), repository.misnamed()) == ({}, None, [name])


def test_a_misnamed_directory_without_versions_is_nobodys_business(tmp_path: Path) -> None:
    (tmp_path / ".gateway" / "state").mkdir(parents=True)
    assert Repository(tmp_path).misnamed() == []


def test_files_beside_the_models_and_the_versions_are_ignored(tmp_path: Path) -> None:
    write_version(tmp_path)
    (tmp_path / "README").write_text("")
    (tmp_path / "fraud" / "7").write_text("")
    assert {name: list(folder.versions) for name, folder in Repository(tmp_path).scan().items()} == {"fraud": [3]}


def test_linked_models_and_versions_are_not_listed(tmp_path: Path) -> None:
    elsewhere = write_version(tmp_path / "elsewhere", "secret/1")
    root = tmp_path / "models"
    write_version(root)
    (root / "linked").symlink_to(elsewhere.parent)
    (root / "fraud" / "4").symlink_to(elsewhere)
    found = Repository(root).scan()
    assert {name: list(folder.versions) for name, folder in found.items()} == {"fraud": [3]}
    assert Repository(root).scan_model("linked") is None


@pytest.mark.parametrize("name", ["missing", "..", ".", "", "fraud/3", "../models/fraud"])
def test_a_model_that_is_not_there_is_none(tmp_path: Path, name: str) -> None:
    write_version(tmp_path)
    assert Repository(tmp_path).scan_model(name) is None


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    write_version(tmp_path / "real")
    (tmp_path / "models").symlink_to(tmp_path / "real")
    assert read(tmp_path / "models").model == MODEL


def test_a_root_that_is_not_there_is_a_failure_that_names_it(tmp_path: Path) -> None:
    for root in (tmp_path / "missing", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(LoadFailed) as caught:
            Repository(root).scan()
        assert str(caught.value) == f"{root}: no such directory"


def test_a_root_that_cannot_be_read_is_a_failure_that_says_why(tmp_path: Path) -> None:
    root = tmp_path / ("x" * 300)
    with pytest.raises(LoadFailed, match=r"cannot be read: File name too long$"):
        Repository(root).scan()


def test_models_that_come_and_go_while_they_are_listed_disturb_no_scan(tmp_path: Path) -> None:
    write_version(tmp_path, "stays/1")
    enough = threading.Event()

    def churn() -> None:
        for number in itertools.count():
            folder = write_version(tmp_path, f"comes{number % 7}/1")
            (folder / "model.onnx").unlink()
            folder.rmdir()
            folder.parent.rmdir()
            if enough.is_set():
                return

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        repository = Repository(tmp_path)
        for _ in range(300):
            assert list(repository.scan()["stays"].versions) == [1]
            assert repository.misnamed() == []
    finally:
        enough.set()
        thread.join()


# --- settings of a model ------------------------------------------------------------------------------------


def test_a_model_without_settings_has_the_defaults(tmp_path: Path) -> None:
    write_version(tmp_path)
    found = Repository(tmp_path).scan()["fraud"]
    assert (found.config, found.fault) == (ModelConfig(), "")


def test_settings_are_read_again_when_the_file_changes_and_forgotten_when_it_is_gone(tmp_path: Path) -> None:
    write_version(tmp_path)
    file = tmp_path / "fraud" / "model.toml"
    repository = Repository(tmp_path)
    file.write_text("versions = [1]")
    assert repository.scan()["fraud"].config.versions == (1,)
    assert repository.scan()["fraud"].config.versions == (1,)
    file.write_text("versions = [1, 2]")
    assert repository.scan()["fraud"].config.versions == (1, 2)
    file.unlink()
    assert repository.scan()["fraud"].config == ModelConfig()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version = 1", "key 'version': unknown 'version'"),
        ("versions = ", "not TOML"),
        ("a = " + "[" * 50_000, "not TOML"),
    ],
)
def test_faulty_settings_are_a_fault_of_that_model_alone(tmp_path: Path, text: str, said: str) -> None:
    write_version(tmp_path, "digits/1")
    write_version(tmp_path)
    (tmp_path / "fraud" / "model.toml").write_text(text)
    found = Repository(tmp_path).scan()
    assert found["fraud"].fault.startswith(f"{tmp_path}/fraud/model.toml: ")
    assert said in found["fraud"].fault
    assert list(found["fraud"].versions) == [3]
    assert found["digits"].fault == ""


def test_linked_settings_are_a_fault(tmp_path: Path) -> None:
    write_version(tmp_path)
    (tmp_path / "other.toml").write_text("versions = [1]")
    (tmp_path / "fraud" / "model.toml").symlink_to(tmp_path / "other.toml")
    found = Repository(tmp_path).scan()["fraud"]
    assert found.config == ModelConfig()
    assert "links are not followed" in found.fault


def test_model_toml_is_laid_over_a_configuration_written_for_triton(tmp_path: Path) -> None:
    write_version(tmp_path)
    (tmp_path / "fraud" / "config.pbtxt").write_text('backend: "onnxruntime"\nmax_batch_size: 16')
    (tmp_path / "fraud" / "model.toml").write_text("versions = [3]")
    found = Repository(tmp_path).scan()["fraud"]
    assert (found.fault, found.config.versions, found.config.batching.max_rows) == ("", (3,), 16)


def test_a_model_file_of_another_name_is_read_where_triton_is_told_so(tmp_path: Path) -> None:
    folder = write_version(tmp_path)
    (tmp_path / "fraud" / "config.pbtxt").write_text('default_model_filename: "net.onnx"\nmax_batch_size: 16')
    (folder / "model.onnx").rename(folder / "net.onnx")
    assert version(tmp_path).is_settled(version(tmp_path).changed_at + 2)
    assert read(tmp_path).model == MODEL


def test_any_file_can_be_read_as_those_of_a_version_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert read_file(tmp_path, "a.txt") == b"a"
    with pytest.raises(InvalidModel, match="links are not followed"):
        read_file(tmp_path, "b.txt")


# --- when a version may be tried ------------------------------------------------------------------------------


def test_with_a_manifest_a_version_is_tried_at_once(tmp_path: Path) -> None:
    write_version(tmp_path, manifest=manifest_of(**{"model.onnx": MODEL}))
    folder = version(tmp_path)
    assert folder.is_settled(folder.changed_at)


def test_without_a_manifest_a_version_is_tried_when_nothing_changed_for_two_seconds(tmp_path: Path) -> None:
    write_version(tmp_path)
    folder = version(tmp_path)
    assert not folder.is_settled(folder.changed_at + 1.9)
    assert folder.is_settled(folder.changed_at + 2.0)


def test_a_version_without_its_model_is_not_tried_however_old(tmp_path: Path) -> None:
    folder = write_version(tmp_path, manifest=manifest_of(**{"model.onnx": MODEL}))
    (folder / "model.onnx").unlink()
    listed = version(tmp_path)
    assert not listed.is_settled(listed.changed_at + 1000)


def test_a_version_may_be_half_written_for_thirty_seconds_after_its_last_change(tmp_path: Path) -> None:
    write_version(tmp_path)
    folder = version(tmp_path)
    assert folder.may_still_change(folder.changed_at + 29.9)
    assert not folder.may_still_change(folder.changed_at + 30.0)


def test_a_directory_that_was_only_just_made_may_still_change(tmp_path: Path) -> None:
    (tmp_path / "fraud" / "3").mkdir(parents=True)
    folder = version(tmp_path)
    assert folder.may_still_change((tmp_path / "fraud" / "3").stat().st_ctime + 1)
    assert not folder.is_settled(folder.changed_at + 1)


@pytest.mark.parametrize("years", [-10, 10])
def test_a_file_that_was_copied_with_its_old_times_counts_as_written_now(tmp_path: Path, years: int) -> None:
    model = write_version(tmp_path) / "model.onnx"
    then = model.stat().st_mtime + years * 365 * 86_400
    os.utime(model, (then, then))
    assert version(tmp_path).changed_at == pytest.approx(model.stat().st_ctime)


Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "another model": lambda folder: (folder / "model.onnx").write_bytes(b"other"),
    "as many other bytes": lambda folder: (folder / "model.onnx").write_bytes(bytes(len(MODEL))),
    "a file more": lambda folder: (folder / "golden.json").touch(),
    "a file less": lambda folder: (folder / "manifest.toml").unlink(),
    "a file renamed": lambda folder: (folder / "manifest.toml").rename(folder / "manifest"),
    "a file below": lambda folder: (folder / "weights" / "part.bin").write_bytes(b"new"),
    "a file far below": lambda folder: (folder / "weights" / "deep" / "part.bin").write_bytes(b"new"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_stamp_differs_after_any_change(tmp_path: Path, change: Change) -> None:
    folder = write_version(tmp_path, manifest="")
    (folder / "weights" / "deep").mkdir(parents=True)
    for part in (folder / "weights", folder / "weights" / "deep"):
        (part / "part.bin").write_bytes(b"old")
    before = version(tmp_path)
    assert version(tmp_path) == before
    change(folder)
    after = version(tmp_path)
    assert after.stamp != before.stamp
    assert after.changed_at >= before.changed_at


def test_a_file_below_counts_as_the_last_write(tmp_path: Path) -> None:
    """A download of weights into a directory of the version may take minutes."""
    folder = write_version(tmp_path)
    part = folder / "weights" / "part.bin"
    part.parent.mkdir()
    part.touch()
    assert version(tmp_path).changed_at == pytest.approx(part.stat().st_ctime, abs=1e-6)


def test_what_lies_below_does_not_stand_for_a_file_of_the_version(tmp_path: Path) -> None:
    folder = write_version(tmp_path, "fraud/3/copy")
    listed = version(tmp_path)
    assert listed.path == folder.parent
    assert not listed.has("model.onnx")
    assert listed.has("copy/model.onnx")


# --- reading ------------------------------------------------------------------------------------------------


def test_a_version_is_read_with_its_hash_manifest_and_golden_requests(tmp_path: Path) -> None:
    folder = write_version(tmp_path, manifest=manifest_of(**{"model.onnx": MODEL}))
    (folder / "golden.json").write_text('{"cases": []}')
    files = read(tmp_path)
    assert (files.model, files.sha256, files.external_folder) == (MODEL, sha256_of(MODEL), None)
    assert files.manifest is not None
    assert files.manifest.files == {"model.onnx": sha256_of(MODEL)}
    assert files.golden is not None


def test_a_version_needs_no_more_than_its_model(tmp_path: Path) -> None:
    write_version(tmp_path)
    files = read(tmp_path)
    assert (files.manifest, files.golden, files.sha256) == (None, None, sha256_of(MODEL))


def test_a_model_that_differs_from_its_hash_is_refused_with_both(tmp_path: Path) -> None:
    write_version(tmp_path, manifest=manifest_of(**{"model.onnx": b"another"}))
    assert fault(tmp_path) == f"model.onnx: hash is {sha256_of(MODEL)}, the manifest says {sha256_of(b'another')}"


def test_every_file_of_the_manifest_must_be_there(tmp_path: Path) -> None:
    folder = write_version(tmp_path, manifest=manifest_of(**{"model.onnx": MODEL, "labels.txt": b"yes"}))
    assert fault(tmp_path) == f"{folder}/labels.txt: no such file"
    (folder / "labels.txt").write_bytes(b"no!")
    assert fault(tmp_path).startswith("labels.txt: hash is ")
    (folder / "labels.txt").write_bytes(b"yes")
    assert read(tmp_path).model == MODEL


def test_a_version_removed_since_it_was_listed_is_a_fault(tmp_path: Path) -> None:
    folder = write_version(tmp_path)
    listed = version(tmp_path)
    (folder / "model.onnx").unlink()
    with pytest.raises(InvalidModel, match=r"model.onnx: no such file$"):
        Repository(tmp_path).read_version(listed)


@pytest.mark.parametrize("name", ["manifest.toml", "golden.json"])
def test_a_file_that_does_not_parse_is_named(tmp_path: Path, name: str) -> None:
    folder = write_version(tmp_path)
    (folder / name).write_text("{")
    assert fault(tmp_path).startswith(f"{folder}/{name}: ")


# --- links and other things that are no files ---------------------------------------------------------------------


def linked_file(folder: Path, outside: Path) -> None:
    (folder / "model.onnx").symlink_to(outside)


def link_within(folder: Path, outside: Path) -> None:
    (folder / "copy.onnx").write_bytes(MODEL)
    (folder / "model.onnx").symlink_to("copy.onnx")


def second_name(folder: Path, outside: Path) -> None:
    (folder / "model.onnx").hardlink_to(outside)


def pipe(folder: Path, outside: Path) -> None:
    os.mkfifo(folder / "model.onnx")


def directory(folder: Path, outside: Path) -> None:
    (folder / "model.onnx").mkdir()


def dangling(folder: Path, outside: Path) -> None:
    (folder / "model.onnx").symlink_to(folder / "nowhere")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (linked_file, "cannot be read (links are not followed): Too many levels of symbolic links"),
        (link_within, "cannot be read (links are not followed): Too many levels of symbolic links"),
        (second_name, "has 2 hard links, expected one"),
        (pipe, "expected a regular file"),
        (directory, "expected a regular file"),
        (dangling, "cannot be read (links are not followed)"),
    ],
)
def test_a_model_that_is_no_plain_file_of_its_own_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path, Path], None], said: str
) -> None:
    folder = tmp_path / "models" / "fraud" / "3"
    folder.mkdir(parents=True)
    outside = tmp_path / "outside.onnx"
    outside.write_bytes(MODEL)
    make(folder, outside)
    listed = replace(version(tmp_path / "models"), stamp=(("model.onnx", 0, 0, 0),))
    with pytest.raises(InvalidModel) as caught:
        Repository(tmp_path / "models").read_version(listed)
    assert str(caught.value).startswith(f"{folder}/model.onnx: {said}")


def test_a_version_directory_swapped_for_a_link_is_refused(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "models")
    listed = version(tmp_path / "models")
    elsewhere = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(elsewhere)
    with pytest.raises(InvalidModel, match="links are not followed"):
        Repository(tmp_path / "models").read_version(listed)


def test_no_descriptor_stays_open_whatever_is_refused(tmp_path: Path) -> None:
    folder = write_version(tmp_path, manifest=manifest_of(**{"model.onnx": MODEL, "a/b.bin": b""}))
    (folder / "a").mkdir()
    os.mkfifo(folder / "a" / "b.bin")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        assert "expected a regular file" in fault(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- external data ------------------------------------------------------------------------------------------------


def write_external(root: Path, location: str, *, listed: bool = True) -> Path:
    folder = root / "fraud" / "3"
    folder.mkdir(parents=True)
    model = onnx_models.external_data(location, folder)
    (folder / "model.onnx").write_bytes(model)
    files = {"model.onnx": model} | ({location: (folder / location).read_bytes()} if listed else {})
    (folder / "manifest.toml").write_text(manifest_of(**files))
    return folder


@pytest.mark.parametrize("location", ["weights.bin", "parts/weights.bin"])
def test_external_data_that_is_listed_with_its_hash_is_taken_from_the_version(tmp_path: Path, location: str) -> None:
    folder = write_external(tmp_path, location)
    assert read(tmp_path).external_folder == folder


def test_external_data_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    write_external(tmp_path, "weights.bin", listed=False)
    assert fault(tmp_path) == "external data 'weights.bin' is not listed with its hash in manifest.toml"


def test_external_data_needs_a_manifest(tmp_path: Path) -> None:
    (write_external(tmp_path, "weights.bin") / "manifest.toml").unlink()
    assert "is not listed with its hash" in fault(tmp_path)


def test_external_data_that_changed_is_refused(tmp_path: Path) -> None:
    folder = write_external(tmp_path, "parts/weights.bin")
    (folder / "parts" / "weights.bin").write_bytes(b"changed")
    assert fault(tmp_path).startswith("parts/weights.bin: hash is ")


def test_external_data_behind_a_link_is_refused(tmp_path: Path) -> None:
    folder = write_external(tmp_path / "models", "parts/weights.bin")
    (folder / "parts").rename(tmp_path / "parts")
    (folder / "parts").symlink_to(tmp_path / "parts")
    assert "parts/weights.bin: cannot be read (links are not followed)" in fault(tmp_path / "models")


def test_external_data_with_a_second_name_is_refused(tmp_path: Path) -> None:
    folder = write_external(tmp_path, "weights.bin")
    (folder / "again.bin").hardlink_to(folder / "weights.bin")
    assert "weights.bin: has 2 hard links" in fault(tmp_path)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "a/../../outside.bin", ""])
def test_external_data_outside_the_version_can_neither_be_listed_nor_left_out(tmp_path: Path, location: str) -> None:
    model = onnx_models.external_data(location)
    folder = write_version(tmp_path, model=model, manifest=manifest_of(**{"model.onnx": model}))
    assert "is not listed with its hash" in fault(tmp_path)
    (folder / "manifest.toml").write_text(manifest_of(**{"model.onnx": model, location: b""}))
    assert "expected a path inside the version directory" in fault(tmp_path)


def test_external_data_is_found_wherever_the_model_refers_to_it(tmp_path: Path) -> None:
    model = onnx_models.external_data_inside(attribute="a.bin", subgraph="b.bin", function="c.bin")
    folder = write_version(tmp_path, model=model)
    listed = {"model.onnx": model}
    for name in ("a.bin", "b.bin", "c.bin"):
        (folder / "manifest.toml").write_text(manifest_of(**listed))
        assert f"external data '{name}' is not listed" in fault(tmp_path)
        (folder / name).write_bytes(name.encode())
        listed[name] = name.encode()
    (folder / "manifest.toml").write_text(manifest_of(**listed))
    assert read(tmp_path).external_folder == folder
