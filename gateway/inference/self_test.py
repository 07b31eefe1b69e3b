"""Finds out at load whether a model's rows are independent: run(a ⊕ b) = run(a) ⊕ run(b).

Decides nothing: the loader says what follows. Never learns from answers to callers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from gateway.errors import GatewayError, InferenceFailed
from gateway.inference.samples import (
    Inputs,
    bfloat16_values,
    concatenated,
    has_distinct_rows,
    positive,
    random_inputs,
    repeated_rows,
)
from gateway.inference.session import Session
from gateway.inference.signature import FREE_ROWS, Signature
from gateway.messages import Array

_KINDS = ((1.0, True), (1.0, False), (100.0, True), (0.01, True))
"""Scale of the values made up, and whether floats have signs: a root of negative ones is NaN."""
_ENOUGH_S = 0.5
_TOLERANCE = {"FP16": 1e-2, "BF16": 2e-2, "FP32": 1e-4, "FP64": 1e-6}

Answers = Sequence[Array | None]
"""Outputs, each cut or joined to the rows that are compared; None for one that has not the rows of its request."""
Shown = Iterator[tuple[bool, Answers, Answers]]
"""Whether the inputs could have told dependent rows, what was expected, what was got."""


def rows_are_independent(session: Session, sample: Inputs | None) -> bool:
    """Tell whether no row's answer depends on its neighbours or on its place.

    Args:
        sample: Inputs that the model surely takes; others are made up.
    Raises: GatewayError: nothing was seen that could tell: every run was refused, or an output was always NaN.
    """
    signature = session.signature
    evidence = _Evidence(signature)
    tests = _free_tests if signature.rows == FREE_ROWS else _fixed_tests
    started = time.perf_counter()
    for tells, expected, got in tests(session, np.random.default_rng(20), sample, evidence):
        if not evidence.agree(expected, got, tells=tells):
            return False
        if evidence.is_complete and time.perf_counter() - started > _ENOUGH_S:
            break
    evidence.require_complete()
    return True


class _Evidence:
    """What the runs have shown so far: an answer of NaN alone equals any other and shows nothing."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._unseen = set(range(len(signature.outputs)))
        self.refusal: GatewayError | None = None

    @property
    def is_complete(self) -> bool:
        return not self._unseen

    def agree(self, expected: Answers, got: Answers, *, tells: bool) -> bool:
        for index, (wanted, array) in enumerate(zip(expected, got, strict=True)):
            datatype = self._signature.outputs[index].datatype
            if wanted is None or array is None or not _same(datatype, wanted, array):
                return False
            if tells and not _is_all_nan(datatype, array):
                self._unseen.discard(index)
        return True

    def require_complete(self) -> None:
        if self._unseen:
            name = self._signature.outputs[min(self._unseen)].name
            raise self.refusal or InferenceFailed(f"output '{name}' told nothing for any input tried")


def _free_tests(session: Session, random: np.random.Generator, sample: Inputs | None, evidence: _Evidence) -> Shown:
    """Run pairs alone and together; yield the joined single answers and the answers to the joined."""
    for tells, first, second in _pairs(session.signature, random, sample):
        try:
            alone = [session.run(part, ()) for part in (first, second)]
            together = session.run(concatenated([first, second]), ())
        except GatewayError as exc:
            evidence.refusal = exc  # made-up values may be refused, for instance as indices
            continue
        sizes = [len(next(iter(part.values()))) for part in (first, second)]
        yield tells, [_joined(parts, sizes) for parts in zip(*alone, strict=True)], together


def _pairs(
    signature: Signature, random: np.random.Generator, sample: Inputs | None
) -> Iterator[tuple[bool, Inputs, Inputs]]:
    """Yield two requests, and whether their rows differ: a mean over equal rows is one of them."""
    if sample is not None:
        rows = len(next(iter(sample.values())))
        first = {name: array[:1] for name, array in sample.items()}
        rest = {name: array[1:] for name, array in sample.items()} if rows > 1 else repeated_rows(sample, 2)
        yield has_distinct_rows(sample), first, rest
    for draw in _draws(signature, random, sample):
        yield True, draw(2), draw(3)


def _draws(
    signature: Signature, random: np.random.Generator, sample: Inputs | None
) -> Iterator[Callable[[int], Inputs]]:
    """Yield ways to make up inputs of so many rows."""
    for scale, are_signed in _KINDS:
        draw = partial(random_inputs, signature, random=random, scale=scale, like=sample)
        yield draw if are_signed else partial(_without_signs, signature, draw)


def _without_signs(signature: Signature, draw: Callable[[int], Inputs], rows: int) -> Inputs:
    return positive(signature, draw(rows))


def _fixed_tests(session: Session, random: np.random.Generator, sample: Inputs | None, evidence: _Evidence) -> Shown:
    """Move every other row one place on among new neighbours; yield its answers before and after."""
    signature = session.signature
    rows = signature.rows or 1
    kept = np.arange(0, rows, 2)
    moved = (kept + 1) % rows
    for tells, first, others in _full_batches(signature, rows, random, sample):
        mixed = {name: array.copy() for name, array in others.items()}
        for name, array in first.items():
            mixed[name][moved] = array[kept]
        try:
            before, after = session.run(first, ()), session.run(mixed, ())
        except GatewayError as exc:
            evidence.refusal = exc
            continue
        yield (
            tells,
            [_rows_of(array, kept, rows) for array in before],
            [_rows_of(array, moved, rows) for array in after],
        )


def _full_batches(
    signature: Signature, rows: int, random: np.random.Generator, sample: Inputs | None
) -> Iterator[tuple[bool, Inputs, Inputs]]:
    """Yield two batches of all the rows the file fixes, and whether rows of them differ."""
    if sample is not None:
        full = repeated_rows(sample, rows)
        yield rows == 1 or has_distinct_rows(full), full, repeated_rows({n: a[:1] for n, a in full.items()}, rows)
    for draw in _draws(signature, random, sample):
        yield True, draw(rows), draw(rows)


def _rows_of(array: Array, kept: Array, rows: int) -> Array | None:
    return array[kept] if array.shape[:1] == (rows,) else None


def _joined(parts: Sequence[Array], rows: Sequence[int]) -> Array | None:
    if any(part.shape != (count, *parts[0].shape[1:]) for part, count in zip(parts, rows, strict=True)):
        return None
    return np.concatenate(parts)


def _same(datatype: str, expected: Array, got: Array) -> bool:
    if expected.shape != got.shape:
        return False
    tolerance = _TOLERANCE.get(datatype)
    if tolerance is None:
        return bool(np.array_equal(expected, got))
    if datatype == "BF16":
        expected, got = bfloat16_values(expected), bfloat16_values(got)
    return bool(np.allclose(expected, got, rtol=tolerance, atol=tolerance * 0.1, equal_nan=True))


def _is_all_nan(datatype: str, array: Array) -> bool:
    if datatype not in _TOLERANCE:
        return False
    return bool(np.isnan(bfloat16_values(array) if datatype == "BF16" else array).all())
