import msgspec
import numpy as np
import pytest

from gateway.errors import InvalidReference
from gateway.monitoring.reference import (
    MAX_REFERENCE_BYTES,
    CategoricalFeature,
    NumericFeature,
    Reference,
    content_hash,
    decode_reference,
    encode_reference,
    seal_reference,
)
from gateway.monitoring.reference_builder import build_reference
from tests.monitoring.windows import KINDS

RNG = np.random.default_rng(41)
REFERENCE = build_reference(
    {kind: draw(RNG, 2_000) for kind, draw in KINDS.items()}, {"score": RNG.random((2_000, 2)).astype(np.float32)}
)


def test_a_reference_survives_the_file() -> None:
    assert decode_reference(encode_reference(REFERENCE)) == REFERENCE


def test_the_hash_is_of_the_content_and_not_of_the_spacing() -> None:
    document = msgspec.json.decode(encode_reference(REFERENCE))
    spaced = msgspec.json.format(msgspec.json.encode(dict(reversed(document.items()))), indent=4)
    assert decode_reference(spaced) == REFERENCE
    assert REFERENCE.hash == content_hash(REFERENCE)
    assert REFERENCE.hash.startswith("sha256:")


def test_the_same_data_gives_the_same_bytes() -> None:
    rng = np.random.default_rng(41)
    again = build_reference(
        {kind: draw(rng, 2_000) for kind, draw in KINDS.items()}, {"score": rng.random((2_000, 2)).astype(np.float32)}
    )
    assert encode_reference(again) == encode_reference(REFERENCE)


def test_a_changed_count_is_noticed() -> None:
    with pytest.raises(InvalidReference, match="but its content has"):
        decode_reference(encode_reference(REFERENCE).replace(b'"capped":0', b'"capped":1'))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"rows": "many"}',
        b"\xff\xfe",
        b'{"format": 2, "rows": 1, "columns": {}, "capped": 0, "features": [], "hash": ""}',
        b"[" * 100_000,
    ],
    ids=["empty", "text", "list", "no fields", "wrong type", "not UTF-8", "another format", "deep"],
)
def test_what_is_no_reference_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidReference):
        decode_reference(body)


def test_a_reference_over_16_mib_is_neither_read_nor_written() -> None:
    with pytest.raises(InvalidReference, match="bytes"):
        decode_reference(b" " * (MAX_REFERENCE_BYTES + 1))
    wide = CategoricalFeature(
        name="x",
        role="input",
        tensor="x",
        column=0,
        values=("x" * MAX_REFERENCE_BYTES,),
        counts=(1,),
        others=(),
        other=0,
        unseen=0,
        null=0,
    )
    with pytest.raises(InvalidReference, match="bytes"):
        encode_reference(seal_reference(Reference(rows=1, columns={"x": 1}, capped=0, features=(wide,))))


NUMERIC = NumericFeature(
    name="x",
    role="input",
    tensor="x",
    column=0,
    edges=(1.0, 2.0),
    counts=(1, 2, 1),
    centroids=(0.5, 1.5, 2.5),
    mean=1.5,
    sigma=0.7,
    minimum=0.5,
    median=1.5,
    maximum=2.5,
    null=1,
    non_finite=0,
)
CATEGORICAL = CategoricalFeature(
    name="x",
    role="input",
    tensor="x",
    column=0,
    values=("a", "b"),
    counts=(2, 1),
    others=("c",),
    other=1,
    unseen=1,
    null=1,
)


@pytest.mark.parametrize(
    ("feature", "changes"),
    [
        (NUMERIC, {"edges": (2.0, 1.0)}),
        (NUMERIC, {"edges": (1.0, 1.0)}),
        (NUMERIC, {"edges": (1.0,)}),
        (NUMERIC, {"centroids": (0.5, 1.5)}),
        (NUMERIC, {"centroids": (0.5, 2.5, 1.5)}),
        (NUMERIC, {"counts": (1, 2, 2)}),
        (NUMERIC, {"counts": (5, -1, 0)}),
        (NUMERIC, {"sigma": -1.0}),
        (NUMERIC, {"column": 1}),
        (NUMERIC, {"tensor": "y"}),
        (CATEGORICAL, {"values": ("a", "a")}),
        (CATEGORICAL, {"values": ("a", "c")}),
        (CATEGORICAL, {"values": ("a", 1)}),
        (CATEGORICAL, {"counts": (1,)}),
        (CATEGORICAL, {"null": 2}),
        (CATEGORICAL, {"unseen": -1}),
    ],
)
def test_a_feature_that_contradicts_itself_is_refused(
    feature: NumericFeature | CategoricalFeature, changes: dict[str, object]
) -> None:
    def reference(part: NumericFeature | CategoricalFeature) -> Reference:
        return Reference(rows=5, columns={"x": 1}, capped=0, features=(part,))

    seal_reference(reference(feature))
    with pytest.raises(InvalidReference, match="contradicts"):
        seal_reference(reference(msgspec.structs.replace(feature, **changes)))


def test_two_features_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidReference, match="stands twice"):
        seal_reference(Reference(rows=5, columns={"x": 1}, capped=0, features=(NUMERIC, NUMERIC)))


def test_a_reference_of_256_wide_features_is_small() -> None:
    values = np.random.default_rng(1).normal(size=(1_000, 256))
    assert len(encode_reference(build_reference({"x": values}, {}))) < 512 * 1024
