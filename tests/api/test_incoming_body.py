"""Owns the promise of bodies in pieces: every byte in its place, tensors aligned, nothing taken that is another's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.incoming_body import IncomingBody, whole_body

LENGTH = b"inference-header-content-length"
BYTES = bytes(range(256)) * 400


def address(view: memoryview) -> int:
    found: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return found


@given(size=st.integers(0, 300), cuts=st.lists(st.integers(1, 100), max_size=12), lead=st.integers(0, 400))
def test_pieces_are_put_together(size: int, cuts: list[int], lead: int) -> None:
    """What follows the body in the last piece is left for whoever reads on."""
    body = IncomingBody(size, {LENGTH: b"%d" % lead})
    offset = 0
    for cut in [*cuts, 400]:
        piece = BYTES[offset : offset + cut]
        end = body.take(b"??" + piece, 2)
        assert end == 2 + min(cut, size - offset)
        offset = min(size, offset + cut)
        assert body.missing == size - offset
    assert bytes(body.view) == BYTES[:size]


@pytest.mark.parametrize("lead", [b"0", b"1", b"63", b"64", b"157"])
def test_what_follows_the_json_part_is_aligned(lead: bytes) -> None:
    headers = {LENGTH: lead}
    whole = whole_body(b"head" + BYTES, 4, headers)
    assert isinstance(whole, memoryview)
    for view in (IncomingBody(1000, headers).view, whole):
        assert (address(view) + int(lead)) % 64 == 0
    assert bytes(whole) == BYTES


def test_an_announcement_takes_no_memory_and_a_long_body_stays_aligned() -> None:
    content = np.random.default_rng(1).bytes(3_000_000)
    body = IncomingBody(len(content), {LENGTH: b"99"})
    assert len(body.view) <= 1_048_576
    for start in range(0, len(content), 700_001):
        body.take(content[start : start + 700_001])
    assert body.missing == 0
    assert body.view == content
    assert (address(body.view) + 99) % 64 == 0


@pytest.mark.parametrize("headers", [{}, {LENGTH: b"many"}, {LENGTH: b"9" * 30}, {LENGTH: b"-1"}])
def test_a_length_that_is_none_is_somebody_elses_to_refuse(headers: dict[bytes, bytes]) -> None:
    body = IncomingBody(3, headers)
    body.take(b"abc")
    assert bytes(body.view) == b"abc"


def test_a_small_body_that_arrived_at_once_is_only_cut_off() -> None:
    assert whole_body(b"head{}", 4, {}) == b"{}"
    assert whole_body(b"head", 4, {}) == b""
