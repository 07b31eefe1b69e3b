"""Runs one batch: joins its requests, runs the session, cuts the outputs apart.

Synchronous, on whatever thread it is called; settles nobody and schedules nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec
import numpy as np

from gateway.errors import GatewayError
from gateway.inference.session import RunStop, Session
from gateway.messages import Array

Outputs = dict[str, Array]


class Joined(Protocol):
    """A request of a batch."""

    @property
    def inputs(self) -> dict[str, Array]:
        """Its tensors by name."""

    @property
    def rows(self) -> int:
        """Size of their first axis."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs it wants, all when empty; the same for all requests of a batch."""

    def is_abandoned(self) -> bool:
        """Tell whether its caller has gone."""


class BatchRun(msgspec.Struct, frozen=True):
    """What became of a batch.

    Attributes:
        outcomes: Per request its outputs, or its own error.
        isolated: Requests that were run again alone because the batch as a whole failed.
        shared: Inputs and outputs of all requests together, where several shared a run.
    """

    outcomes: list[Outputs | GatewayError]
    runs: int
    assemble_s: float
    run_s: float
    split_s: float
    isolated: int = 0
    shared: tuple[dict[str, Array], Outputs] | None = None


def run_batch(
    session: Session,
    requests: Sequence[Joined],
    rows: int,
    *,
    rows_per_run: int | None,
    fixed_rows: int | None,
    stop: RunStop | None = None,
) -> BatchRun:
    """Run requests of one group together.

    Args:
        rows: Of all requests.
        rows_per_run: More rows than these run in several runs; None runs everything at once.
        fixed_rows: Every run is padded to exactly these rows.
    Returns: One outcome for each request.
    Raises: GatewayError: the run failed; nothing is known of the single requests.
    """
    began = time.perf_counter()
    names = requests[0].outputs or tuple(session.signature.output_by_name)
    if len(requests) == 1:
        inputs = requests[0].inputs
    else:
        inputs = {name: np.concatenate([request.inputs[name] for request in requests]) for name in requests[0].inputs}
    assembled = time.perf_counter()
    chunk = fixed_rows or rows_per_run
    if chunk is None or (rows <= chunk and fixed_rows is None):
        arrays = session.run(inputs, requests[0].outputs, stop)
        runs = 1
    else:
        pieces = [
            _run_piece(
                session,
                inputs,
                slice(start, min(start + chunk, rows)),
                requests[0].outputs,
                fixed_rows=fixed_rows,
                stop=stop,
            )
            for start in range(0, rows, chunk)
        ]
        arrays = pieces[0] if len(pieces) == 1 else [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
        runs = len(pieces)
    ran = time.perf_counter()
    shared = None
    outcomes: list[Outputs | GatewayError]
    if len(requests) == 1:
        outcomes = [dict(zip(names, arrays, strict=True))]
    else:
        columns = list(zip(names, arrays, strict=True))
        shared = inputs, dict(columns)
        outcomes = []
        start = 0
        for request in requests:
            end = start + request.rows
            outputs: Outputs = {}  # a comprehension costs twice as much
            for name, array in columns:
                outputs[name] = array[start:end]
            outcomes.append(outputs)
            start = end
    return BatchRun(outcomes, runs, assembled - began, ran - assembled, time.perf_counter() - ran, shared=shared)


def run_isolated(
    session: Session,
    requests: Sequence[Joined],
    *,
    rows_per_run: int | None,
    fixed_rows: int | None,
    failure: GatewayError,
    stop: RunStop | None = None,
) -> BatchRun:
    """Run the requests of a failed batch once more, each alone, so that only the culprit gets the error.

    Args:
        failure: The batch's own error, kept by requests whose callers have gone.
    """
    if len(requests) == 1:
        return BatchRun([failure], 1, 0.0, 0.0, 0.0)
    outcomes: list[Outputs | GatewayError] = []
    assemble_s = run_s = split_s = 0.0
    isolated = 0
    for request in requests:
        if request.is_abandoned():
            outcomes.append(failure)
            continue
        isolated += 1
        try:
            alone = run_batch(
                session, [request], request.rows, rows_per_run=rows_per_run, fixed_rows=fixed_rows, stop=stop
            )
        except GatewayError as exc:
            outcomes.append(exc)
            continue
        outcomes += alone.outcomes
        assemble_s += alone.assemble_s
        run_s += alone.run_s
        split_s += alone.split_s
    return BatchRun(outcomes, 1 + isolated, assemble_s, run_s, split_s, isolated)


def _run_piece(
    session: Session,
    inputs: dict[str, Array],
    rows: slice,
    outputs: tuple[str, ...],
    *,
    fixed_rows: int | None,
    stop: RunStop | None,
) -> list[Array]:
    piece = {name: array[rows] for name, array in inputs.items()}
    count = rows.stop - rows.start
    if fixed_rows is None or count == fixed_rows:
        return session.run(piece, outputs, stop)
    padding = np.minimum(np.arange(fixed_rows), count - 1)  # repeats the last row: values the model has seen
    padded = {name: array[padding] for name, array in piece.items()}
    return [array[:count] for array in session.run(padded, outputs, stop)]
