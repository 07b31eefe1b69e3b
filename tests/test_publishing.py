"""Publishing puts whole, described, servable versions into a repository, or nothing at all."""

from __future__ import annotations

import datetime
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from gateway.errors import CannotStart, InvalidData, InvalidModel, LoadFailed, PublishRefused, WrongUsage
from gateway.inference.loader import LoadedVersion, load_version
from gateway.inference.repository import Repository
from gateway.messages import ModelVersion
from gateway.publishing import PublishedVersion, publish
from tests.support import onnx_models
from tests.support.repositories import add_version, configure

GOLDEN = {"cases": [{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[3, 5, 7]]}}]}
WRONG_GOLDEN = {"cases": [{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[3, 5, 8]]}}]}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Write a model of three columns: y = 2 · x + 1."""
    path = tmp_path / "doubled.onnx"
    path.write_bytes(onnx_models.affine())
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make an empty repository."""
    path = tmp_path / "models"
    path.mkdir()
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write rows of three features and a target."""
    path = tmp_path / "train.csv"
    path.write_text("age,bmi,bp,target\n" + "".join(f"{row},{row}.5,{row + 1},1\n" for row in range(20)))
    return path


def manifest_of(version: PublishedVersion) -> dict[str, Any]:
    return tomllib.loads((version.path / "manifest.toml").read_text())


def load(repository: Path, key: ModelVersion) -> LoadedVersion:
    """Load a version from the disk as a server does."""
    read = Repository(repository)
    folder = read.scan()[key.model]
    return load_version(key, read.read_version(folder.versions[key.version]), folder.config)


def assert_untouched(repository: Path) -> None:
    assert list(repository.iterdir()) == []


# --- what is published -------------------------------------------------------------------------------------


def test_the_first_version_is_1_and_the_file_is_the_one_that_was_given(model: Path, repository: Path) -> None:
    version = publish("fraud", model, repository=repository)
    assert version.key == ModelVersion("fraud", 1)
    assert version.path == repository / "fraud" / "1"
    assert sorted(path.name for path in version.path.iterdir()) == ["manifest.toml", "model.onnx"]
    assert (version.path / "model.onnx").read_bytes() == model.read_bytes()
    assert version.shares_runs
    assert sorted(path.name for path in repository.iterdir()) == ["fraud"]
    assert load(repository, version.key).manifest == version.manifest


def test_the_manifest_holds_hashes_and_when_it_was_made(model: Path, repository: Path) -> None:
    before = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    manifest = manifest_of(publish("fraud", model, repository=repository))
    assert manifest["files"] == {"model.onnx": f"sha256:{hashlib.sha256(model.read_bytes()).hexdigest()}"}
    assert before <= datetime.datetime.fromisoformat(manifest["created"]) <= datetime.datetime.now(datetime.UTC)
    assert manifest["created"].endswith("Z")
    assert manifest.keys() == {"created", "files"}


def test_lineage_is_kept_as_it_was_given(model: Path, repository: Path) -> None:
    version = publish(
        "fraud",
        model,
        repository=repository,
        features={"x": ["age", "größe\x7f", 'a "quoted" one']},
        labels={"y": ["a", "b", "c"]},
        source={"commit": "0a1b2c", "run": 17},
        metrics={"accuracy": 0.97, "loss": 1e-7, "undefined": float("nan")},
        data_version="v2.1",
    )
    manifest = manifest_of(version)
    assert manifest["features"] == {"x": ["age", "größe\x7f", 'a "quoted" one']}
    assert manifest["labels"] == {"y": ["a", "b", "c"]}
    assert manifest["source"] == {"commit": "0a1b2c", "run": 17}
    assert manifest["data"] == {"version": "v2.1"}
    assert manifest["metrics"].pop("undefined") != 0
    assert manifest["metrics"] == {"accuracy": 0.97, "loss": 1e-7}


def test_data_names_the_features_and_is_remembered(model: Path, repository: Path, data: Path) -> None:
    version = publish("fraud", model, repository=repository, data=data, drop=["target"], data_version="v2.1")
    manifest = manifest_of(version)
    assert manifest["features"] == {"x": ["age", "bmi", "bp"]}
    assert manifest["data"] == {
        "name": "train.csv",
        "sha256": hashlib.sha256(data.read_bytes()).hexdigest(),
        "rows": 20,
        "version": "v2.1",
    }
    assert not (version.path / "golden.json").exists(), "rows of data are written only when asked for"


def test_given_names_win_over_those_of_the_data(model: Path, repository: Path, data: Path) -> None:
    version = publish(
        "fraud", model, repository=repository, data=data, drop=["target"], features={"x": ["a", "b", "c"]}
    )
    assert manifest_of(version)["features"] == {"x": ["a", "b", "c"]}


def test_numbers_follow_the_highest_even_over_gaps(model: Path, repository: Path) -> None:
    numbers = [publish("fraud", model, repository=repository, version=version) for version in (None, 7, None, 3, None)]
    assert [published.key.version for published in numbers] == [1, 7, 8, 3, 9]


def test_a_repository_that_does_not_exist_is_made(model: Path, tmp_path: Path) -> None:
    assert publish("fraud", model, repository=tmp_path / "new").path == tmp_path / "new" / "fraud" / "1"


def test_a_model_may_come_as_bytes(repository: Path) -> None:
    version = publish("fraud", onnx_models.affine(), repository=repository)
    assert (version.path / "model.onnx").read_bytes() == onnx_models.affine()


def test_external_data_is_published_and_hashed_with_the_model(tmp_path: Path, repository: Path) -> None:
    model = tmp_path / "big.onnx"
    model.write_bytes(onnx_models.external_data("weights/part.bin", tmp_path))
    version = publish("fraud", model, repository=repository)
    assert manifest_of(version)["files"].keys() == {"model.onnx", "weights/part.bin"}
    (answer,) = load(repository, version.key).sessions[0].run({"x": np.zeros((1, 3), np.float32)}, ())
    assert answer.tolist() == [[0, 1, 2]]


def test_every_step_is_reported(model: Path, repository: Path, data: Path) -> None:
    publish("fraud", model, repository=repository)
    wider = onnx_models.identity(shape=("rows", 3))
    said: list[str] = []
    version = publish("fraud", wider, repository=repository, data=data, drop=["target"], report=said.append)
    assert version.reference is not None
    assert said == [
        f"read {len(wider):,} bytes",
        "input 'x': FP32 [rows, 3]",
        "output 'y': FP32 [rows, 3]",
        "requests share runs: the self-test found rows independent",
        "train.csv: 20 rows fit the inputs",
        f"reference.json: 20 rows and what the model says to them, {version.reference.hash}",
    ]


# --- golden requests ------------------------------------------------------------------------------------------


def test_golden_requests_are_asked_and_published(model: Path, repository: Path, tmp_path: Path) -> None:
    golden = tmp_path / "promises.json"
    golden.write_text(json.dumps(GOLDEN))
    said: list[str] = []
    version = publish("fraud", model, repository=repository, golden=golden, report=said.append)
    assert (version.path / "golden.json").read_bytes() == golden.read_bytes()
    assert manifest_of(version)["files"].keys() == {"model.onnx", "golden.json"}
    assert "golden requests: 1 answered as promised" in said


def test_golden_rows_are_the_first_rows_with_the_answers_of_now(model: Path, repository: Path, data: Path) -> None:
    version = publish("fraud", model, repository=repository, data=data, drop=["target"], golden_rows=2)
    golden = json.loads((version.path / "golden.json").read_bytes())
    assert golden["cases"] == [
        {
            "inputs": {"x": [[0, 0.5, 1], [1, 1.5, 2]]},
            "outputs": {"y": [[1, 2, 3], [3, 4, 5]]},
            "tolerance": 1e-4,
        }
    ]
    assert load(repository, version.key).sharing.shares_runs


def test_golden_rows_let_a_model_be_tested_that_refuses_made_up_values(repository: Path, tmp_path: Path) -> None:
    """An index of 2 or more: the self-test's own 0 and 1 fail, the publisher's rows do not."""
    data = tmp_path / "rows.csv"
    data.write_text("x\n" + "".join(f"{row}\n" for row in range(2, 8)))
    made_up = publish("bare", offset_lookup(), repository=repository, data=data)
    assert not made_up.shares_runs
    version = publish("shown", offset_lookup(), repository=repository, data=data, golden_rows=4)
    assert version.shares_runs, version.reason
    assert load(repository, version.key).sharing.shares_runs


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP64", "INT64", "BOOL", "BYTES"])
def test_golden_rows_can_hold_every_datatype(datatype: str, repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("x\n1\n0\n1\n")
    model = onnx_models.identity(datatype, ("rows",))
    version = publish("typed", model, repository=repository, data=data, golden_rows=3)
    load(repository, version.key)


def test_golden_rows_of_a_fixed_batch_fill_it(repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("a,b,c\n1,2,3\n4,5,6\n")
    version = publish("fixed", onnx_models.affine(rows=4), repository=repository, data=data, golden_rows=4)
    golden = json.loads((version.path / "golden.json").read_bytes())
    assert golden["cases"][0]["inputs"]["x"] == [[1, 2, 3], [4, 5, 6]] * 2
    load(repository, version.key)


def test_an_infinity_cannot_be_golden(model: Path, repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("a,b,c\n1,inf,3\n")
    with pytest.raises(InvalidData, match="'x' holds an infinity"):
        publish("fraud", model, repository=repository, data=data, golden_rows=1)
    assert_untouched(repository)


def offset_lookup() -> bytes:
    """Return y = 10 · (x − 2) for x, INT64 [rows], from 2 to 7, out of a table: anything else fails."""
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Sub", ["x", "two"], ["shifted"]),
            onnx.helper.make_node("Abs", ["shifted"], ["positive"]),
            onnx.helper.make_node("Mul", ["positive", "far"], ["scaled"]),
            onnx.helper.make_node("Less", ["x", "two"], ["is_low"]),
            onnx.helper.make_node("Where", ["is_low", "scaled", "shifted"], ["index"]),
            onnx.helper.make_node("Gather", ["table", "index"], ["y"], axis=0),
        ],
        "lookup",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["rows"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["rows"])],
        [
            onnx.numpy_helper.from_array(np.array(2, np.int64), "two"),
            onnx.numpy_helper.from_array(np.array(100, np.int64), "far"),
            onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32) * 10, "table"),
        ],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    serialised: bytes = made.SerializeToString()
    return serialised


# --- beside what is there ---------------------------------------------------------------------------------------


def test_differences_from_the_newest_version_are_named(repository: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("age,bmi,bp\n1,2,3\n")
    publish("fraud", onnx_models.affine(), repository=repository, data=rows)
    rows.write_text("age,weight,bp\n1,2,3\n")
    renamed = publish("fraud", onnx_models.affine(), repository=repository, data=rows)
    assert renamed.changes == ("fraud:1: column 1 of input 'x' was 'bmi', is 'weight'",)
    assert publish("fraud", onnx_models.affine(rows="batch"), repository=repository).changes == ()
    wider = publish("fraud", onnx_models.affine(4), repository=repository)
    assert wider.changes == (
        "fraud:3: input 'x' was FP32 [batch, 3], is FP32 [rows, 4]",
        "fraud:3: output 'y' was FP32 [batch, 3], is FP32 [rows, 4]",
    )
    publish("fraud", onnx_models.affine(), repository=repository)
    more = publish("fraud", onnx_models.several(), repository=repository)
    assert more.changes == (
        "fraud:5: input 'w' is new: INT64 [rows, 1]",
        "fraud:5: output 'z' is new: INT64 [rows, 1]",
    )
    back = publish("fraud", onnx_models.affine(), repository=repository)
    assert back.changes == ("fraud:6: input 'w' is gone", "fraud:6: output 'z' is gone")


def test_a_broken_newest_version_does_not_stop_its_repair(model: Path, repository: Path) -> None:
    add_version(repository, "fraud", 1, b"no model")
    version = publish("fraud", model, repository=repository)
    assert version.key.version == 2
    (said,) = version.changes
    assert said.startswith("fraud:1 cannot be compared: ")


def test_the_models_own_settings_hold(model: Path, repository: Path) -> None:
    configure(repository, "fraud", "[batching]\nenabled = false\n")
    version = publish("fraud", model, repository=repository)
    assert version.reason == "switched off by batching.enabled"


def test_a_provider_that_this_machine_lacks_leaves_the_test_to_the_cpu(model: Path, repository: Path) -> None:
    """Who publishes from a laptop for a server with a GPU is told so, not refused."""
    configure(repository, "fraud", '[execution]\nproviders = ["tensorrt"]\ninstances = 4\n')
    said: list[str] = []
    publish("fraud", model, repository=repository, report=said.append)
    assert any(line.startswith("tested on the cpu only") and "'tensorrt'" in line for line in said)


def test_a_model_that_fails_everywhere_is_refused_for_what_was_asked(repository: Path) -> None:
    configure(repository, "fraud", '[execution]\nproviders = ["tensorrt"]\n')
    with pytest.raises(LoadFailed, match="execution provider 'tensorrt'"):
        publish("fraud", b"no model", repository=repository)


def test_a_version_that_the_settings_leave_out_is_said_so(model: Path, repository: Path) -> None:
    configure(repository, "fraud", "versions = [1]\n")
    said: list[str] = []
    publish("fraud", model, repository=repository, report=said.append)
    assert not any("do not select" in line for line in said)
    publish("fraud", model, repository=repository, report=said.append)
    assert said[-1] == "the settings of 'fraud' do not select version 2: servers load it only when asked to"


# --- refusals: the repository stays as it was -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"no model at all", "onnxruntime refuses the model"),
        (onnx_models.sequence_output(), "output 'y' is seq(tensor(float)), expected a tensor"),
        (onnx_models.external_data("../weights.bin"), "'../weights.bin': expected a path below the model's own"),
        (onnx_models.external_data("/etc/passwd"), "'/etc/passwd': expected a path below the model's own"),
        (onnx_models.external_data("golden.json"), "'golden.json': this name has a meaning in a version"),
        (onnx_models.external_data("weights.bin"), "weights.bin: no such file"),
        (onnx_models.external_data("linked.bin"), "linked.bin: cannot be read (links are not followed)"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused(file: bytes, said: str, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0" * 12)
    (tmp_path / "linked.bin").symlink_to(tmp_path / "secret")
    model = tmp_path / "model.onnx"
    model.write_bytes(file)
    with pytest.raises(LoadFailed) as raised:
        publish("fraud", model, repository=repository)
    assert said in str(raised.value)
    assert_untouched(repository)


def test_a_zipmap_is_refused_with_both_repairs(repository: Path) -> None:
    with pytest.raises(InvalidModel) as raised:
        publish("fraud", onnx_models.zipmap(), repository=repository)
    for said in ("output 'probabilities' is seq(map(", "options={'zipmap': False}", "gateway publish --strip-zipmap"):
        assert said in str(raised.value)
    assert_untouched(repository)


def test_a_stripped_zipmap_leaves_its_classes_and_its_origin(repository: Path) -> None:
    version = publish("fraud", onnx_models.zipmap(), repository=repository, strip_zipmap=True)
    manifest = manifest_of(version)
    assert manifest["labels"] == {"probabilities": ["0", "1"]}
    origin = f"sha256:{hashlib.sha256(onnx_models.zipmap()).hexdigest()}"
    assert manifest["source"] == {"zipmap_stripped_from": origin}
    assert version.signature.output_by_name["probabilities"].shape == (-1, 2)
    load(repository, version.key)


def test_stripping_what_has_no_zipmap_publishes_the_file_itself(model: Path, repository: Path) -> None:
    said: list[str] = []
    version = publish("fraud", model, repository=repository, strip_zipmap=True, report=said.append)
    assert (version.path / "model.onnx").read_bytes() == model.read_bytes()
    assert said[0] == "the model has no ZipMap to strip"


def test_external_data_of_bytes_cannot_be_found(repository: Path) -> None:
    with pytest.raises(InvalidModel, match="give the model's path instead of its bytes"):
        publish("fraud", onnx_models.external_data("weights.bin"), repository=repository)
    assert_untouched(repository)


def test_a_broken_promise_is_refused(model: Path, repository: Path, tmp_path: Path) -> None:
    golden = tmp_path / "golden.json"
    golden.write_text(json.dumps(WRONG_GOLDEN))
    with pytest.raises(InvalidModel, match=r"golden.json: case 0: output 'y' differs by more than"):
        publish("fraud", model, repository=repository, golden=golden)
    golden.write_text('{"cases": 3}')
    with pytest.raises(InvalidModel, match=r"golden.json: Expected `array`"):
        publish("fraud", model, repository=repository, golden=golden)
    assert_untouched(repository)


@pytest.mark.parametrize(
    ("content", "drop", "said"),
    [
        ("age,bmi,bp,target\n1,2,3,4\n", (), "takes 3 columns in their order, got 4"),
        ("age,bmi,bp\n1,2,3\n1,2,x\n", (), "column 'bp', row 2: 'x' is not a number"),
        ("age,bmi,bp\n", (), "has no rows"),
        ("age,bmi,bp\n1,2,3\n", ("sex",), "unknown 'sex'"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    content: str, drop: tuple[str, ...], said: str, *, model: Path, repository: Path, tmp_path: Path
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text(content)
    with pytest.raises(InvalidData) as raised:
        publish("fraud", model, repository=repository, data=data, drop=drop)
    assert said in str(raised.value)
    assert_untouched(repository)


def test_rows_that_the_model_refuses_are_refused(repository: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("x\n1\n99\n")
    with pytest.raises(InvalidData, match="the model refuses the first rows"):
        publish("fraud", onnx_models.lookup(4), repository=repository, data=data)
    assert_untouched(repository)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"features": {"w": ["a"]}}, "features 'w': the model has no input 'w'"),
        ({"features": {"x": ["a"]}}, "features 'x': has 1 names, input 'x' [rows, 3] has 3 columns"),
        ({"labels": {"z": ["a"]}}, "labels 'z': the model has no output 'z'"),
    ],
)
def test_names_that_stand_for_nothing_are_refused(
    arguments: dict[str, Any], said: str, model: Path, repository: Path
) -> None:
    with pytest.raises(InvalidModel) as raised:
        publish("fraud", model, repository=repository, **arguments)
    assert said in str(raised.value)
    assert_untouched(repository)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "a/b"}, "model 'a/b': expected a name of letters"),
        ({"model": "../a"}, "model '../a': expected a name of letters"),
        ({"model": "stats"}, "is not 'stats'"),
        ({"version": 0}, "--version 0: expected a positive integer"),
        ({"version": 10**18}, "expected a positive integer of at most 18 digits"),
        ({"file": "no.onnx"}, "no.onnx: no such file"),
        ({"golden": "no.json"}, "no.json: no such file"),
        ({"data": "no.csv"}, "no.csv: no such file"),
        ({"drop": ["a"]}, "--drop: has no effect without --data"),
        ({"golden_rows": 3}, "--golden-rows: has no effect without --data"),
        ({"golden_rows": -1}, "--golden-rows -1: expected 0 to 1000"),
        ({"golden_rows": 3, "golden": "g.json", "data": "d.csv"}, "--golden-rows: has no effect beside --golden"),
    ],
)
def test_arguments_without_sense_are_wrong_usage(
    arguments: dict[str, Any], said: str, model: Path, repository: Path
) -> None:
    given: dict[str, Any] = {"model": "fraud", "file": model, "repository": repository} | arguments
    with pytest.raises(WrongUsage) as raised:
        publish(given.pop("model"), given.pop("file"), **given)
    assert said in str(raised.value)
    assert_untouched(repository)


def test_a_taken_number_is_refused_and_its_version_stays(model: Path, repository: Path) -> None:
    first = publish("fraud", model, repository=repository, version=3)
    content = (first.path / "manifest.toml").read_bytes()
    with pytest.raises(PublishRefused, match="fraud:3"):
        publish("fraud", model, repository=repository, version=3)
    assert (first.path / "manifest.toml").read_bytes() == content


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_place_that_is_no_directory_is_refused(kind: str, model: Path, repository: Path, tmp_path: Path) -> None:
    if kind == "link":
        (repository / "fraud").symlink_to(tmp_path)
    else:
        (repository / "fraud").touch()
    with pytest.raises(PublishRefused, match="fraud: expected a directory; servers follow no links"):
        publish("fraud", model, repository=repository)


def test_wrong_settings_of_the_model_are_named(model: Path, repository: Path) -> None:
    configure(repository, "fraud", "[batching]\nmax_row = 8\n")
    with pytest.raises(InvalidModel, match="did you mean 'max_rows'"):
        publish("fraud", model, repository=repository)
    assert [path.name for path in (repository / "fraud").iterdir()] == ["model.toml"]


def test_a_place_where_nothing_can_be_written_is_said_in_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "models", tmp_path / "no" / "models"):
        with pytest.raises(CannotStart) as raised:
            publish("fraud", model, repository=place)
        assert "\n" not in str(raised.value)
