"""Owns the laws of the split: a pure function of slots, salt and key; the smallest move only; frozen."""

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.route import WHOLE_BP, route_salt
from gateway.routing.splitter import Slots, Splitter, deal_slots, move_slots, moved_bp

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "assignment_vectors.json").read_text())
NAMES = ("stable", "b", "c", "d")


@st.composite
def weights(draw: st.DrawFn) -> dict[str, int]:
    """Shares of some variants, in any order, the first not always the same."""
    names = draw(st.permutations(NAMES).flatmap(lambda order: st.integers(1, 4).map(lambda count: order[:count])))
    cuts = sorted(draw(st.lists(st.integers(0, WHOLE_BP), min_size=len(names) - 1, max_size=len(names) - 1)))
    edges = [0, *cuts, WHOLE_BP]
    return {name: edges[index + 1] - edges[index] for index, name in enumerate(names)}


def owner_names(slots: Slots) -> list[str]:
    return [slots.names[owner] for owner in slots.owners]


@given(st.lists(weights(), min_size=2, max_size=6))
def test_any_sequence_of_changes_moves_the_smallest_share_and_only_to_who_gains(history: list[dict[str, int]]) -> None:
    slots = deal_slots(history[0])
    for before, after in pairwise(history):
        moved = move_slots(slots, after)
        assert moved.weights_bp == after
        assert moved.names == tuple(after)
        gains = {name: after[name] - before.get(name, 0) for name in after}
        losses = {name: before[name] - after.get(name, 0) for name in before}
        changed = [(old, new) for old, new in zip(owner_names(slots), owner_names(moved), strict=True) if old != new]
        assert len(changed) == sum(gain for gain in gains.values() if gain > 0) == moved_bp(slots, moved)
        assert all(losses[old] > 0 and gains[new] > 0 for old, new in changed)
        slots = moved


@given(weights(), weights())
def test_a_move_is_always_the_same_move(before: dict[str, int], after: dict[str, int]) -> None:
    assert move_slots(deal_slots(before), after) == move_slots(deal_slots(before), after)
    assert move_slots(deal_slots(before), before) == deal_slots(before)


@given(st.lists(weights(), min_size=1, max_size=6))
def test_slots_survive_being_stored(history: list[dict[str, int]]) -> None:
    slots = deal_slots(history[0])
    for after in history[1:]:
        slots = move_slots(slots, after)
    assert Slots.decode(slots.encode(), slots.weights_bp) == slots
    assert len(slots.encode()) < 1000


@given(st.lists(st.integers(0, WHOLE_BP), min_size=1, max_size=6))
def test_raising_one_candidate_and_lowering_it_again_gives_everybody_back(levels: list[int]) -> None:
    """Not only by rollback: a plain shift back brings the same keys home."""
    seen: dict[int, Slots] = {}
    slots = deal_slots({"stable": WHOLE_BP, "b": 0})
    for level in levels:
        slots = move_slots(slots, {"stable": WHOLE_BP - level, "b": level})
        assert seen.setdefault(level, slots) == slots


@pytest.mark.parametrize(
    "text", ["", "0", "0*9999", "0*10001", "0*10000,", "x*10000", "0*x", "1*10000", "0*8999,1*1001", "2*10000", "0*-1"]
)
def test_slots_that_do_not_fit_the_weights_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="slots"):
        Slots.decode(text, {"stable": 9000, "b": 1000})


@given(st.text(), weights())
def test_a_key_has_one_variant_the_slot_of_its_keyed_hash(key: str, shares: dict[str, int]) -> None:
    salt = route_salt("fraud")
    slots = deal_slots(shares)
    splitter = Splitter(salt, slots)
    digest = hashlib.blake2b(b"\x01" + key.encode("utf-8", "surrogatepass"), digest_size=8, key=salt).digest()
    slot = int.from_bytes(digest, "big") * 10_000 // 2**64
    assert splitter.variant_of(key) == slots.owners[slot] == splitter.variant_of_hash(splitter.hash_key(key))
    assert Splitter(salt, deal_slots(shares)).variant_of(key) == splitter.variant_of(key)


def test_a_key_that_is_no_unicode_text_has_a_variant_too() -> None:
    splitter = Splitter(route_salt("fraud"), deal_slots({"stable": 5000, "b": 5000}), {"s": 5000})
    assert splitter.variant_of("\udce4") in {0, 1}
    assert splitter.is_sampled(0, "\udce4") in {True, False}


@pytest.mark.parametrize(("draw", "variant"), [(0.0, 0), (0.8999, 0), (0.9, 1), (0.99999999, 1)])
def test_a_random_number_chooses_by_share(draw: float, variant: int) -> None:
    assert Splitter(b"salt", deal_slots({"stable": 9000, "b": 1000})).variant_at(draw) == variant


def test_a_weight_of_zero_gets_nobody_and_the_whole_gets_everybody() -> None:
    splitter = Splitter(route_salt("fraud"), deal_slots({"stable": 0, "b": WHOLE_BP, "c": 0}), {"n": 0, "a": WHOLE_BP})
    keys = [str(number) for number in range(2000)]
    assert {splitter.variant_of(key) for key in keys} == {1}
    assert not any(splitter.is_sampled(0, key) for key in keys)
    assert all(splitter.is_sampled(1, key) for key in keys)
    assert not splitter.is_sampled_at(0, 0.0)
    assert splitter.is_sampled_at(1, 0.999_999)


@pytest.mark.parametrize("case", VECTORS["splits"], ids=lambda case: f"{case['route']} {case['slots']}")
def test_no_release_ever_deals_users_anew(case: dict[str, Any]) -> None:
    """Frozen: a change of these vectors would move users of a running route between its variants."""
    salt = bytes.fromhex(case["salt"])
    assert route_salt(case["route"]) == salt
    slots = Slots.decode(case["slots"], case["weights_bp"])
    splitter = Splitter(salt, slots, case["samples_bp"])
    for key, key_hash, variant, sampled in case["keys"]:
        assert f"{splitter.hash_key(key):016x}" == key_hash
        assert slots.names[splitter.variant_of(key)] == variant
        assert [splitter.is_sampled(index, key) for index in range(len(case["samples_bp"]))] == sampled


@pytest.mark.parametrize("case", VECTORS["moves"], ids=lambda case: case["name"])
def test_no_release_ever_moves_other_slots(case: dict[str, Any]) -> None:
    """Frozen: replicas of two releases have to make the same move of the same change."""
    slots = deal_slots(case["steps"][0]["weights_bp"])
    assert slots.encode() == case["steps"][0]["slots"]
    for step in case["steps"][1:]:
        slots = move_slots(slots, step["weights_bp"])
        assert slots.encode() == step["slots"]
