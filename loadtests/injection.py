"""Owns the faults that load tests put into features, and when: what kind, how strong, from which second to which.

Never draws rows and never sends them; a column goes in, a changed one comes out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from loadtests.datasets import Column, Dataset

Kind = Literal["shift", "scale", "nulls", "swap", "unit"]
"""shift: add AMOUNT standard deviations. scale: multiply the distance from the mean by AMOUNT. nulls: lose a share
AMOUNT of the values. swap: exchange a share AMOUNT of the categories for their neighbour. unit: multiply by AMOUNT."""

KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_CATEGORIES = 50

_DEFAULT_AMOUNTS: dict[Kind, float] = {"shift": 2.0, "scale": 3.0, "nulls": 0.2, "swap": 1.0, "unit": 1000.0}
_SHARES = frozenset[Kind]({"nulls", "swap"})
_NUMERIC_ONLY = frozenset[Kind]({"shift", "scale", "unit"})
_WRITTEN = re.compile(
    r"(?P<kind>[a-z]+):(?P<model>[^/:@]+)/(?P<feature>[^/:@]+)(?::(?P<amount>[^@]+))?(?:@(?P<from>[^-]+)(?:-(?P<to>.+))?)?"
)
_FORM = "KIND:MODEL/FEATURE[:AMOUNT][@FROM[-TO]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One fault in one feature of one model.

    Attributes:
        amount: In the unit of its kind, see `Kind`.
        from_s: Seconds after the start of the run.
        to_s: When it ends; infinity for never.
    """

    kind: Kind
    model: str
    feature: str
    amount: float
    from_s: float = 0.0
    to_s: float = math.inf

    def holds(self, elapsed_s: float) -> bool:
        """Tell whether it is in force at a moment of the run."""
        return self.from_s <= elapsed_s < self.to_s


def read_injection(text: str) -> Injection:
    """Read `KIND:MODEL/FEATURE[:AMOUNT][@FROM[-TO]]`, as in `shift:breast_cancer/mean_area:2@120-300`.

    Raises: ValueError: it is written otherwise, with what was expected.
    """
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not {_FORM}")
    kind = next((known for known in KINDS if known == match["kind"]), None)
    if kind is None:
        raise ValueError(f"{text!r}: kind {match['kind']!r} is none of {', '.join(KINDS)}")
    numbers: dict[str, float] = {}
    for name, default in (("amount", _DEFAULT_AMOUNTS[kind]), ("from", 0.0), ("to", math.inf)):
        written = match[name]
        try:
            numbers[name] = default if written is None else float(written)
        except ValueError:
            raise ValueError(f"{text!r}: {written!r} is not a number; expected {_FORM}") from None
    amount, from_s, to_s = numbers["amount"], numbers["from"], numbers["to"]
    if not math.isfinite(amount) or (kind in _SHARES and not 0 <= amount <= 1):
        raise ValueError(f"{text!r}: {kind} takes {'a share from 0 to 1' if kind in _SHARES else 'a finite amount'}")
    if not 0 <= from_s < to_s:
        raise ValueError(f"{text!r}: from {from_s:g} s to {to_s:g} s is no time in a run")
    return Injection(kind=kind, model=match["model"], feature=match["feature"], amount=amount, from_s=from_s, to_s=to_s)


def check_injection(injection: Injection, dataset: Dataset) -> None:
    """Hold an injection against the data set of its model.

    Raises: ValueError: the feature does not exist, or cannot be changed that way.
    """
    where = f"{injection.kind}:{injection.model}/{injection.feature}"
    column = dataset.columns.get(injection.feature)
    if column is None:
        raise ValueError(f"{where}: no such feature; there are {', '.join(dataset.columns)}")
    if injection.kind in _NUMERIC_ONLY and column.dtype.kind != "f":
        raise ValueError(f"{where}: the feature is text, expected a number")
    if injection.kind == "swap" and len(_categories(column)) > MAX_CATEGORIES:
        raise ValueError(f"{where}: more than {MAX_CATEGORIES} values are no categories")


def inject(
    columns: Mapping[str, Column],
    injections: Sequence[Injection],
    dataset: Dataset,
    *,
    elapsed_s: float,
    generator: np.random.Generator,
) -> dict[str, Column]:
    """Return the drawn columns with every fault of this model that is in force now, in the order given.

    Args:
        columns: Drawn rows by feature; never changed in place.
        dataset: Where mean, deviation and categories are taken from.
        generator: Decides which values a share falls on.
    """
    changed = dict(columns)
    for injection in injections:
        if injection.model == dataset.model and injection.holds(elapsed_s):
            name = injection.feature
            changed[name] = _changed(changed[name], injection, dataset.columns[name], generator)
    return changed


def _changed(column: Column, injection: Injection, every: Column, generator: np.random.Generator) -> Column:
    amount = injection.amount
    match injection.kind:
        case "nulls":
            missing = "" if column.dtype.kind == "O" else math.nan
            return _replaced(column, [missing] * len(column), amount, generator)
        case "swap":
            categories = _categories(every)
            following = dict(zip(categories, [*categories[1:], categories[0]], strict=True))
            swapped = [following.get(value, value) for value in column.tolist()]
            return _replaced(column, swapped, amount, generator)
        case "shift":
            return (column.astype(np.float32) + amount * np.nanstd(every.astype(np.float32))).astype(np.float32)
        case "scale":
            mean = np.nanmean(every.astype(np.float32))
            return (mean + amount * (column.astype(np.float32) - mean)).astype(np.float32)
        case "unit":
            return (column.astype(np.float32) * np.float32(amount)).astype(np.float32)


def _replaced(column: Column, values: Sequence[object], share: float, generator: np.random.Generator) -> Column:
    """Return the column with a random share of its values replaced by those in the same place."""
    is_hit = generator.random(len(column)) < share
    mixed = [value if hit else own for own, value, hit in zip(column.tolist(), values, is_hit, strict=True)]
    return np.array(mixed, object) if column.dtype.kind == "O" else np.array(mixed, np.float32)


def _categories(column: Column) -> list[object]:
    """Return the distinct present values in order."""
    present = {value for value in column.tolist() if value != "" and value == value}  # noqa: PLR0124 - NaN is not
    return sorted(present, key=lambda value: (str(type(value)), value))
