"""The yardstick: a version's reference made ready to count on and to measure with.

Never changes: a version that gets another reference gets another yardstick.
"""

from __future__ import annotations

import msgspec

from gateway.errors import InvalidReference, unknown_name
from gateway.messages import ModelVersion
from gateway.monitoring.layout import CountLayout
from gateway.monitoring.measurement import WindowMeter
from gateway.monitoring.quality import QualityMeter
from gateway.monitoring.reference import Reference, content_hash, decode_reference
from gateway.monitoring.schedule import WindowSchedule
from gateway.settings import MonitoringOptions
from gateway.store.windows import CountSeries, Traffic


class Yardstick:
    """A reference with its layouts and meters; slow to make, so made off the event loop.

    Attributes:
        hash: Of the reference as published.
        reference: Its watched features.
        layout: Of the counts of all of them.
        predictions: Of the counts of its predictions alone, on which other versions' predictions are compared.
        options: How the model is watched.
        schedule: When its windows start and are decided.
        capped: Columns that are not watched because they are too many.
        row_values: Values per row of the tensors that are recorded.
    """

    def __init__(self, body: bytes, options: MonitoringOptions | None = None) -> None:
        """Read `reference.json`.

        Raises: InvalidReference: it cannot be read, or has no feature of a selected name.
        """
        published = decode_reference(body)
        self.options = options or MonitoringOptions()
        self.schedule = WindowSchedule.of(self.options)
        self.hash = published.hash
        self.reference = select_features(published, self.options.features)
        self.layout = CountLayout(self.reference.features)
        self.predictions = CountLayout(self.reference.predictions)
        self.capped = published.capped
        self.row_values = sum(published.columns.values())
        counts = self.layout.reference_counts(self.reference.rows)
        self.meter = WindowMeter(self.layout, counts)
        self.quality = QualityMeter(self.layout, counts)
        self._predictions_hash = content_hash(
            msgspec.structs.replace(self.reference, features=self.reference.predictions)
        )

    def series(self, key: ModelVersion, traffic: Traffic) -> CountSeries:
        """Name the counts of a version on these bins; of its predictions alone where they are only compared."""
        schedule = self.schedule
        compared = traffic == "comparison"
        return CountSeries(
            model=key.model,
            version=key.version,
            traffic=traffic,
            reference=self._predictions_hash if compared else self.reference.hash,
            bucket_s=schedule.bucket_s,
            window_buckets=schedule.window_buckets,
            cells=(self.predictions if compared else self.layout).cells,
            kept_windows=schedule.kept_windows,
        )


def select_features(reference: Reference, names: tuple[str, ...] | None) -> Reference:
    """Keep the predictions and the inputs of these names; the selection has a content hash of its own.

    Raises: InvalidReference: there is no input of that name.
    """
    if names is None:
        return reference
    inputs = {feature.name: feature for feature in reference.features if feature.role == "input"}
    if unknown := [name for name in names if name not in inputs]:
        raise InvalidReference(unknown_name("[monitoring] features", unknown[0], inputs))
    selected = (*(inputs[name] for name in dict.fromkeys(names)), *reference.predictions)
    bare = msgspec.structs.replace(reference, features=selected)
    return msgspec.structs.replace(bare, hash=content_hash(bare))
