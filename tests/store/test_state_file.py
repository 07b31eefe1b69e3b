"""Owns the promises of the state file: whole or refused, never half, never dropped in silence."""

import stat
from pathlib import Path

import pytest

from gateway.errors import CannotStart, StoreUnavailable
from gateway.store.state_file import StateFile


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "state" / "routes.json"
    assert StateFile(path).load() is None
    StateFile(path).save(b'{"a": 1}\nb')
    StateFile(path).save(b"second\n\n")
    assert StateFile(path).load() == b"second\n\n"
    assert sorted(file.name for file in path.parent.iterdir()) == ["routes.json"]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "routes.json"
    StateFile(path).save(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("position", [0, 5, 30, 60, -30, -1])
def test_a_flipped_bit_anywhere_is_refused_with_what_to_do(tmp_path: Path, position: int) -> None:
    path = tmp_path / "routes.json"
    StateFile(path).save(b"routes" * 20)
    raw = bytearray(path.read_bytes())
    raw[position] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CannotStart, match="not dropped silently"):
        StateFile(path).load()
    assert path.read_bytes() == raw


@pytest.mark.parametrize("length", [0, 1, 40, 86, 87, 100])
def test_a_cut_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "routes.json"
    StateFile(path).save(b"routes" * 20)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CannotStart, match=r"state file of this release|checksum"):
        StateFile(path).load()


def test_a_half_written_successor_is_passed_over(tmp_path: Path) -> None:
    """As a crash before the rename leaves it."""
    path = tmp_path / "routes.json"
    StateFile(path).save(b"first")
    (tmp_path / "routes.json.new").write_bytes(b"gateway-sta")
    assert StateFile(path).load() == b"first"
    StateFile(path).save(b"second")
    assert StateFile(path).load() == b"second"


def test_a_disk_that_refuses_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    StateFile(path).save(b"first")
    (tmp_path / "routes.json.new").mkdir()
    with pytest.raises(StoreUnavailable, match="not written") as caught:
        StateFile(path).save(b"second")
    assert caught.value.outcome == "not_written"
    assert StateFile(path).load() == b"first"


def test_a_link_in_the_place_of_the_successor_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "routes.json"
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "routes.json.new").symlink_to(victim)
    with pytest.raises(StoreUnavailable):
        StateFile(path).save(b"second")
    assert victim.read_text() == "mine"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "routes.json").mkdir()
    with pytest.raises(CannotStart, match="cannot be read"):
        StateFile(tmp_path / "routes.json").load()
