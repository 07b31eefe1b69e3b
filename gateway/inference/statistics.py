"""The counters of the protocol's statistics extension for one model version.

Cumulative since the version was loaded; never reset, never read by any decision.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_MAX_BATCH_SIZES = 256


@dataclass(slots=True)
class Tally:
    """How often, and how long in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count `count` events that took `seconds` together."""
        self.count += count
        self.seconds += seconds


@dataclass(slots=True)
class BatchTally:
    """The runs of one batch size."""

    assemble: Tally = field(default_factory=Tally)
    run: Tally = field(default_factory=Tally)
    split: Tally = field(default_factory=Tally)


@dataclass(slots=True)
class Statistics:
    """Requests and runs of one model version.

    Attributes:
        rows: Rows answered. runs: onnxruntime runs, so that rows / runs is the mean batch size.
        assemble, run, split: Making one batch of its requests, running it, and cutting the outputs apart.
    """

    rows: int = 0
    runs: int = 0
    last_at: float = 0.0
    success: Tally = field(default_factory=Tally)
    fail: Tally = field(default_factory=Tally)
    queue: Tally = field(default_factory=Tally)
    assemble: Tally = field(default_factory=Tally)
    run: Tally = field(default_factory=Tally)
    split: Tally = field(default_factory=Tally)
    batches: dict[int, BatchTally] = field(default_factory=dict)

    def count_batch(
        self,
        *,
        requests: int,
        rows: int,
        runs: int,
        queue_s: float,
        assemble_s: float,
        run_s: float,
        split_s: float,
    ) -> None:
        """Count one batch that was answered.

        Args:
            queue_s: What its requests waited, added up; the other times are the batch's, counted for each of them.
        """
        # Written out: it stands on the way of every batch, and calls would cost most of it.
        self.rows += rows
        self.runs += runs
        tally = self.queue
        tally.count += requests
        tally.seconds += queue_s
        tally = self.success
        tally.count += requests
        tally.seconds += queue_s + (assemble_s + run_s + split_s) * requests
        tally = self.assemble
        tally.count += requests
        tally.seconds += assemble_s * requests
        tally = self.run
        tally.count += requests
        tally.seconds += run_s * requests
        tally = self.split
        tally.count += requests
        tally.seconds += split_s * requests
        batch = self.batches.get(rows)
        if batch is None:
            if len(self.batches) >= _MAX_BATCH_SIZES:
                return
            batch = self.batches[rows] = BatchTally()
        batch.assemble.add(assemble_s)
        batch.run.add(run_s)
        batch.split.add(split_s)
