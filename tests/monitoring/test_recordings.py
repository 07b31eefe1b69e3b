from __future__ import annotations

import asyncio

import numpy as np

from gateway.messages import ModelVersion
from gateway.monitoring.recorder import BLOCK_ROWS, MAX_PENDING_BLOCKS
from gateway.monitoring.recordings import Recordings, Role
from tests.monitoring.replicas import FRAUD, QUICK, reference_rows, score, yardstick

ROWS = reference_rows(61)
STICK = yardstick(ROWS)
OTHER_STICK = yardstick(ROWS[:4_000])
CHALLENGER = ModelVersion("fraud", 4)
PENDING_ROWS = MAX_PENDING_BLOCKS * BLOCK_ROWS


def record(subject: Recordings, key: ModelVersion, rows: int, now_s: float = 0.0, *, role: Role = "primary") -> None:
    batch = ROWS[:rows]
    subject.record(key, role, {"x": batch}, {"score": score(batch)}, rows, now_s)


async def test_only_full_blocks_are_counted_before_the_flush_and_one_a_turn_of_the_loop() -> None:
    subject = Recordings()
    subject.loop = asyncio.get_running_loop()
    subject.begin(FRAUD, STICK)
    subject.begin(CHALLENGER, STICK)
    for _ in range(3):
        record(subject, FRAUD, BLOCK_ROWS)
    record(subject, CHALLENGER, BLOCK_ROWS)
    record(subject, CHALLENGER, 10)
    waiting = []
    for _ in range(6):
        await asyncio.sleep(0)
        waiting.append(subject.pending_rows())
    assert waiting == [3_010, 2_010, 1_010, 10, 10, 10]


async def test_rows_that_come_faster_than_they_are_counted_are_dropped_and_counted() -> None:
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    for _ in range(PENDING_ROWS // 1_000 + 2):
        record(subject, FRAUD, 1_000)
    assert subject.seen_rows("primary") == {FRAUD: PENDING_ROWS + 2_000}
    assert subject.dropped_rows()["pending_full"] == 2_000


async def test_what_a_gone_version_dropped_stays_in_the_counter() -> None:
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    subject.record(FRAUD, "primary", {"x": ROWS[:3, :2]}, {}, 3, 0.0)
    record(subject, FRAUD, 5)
    subject.end(FRAUD)
    for now_s in (0.0, 1.0, 500.0, 501.0):
        await subject.carry(now_s)
        assert subject.dropped_rows()["uncountable"] == 3
    # Nobody sent the other five within the buffer's horizon, and their ledger is gone.
    assert subject.dropped_rows()["buffer_full"] == 5
    assert await subject.carry(502.0) == []


async def test_a_comparison_counts_predictions_only_and_its_losses_are_not_counted_twice() -> None:
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    subject.begin(CHALLENGER, STICK)
    subject.compare([(CHALLENGER, FRAUD)])
    for _ in range(PENDING_ROWS // 1_000 + 2):
        record(subject, CHALLENGER, 1_000)
    assert subject.dropped_rows()["pending_full"] == 2_000
    ledgers = {series: ledger for series, ledger in await subject.carry(0.0) if ledger.waiting_rows}
    assert {(series.version, series.traffic): series.cells for series in ledgers} == {
        (4, "primary"): STICK.layout.cells,
        (4, "comparison"): STICK.predictions.cells,
    }
    await subject.carry(1_000.0)
    assert subject.dropped_rows()["buffer_full"] == PENDING_ROWS


async def test_a_comparison_goes_on_while_other_pairs_change_and_ends_with_its_own() -> None:
    third = ModelVersion("fraud", 5)
    subject = Recordings()
    for key in (FRAUD, CHALLENGER, third):
        subject.begin(key, STICK)
    subject.compare([(CHALLENGER, FRAUD)])
    record(subject, CHALLENGER, 7)
    subject.compare([(CHALLENGER, FRAUD), (third, FRAUD)])
    record(subject, CHALLENGER, 2)
    subject.compare([])
    record(subject, CHALLENGER, 1)
    rows = {
        (series.version, series.traffic): ledger.waiting_rows
        for series, ledger in await subject.carry(0.0)
        if ledger.waiting_rows
    }
    assert rows == {(4, "primary"): 10, (4, "comparison"): 9}


async def test_a_comparison_needs_both_versions_and_the_firsts_reference() -> None:
    subject = Recordings()
    subject.begin(CHALLENGER, None)
    subject.compare([(CHALLENGER, FRAUD), (FRAUD, CHALLENGER)])
    record(subject, CHALLENGER, 3)
    subject.begin(FRAUD, STICK)
    record(subject, CHALLENGER, 4)
    # Other edges, another series.
    subject.begin(FRAUD, yardstick(ROWS[: len(ROWS) // 2], QUICK))
    record(subject, CHALLENGER, 5)
    found = [ledger.waiting_rows for series, ledger in await subject.carry(0.0) if series.traffic == "comparison"]
    assert found == [4, 5]


async def test_rows_of_a_shadow_are_not_compared() -> None:
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    subject.begin(CHALLENGER, None)
    subject.compare([(CHALLENGER, FRAUD)])
    record(subject, CHALLENGER, 3, role="shadow")
    assert subject.waiting_rows() == 0


async def test_a_bucket_is_chosen_when_the_rows_are_seen() -> None:
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    for now_s in (99.99, 100.0, 100.99, 98.0):
        record(subject, FRAUD, 1, now_s)
    (ledger,) = (ledger for series, ledger in await subject.carry(101.0) if series.traffic == "primary")
    sent = {}
    while (packet := ledger.next_packet()) and packet.bucket_start_s not in sent:
        sent[packet.bucket_start_s] = int(packet.counts[0])
        break
    assert sent == {98: 1}
    assert ledger.waiting_buckets == 2
    assert np.isclose(ledger.waiting_rows, 4)


async def test_rows_of_a_version_that_leaves_are_kept_whenever_a_carry_ends() -> None:
    """The stop cancels a carry at any of its steps, and begins another."""
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    record(subject, FRAUD, 5)
    subject.record(FRAUD, "primary", {"x": ROWS[:3, :2]}, {}, 3, 0.0)
    subject.begin(FRAUD, OTHER_STICK)
    carrying = asyncio.create_task(subject.carry(0.0))
    await asyncio.sleep(0)
    carrying.cancel()
    await asyncio.gather(carrying, return_exceptions=True)
    await subject.carry(0.0)
    assert (subject.waiting_rows(), subject.dropped_rows()["uncountable"]) == (5, 3)


async def test_a_version_that_leaves_during_a_carry_keeps_its_rows() -> None:
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    carrying = asyncio.create_task(subject.carry(0.0))
    await asyncio.sleep(0)
    record(subject, FRAUD, 5)
    subject.begin(FRAUD, OTHER_STICK)
    await carrying
    sent = await subject.carry(0.0)
    assert sum(ledger.waiting_rows for _, ledger in sent) == 5


async def test_no_dropped_row_is_missing_from_the_counter_during_a_carry() -> None:
    """Prometheus takes a counter that sinks for one that began anew, and adds it all once more."""
    subject = Recordings()
    subject.begin(FRAUD, STICK)
    for _ in range(PENDING_ROWS // 1_000 + 2):
        record(subject, FRAUD, 1_000)
    subject.begin(FRAUD, OTHER_STICK)
    carrying = asyncio.create_task(subject.carry(0.0))
    seen = set()
    while not carrying.done():
        await asyncio.sleep(0)
        seen.add(subject.dropped_rows()["pending_full"])
    assert seen == {2_000}
