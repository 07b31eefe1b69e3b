"""Owns the promises of the route itself: one canonical form, and no route that could not be served."""

import json

import pytest

from gateway.errors import InvalidRoute
from gateway.messages import ModelVersion
from gateway.routing.document import parse_route
from gateway.routing.route import (
    Route,
    Shadow,
    Variant,
    automatic_route,
    canonical_bytes,
    content_of,
    percent,
    route_salt,
    to_document,
)
from tests.routing.routes import route_of


def test_an_automatic_route_sends_everything_to_one_version() -> None:
    assert to_document(automatic_route("fraud", 3)) == {
        "name": "fraud",
        "variants": [{"name": "stable", "model": "fraud", "version": 3, "weight": 100}],
        "shadows": [],
        "routing_key_header": "x-routing-key",
        "reason": "",
    }


@pytest.mark.parametrize(("basis_points", "shown"), [(0, "0"), (10_000, "100"), (1, "0.01"), (3333, "33.33")])
def test_percent_is_written_without_needless_digits(basis_points: int, shown: str) -> None:
    assert json.dumps(percent(basis_points)) == shown


def test_a_route_whose_weights_do_not_sum_cannot_be_made() -> None:
    with pytest.raises(InvalidRoute, match=r"sum to 99\.99"):
        route_of(9000, 999)
    with pytest.raises(InvalidRoute, match="at least one variant"):
        Route(name="fraud", variants=())


def test_a_route_names_every_model_version_it_needs() -> None:
    route = route_of(9000, 1000, shadows=(Shadow(name="s", model="wide", version=7),))
    assert route.model_versions == {ModelVersion("fraud", 1), ModelVersion("fraud", 2), ModelVersion("wide", 7)}


def test_equal_routes_share_one_canonical_form_whatever_the_order_and_the_reason() -> None:
    document = to_document(route_of(9000, 1000, shadows=(Shadow(name="s", model="wide", version=7),)))
    shuffled = dict(reversed(document.items())) | {"reason": "another"}
    assert canonical_bytes(parse_route(shuffled, name="fraud")) == canonical_bytes(parse_route(document, name="fraud"))


def test_the_canonical_form_is_frozen() -> None:
    """Another form would give every stored route another hash, and every client's entity tag would be stale."""
    route = Route(
        name="fraud",
        variants=(Variant(name="stable", model="fraud", version=3, weight_bp=10_000),),
        shadows=(Shadow(name="next", model="wide", version=1, sample_bp=250, tolerance=0.5),),
        reason="left out",
    )
    assert canonical_bytes(route) == (
        b'{"name":"fraud","routing_key_header":"x-routing-key",'
        b'"shadows":[{"model":"wide","name":"next","sample":2.5,"tolerance":0.5,"version":1}],'
        b'"variants":[{"model":"fraud","name":"stable","version":3,"weight":100}]}'
    )
    content = content_of(route, salt=route_salt("fraud"), slots="0*10000")
    assert content.salt == "96fccf8675acf4175f1ae318ffad80e2"
    assert content.hash == "f7477efcb30e33f37608563f4382e5e1"


def test_the_content_hash_sees_document_salt_and_slots() -> None:
    route = route_of(10_000)
    contents = [
        content_of(route, salt=b"a", slots="0*10000"),
        content_of(route, salt=b"b", slots="0*10000"),
        content_of(route, salt=b"a", slots="0*5000,0*5000"),
        content_of(route_of(9000, 1000), salt=b"a", slots="0*10000"),
    ]
    assert len({content.hash for content in contents}) == 4


def test_routes_of_different_names_split_independently() -> None:
    assert route_salt("fraud") != route_salt("fraud2")
    assert route_salt("fraud") == route_salt("fraud")
