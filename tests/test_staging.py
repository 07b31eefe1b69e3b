"""A staged version is invisible until it is whole, gets a number of its own, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gateway.errors import CannotStart, PublishRefused
from gateway.inference.repository import Repository
from gateway.staging import find_leftovers, next_version, staged_version


def test_nothing_is_seen_before_the_rename_and_all_of_it_after(tmp_path: Path) -> None:
    with staged_version(tmp_path, "fraud") as staged:
        staged.write("model.onnx", b"model")
        staged.write("weights/part.bin", b"weights")
        assert Repository(tmp_path).scan() == {}
        assert staged.put_in_place(None) == 1
    (folder,) = Repository(tmp_path).scan()["fraud"].versions.values()
    assert folder.path == tmp_path / "fraud" / "1"
    assert (folder.path / "weights" / "part.bin").read_bytes() == b"weights"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fraud"]


def test_a_publisher_that_gives_up_leaves_nothing(tmp_path: Path) -> None:
    repository = tmp_path / "models"

    def give_up() -> None:
        with staged_version(repository, "fraud") as staged:
            staged.write("model.onnx", b"model")
            raise PublishRefused("no")

    with pytest.raises(PublishRefused):
        give_up()
    assert list(tmp_path.iterdir()) == []


def test_the_next_number_follows_whatever_has_one(tmp_path: Path) -> None:
    for name in ("3", "007", "v12", "1"):
        (tmp_path / name).mkdir()
    (tmp_path / "8").touch()
    assert next_version(tmp_path) == 9


def test_the_loser_of_a_race_takes_the_next_number(tmp_path: Path) -> None:
    """Both looked for a free number before either had it."""
    with staged_version(tmp_path, "fraud") as first, staged_version(tmp_path, "fraud") as second:
        first.write("model.onnx", b"first")
        second.write("model.onnx", b"second")
        assert (second.put_in_place(None), first.put_in_place(None)) == (1, 2)
    assert (tmp_path / "fraud" / "2" / "model.onnx").read_bytes() == b"first"


def test_a_number_that_was_asked_for_is_given_once(tmp_path: Path) -> None:
    with staged_version(tmp_path, "fraud") as first, staged_version(tmp_path, "fraud") as second:
        first.write("model.onnx", b"first")
        second.write("model.onnx", b"second")
        assert first.put_in_place(4) == 4
        with pytest.raises(PublishRefused, match=r"fraud:4: .* exists, and versions never change"):
            second.put_in_place(4)
    assert (tmp_path / "fraud" / "4" / "model.onnx").read_bytes() == b"first"
    assert not find_leftovers(tmp_path)


def test_a_running_publisher_is_told_from_a_killed_one(tmp_path: Path) -> None:
    killed = tmp_path / ".publishing-fraud-killed"
    killed.mkdir()
    (killed / "lock").touch()
    with staged_version(tmp_path, "fraud"):
        assert sorted(leftover.is_live for leftover in find_leftovers(tmp_path)) == [False, True]
    assert [leftover.path for leftover in find_leftovers(tmp_path)] == [killed]


def test_a_repository_without_a_parent_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="cannot be written: No such file or directory"):
        staged_version(tmp_path / "no" / "models", "fraud").__enter__()


def test_a_full_disk_is_said_in_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    def fill() -> None:
        with staged_version(tmp_path, "fraud"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "model.onnx")

    with pytest.raises(CannotStart, match=r"^model.onnx: cannot be written: No space left on device; "):
        fill()
    assert list(tmp_path.iterdir()) == []
