"""A session that a test can watch, hold and break; it satisfies gateway.inference.session.Session.

Computes y = 2 · x and z = −x for x, FP32 [rows, 1]. Refuses negative values; never waits longer than ten seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from gateway.errors import InferenceFailed, InvalidInput
from gateway.inference.loader import LoadedVersion, Sharing
from gateway.inference.model_config import Batching, ModelConfig, Outputs
from gateway.inference.run_time import RunTime
from gateway.inference.session import RunStop, Session
from gateway.inference.signature import Signature, tensor_spec
from gateway.messages import Array, ModelVersion

KEY = ModelVersion("fraud", 3)
PATIENCE_S = 10.0
CRASHES = 99.0
"""A value that makes the session fail with an error that is none of the gateway's."""

SHARED = Sharing(shares_runs=True, reason="for the test")
ALONE = Sharing(shares_runs=False, reason="for the test")


@dataclass(frozen=True, slots=True)
class Run:
    """One call of run(): the values of x, the outputs asked for, and where it ran."""

    values: list[float]
    outputs: tuple[str, ...]
    on_loop: bool


class StubSession:
    """Remembers its runs; while held, each run waits until it is let go or stopped."""

    def __init__(self, *, held: bool = False) -> None:
        axes = ("rows", 1)
        self.signature = Signature.of(
            [tensor_spec("x", "tensor(float)", axes, role="input")],
            [tensor_spec(name, "tensor(float)", axes, role="output") for name in ("y", "z")],
        )
        self.providers: tuple[str, ...] = ("stub",)
        self.runs: list[Run] = []
        self.entered = threading.Semaphore(0)
        self.stopped = threading.Event()
        self.may_finish = threading.Event()
        if not held:
            self.may_finish.set()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str], stop: RunStop | None = None) -> list[Array]:
        """Compute `outputs`; see gateway.inference.session.Session.run."""
        values = inputs["x"][:, 0].tolist()
        self.runs.append(Run(values, tuple(outputs), threading.current_thread() is threading.main_thread()))
        self.entered.release()
        ends_at = time.monotonic() + PATIENCE_S
        while not self.may_finish.wait(0.002):
            if stop is not None and stop.options.terminate:
                self.stopped.set()
                raise InferenceFailed("fraud:3: terminated")
            assert time.monotonic() < ends_at, "nobody let the run go"
        if CRASHES in values:
            raise ZeroDivisionError("a fault of ours")
        if min(values) < 0:
            raise InvalidInput("fraud:3: negative")
        computed = {"y": inputs["x"] * 2, "z": -inputs["x"]}
        return [computed[name] for name in outputs or ("y", "z")]


class Settings(TypedDict, total=False):
    """What loaded_version() can be told."""

    key: ModelVersion
    sharing: Sharing
    run_s: float
    max_rows: int
    max_queue_rows: int
    max_queue_delay_ms: float
    queue_timeout_ms: float
    outputs: Outputs


def column(*values: float) -> dict[str, Array]:
    """Return inputs of one row a value."""
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


def loaded_version(
    *sessions: Session,
    key: ModelVersion = KEY,
    sharing: Sharing = SHARED,
    run_s: float = 1.0,
    max_rows: int = 8,
    max_queue_rows: int = 64,
    max_queue_delay_ms: float = 0.0,
    queue_timeout_ms: float = 0.0,
    outputs: Outputs = Outputs(),  # noqa: B008 - frozen
) -> LoadedVersion:
    """Return a version of these sessions.

    Args:
        run_s: What a run of any size is expected to take: by default so long that it goes to a thread.
    """
    run_time = RunTime(max_rows)
    for power in range(max_rows.bit_length() + 1):
        run_time.start_from(1 << power, run_s, elements=1 << power)
    batching = Batching(
        max_rows=max_rows,
        max_queue_rows=max_queue_rows,
        max_queue_delay_ms=max_queue_delay_ms,
        queue_timeout_ms=queue_timeout_ms,
    )
    return LoadedVersion(
        key=key,
        sha256="",
        manifest=None,
        config=ModelConfig(batching=batching, outputs=outputs),
        signature=sessions[0].signature.with_free_rows() if sharing.fixed_rows else sessions[0].signature,
        sessions=sessions,
        sharing=sharing,
        run_time=run_time,
        file_bytes=0,
        grown_bytes=0,
        load_s=0.0,
    )
