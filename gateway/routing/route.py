"""The route: which model versions share the traffic of a name, and which only watch it.

Holds values and their canonical form; never reads a document from outside (`document.py`), never edits (`edits.py`).
"""

from __future__ import annotations

import hashlib

import msgspec

from gateway.errors import InvalidRoute
from gateway.messages import ModelVersion
from gateway.store.records import Content

WHOLE_BP = 10_000
"""All of the traffic in basis points, and the number of slots: one slot is 0.01 %."""

DEFAULT_ROUTING_KEY_HEADER = "x-routing-key"
DEFAULT_TOLERANCE = 0.001


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A model version that answers a share of the requests, in basis points."""

    name: str
    model: str
    version: int
    weight_bp: int

    @property
    def model_version(self) -> ModelVersion:
        """Who answers."""
        return ModelVersion(self.model, self.version)


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """A model version that is asked the same and whose answer is only compared.

    Attributes:
        sample_bp: Share of the requests it sees, in basis points.
        tolerance: Absolute or relative difference that still is a match.
    """

    name: str
    model: str
    version: int
    sample_bp: int = WHOLE_BP
    tolerance: float = DEFAULT_TOLERANCE

    @property
    def model_version(self) -> ModelVersion:
        """Who is asked."""
        return ModelVersion(self.model, self.version)


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A name and the variants behind it; the first variant is the stable one.

    Attributes:
        variants: At least one; their weights sum to all of the traffic.
        routing_key_header: Header whose value decides the variant, lower case.
        reason: Why it is so, for the history; not part of what makes a revision.
    Raises:
        InvalidRoute: no variant, or the weights do not sum to all of the traffic.
    """

    name: str
    variants: tuple[Variant, ...]
    shadows: tuple[Shadow, ...] = ()
    routing_key_header: str = DEFAULT_ROUTING_KEY_HEADER
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse what no splitter could serve."""
        if not self.variants:
            raise InvalidRoute(self.name, (("/variants", "expected at least one variant"),))
        total_bp = sum(variant.weight_bp for variant in self.variants)
        if total_bp != WHOLE_BP:
            detail = f"the weights sum to {percent(total_bp)}, expected 100"
            raise InvalidRoute(self.name, (("/variants", detail),))

    @property
    def weights_bp(self) -> dict[str, int]:
        """Basis points by variant, in the order of the document."""
        return {variant.name: variant.weight_bp for variant in self.variants}

    @property
    def model_versions(self) -> frozenset[ModelVersion]:
        """Every model version that the route names, shadows included."""
        return frozenset(variant.model_version for variant in self.variants) | frozenset(
            shadow.model_version for shadow in self.shadows
        )


def automatic_route(model: str, version: int) -> Route:
    """Build the route that every model has until somebody decides otherwise: all to one version."""
    return Route(name=model, variants=(Variant(name="stable", model=model, version=version, weight_bp=WHOLE_BP),))


def percent(basis_points: int) -> int | float:
    """Write basis points as people do: 1000 is 10, 3333 is 33.33."""
    whole, rest = divmod(basis_points, 100)
    return basis_points / 100 if rest else whole


def to_document(route: Route) -> dict[str, object]:
    """Write a route as the JSON object of the admin API, without its revision."""
    return {
        "name": route.name,
        "variants": [
            {
                "name": variant.name,
                "model": variant.model,
                "version": variant.version,
                "weight": percent(variant.weight_bp),
            }
            for variant in route.variants
        ],
        "shadows": [
            {
                "name": shadow.name,
                "model": shadow.model,
                "version": shadow.version,
                "sample": percent(shadow.sample_bp),
                "tolerance": shadow.tolerance,
            }
            for shadow in route.shadows
        ],
        "routing_key_header": route.routing_key_header,
        "reason": route.reason,
    }


def canonical_bytes(route: Route) -> bytes:
    """Write a route in the one form that equal routes share: sorted keys, no spaces, no reason."""
    document = to_document(route)
    del document["reason"]
    return msgspec.json.encode(document, order="sorted")


def route_salt(name: str) -> bytes:
    """Make the 16-byte key of a route's assignment hash.

    Made from the name, not drawn: a gateway that keeps no state deals the same keys to the same variants after a
    restart, and routes of different names stay independent. Source: BLAKE2 with personalisation, RFC 7693.
    """
    return hashlib.blake2b(name.encode(), digest_size=16, person=b"gateway salt").digest()


def content_of(route: Route, *, salt: bytes, slots: str) -> Content:
    """Put together what the store keeps of a revision; its `hash` is the content hash."""
    return Content(document=canonical_bytes(route).decode(), salt=salt.hex(), slots=slots)
