"""Owns the promises about what a body may cost: elements, depth, time and memory, each before it is paid."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.payload import Limits, check_depth, decode_request
from gateway.errors import InvalidInput, InvalidRequest, TooLarge
from tests.api.payloads import LIMITS, MODEL, binary_request, decode, refusal, request, signature, tensor


def test_a_tensor_may_have_as_many_elements_as_the_limit_and_no_more() -> None:
    wanted = signature(tensor("x", "FP32", (-1,)))
    limits = Limits(max_json_depth=64, max_tensor_elements=10)
    assert decode(request(shape=[10], data=[0] * 10), wanted=wanted, limits=limits).rows == 10
    with refusal(TooLarge, "'x'", "[11]", "at most 10 elements"):
        decode(request(shape=[11], data=[0] * 11), wanted=wanted, limits=limits)


def test_a_raw_body_may_have_as_many_elements_as_the_limit_and_no_more() -> None:
    wanted = signature(tensor("x", "FP32", (-1,)))
    limits = Limits(max_json_depth=64, max_tensor_elements=10)
    assert decode_request(bytes(40), 0, wanted, limits, model=MODEL).rows == 10
    with refusal(TooLarge, "'x'", "11 elements", "at most 10"):
        decode_request(bytes(44), 0, wanted, limits, model=MODEL)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param([2**31], id="one huge axis"),
        pytest.param([2**31, 2**31, 4], id="a product beyond 64 bits"),
        pytest.param([2**31] * 32, id="a product of 992 bits"),
        pytest.param([0, 2**31, 2**31, 2**31], id="empty, and wide: numpy multiplies the other axes"),
        pytest.param([2**31] * 31 + [0], id="empty at the end"),
        pytest.param([0, LIMITS.max_tensor_elements + 1], id="empty, and a row is over the limit"),
    ],
)
@pytest.mark.parametrize("how", ["json", "binary"])
def test_a_huge_shape_is_refused_before_its_memory_is_taken(shape: list[int], how: str) -> None:
    wanted = signature(tensor("x", "FP32", [-1] * len(shape)))
    message = request(shape=shape, data=[]) if how == "json" else binary_request(0, shape=shape)
    tracemalloc.start()
    try:
        with refusal(TooLarge, "'x'", "elements are taken"):
            decode(message, wanted=wanted)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_an_empty_tensor_may_be_as_wide_as_a_full_one() -> None:
    shape = [0, LIMITS.max_tensor_elements]
    wanted = signature(tensor("x", "FP32", (-1, -1)))
    assert decode(request(shape=shape, data=[]), wanted=wanted).inputs["x"].shape == tuple(shape)
    assert decode(binary_request(0, shape=shape), wanted=wanted).inputs["x"].shape == tuple(shape)


def nested(depth: int, *, kind: str = "[]") -> bytes:
    return b"[" * depth + b"]" * depth if kind == "[]" else b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize("kind", ["[]", "{}"])
@pytest.mark.parametrize("depth", [1, 5, 64])
def test_json_may_be_nested_as_deep_as_the_limit_and_no_deeper(depth: int, kind: str) -> None:
    check_depth(nested(depth, kind=kind), depth)
    with refusal(InvalidRequest, f"deeper than {depth} levels"):
        check_depth(nested(depth + 1, kind=kind), depth)


@pytest.mark.parametrize(
    "text",
    [
        b'["[[[[[["]',
        b'["]]]]]]", [[1]]]',
        b'{"[[[[": "{{{{"}',
        rb'["\"[[[[", "[[[\\", ["]]\\\"[["]]',
        b'["' + b"[" * 200_000 + b'"]',
        b'["' + b"x" * 65_535 + b'[[[["]',
        b'["' + b"x" * 65_530 + rb'\"[[[["]',
        b"[[1],[2]]" + b" " * 200_000 + b"[[3]]",
        b"",
        b"[]",
    ],
)
def test_brackets_inside_strings_are_no_depth(text: bytes) -> None:
    check_depth(text, 3)


@pytest.mark.parametrize(
    "text",
    [
        b'["]]]]]]", [[[1]]]]',
        rb'["\"]]]]", "\\", [[[1]]]]',
        rb'["\\\"]]]]", [[[1]]]]',
        b'{"]]": {"}}": {"a": {}}}}',
        b"[" + b'"x",' * 50_000 + b"[[[",
        b"[[[" + b" " * 200_000 + b"[",
        b'["' + b"]" * 200_000 + b'", [[[',
    ],
)
def test_brackets_inside_strings_hide_no_depth(text: bytes) -> None:
    with refusal(InvalidRequest, "deeper than 3 levels"):
        check_depth(text, 3)


@given(
    st.recursive(
        st.none() | st.text('[]{}"\\a', max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.text('[{"\\'), inner),
    )
)
def test_the_depth_is_that_of_the_document(document: object) -> None:
    def depth(value: object) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(depth, inner), default=0)

    text = json.dumps(document).encode()
    check_depth(text, depth(document))
    if depth(document):
        with refusal(InvalidRequest):
            check_depth(text, depth(document) - 1)


def test_the_depth_limit_holds_for_a_request_and_for_what_it_ignores() -> None:
    """The document is a level, so is the value of its key."""
    good = json.dumps(request()).encode()[1:]
    for beside in (b"", b'"b": NaN, '):
        assert decode(b'{%b"a": %b, ' % (beside, nested(63)) + good).rows == 1
        with refusal(InvalidRequest, "deeper than 64 levels"):
            decode(b'{%b"a": %b, ' % (beside, nested(64)) + good)


def test_the_depth_limit_holds_for_nested_data() -> None:
    """Three levels stand above it: the document, its inputs, the tensor."""
    wanted = signature(tensor("x", "FP32", (-1, -1, -1)))
    message = request(shape=[1, 1, 1], data=[[[5]]])
    assert decode(message, wanted=wanted, limits=Limits(6, 10)).rows == 1
    with refusal(InvalidRequest, "deeper than 5 levels"):
        decode(message, wanted=wanted, limits=Limits(5, 10))
    assert decode(request(shape=[1, 1, 1], data=[5]), wanted=wanted, limits=Limits(5, 10)).rows == 1


@pytest.mark.parametrize("depth", [70, 500, 900, 1100, 50_000, 400_000])
@pytest.mark.parametrize("place", ["data", "extra", "model_name", "id", "alone"])
def test_deep_json_is_refused_wherever_it_stands(depth: int, place: str) -> None:
    """As an error of ours: neither the parsers' own limits nor the stack may end it otherwise."""
    deep = nested(depth)
    text = deep if place == "alone" else json.dumps(request()).encode()[:-1] + b', "%b": %b}' % (place.encode(), deep)
    if place == "data":
        text = json.dumps(request(data="DEEP")).encode().replace(b'"DEEP"', deep)
    with pytest.raises((InvalidRequest, InvalidInput)):
        decode(text)


def test_measuring_depth_takes_no_more_time_for_escapes_than_for_text() -> None:
    """A backtracking expression took 19 s for 80 kB; here are 8 MB, and the time-out of the test is the judge."""
    for text in (b'"' + b'\\"' * 4_000_000, b'"' * 4_000_000, b'"",' * 2_000_000, b'"' + b"a" * 8_000_000 + b'"'):
        check_depth(text, 1)


def test_measuring_depth_takes_little_memory() -> None:
    tracemalloc.start()
    try:
        for text in (b"[" * 4_000_000, b'"",' * 1_300_000, b'"' + b'\\"' * 2_000_000):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            with contextlib.suppress(InvalidRequest):
                check_depth(text, 8)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 2 * len(text) + 2_000_000
    finally:
        tracemalloc.stop()
