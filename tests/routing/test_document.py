"""Owns the promises of reading a route document: what is understood, and that every fault is found where it is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRoute, InvalidSetting
from gateway.routing.document import MAX_MEMBERS, basis_points, configured_routes, parse_route, pointer_to
from gateway.routing.route import Route, Shadow, Variant, canonical_bytes, percent, to_document

CHALLENGED: dict[str, Any] = {
    "name": "fraud",
    "variants": [
        {"name": "stable", "model": "fraud", "version": 3, "weight": 90},
        {"name": "challenger", "model": "fraud", "version": 4, "weight": 10},
    ],
    "shadows": [{"name": "next", "model": "fraud_wide", "version": 1, "sample": 100, "tolerance": 0.001}],
    "routing_key_header": "x-routing-key",
    "reason": "a first look",
}


def faults_of(document: object, *, name: str = "fraud") -> dict[str, str]:
    with pytest.raises(InvalidRoute) as caught:
        parse_route(document, name=name)
    pointers = [pointer for pointer, _ in caught.value.errors]
    assert len(set(pointers)) == len(pointers)
    return dict(caught.value.errors)


def changed(**parts: object) -> dict[str, Any]:
    return {**json.loads(json.dumps(CHALLENGED)), **parts}


def variants(*weights: object) -> dict[str, Any]:
    return changed(
        variants=[{"name": f"v{i}", "model": "fraud", "version": 1, "weight": w} for i, w in enumerate(weights)]
    )


def test_the_example_of_the_contract_is_read_whole() -> None:
    route = parse_route(CHALLENGED, name="fraud")
    assert route.variants == (
        Variant(name="stable", model="fraud", version=3, weight_bp=9000),
        Variant(name="challenger", model="fraud", version=4, weight_bp=1000),
    )
    assert route.shadows == (Shadow(name="next", model="fraud_wide", version=1, sample_bp=10_000, tolerance=0.001),)
    assert route.reason == "a first look"


def test_a_document_that_was_answered_can_be_sent_back() -> None:
    answered = {**to_document(parse_route(CHALLENGED, name="fraud")), "revision": 7, "status": {"breaker": "closed"}}
    assert parse_route(answered, name="fraud") == parse_route(CHALLENGED, name="fraud")


def test_what_is_left_out_has_its_default() -> None:
    route = parse_route({"variants": [{"name": "a", "model": "m", "version": 1, "weight": 100}]}, name="fraud")
    assert (route.name, route.shadows, route.routing_key_header, route.reason) == ("fraud", (), "x-routing-key", "")
    shadow = {"name": "s", "model": "m", "version": 2}
    assert parse_route(changed(shadows=[shadow]), name="fraud").shadows[0].sample_bp == 10_000


def test_headers_are_told_apart_by_no_case() -> None:
    assert parse_route(changed(routing_key_header="X-User-ID"), name="fraud").routing_key_header == "x-user-id"


@pytest.mark.parametrize(
    ("weights", "expected_bp"),
    [
        ((100,), (10_000,)),
        ((0, 100), (0, 10_000)),
        ((99.99, 0.01), (9999, 1)),
        ((33.33, 33.33, 33.34), (3333, 3333, 3334)),
        ((70.1, 29.9), (7010, 2990)),
        ((1e1, 9e1), (1000, 9000)),
        ((57.99, 42.01), (5799, 4201)),
    ],
)
def test_weights_are_exact_to_two_decimals(weights: tuple[float, ...], expected_bp: tuple[int, ...]) -> None:
    route = parse_route(variants(*weights), name="fraud")
    assert tuple(variant.weight_bp for variant in route.variants) == expected_bp


@given(st.integers(0, 10_000))
def test_every_weight_survives_being_written_and_read(weight_bp: int) -> None:
    assert basis_points(json.loads(json.dumps(percent(weight_bp)))) == weight_bp


@pytest.mark.parametrize(
    "weight",
    [
        True,
        False,
        None,
        "10",
        -0.01,
        100.01,
        0.001,
        33.333,
        float("nan"),
        float("inf"),
        [],
        {},
        pytest.param(10**5000, id="huge"),
    ],
)
def test_what_is_no_percentage_is_refused_where_it_stands(weight: object) -> None:
    faults = faults_of(variants(weight, 90))
    assert list(faults) == ["/variants/0/weight"]


def test_weights_must_sum_to_100() -> None:
    assert faults_of(variants(60, 39.99)) == {"/variants": "the weights sum to 99.99, expected 100"}
    assert faults_of(variants(60, 40, 0.01)) == {"/variants": "the weights sum to 100.01, expected 100"}


@pytest.mark.parametrize("version", [0, -1, True, 3.0, "3", None, 2**31])
def test_a_version_is_a_positive_integer(version: object) -> None:
    document = changed()
    document["variants"][1]["version"] = version
    assert list(faults_of(document)) == ["/variants/1/version"]


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "ä", "a b", "a" * 65, "a\n", 3, None])
def test_a_name_follows_the_rule_for_names(name: object) -> None:
    document = changed()
    document["variants"][0]["name"] = name
    assert list(faults_of(document)) == ["/variants/0/name"]
    document = changed()
    document["shadows"][0]["model"] = name
    assert list(faults_of(document)) == ["/shadows/0/model"]


def test_a_route_is_called_what_its_address_says() -> None:
    assert list(faults_of(changed(name="other"))) == ["/name"]
    assert list(faults_of({**CHALLENGED, "name": "stats"}, name="stats")) == ["/name"]
    assert list(faults_of({**CHALLENGED, "name": "a/b"}, name="a/b")) == ["/name"]


def test_an_unknown_key_is_named_with_the_nearest_known_one() -> None:
    document = changed(variant=[], **{"a/~b": 1})
    document["variants"][0]["wieght"] = 1
    faults = faults_of(document)
    assert "did you mean 'variants'?" in faults["/variant"]
    assert "did you mean 'weight'?" in faults["/variants/0/wieght"]
    assert set(faults) == {"/variant", "/variants/0/wieght", "/a~1~0b"}


def test_a_name_is_used_once_among_variants_and_shadows() -> None:
    document = changed()
    document["variants"].append({"name": "stable", "model": "fraud", "version": 5, "weight": 0})
    document["shadows"][0]["name"] = "challenger"
    faults = faults_of(document)
    assert set(faults) == {"/variants/2/name", "/shadows/0/name"}
    assert "/variants/1" in faults["/shadows/0/name"]


@pytest.mark.parametrize("tolerance", [-0.1, True, "0", None, float("nan"), float("inf")])
def test_a_tolerance_is_a_number_of_at_least_zero(tolerance: object) -> None:
    document = changed()
    document["shadows"][0]["tolerance"] = tolerance
    assert list(faults_of(document)) == ["/shadows/0/tolerance"]


@pytest.mark.parametrize("header", ["", "a b", "a:b", "é", 3, None, "x" * 65, "a\n"])
def test_a_routing_key_header_is_the_name_of_a_header(header: object) -> None:
    assert list(faults_of(changed(routing_key_header=header))) == ["/routing_key_header"]


@pytest.mark.parametrize("reason", [3, None, "a\nb", "a\x1b[31m", "a\u2028b", "x" * 1001])
def test_a_reason_is_one_printable_line(reason: object) -> None:
    assert list(faults_of(changed(reason=reason))) == ["/reason"]


@pytest.mark.parametrize("document", [None, [], "route", 3, True])
def test_a_document_that_is_no_object_has_one_fault_at_its_root(document: object) -> None:
    assert list(faults_of(document)) == [""]


@pytest.mark.parametrize("members", [None, {}, "x", 3])
def test_variants_and_shadows_are_lists(members: object) -> None:
    assert list(faults_of(changed(variants=members))) == ["/variants"]
    assert list(faults_of(changed(shadows=members))) == ["/shadows"]


def test_there_is_at_least_one_variant_and_a_bound_on_all() -> None:
    assert list(faults_of(changed(variants=[]))) == ["/variants"]
    document = changed()
    del document["variants"]
    assert list(faults_of(document)) == ["/variants"]
    shadow = {"name": "s", "model": "m", "version": 1}
    assert list(faults_of(changed(shadows=[shadow] * (MAX_MEMBERS + 1)))) == ["/shadows"]


def test_every_fault_of_a_document_is_found_at_once() -> None:
    document = {
        "name": "other",
        "variants": [
            {"name": "a b", "model": 3, "version": 0, "weight": True},
            "stable",
            {"name": "c"},
        ],
        "shadows": [{"name": "s", "model": "m", "version": 1, "sample": 101, "tolerance": -1, "extra": 0}],
        "routing_key_header": "",
        "reason": 3,
        "nmae": 1,
    }
    assert set(faults_of(document)) == {
        "/name",
        "/nmae",
        "/variants/0/name",
        "/variants/0/model",
        "/variants/0/version",
        "/variants/0/weight",
        "/variants/1",
        "/variants/2/model",
        "/variants/2/version",
        "/variants/2/weight",
        "/shadows/0/sample",
        "/shadows/0/tolerance",
        "/shadows/0/extra",
        "/routing_key_header",
        "/reason",
    }


def test_what_is_wrong_is_shown_shortened() -> None:
    detail = faults_of(changed(routing_key_header=" " * 10_000))["/routing_key_header"]
    assert len(detail) < 120


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NEARLY_A_ROUTE = st.fixed_dictionaries(
    {},
    optional={
        key: JSON_VALUES | st.just(value) for key, value in (*CHALLENGED.items(), ("revision", 3), ("weights", 1))
    },
)


def read_or_refused(document: object) -> tuple[Route | None, tuple[tuple[str, str], ...]]:
    try:
        return parse_route(document, name="fraud"), ()
    except InvalidRoute as exc:
        return None, exc.errors


@given(NEARLY_A_ROUTE | JSON_VALUES)
def test_any_json_is_a_route_or_is_refused_with_pointers(document: object) -> None:
    """Nothing else comes out, whatever went in; and a route that was read reads the same once written."""
    route, faults = read_or_refused(document)
    if route is None:
        assert faults
        assert all(pointer == "" or pointer.startswith("/") for pointer, _ in faults)
        return
    written = json.loads(json.dumps(to_document(route)))
    assert parse_route(written, name="fraud") == route
    assert canonical_bytes(parse_route(written, name="fraud")) == canonical_bytes(route)


def test_a_pointer_escapes_as_the_standard_says() -> None:
    assert pointer_to("a/b", "c~d", 0) == "/a~1b/c~0d/0"


# --- routes of the settings -----------------------------------------------------------------------------


def test_configured_routes_are_read_as_any_other_and_a_fault_names_its_key() -> None:
    table = {"variants": [{"name": "stable", "model": "m", "version": 1, "weight": 100}]}
    assert configured_routes({"m": table}) == {"m": parse_route(table, name="m")}
    with pytest.raises(InvalidSetting, match=r"key 'routes\.m\.variants': expected 1 to 100 variants, got 0"):
        configured_routes({"m": {"variants": []}})
