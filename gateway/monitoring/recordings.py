"""The recordings of one process: who takes the rows of which version, and the ledgers that carry the counts on.

Never sends anything and never raises into a request; the recorders do the counting.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from gateway.messages import ModelVersion, Tensors
from gateway.monitoring.ledger import Ledger, Producer
from gateway.monitoring.recorder import Recorder
from gateway.monitoring.yardstick import Yardstick
from gateway.store.windows import CountSeries, Traffic

Role = Literal["primary", "shadow"]
Pair = tuple[ModelVersion, ModelVersion]

ROLES: tuple[Role, ...] = ("primary", "shadow")
DROP_REASONS = ("pending_full", "buffer_full", "uncountable", "store_lost")


class Recording(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The rows of one series in this process: a recorder, and the ledger that carries its counts to the store."""

    series: CountSeries
    bucket_s: int
    recorder: Recorder
    ledger: Ledger

    @property
    def seen_rows(self) -> int:
        """Count the rows taken, whatever became of them; rows left out by sampling are not."""
        return self.recorder.recorded_rows + sum(self.recorder.dropped_rows.values())


class Recordings:
    """Recorders and ledgers by version; belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._producer = Producer()
        self._yardsticks: dict[ModelVersion, Yardstick | None] = {}
        self._own: dict[ModelVersion, dict[Role, Recording]] = {}
        self._seen_before: dict[ModelVersion, dict[Role, int]] = {}
        self._pairs: tuple[Pair, ...] = ()
        self._compared: dict[Pair, Recording] = {}
        self._leaving: list[Recording] = []
        self._ledgers: dict[tuple[object, ...], tuple[CountSeries, Ledger]] = {}
        self._takers: dict[Role, dict[ModelVersion, tuple[Recording, ...]]] = {role: {} for role in ROLES}
        self._lost: Counter[str] = Counter()
        self._to_count: deque[Recorder] = deque()
        self.loop: asyncio.AbstractEventLoop | None = None

    # --- who is recorded ------------------------------------------------------------------------------

    def begin(self, key: ModelVersion, yardstick: Yardstick | None) -> None:
        """Record a version on a yardstick's bins; without one it is known, and only compared with others."""
        seen = {role: self._seen(key, role) for role in ROLES}
        self.end(key)
        self._seen_before[key] = seen
        self._yardsticks[key] = yardstick
        if yardstick is not None and yardstick.options.enabled:
            self._own[key] = {role: self._recording(key, role, yardstick) for role in ROLES}
        self._rewire()

    def end(self, key: ModelVersion) -> None:
        """Record a version no longer; what was counted of it still goes its way."""
        self._yardsticks.pop(key, None)
        self._seen_before.pop(key, None)
        self._leaving.extend(self._own.pop(key, {}).values())
        self._rewire()

    def compare(self, pairs: Iterable[Pair]) -> None:
        """Count predictions of versions on other versions' edges: these pairs of (variant, first) and no others."""
        self._pairs = tuple(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1]))
        self._rewire()

    def _rewire(self) -> None:
        """Say anew who takes the rows of whom."""
        compared = {}
        for variant, first in self._pairs:
            yardstick = self._yardsticks.get(first)
            if variant not in self._yardsticks or yardstick is None or not yardstick.options.enabled:
                continue
            known = self._compared.get((variant, first))
            if known is None or known.series != yardstick.series(variant, "comparison"):
                known = self._recording(variant, "comparison", yardstick)
            compared[variant, first] = known
        kept = set(map(id, compared.values()))
        self._leaving.extend(one for one in self._compared.values() if id(one) not in kept)
        self._compared = compared
        takers: dict[Role, dict[ModelVersion, list[Recording]]] = {role: {} for role in ROLES}
        for key, recordings in self._own.items():
            for role, recording in recordings.items():
                takers[role][key] = [recording]
        for (variant, _), recording in compared.items():
            takers["primary"].setdefault(variant, []).append(recording)
        self._takers = {
            role: {key: tuple(recordings) for key, recordings in by_key.items()} for role, by_key in takers.items()
        }

    def _recording(self, key: ModelVersion, traffic: Traffic, yardstick: Yardstick) -> Recording:
        series = yardstick.series(key, traffic)
        # A version that comes back goes on with the ledger that knows what was sent of it.
        _, ledger = self._ledgers.get(series.identity, (series, None))
        if ledger is None:
            ledger = Ledger(series.cells, yardstick.schedule, self._producer)
        self._ledgers[series.identity] = (series, ledger)
        return Recording(
            series=series,
            bucket_s=series.bucket_s,
            recorder=Recorder(
                yardstick.predictions if traffic == "comparison" else yardstick.layout,
                row_values=yardstick.row_values,
                max_buckets=yardstick.options.buffer_buckets,
                sampling=yardstick.options.sampling,
            ),
            ledger=ledger,
        )

    # --- rows -----------------------------------------------------------------------------------------

    def record(  # noqa: PLR0917 - a call with keywords costs a tenth of the whole
        self, key: ModelVersion, role: Role, inputs: Tensors, outputs: Tensors, rows: int, now_s: float
    ) -> None:
        """Take the rows of one answered request; see `Monitor.record`."""
        takers = self._takers[role].get(key)
        if takers is None:  # a version that is not watched
            return
        try:
            second = int(now_s)
            for recording in takers:
                if recording.recorder.record(inputs, outputs, rows, second - second % recording.bucket_s):
                    self._count_soon(recording.recorder)
        except Exception:  # noqa: BLE001 - whatever it was given, a request must not hear of it
            self._lost["uncountable"] += 1

    async def carry(self, now_s: float) -> list[tuple[CountSeries, Ledger]]:
        """Count what is pending, enter it into the ledgers and drop what has waited too long.

        Returns: All ledgers, each with its series.
        """
        leaving = tuple(self._leaving)
        for recording in [*self._all(), *leaving]:
            recording.ledger.enter(recording.recorder.take_deltas())
            # Counting takes about half a millisecond per thousand rows: others may run in between.
            await asyncio.sleep(0)
        # Only now, in one step: a carry may be cancelled in between, and a scrape must find every dropped row once.
        self._leaving = self._leaving[len(leaving) :]
        for recording in leaving:
            if recording.series.traffic != "comparison":
                self._lost.update(recording.recorder.dropped_rows)
        in_use = {recording.series.identity for recording in [*self._all(), *self._leaving]}
        for identity, (series, ledger) in list(self._ledgers.items()):
            ledger.drop_expired(now_s)
            if ledger.is_empty and identity not in in_use:
                del self._ledgers[identity]
                if series.traffic != "comparison":
                    self._lost.update(ledger.lost_rows)
        return list(self._ledgers.values())

    def _count_soon(self, recorder: Recorder) -> None:
        """Have full blocks counted between the loop's other work, one a turn."""
        if self.loop is None or recorder in self._to_count:
            return
        self._to_count.append(recorder)
        if len(self._to_count) == 1:
            self.loop.call_soon(self._count_block)

    def _count_block(self) -> None:
        recorder = self._to_count.popleft()
        if recorder.count_block():
            self._to_count.append(recorder)
        if self._to_count and self.loop is not None:
            self.loop.call_soon(self._count_block)

    # --- what became of them --------------------------------------------------------------------------

    def seen_rows(self, role: Role) -> dict[ModelVersion, int]:
        """Count the rows taken of each version, counted or dropped, also on an earlier yardstick."""
        return {key: self._seen(key, role) for key in self._own}

    def dropped_rows(self) -> dict[str, int]:
        """Count the rows lost, by reason; those of comparisons are not counted a second time."""
        lost = Counter(self._lost)
        for recording in [*self._all(), *self._leaving]:
            if recording.series.traffic != "comparison":
                lost.update(recording.recorder.dropped_rows)
        for series, ledger in self._ledgers.values():
            if series.traffic != "comparison":
                lost.update(ledger.lost_rows)
        return {reason: lost[reason] for reason in DROP_REASONS}

    def pending_rows(self) -> int:
        """Count the rows that are not counted yet."""
        return sum(recording.recorder.pending_rows for recording in [*self._all(), *self._leaving])

    def waiting_rows(self) -> int:
        """Count the rows that no store has acknowledged."""
        return self.pending_rows() + sum(ledger.waiting_rows for _, ledger in self._ledgers.values())

    def _seen(self, key: ModelVersion, role: Role) -> int:
        recording = self._own.get(key, {}).get(role)
        return self._seen_before.get(key, {}).get(role, 0) + (recording.seen_rows if recording else 0)

    def _all(self) -> Iterator[Recording]:
        for recordings in list(self._own.values()):
            yield from list(recordings.values())
        yield from list(self._compared.values())
