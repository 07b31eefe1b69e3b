"""Owns the promises about compressed bodies: right ones are read, wrong ones named, bombs cost no memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.compression import choose_encoding, deflate, inflate
from gateway.errors import InvalidRequest, TooLarge, UnsupportedEncoding

BODY = b'{"inputs": []}' * 50
LIMIT = 4096


def raw_deflate(body: bytes) -> bytes:
    """Compress without zlib's header, which some call deflate and the protocol does not."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(body) + compressor.flush()


def zlib_with_dictionary(body: bytes) -> bytes:
    """Compress against words that the reader does not have."""
    compressor = zlib.compressobj(zdict=b'{"inputs": []}')
    return compressor.compress(body) + compressor.flush()


@given(body=st.binary(max_size=LIMIT), encoding=st.sampled_from(["gzip", "deflate"]))
def test_what_was_compressed_is_inflated_to_the_same_bytes(body: bytes, encoding: str) -> None:
    assert inflate(deflate(body, encoding), encoding, max_bytes=LIMIT) == body


def test_compressed_answers_are_what_the_standard_readers_expect() -> None:
    """Readers in the field: tritonclient reads gzip with the gzip module and deflate with zlib, not raw."""
    assert gzip.decompress(deflate(BODY, "gzip")) == BODY
    assert zlib.decompress(deflate(BODY, "deflate")) == BODY


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_body_that_is_not_encoded_stays_as_it_is(encoding: str) -> None:
    assert inflate(BODY, encoding, max_bytes=1) is BODY


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_gzip_and_zlib_are_told_apart_by_their_first_bytes(encoding: str) -> None:
    """As Triton does: clients mix up the names."""
    assert inflate(gzip.compress(BODY), encoding, max_bytes=LIMIT) == BODY
    assert inflate(zlib.compress(BODY), encoding, max_bytes=LIMIT) == BODY


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "compress", "x-gzip", "gzip, deflate", "gzip,", "gzip;q=1", "é", "*"]
)
def test_any_other_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="expected gzip or deflate") as refusal:
        inflate(gzip.compress(BODY), encoding, max_bytes=LIMIT)
    assert f"'{encoding}'" in str(refusal.value)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"", "ends early", id="empty"),
        pytest.param(BODY, "is not", id="not compressed"),
        pytest.param(raw_deflate(BODY), "is not", id="raw deflate"),
        pytest.param(zlib_with_dictionary(BODY), "is not", id="needs a dictionary"),
        pytest.param(gzip.compress(BODY)[:9], "ends early", id="cut inside the header"),
        pytest.param(gzip.compress(BODY)[:-9], "ends early", id="cut inside the data"),
        pytest.param(gzip.compress(BODY)[:-1], "ends early", id="cut inside the length"),
        pytest.param(zlib.compress(BODY)[:-1], "ends early", id="cut inside the checksum"),
        pytest.param(gzip.compress(BODY)[:-5] + b"\0\0\0\0\0", "is not", id="wrong length"),
        pytest.param(zlib.compress(BODY)[:-4] + b"\0\0\0\0", "is not", id="wrong checksum"),
        pytest.param(gzip.compress(BODY) + b"more", "4 bytes follow", id="trailing bytes"),
        pytest.param(gzip.compress(BODY) * 2, "bytes follow", id="a second member"),
        pytest.param(zlib.compress(b"") + b"\0", "1 bytes follow", id="trailing byte after nothing"),
    ],
)
def test_a_stream_that_is_not_whole_is_refused(body: bytes, text: str, encoding: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        inflate(body, encoding, max_bytes=LIMIT)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_the_limit_is_of_the_inflated_body_and_the_last_byte_counts(encoding: str) -> None:
    assert inflate(deflate(BODY, encoding), encoding, max_bytes=len(BODY)) == BODY
    with pytest.raises(TooLarge, match=f"more than {len(BODY) - 1} bytes"):
        inflate(deflate(BODY, encoding), encoding, max_bytes=len(BODY) - 1)


def test_a_bomb_is_refused_before_its_memory_is_taken() -> None:
    bomb = zlib.compress(bytes(64 * 1024 * LIMIT))
    assert len(bomb) < 64 * LIMIT, "it is no bomb"
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            inflate(bomb, "deflate", max_bytes=64 * LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 64 * LIMIT, f"{peak} bytes were taken"


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("GZIP", "gzip"),
        (" gzip ,deflate", "gzip"),
        ("deflate, gzip", "deflate"),
        ("gzip, deflate, br", "gzip"),  # what aiohttp and httpx send
        ("br, zstd, *", ""),
        ("br;q=1.0, gzip;q=0.1", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip;q=0.5,deflate;q=0.5", "gzip"),
        ("gzip; q=0.5 , deflate ; q=0.6", "deflate"),
        ("gzip;Q=0.5, deflate;q=0.4", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;q=0.000, deflate;q=0.001", "deflate"),
        ("identity, gzip", ""),
        ("gzip, identity", "gzip"),
        ("identity;q=0.5, gzip;q=1.0", "gzip"),
        ("identity;q=1.0, gzip;q=0.5", ""),
        ("gzip;q=", ""),
        ("gzip;q=high, deflate", "deflate"),
        ("gzip;level=9", ""),
        ("gzip;q=nan", ""),
        ("gzip;q=2, deflate", "deflate"),
        ("gzip;q=-1", ""),
        (",,;q=1,", ""),
    ],
)
def test_the_answer_is_encoded_as_the_caller_likes_best(accepted: str, chosen: str) -> None:
    assert choose_encoding(accepted) == chosen
