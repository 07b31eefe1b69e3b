"""The check names every fault that would keep something from being served, by file and key, and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.checking import check_repository, check_settings
from gateway.cli import main
from gateway.publishing import publish
from gateway.staging import staged_version
from tests.support import onnx_models
from tests.support.repositories import add_version, configure, manifest_of
from tests.support.server import EXAMPLE_MODELS

MODEL = onnx_models.affine()
WRONG_GOLDEN = {"cases": [{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[3, 5, 8]]}}]}
EMPTY_HASH = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
PBTXT = b'platform: "onnxruntime_onnx"\nmax_batch_size: 8\nresponse_cache { enable: true }\n'

Arrange = Callable[[Path], object]


def found(root: Path, *, faults: bool = True) -> list[str]:
    """Return the faults, or the notes, as lines relative to the repository."""
    result = check_repository(root)
    return [str(finding).replace(f"{root}/", "") for finding in (result.faults if faults else result.notes)]


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def add(root: Path, **files: str | bytes) -> Path:
    """Write version 1 of `fraud` with other files; `__` in a name is a dot."""
    folder = add_version(root, "fraud", 1, MODEL)
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def add_with_settings(root: Path, text: str) -> None:
    add(root)
    configure(root, "fraud", text)


def write(root: Path, name: str, content: bytes) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(content)


def add_two(root: Path, first: bytes, second: bytes) -> None:
    add_version(root, "fraud", 1, first)
    add_version(root, "fraud", 3, second)


def publish_two(root: Path, *features: list[str]) -> None:
    for names in features:
        publish("fraud", MODEL, repository=root, features={"x": names})


def add_link(root: Path, name: str, target: Path) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(target)


def add_external(root: Path, *, manifest: str) -> None:
    """Write a model whose tensor lies in weights.bin."""
    folder = add_version(root, "fraud", 1, onnx_models.external_data("weights.bin"), manifest=manifest)
    (folder / "weights.bin").write_bytes(b"\0" * 12)


def test_the_example_models_have_no_fault() -> None:
    result = check_repository(EXAMPLE_MODELS)
    assert [str(finding) for finding in result.findings] == []
    assert (result.models, result.versions) == (5, 6)


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        pytest.param(
            lambda root: write(root, "frühling/1/model.onnx", MODEL),
            "frühling: holds versions, but is no name that a client could ask for",
            id="a model nobody can ask for",
        ),
        pytest.param(
            lambda root: add_link(root, "fraud", EXAMPLE_MODELS / "digits"),
            "fraud: is a link; servers follow no links, so this is no model",
            id="a model that is a link",
        ),
        pytest.param(
            lambda root: add_link(root, "fraud/1", EXAMPLE_MODELS / "digits" / "1"),
            "fraud/1: is a link; servers follow no links, so this is no version",
            id="a version that is a link",
        ),
        pytest.param(
            lambda root: write(root, "fraud/1", MODEL),
            "fraud/1: is a file, expected a directory with model.onnx in it",
            id="a version that is a file",
        ),
        pytest.param(
            lambda root: add(root).rename(root / "fraud" / "v1"),
            "fraud/v1: holds a model, but a version is a positive integer without leading zeros",
            id="a version that is no number",
        ),
        pytest.param(
            lambda root: add(root).rename(root / "fraud" / "01"),
            "fraud/01: holds a model, but a version is a positive integer without leading zeros",
            id="a version with a leading zero",
        ),
        pytest.param(
            lambda root: write(root, "fraud/model.onnx", MODEL),
            "fraud/model.onnx: lies beside the versions",
            id="a model file beside the versions",
        ),
        pytest.param(
            lambda root: write(root, "fraud.onnx", MODEL),
            "fraud.onnx: lies beside the models",
            id="a model file beside the models",
        ),
        pytest.param(
            lambda root: add_with_settings(root, "[batching]\nmax_row = 8\n"),
            "fraud/model.toml: key 'batching.max_row': unknown 'max_row', did you mean 'max_rows'?",
            id="an unknown setting",
        ),
        pytest.param(
            lambda root: add_with_settings(root, "[batching]\nmax_rows = 0\n"),
            "fraud/model.toml: key 'batching.max_rows': Expected `int` >= 1",
            id="a setting out of range",
        ),
        pytest.param(
            lambda root: add_with_settings(root, '[execution]\nproviders = ["tensorrt"]\n'),
            "fraud/model.toml: key 'execution.providers': execution provider 'tensorrt' is not part of the installed",
            id="a provider that is not there",
        ),
        pytest.param(
            lambda root: add_with_settings(root, "[execution.session_options]\nnonsense = 1\n"),
            "fraud/model.toml: key 'execution.session_options': onnxruntime has no session option 'nonsense'",
            id="an option that onnxruntime lacks",
        ),
        pytest.param(
            lambda root: write(root, "fraud/config.pbtxt", b"max_batch_size: many\n"),
            "fraud/config.pbtxt: ",
            id="a config.pbtxt that cannot be read",
        ),
        pytest.param(
            lambda root: add(root).joinpath("model.onnx").unlink(),
            "fraud/1/model.onnx: no such file",
            id="no model",
        ),
        pytest.param(
            lambda root: add_version(root, "fraud", 1, b"no model"),
            "fraud/1/model.onnx: onnxruntime refuses the model",
            id="a model that is none",
        ),
        pytest.param(
            lambda root: add_version(root, "fraud", 1, onnx_models.zipmap()),
            "fraud/1/model.onnx: output 'probabilities' is seq(map(int64,tensor(float))), expected a tensor; "
            "convert again with options={'zipmap': False}, or repair the file with `gateway publish --strip-zipmap`",
            id="an output that is no tensor",
        ),
        pytest.param(
            lambda root: add(root, manifest__toml="files"),
            "fraud/1/manifest.toml: not TOML",
            id="a manifest that is not TOML",
        ),
        pytest.param(
            lambda root: add(root, manifest__toml=manifest_of(MODEL) + "[feature]\n"),
            "fraud/1/manifest.toml: key 'feature': unknown 'feature', did you mean 'features'?",
            id="an unknown key of the manifest",
        ),
        pytest.param(
            lambda root: add(root, manifest__toml="[files]\n"),
            "fraud/1/manifest.toml: key 'files': expected the hash of 'model.onnx'",
            id="a manifest without the model",
        ),
        pytest.param(
            lambda root: add(root, manifest__toml=f'[files]\n"model.onnx" = "{EMPTY_HASH}"\n'),
            f"fraud/1/model.onnx: hash is {manifest_of(MODEL).split(chr(34))[3]}, the manifest says {EMPTY_HASH}",
            id="a model that is not the manifest's",
        ),
        pytest.param(
            lambda root: add(root, manifest__toml=f'{manifest_of(MODEL)}"notes.txt" = "{EMPTY_HASH}"\n'),
            "fraud/1/notes.txt: no such file",
            id="a listed file that is not there",
        ),
        pytest.param(
            lambda root: add(root, manifest__toml=f"{manifest_of(MODEL)}[features]\nx = ['a', 'b']\n"),
            "fraud/1/manifest.toml: key 'features.x': has 2 names, input 'x' [rows, 3] has 3 columns",
            id="too few names",
        ),
        pytest.param(
            lambda root: add(root, manifest__toml=f"{manifest_of(MODEL)}[labels]\nz = ['a', 'b']\n"),
            "fraud/1/manifest.toml: key 'labels.z': the model has no output 'z'",
            id="names of an output that is not there",
        ),
        pytest.param(
            lambda root: add(root, golden__json='{"case": []}'),
            "fraud/1/golden.json: Object contains unknown field `case`",
            id="golden requests of another form",
        ),
        pytest.param(
            lambda root: add(root, golden__json=json.dumps(WRONG_GOLDEN)),
            "fraud/1/golden.json: case 0: output 'y' differs by more than 1e-05",
            id="a golden request with another answer",
        ),
        pytest.param(
            lambda root: add_external(root, manifest=""),
            "fraud/1/model.onnx: external data 'weights.bin' is not listed with its hash in manifest.toml",
            id="external data without a hash",
        ),
        pytest.param(
            lambda root: add_external(
                root,
                manifest=f'{manifest_of(onnx_models.external_data("weights.bin"))}"weights.bin" = "{EMPTY_HASH}"\n',
            ),
            "fraud/1/weights.bin: hash is sha256:",
            id="external data that is not the manifest's",
        ),
        pytest.param(
            lambda root: add(root).joinpath("golden.json").symlink_to("/dev/null"),
            "fraud/1/golden.json: cannot be read (links are not followed)",
            id="a file that is a link",
        ),
    ],
)
def test_every_fault_is_found_and_named(arrange: Arrange, said: str, tmp_path: Path) -> None:
    arrange(tmp_path)
    before = files_of(tmp_path)
    faults = found(tmp_path)
    assert len(faults) == 1, faults
    assert faults[0].startswith(said), faults[0]
    assert files_of(tmp_path) == before


def test_one_fault_does_not_hide_the_next(tmp_path: Path) -> None:
    manifest = f'{manifest_of(MODEL)}"golden.json" = "{EMPTY_HASH}"\n"notes.txt" = "{EMPTY_HASH}"\n'
    add(tmp_path, manifest__toml=f"{manifest}[features]\nw = []\n", golden__json="{", notes__txt="text")
    add_version(tmp_path, "fraud", 2, b"no model")
    configure(tmp_path, "fraud", '[execution]\nproviders = ["tensorrt"]\n')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.toml").write_text("batch = 1")
    starts = [
        "fraud/model.toml: key 'execution.providers': ",
        "fraud/1/golden.json: Input data was truncated",
        "fraud/1/golden.json: hash is",
        "fraud/1/notes.txt: hash is",
        "fraud/1/manifest.toml: key 'features.w': the model has no input 'w'",
        "fraud/2/model.onnx: onnxruntime refuses the model",
        "other/model.toml: key 'batch': unknown 'batch'",
    ]
    faults = found(tmp_path)
    assert len(faults) == len(starts), faults
    for fault, start in zip(faults, starts, strict=True):
        assert fault.startswith(start)


def test_a_repository_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    result = check_repository(tmp_path / "no")
    assert [str(finding) for finding in result.faults] == [f"{tmp_path}/no: no such directory"]


# --- notes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrange", "said"),
    [
        pytest.param(
            lambda root: add_two(root, MODEL, onnx_models.affine(4)),
            "fraud/3: differs from fraud:1: input 'x' was FP32 [rows, 3], is FP32 [rows, 4]",
            id="another signature",
        ),
        pytest.param(
            lambda root: publish_two(root, ["a", "b", "c"], ["a", "c", "b"]),
            "fraud/2: differs from fraud:1: column 1 of input 'x' was 'b', is 'c'",
            id="features in another order",
        ),
        pytest.param(
            lambda root: add_version(root, "fraud", 1, onnx_models.mean_centred()),
            "fraud/1/model.onnx: requests run one by one: the self-test found that rows influence each other",
            id="rows that influence each other",
        ),
        pytest.param(
            lambda root: add(root, manifets__toml=manifest_of(MODEL)),
            "fraud/1/manifets.toml: has no effect; nothing reads a file of this name",
            id="a slip of a name",
        ),
        pytest.param(
            lambda root: add_with_settings(root, "versions = [1, 2]\n"),
            "fraud/model.toml: key 'versions': there is no version 2",
            id="a version that is not there",
        ),
        pytest.param(lambda root: (root / "fraud").mkdir(), "fraud: holds no version", id="a model without versions"),
        pytest.param(
            lambda root: write(root, "fraud/config.pbtxt", PBTXT),
            "fraud/config.pbtxt: key 'response_cache",
            id="a setting of Triton's without effect",
        ),
        pytest.param(
            lambda root: (root / ".publishing-fraud-x").mkdir(),
            ".publishing-fraud-x: left behind by a publish that was killed; no server looks inside, remove it",
            id="what a killed publish left",
        ),
    ],
)
def test_what_is_worth_knowing_is_noted_and_is_no_fault(arrange: Arrange, said: str, tmp_path: Path) -> None:
    arrange(tmp_path)
    assert found(tmp_path) == []
    notes = found(tmp_path, faults=False)
    assert notes, said
    assert notes[0].startswith(said), notes


def test_a_publish_that_runs_is_not_taken_for_a_killed_one(tmp_path: Path) -> None:
    with staged_version(tmp_path, "fraud"):
        (note,) = found(tmp_path, faults=False)
        assert note.endswith(": a publish is running")
    assert found(tmp_path, faults=False) == []


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environment", "said"),
    [
        ("[server]\nprot = 1\n", {}, "gateway.toml: key 'server.prot': unknown 'prot', did you mean 'port'?"),
        ("[server]\nport = 70000\n", {}, "gateway.toml: key 'server.port': Expected `int` <= 65535"),
        (
            "[limits]\nmax_json_depth = 'x'\n",
            {},
            "gateway.toml: key 'limits.max_json_depth': Expected `int`, got `str`",
        ),
        ("server\n", {}, "gateway.toml: not TOML: "),
        (
            "[routes.fraud]\nvariants = [{name = 'a', model = 'm', version = 0, weight = 100}]\n",
            {},
            "gateway.toml: key 'routes.fraud.variants.0.version': expected a positive integer, got 0",
        ),
        ("", {"GATEWAY_PORT": "many"}, "GATEWAY_PORT: key 'port': Expected `int`, got `str`"),
        (
            "[monitoring]\nwebhook = 'ftp://somewhere'\n",
            {},
            "settings: key 'monitoring.webhook': expected http://host… or https://host…",
        ),
    ],
)
def test_a_fault_of_the_settings_is_found(text: str, environment: dict[str, str], said: str, tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(text)
    (finding,), repository = check_settings(None, environment, config)
    assert finding.is_fault
    assert str(finding).replace(f"{tmp_path}/", "").startswith(said)
    assert repository == Path("models")


def test_a_variable_without_effect_is_noted_and_the_repository_is_the_servers(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text('[server]\nrepository = "elsewhere"\n')
    (note,), repository = check_settings(None, {"GATEWAY_PROT": "1"}, config)
    assert not note.is_fault
    assert str(note) == "environment: unknown 'GATEWAY_PROT', did you mean 'GATEWAY_PORT'?"
    assert repository == Path("elsewhere")
    assert check_settings("here", {}, config) == ([], Path("here"))


# --- from a shell ------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_clean_repository_is_0_and_says_nothing(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(elsewhere / "models")
    assert main(["check"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["loading fraud:1", "checked models: 1 versions of 1 models, 0 faults"]


def test_faults_are_1_and_a_line_each_settings_first(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(elsewhere / "models", golden__json=json.dumps(WRONG_GOLDEN), old__txt="")
    (elsewhere / "gateway.toml").write_text("[server]\nprot = 1\n")
    assert main(["check", "models"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "gateway.toml: key 'server.prot': unknown 'prot', did you mean 'port'?",
        "models/fraud/1/golden.json: case 0: output 'y' differs by more than 1e-05",
        "note: models/fraud/1/old.txt: has no effect; nothing reads a file of this name",
    ]


def test_as_json_every_finding_has_file_key_and_reason(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(elsewhere / "models", old__txt="")
    configure(elsewhere / "models", "fraud", "[batching]\nmax_row = 8\n")
    assert main(["check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "faults": [
            {
                "file": "models/fraud/model.toml",
                "key": "batching.max_row",
                "reason": "unknown 'max_row', did you mean 'max_rows'?",
            }
        ],
        "notes": [
            {
                "file": "models/fraud/1/old.txt",
                "key": "",
                "reason": "has no effect; nothing reads a file of this name",
            }
        ],
        "models": 1,
        "versions": 1,
    }


def test_settings_that_are_not_there_are_a_fault(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "models").mkdir()
    assert main(["check", "--config", "no.toml"]) == 1
    assert capsys.readouterr().out == "no.toml: cannot be read: No such file or directory\n"
