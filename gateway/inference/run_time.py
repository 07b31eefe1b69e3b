"""How long a run of so many rows takes, learned at warm-up and from every run since.

Never measures: seconds are given to it.
"""

from __future__ import annotations

_WEIGHT = 0.1
_SURPRISE = 2.0
_HARDLY_MORE = 1.1
_FEW = 8
_BESIDES_S = 100e-6
"""What a batch costs besides its run, which rows of quick runs save by sharing: it is joined, cut and counted, perhaps
in a thread, and displaces others' data. Source: a batch more for every 64 requests cost 80 to 100 microseconds."""
_UNKNOWN = float("inf")


class RunTime:
    """An exponentially weighted mean of the seconds per run, one for each power of two of rows.

    A run that takes more than twice what was expected counts as twice: on a shared machine one stolen time slice
    must not send every later batch to the executor.
    """

    def __init__(self, max_rows: int) -> None:
        self._seconds = [_UNKNOWN] * ((max_rows - 1).bit_length() + 1)
        self._largest = 1 << (len(self._seconds) - 1)
        self._elements_per_row = 0

    def start_from(self, rows: int, seconds: float, *, elements: int) -> None:
        """Take a warm-up run as the first estimate.

        Args:
            elements: Of all the run's inputs together; a later request with longer free axes counts as more rows.
        """
        self._seconds[self._index(rows)] = seconds
        self._elements_per_row = max(1, elements // max(1, rows))

    def learn(self, rows: int, seconds: float) -> None:
        """Take one more run into the mean."""
        index = self._index(rows)
        known = self._seconds[index]
        if rows > self._largest:
            seconds *= self._largest / rows
        if 0 < known < _UNKNOWN:
            seconds = known + _WEIGHT * (min(seconds, _SURPRISE * known) - known)
        self._seconds[index] = seconds

    def predict(self, rows: int) -> float:
        """Return the expected seconds of a run: infinite before the first, beyond the largest size in proportion."""
        seconds = self._seconds[self._index(rows)]
        return seconds if rows <= self._largest else seconds * rows / self._largest

    def efficient_rows(self) -> int:
        """Return the smallest batch, of 8 rows at least, that takes hardly more time a row than the best.

        A perceptron gains fivefold from 64 rows; a convolution gains nothing and only makes everybody wait longer. A
        tree's run gains little from 16 rows on, but is so quick that what a batch costs besides counts for more.
        """
        if _UNKNOWN in self._seconds:
            return self._largest
        per_row = [(seconds + _BESIDES_S) / (1 << index) for index, seconds in enumerate(self._seconds)]
        enough = next(index for index, seconds in enumerate(per_row) if seconds <= _HARDLY_MORE * min(per_row))
        return min(self._largest, max(1 << enough, _FEW))

    def equivalent_rows(self, elements: int) -> int:
        """Return how many warm-up rows hold as many elements: the size of a request with free axes."""
        return max(1, elements // self._elements_per_row) if self._elements_per_row else 1

    def _index(self, rows: int) -> int:
        return min((rows - 1).bit_length() if rows > 0 else 0, len(self._seconds) - 1)
