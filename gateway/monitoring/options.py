"""What may be chosen about the monitoring of a model: the `[monitoring]` tables of gateway.toml and model.toml.

Reads no file: the settings and the model's configuration do.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.monitoring.schedule import WindowSchedule

Count = Annotated[int, Meta(ge=1)]


class MonitoringOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model is watched.

    Attributes:
        enabled: Whether it is.
        features: Names of the inputs to watch; all when None. Predictions are always watched.
        bucket_s: Length of a bucket in seconds.
        window_buckets: Buckets in a window.
        min_rows: Fewer rows in a window decide nothing.
        buffer_buckets: Buckets kept in the process while the store is away.
        sampling: Share of requests that are counted.
    """

    enabled: bool = True
    features: tuple[str, ...] | None = None
    bucket_s: Annotated[int, Meta(ge=1, le=86_400)] = 10
    window_buckets: Annotated[int, Meta(ge=1, le=10_000)] = 30
    min_rows: Count = 200
    buffer_buckets: Annotated[int, Meta(ge=1, le=10_000)] = 120
    sampling: Annotated[float, Meta(gt=0, le=1)] = 1.0

    @property
    def schedule(self) -> WindowSchedule:
        """When windows start and are decided."""
        return WindowSchedule(
            bucket_s=self.bucket_s, window_buckets=self.window_buckets, buffer_buckets=self.buffer_buckets
        )
