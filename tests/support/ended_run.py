"""Owns a run that is ended from another thread, on whatever device it runs."""

from __future__ import annotations

import threading

import numpy as np

from gateway.errors import InferenceFailed
from gateway.inference.session import OnnxSession, RunStop


def end_a_run(session: OnnxSession, *, after_s: float) -> str:
    """Start a run of `onnx_models.slow_on_demand` that would take long, end it, and return what the caller is told.

    Args:
        after_s: Until when it must still be under way.
    """
    stop = RunStop()
    outcome: list[str] = []

    def run() -> None:
        try:
            session.run({"x": np.array([[2e7]], np.float32)}, (), stop)
        except InferenceFailed as exc:
            outcome.append(str(exc))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(after_s)
    assert thread.is_alive()
    stop.stop()
    thread.join(10)
    assert not thread.is_alive()
    (told,) = outcome
    return told
