"""Owns the promises of the file of aborts: it survives, and what is old yields."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.errors import CannotStart
from gateway.local_aborts import FRESH_S, KeptAborts, LocalAbort

ABORT = LocalAbort(actor="ana", reason="errors", request_id="7", removes_shadows=False, at=1000.0, base="1-2-f")


async def test_aborts_come_back_and_yield_once_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / "routes.aborts"
    await KeptAborts(path).save({"m": ABORT})
    assert await KeptAborts(path).load(now=ABORT.at + FRESH_S) == {"m": ABORT}
    assert await KeptAborts(path).load(now=ABORT.at + FRESH_S + 1) == {"m": msgspec.structs.replace(ABORT, yields=True)}
    again = KeptAborts(path)
    await again.load(now=ABORT.at)
    await again.save({})
    assert await KeptAborts(path).load(now=ABORT.at) == {}


async def test_nothing_is_kept_without_a_path_and_nothing_is_there_at_first(tmp_path: Path) -> None:
    kept = KeptAborts(None)
    await kept.save({"m": ABORT})
    assert await kept.load(now=0.0) == {}
    assert await KeptAborts(tmp_path / "routes.aborts").load(now=0.0) == {}


async def test_a_damaged_file_stops_the_start_and_a_disk_that_refuses_does_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "routes.aborts"
    path.write_text("noise")
    with pytest.raises(CannotStart, match=r"routes\.aborts"):
        await KeptAborts(path).load(now=0.0)
    await KeptAborts(path / "below" / "routes.aborts").save({"m": ABORT})
    assert caplog.messages == ["local_aborts_not_kept"]
