"""When things happen to a window: its bounds, when it is decided, and how long its counts may still change.

Never reads a clock: `now_s` is an argument, in seconds since the epoch.
"""

from __future__ import annotations

import msgspec

from gateway.settings import MonitoringOptions

FLUSH_INTERVAL_S = 1.0
SETTLE_S = 2.0
SPARE_WINDOWS = 4


class WindowSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Tumbling windows of whole buckets, at multiples of their length since the epoch.

    Attributes:
        bucket_s: Length of a bucket in seconds.
        window_buckets: Buckets in a window.
        buffer_buckets: Buckets that may arrive late: counts wait in the process for so long, and results of the windows
            they belong to are replaced.
    """

    bucket_s: int = 10
    window_buckets: int = 30
    buffer_buckets: int = 120

    @classmethod
    def of(cls, options: MonitoringOptions) -> WindowSchedule:
        """Take what a model's options say of time."""
        return cls(
            bucket_s=options.bucket_s, window_buckets=options.window_buckets, buffer_buckets=options.buffer_buckets
        )

    @property
    def window_s(self) -> int:
        """Length of a window in seconds."""
        return self.bucket_s * self.window_buckets

    @property
    def kept_windows(self) -> int:
        """Count the windows that may still change, with some to spare."""
        return -(-self.buffer_buckets // self.window_buckets) + SPARE_WINDOWS

    def bucket_start(self, now_s: float) -> int:
        """Give the start of the bucket in which something happens now."""
        return int(now_s // self.bucket_s) * self.bucket_s

    def horizon(self, now_s: float) -> int:
        """Give the start of the oldest bucket whose counts are still sent."""
        return self.bucket_start(now_s) - self.buffer_buckets * self.bucket_s

    def is_due(self, start_s: int, now_s: float) -> bool:
        """Say whether the window that starts at start_s can be decided: its last rows have been flushed."""
        return now_s >= start_s + self.window_s + FLUSH_INTERVAL_S + SETTLE_S

    def may_change(self, start_s: int, now_s: float) -> bool:
        """Say whether rows of the window may still arrive; a window longer than the horizon, so that the last land."""
        return start_s + 2 * self.window_s > self.horizon(now_s)

    def last_complete(self, now_s: float) -> tuple[int, int]:
        """Give start and end of the latest window's length of buckets that are all complete and flushed."""
        end = self.bucket_start(now_s - FLUSH_INTERVAL_S - SETTLE_S)
        return end - self.window_s, end
