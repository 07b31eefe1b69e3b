"""What Prometheus is told of one version's batches. Counts what it is given; decides nothing."""

from __future__ import annotations

from gateway.messages import ModelVersion
from gateway.telemetry.metrics import CounterCell, Metrics


class BatchSeries:
    """The cells of one version, found once."""

    __slots__ = ("_counters", "_labels", "_metrics", "inference_duration", "queue_delay", "rows")

    def __init__(self, metrics: Metrics, key: ModelVersion) -> None:
        self._metrics = metrics
        self._labels = (key.model, str(key.version))
        self._counters: dict[str, CounterCell] = {}
        self.queue_delay = metrics.histogram("queue_delay_seconds", *self._labels)
        self.inference_duration = metrics.histogram("inference_duration_seconds", *self._labels)
        self.rows = metrics.histogram("batch_rows", *self._labels)

    def count(self, reason: str, batches: int = 1) -> None:
        """Count batches by why they were released."""
        cell = self._counters.get(reason)
        if cell is None:
            cell = self._counters[reason] = self._metrics.counter("batches_total", *self._labels, reason)
        cell.value += batches
