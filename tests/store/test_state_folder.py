"""Owns the promises of the state directory: everybody has a file of their own, and finds it again."""

from pathlib import Path

import pytest

from gateway.errors import CannotStart
from gateway.store.state_folder import StateFolder


def test_everybody_has_a_file_of_their_own_and_the_first_free_one_is_found_again(tmp_path: Path) -> None:
    folders = [StateFolder(tmp_path / "state") for _ in range(3)]
    files = [folder.claim() for folder in folders]
    assert len(set(files)) == 3
    folders[1].release()
    assert StateFolder(tmp_path / "state").claim() == files[1]
    for folder in folders:
        folder.release()


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path / "new" / "state")
    file = folder.claim()
    assert file.parent == tmp_path / "new" / "state"
    assert file.parent.stat().st_mode & 0o077 == 0
    folder.release()


def test_a_directory_that_cannot_be_written_stops_the_start_with_what_to_do(tmp_path: Path) -> None:
    """Whoever runs the tests may be root, who writes everywhere but into a file."""
    file = tmp_path / "file"
    file.touch()
    for path in (file, file / "state"):
        with pytest.raises(CannotStart, match=r"file.*: cannot be written .*; choose another with --state-dir DIR"):
            StateFolder(path).claim()
