"""The reference window of a model version: what its features and predictions looked like when it was published.

Never holds a row: bins, counts, moments and category names only, immutable and known by a content hash.
"""

from __future__ import annotations

import hashlib
import itertools
from typing import Literal

import msgspec

from gateway.errors import InvalidReference
from gateway.monitoring.bins import MAX_CATEGORIES, Category

Role = Literal["input", "prediction"]

FORMAT = 1
MAX_FEATURES = 256
MAX_REFERENCE_BYTES = 16 * 1024 * 1024


class NumericFeature(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="numeric"):
    """A feature counted in bins.

    Attributes:
        name: What reports and metrics call it.
        role: Whether the model takes it or makes it.
        tensor: The input or output that holds it.
        column: Its position in the flattened row of that tensor.
        edges: Inner edges of the right-open bins, strictly ascending; empty when the reference has no finite value.
        counts: Reference rows per bin, one more than edges.
        centroids: Mean of the reference values in each bin, not descending; an empty bin has the middle of its edges,
            or its only edge.
        mean, sigma: Of the finite values; sigma is the population standard deviation.
        minimum, median, maximum: Of the finite values, for the summary.
        null: Rows that were NaN.
        non_finite: Rows that were +Inf or -Inf.
    """

    name: str
    role: Role
    tensor: str
    column: int
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    centroids: tuple[float, ...]
    mean: float
    sigma: float
    minimum: float
    median: float
    maximum: float
    null: int
    non_finite: int

    @property
    def rows(self) -> int:
        """Count the rows with or without a usable value."""
        return sum(self.counts) + self.null + self.non_finite

    @property
    def out_of_range(self) -> int:
        """Count the finite rows outside the 0.1–99.9 % quantiles: the outermost bins."""
        return self.counts[0] + self.counts[-1] if self.edges else 0


class CategoricalFeature(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="categorical"):
    """A feature counted by category.

    Attributes:
        name, role, tensor, column: As for a numeric feature.
        values: At most 50 categories with a cell of their own, commonest first.
        counts: Reference rows of each.
        others: Rarer categories seen in the reference, or None when they were too many to list.
        other: Their rows.
        unseen: Estimate of the rows, out of as many fresh ones, whose category the reference lacks; 0 when `others` is
            None, for then none is ever counted as unseen.
        null: Rows without a value.

    With more than 50 categories half of the reference's rows chose them and the other half is counted here.
    """

    name: str
    role: Role
    tensor: str
    column: int
    values: tuple[Category, ...]
    counts: tuple[int, ...]
    others: tuple[Category, ...] | None
    other: int
    unseen: int
    null: int

    @property
    def rows(self) -> int:
        """Count the rows with or without a value."""
        return sum(self.counts) + self.other + self.null


Feature = NumericFeature | CategoricalFeature


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Everything live counts are compared with.

    Attributes:
        format: Version of this document.
        rows: Rows of the reference data.
        columns: Values per row of each watched tensor.
        capped: Columns left out because only 256 inputs and 256 predictions are watched.
        features: Inputs, then predictions.
        hash: "sha256:…" of the rest; in every key under which counts are stored.
    """

    format: int = FORMAT
    rows: int
    columns: dict[str, int]
    capped: int
    features: tuple[Feature, ...]
    hash: str = ""

    @property
    def predictions(self) -> tuple[Feature, ...]:
        """Pick the features that the model makes."""
        return tuple(feature for feature in self.features if feature.role == "prediction")


def seal_reference(reference: Reference) -> Reference:
    """Give a reference its content hash, after checking it.

    Raises: InvalidReference: it contradicts itself.
    """
    for feature in reference.features:
        _check_feature(feature, reference)
    names = [feature.name for feature in reference.features]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise InvalidReference(f"reference: feature name '{min(repeated)}' stands twice, expected distinct names")
    return msgspec.structs.replace(reference, hash=content_hash(reference))


def content_hash(reference: Reference) -> str:
    """Hash the canonical JSON of a reference without its own hash.

    Returns: "sha256:" and 64 hexadecimal digits.
    """
    bare = msgspec.structs.replace(reference, hash="")
    return "sha256:" + hashlib.sha256(msgspec.json.encode(bare, order="deterministic")).hexdigest()


def encode_reference(reference: Reference) -> bytes:
    """Write `reference.json`: canonical JSON, one line.

    Raises: InvalidReference: it is over 16 MiB.
    """
    body = msgspec.json.encode(reference, order="deterministic") + b"\n"
    _check_size(len(body))
    return body


def decode_reference(body: bytes) -> Reference:
    """Read `reference.json` and hold it against its hash.

    Raises: InvalidReference: not such a document, too large, contradictory, or changed since it was sealed.
    """
    _check_size(len(body))
    try:
        reference = msgspec.json.decode(body, type=Reference)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidReference(f"reference.json: {exc}") from exc
    if reference.format != FORMAT:
        raise InvalidReference(f"reference.json: format is {reference.format}, expected {FORMAT}")
    sealed = seal_reference(reference)
    if sealed.hash != reference.hash:
        raise InvalidReference(f"reference.json: says '{reference.hash}', but its content has '{sealed.hash}'")
    return sealed


def _check_size(body_bytes: int) -> None:
    if body_bytes > MAX_REFERENCE_BYTES:
        raise InvalidReference(f"reference.json: {body_bytes} bytes, expected at most {MAX_REFERENCE_BYTES}")


def _check_feature(feature: Feature, reference: Reference) -> None:
    """Hold one feature's parts against each other."""
    counted = [*feature.counts, feature.null]
    if isinstance(feature, NumericFeature):
        counted.append(feature.non_finite)
        sound = (
            feature.rows == reference.rows
            and len(feature.counts) == len(feature.centroids) == len(feature.edges) + 1
            and _ascends(feature.edges, strictly=True)
            and _ascends(feature.centroids, strictly=False)
            and feature.sigma >= 0
        )
    else:
        counted += [feature.other, feature.unseen]
        named = (*feature.values, *(feature.others or ()))
        sound = (
            feature.rows <= reference.rows
            and len(feature.counts) == len(feature.values) <= MAX_CATEGORIES
            and len(set(named)) == len(named)
            and len({type(value) for value in named}) <= 1
        )
    inside = 0 <= feature.column < reference.columns.get(feature.tensor, 0)
    if not (sound and inside and min(counted) >= 0):
        raise InvalidReference(f"reference: feature '{feature.name}' contradicts itself or the {reference.rows} rows")


def _ascends(values: tuple[float, ...], *, strictly: bool) -> bool:
    return all(low < high if strictly else low <= high for low, high in itertools.pairwise(values))
