"""Owns what the story reads of the gateway's admin plane and of Prometheus: as documented, and no more than it needs.

Never decides whether an answer is good.
"""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from loadtests.processes import LoadTestFailure, ask

T = TypeVar("T")


class Variant(msgspec.Struct, frozen=True):
    """One variant of a route."""

    name: str
    model: str
    version: int
    weight: float


class RouteAnswer(msgspec.Struct, frozen=True):
    """A route as the admin plane shows it."""

    name: str
    revision: int
    variants: tuple[Variant, ...]
    shadows: tuple[dict[str, object], ...] = ()
    reason: str = ""

    @property
    def weights(self) -> dict[str, float]:
        """Percent by variant."""
        return {variant.name: variant.weight for variant in self.variants}


class Validation(msgspec.Struct, frozen=True):
    """What a change would do."""

    valid: bool
    errors: tuple[dict[str, str], ...]
    moved_percent: float | None = None


class Revision(msgspec.Struct, frozen=True):
    """One entry of a route's history."""

    revision: int
    actor: str
    reason: str
    at: str


class History(msgspec.Struct, frozen=True):
    """A route's revisions, newest first."""

    revisions: tuple[Revision, ...]


class Applied(msgspec.Struct, frozen=True):
    """What one replica made of one route."""

    revision: int
    applied: bool
    reason: str = ""


class Replica(msgspec.Struct, frozen=True):
    """One replica."""

    id: str
    admin: str
    routes: dict[str, Applied] = {}


class Replicas(msgspec.Struct, frozen=True):
    """Everybody who shares the store."""

    replicas: tuple[Replica, ...]


class Feature(msgspec.Struct, frozen=True):
    """The verdict on one feature or prediction."""

    name: str
    role: str
    state: str
    statistics: dict[str, float | None] = {}
    reason: str | None = None


class Window(msgspec.Struct, frozen=True):
    """The window that was decided."""

    start: str
    end: str
    rows: int


class DriftReport(msgspec.Struct, frozen=True):
    """The verdict on one version."""

    model: str
    version: int
    state: str
    window: Window | None = None
    features: tuple[Feature, ...] = ()
    reason: str | None = None


class Version(msgspec.Struct, frozen=True):
    """One version of a model."""

    version: int
    state: str
    reason: str = ""


class Model(msgspec.Struct, frozen=True):
    """A model's versions."""

    name: str
    versions: tuple[Version, ...]


class Models(msgspec.Struct, frozen=True):
    """Every model."""

    models: tuple[Model, ...]


class Sample(msgspec.Struct, frozen=True):
    """One series and its present value."""

    metric: dict[str, str]
    value: tuple[float, str]

    @property
    def number(self) -> float:
        """The value."""
        return float(self.value[1])


class _Vector(msgspec.Struct, frozen=True):
    result: tuple[Sample, ...]


class _Queried(msgspec.Struct, frozen=True):
    data: _Vector


def read(content: bytes, into: type[T]) -> T:
    """Decode an answer.

    Raises: LoadTestFailure: it is not what is documented.
    """
    try:
        return msgspec.json.decode(content, type=into)
    except msgspec.MsgspecError as exc:
        raise LoadTestFailure(f"{into.__name__}: {exc} in {content[:300]!r}") from exc


def query(prometheus: str, expression: str) -> tuple[Sample, ...]:
    """Ask Prometheus for the present value of every series an expression selects.

    Raises: LoadTestFailure: it refuses the expression.
    """
    answer = ask(f"{prometheus}/api/v1/query?{urlencode({'query': expression})}")
    if answer.status != 200:
        raise LoadTestFailure(f"Prometheus answers {answer.status} to {expression}: {answer.content[:200]!r}")
    return read(answer.content, _Queried).data.result
