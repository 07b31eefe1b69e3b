"""Holds manifest.toml and golden.json to their promises: what is read, what is refused, and in which words."""

from __future__ import annotations

import hashlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidModel
from gateway.inference.manifest import (
    Golden,
    GoldenCase,
    Manifest,
    check_hashes,
    encode_manifest,
    parse_golden,
    parse_manifest,
    sha256_of,
)

HASH = "sha256:" + "0" * 64
FILES = f'[files]\n"model.onnx" = "{HASH}"\n'


def manifest_fault(text: str) -> str:
    with pytest.raises(InvalidModel) as caught:
        parse_manifest(text.encode(), where="fraud/3/manifest.toml")
    return str(caught.value)


# --- manifest.toml ------------------------------------------------------------------------------------


def test_a_manifest_holds_hashes_names_and_lineage() -> None:
    text = f"""
        created = "2026-03-01T09:00:00Z"
        {FILES}
        [features]
        x = ["age", "amount"]
        [labels]
        label = ["no", "yes"]
        [data]
        name = "train"
        rows = 455
        [source]
        commit = "abc"
        [metrics]
        accuracy = 0.97
        """
    assert parse_manifest(text.encode(), where="manifest.toml") == Manifest(
        created="2026-03-01T09:00:00Z",
        files={"model.onnx": HASH},
        features={"x": ["age", "amount"]},
        labels={"label": ["no", "yes"]},
        data={"name": "train", "rows": 455},
        source={"commit": "abc"},
        metrics={"accuracy": 0.97},
    )


def test_a_manifest_needs_no_more_than_the_hash_of_the_model() -> None:
    assert parse_manifest(FILES.encode(), where="manifest.toml").files == {"model.onnx": HASH}


def test_a_manifest_without_the_models_hash_is_refused() -> None:
    assert manifest_fault(f'[files]\n"weights.bin" = "{HASH}"') == (
        "fraud/3/manifest.toml: key 'files': expected the hash of 'model.onnx'"
    )


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../other.bin", "a/../b", "a//b", "./a", "a/.", "a/", "", "..", "a\\\\b"]
)
def test_a_path_that_leaves_the_version_directory_or_hides_where_it_leads_is_refused(path: str) -> None:
    assert "expected a path inside the version directory" in manifest_fault(f'{FILES}"{path}" = "{HASH}"')


@pytest.mark.parametrize("path", ["weights.bin", "weights/part-0.bin", "..weights", "a..b/c"])
def test_a_path_inside_the_version_directory_is_taken(path: str) -> None:
    assert path in parse_manifest(f'{FILES}"{path}" = "{HASH}"'.encode(), where="manifest.toml").files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("files = ", "not TOML", id="not TOML"),
        pytest.param("", "missing required field `files`", id="empty"),
        pytest.param(f"{FILES}[feature]", "unknown 'feature', did you mean 'features'?", id="unknown key"),
        pytest.param('[files]\n"model.onnx" = "md5:0"', "key 'files[...]': Expected `str` matching", id="another hash"),
        pytest.param(f'[files]\n"model.onnx" = "{HASH.upper()}"', "key 'files[...]'", id="capital letters"),
        pytest.param(f"{FILES}[metrics]\naccuracy = 'high'", "key 'metrics[...]'", id="a metric in words"),
        pytest.param(f"{FILES}[features]\nx = 'age'", "key 'features[...]'", id="a name where names belong"),
    ],
)
def test_a_fault_names_the_file_and_the_key(text: str, said: str) -> None:
    found = manifest_fault(text)
    assert found.startswith("fraud/3/manifest.toml: ")
    assert said in found


# --- writing it -----------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]))
scalars = words | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
paths = st.lists(st.text('ab .-_ü"\n\x7f#', min_size=1).filter(lambda part: part not in (".", "..")), min_size=1)


@given(
    created=words,
    files=st.dictionaries(paths.map("/".join), st.just(HASH), max_size=3),
    names=st.dictionaries(words, st.lists(words, max_size=3), max_size=3),
    lineage=st.dictionaries(words, scalars, max_size=3),
    metrics=st.dictionaries(words, st.floats(allow_nan=False), max_size=3),
)
def test_a_manifest_that_was_written_is_read_as_it_was(
    created: str,
    files: dict[str, str],
    names: dict[str, list[str]],
    lineage: dict[str, str | int | float | bool],
    metrics: dict[str, float],
) -> None:
    manifest = Manifest(
        created=created,
        files={"model.onnx": HASH} | files,
        features=names,
        labels=names,
        data=lineage,
        source=lineage,
        metrics=metrics,
    )
    assert parse_manifest(encode_manifest(manifest), where="manifest.toml") == manifest


def test_what_is_empty_is_not_written() -> None:
    assert encode_manifest(Manifest(files={"model.onnx": HASH}, metrics={"f1": 0.5})).decode() == (
        f'\n[files]\n"model.onnx" = "{HASH}"\n\n[metrics]\nf1 = 0.5\n'
    )


def test_a_metric_without_a_number_is_written_as_toml_writes_it() -> None:
    manifest = Manifest(files={"model.onnx": HASH}, metrics={"loss": float("nan"), "bound": float("-inf")})
    read = parse_manifest(encode_manifest(manifest), where="manifest.toml")
    assert math.isnan(read.metrics["loss"])
    assert read.metrics["bound"] == -math.inf


# --- hashes -------------------------------------------------------------------------------------------


@given(st.binary())
def test_a_hash_is_sha256_in_the_manifests_own_form(content: bytes) -> None:
    assert sha256_of(content) == f"sha256:{hashlib.sha256(content).hexdigest()}"
    parse_manifest(f'[files]\n"model.onnx" = "{sha256_of(content)}"'.encode(), where="manifest.toml")


def test_every_listed_file_is_compared_with_its_hash() -> None:
    files = {"model.onnx": b"model", "weights/0.bin": b"weights"}
    manifest = Manifest(files={name: sha256_of(content) for name, content in files.items()})
    check_hashes(manifest, files.__getitem__)
    for name in files:
        changed = files | {name: b"changed"}
        with pytest.raises(InvalidModel) as caught:
            check_hashes(manifest, changed.__getitem__)
        assert str(caught.value) == f"{name}: hash is {sha256_of(b'changed')}, the manifest says {manifest.files[name]}"


# --- golden.json --------------------------------------------------------------------------------------


def test_golden_requests_have_inputs_outputs_and_a_tolerance() -> None:
    text = b'{"cases": [{"inputs": {"x": [[1, null]]}, "outputs": {"y": ["a"]}, "tolerance": 0.1}]}'
    assert parse_golden(text, where="golden.json") == Golden(
        cases=[GoldenCase(inputs={"x": [[1, None]]}, outputs={"y": ["a"]}, tolerance=0.1)]
    )


def test_the_tolerance_is_a_hundred_thousandth_when_none_is_given() -> None:
    golden = parse_golden(b'{"cases": [{"inputs": {}, "outputs": {}}]}', where="golden.json")
    assert [case.tolerance for case in golden.cases] == [1e-5]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b"{}", id="no cases"),
        pytest.param(b'{"cases": [{"inputs": {}}]}', id="no outputs"),
        pytest.param(b'{"cases": [{"inputs": {}, "outputs": {}, "tolerance": -1}]}', id="a negative tolerance"),
        pytest.param(b'{"cases": [{"inputs": {}, "outputs": {}, "tolerence": 1}]}', id="an unknown key in a case"),
        pytest.param(b'{"cases": [], "case": []}', id="an unknown key"),
        pytest.param(b'{"cases": [{"inputs": {"x": NaN}, "outputs": {}}]}', id="a bare NaN"),
        pytest.param(b'{"cases": [{"inputs": {"\xff": 1}, "outputs": {}}]}', id="not UTF-8"),
        pytest.param(b'{"cases": [{"inputs": {"x": ' + b"[" * 50_000, id="brackets without end"),
    ],
)
def test_golden_requests_of_another_form_are_refused_with_the_name_of_the_file(text: bytes) -> None:
    with pytest.raises(InvalidModel, match=r"^fraud/3/golden.json: "):
        parse_golden(text, where="fraud/3/golden.json")
