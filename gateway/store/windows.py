"""The seam of the counted windows: what every window store can do, and the values it takes and gives.

Holds no behaviour beyond arithmetic on bucket starts; the in-memory twin and Redis pass the same tests.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Traffic = Literal["primary", "shadow", "comparison"]

HISTORY_WINDOWS = 500
"""Results kept of each series."""


class CountSeries(msgspec.Struct, frozen=True, kw_only=True):
    """Counts that may be added up: of one version, in one role, on the bins of one reference.

    Attributes:
        traffic: Rows answered to callers, rows seen as a shadow, or predictions on another version's edges.
        reference: Hash of the reference whose bins these are; counts of two references never meet.
        cells: Length of a vector of counts; cell 0 counts rows.
        kept_windows: The latest windows whose counts may still change; older ones leave the survey.
    """

    model: str
    version: int
    traffic: Traffic
    reference: str
    bucket_s: int
    window_buckets: int
    cells: int
    kept_windows: int

    @property
    def identity(self) -> tuple[str, int, Traffic, str, int, int]:
        """What tells it from other series; how long its windows may change does not."""
        return (self.model, self.version, self.traffic, self.reference, self.bucket_s, self.window_buckets)

    @property
    def window_s(self) -> int:
        """Length of a window in seconds."""
        return self.bucket_s * self.window_buckets

    def window_start(self, bucket_start_s: int) -> int:
        """Give the start of the window that a bucket belongs to."""
        return bucket_start_s - bucket_start_s % self.window_s


class CountPacket(msgspec.Struct, frozen=True, kw_only=True):
    """What one process adds to one bucket in one go; sent again as it is when the answer was lost.

    Attributes:
        producer: 8 random bytes of the process.
        sequence: Rises with every packet of the producer.
        after: Sequence of the producer's last packet that the store acknowledged for this bucket, 0 for none.
        counts: int64, shape (cells,).
    """

    bucket_start_s: int
    producer: bytes
    sequence: int
    after: int
    counts: Counts


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What the store says to a packet.

    Attributes:
        mark: Sequence of the producer's last packet that the bucket holds. At least the packet's own: its counts are
            in the bucket, once, whether by this call or an earlier one. Less: the store has lost what it acknowledged
            since, and has added nothing.
        known: Sequence of the producer's last packet that the series remembered before this call, in any bucket; 0 for
            none. Less than was acknowledged: other buckets may have lost counts, too.
    """

    mark: int
    known: int


class ResultHead(msgspec.Struct, frozen=True, kw_only=True):
    """Which result of a window is the current one.

    Attributes:
        rows: Rows of the window that were known when it was decided.
        attempt: 1 for the first decision; one more each time it was replaced.
        after: Start and attempt of the result before it, from which its state follows; zeros for none.
    """

    rows: int
    attempt: int
    after: tuple[int, int]


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """The latest windows of a series at a glance.

    Attributes:
        landed: Rows of every window, by its start.
        results: Current result of every decided window, by its start.
        baseline: What `put_baseline` was given last.
    """

    landed: dict[int, int]
    results: dict[int, ResultHead]
    baseline: bytes | None


class WindowStore(Protocol):
    """Remembers counts by bucket, and one current result for each window.

    Raises nothing but `gateway.errors.StoreUnavailable`.
    """

    async def add(self, series: CountSeries, packet: CountPacket) -> Receipt:
        """Add a packet's counts to its bucket, once however often it is sent and in whatever order copies arrive.

        A packet whose counts are zero and whose sequence is its `after` only asks what the bucket holds.

        Raises:
            StoreUnavailable: no answer; whether it was added is not known, send the same packet again.
        """

    async def read(self, series: CountSeries, start_s: int, end_s: int) -> Counts:
        """Add up the buckets that start in [start_s, end_s); int64, shape (cells,).

        Raises:
            StoreUnavailable: no answer.
        """

    async def survey(self, series: CountSeries) -> Survey:
        """Look at the latest windows that have rows.

        Raises:
            StoreUnavailable: no answer.
        """

    async def put_result(self, series: CountSeries, start_s: int, head: ResultHead, body: bytes) -> bool:
        """Make this the current result of the window that starts at start_s, if it is the next attempt.

        Returns: Whether it was: another replica may have decided first, or the window is no longer in the survey.
        Raises:
            StoreUnavailable: no answer; whether it was written is not known, look again.
        """

    async def results(self, series: CountSeries, limit: int) -> list[bytes]:
        """List current results, newest window first, at most 500.

        Raises:
            StoreUnavailable: no answer.
        """

    async def put_baseline(self, series: CountSeries, body: bytes) -> None:
        """Replace what is known of the windows in control.

        Raises:
            StoreUnavailable: no answer.
        """
