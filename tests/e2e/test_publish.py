"""From a file to a first prediction, with the commands a user types and a server that watches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from tests.e2e.clients import curl
from tests.e2e.wire import json_body
from tests.support import onnx_models
from tests.support.publishers import Publisher
from tests.support.repositories import add_version
from tests.support.server import ROOT, GatewayProcess, eventually, running_gateway

WITHIN_S = 60.0


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    output: str
    error: str


def gateway(folder: Path, *arguments: object) -> Ended:
    """Run a command as a shell would, warnings as errors."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "gateway", *map(str, arguments)],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return Ended(ran.returncode, ran.stdout, ran.stderr)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository with one model, so that a server is ready."""
    root = tmp_path_factory.mktemp("work") / "models"
    root.mkdir()
    add_version(root, "steady", 1, onnx_models.affine())
    return root


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[GatewayProcess]:
    """Serve it."""
    with running_gateway(repository) as process:
        yield process


def await_ready(server: GatewayProcess, model: str, version: int) -> None:
    eventually(lambda: server.state(model, version) == "READY", what=f"{model}:{version} READY")


def test_a_scikit_learn_classifier_is_one_publish_and_one_curl_from_its_first_prediction(
    server: GatewayProcess, repository: Path
) -> None:
    """The default conversion has a ZipMap: the first publish names the output and both repairs, the next repairs it."""
    features, target = load_iris(return_X_y=True)
    features = features.astype(np.float32)
    model = LogisticRegression(max_iter=500).fit(features, target)
    file = repository.parent / "iris.onnx"
    file.write_bytes(to_onnx(model, features[:1], target_opset={"": 18, "ai.onnx.ml": 3}).SerializeToString())

    refused = gateway(repository.parent, "publish", "iris", file)
    assert refused.code == 1
    assert refused.output == ""
    last = refused.error.splitlines()[-1]
    assert last.startswith("gateway: output 'output_probability' is seq(map(int64,tensor(float)))")
    assert "options={'zipmap': False}" in last
    assert "gateway publish --strip-zipmap" in last
    assert not (repository / "iris").exists()

    published = gateway(repository.parent, "publish", "iris", file, "--strip-zipmap")
    assert published == Ended(0, "published iris:1 in models/iris/1\n", published.error)
    await_ready(server, "iris", 1)
    answer = curl(f"{server.data_url}/v2/models/iris/infer", body=json_body({"X": features[::30]}))

    outputs = {output["name"]: output["data"] for output in answer.json["outputs"]}
    assert answer.status == 200
    assert outputs["label"] == model.predict(features[::30]).tolist()
    assert np.allclose(outputs["probabilities"], model.predict_proba(features[::30]).ravel(), atol=1e-5)
    assert server.versions("iris")[1]["manifest"]["labels"] == {"probabilities": ["0", "1", "2"]}


def test_data_golden_rows_and_an_explicit_number_from_the_shell(server: GatewayProcess, repository: Path) -> None:
    work = repository.parent
    (work / "affine.onnx").write_bytes(onnx_models.affine())
    (work / "train.csv").write_text("id,age,bmi,bp,target\n1,40,22.5,80,0\n2,31,27.25,85,1\n")
    arguments = ("publish", "fraud", "affine.onnx", "--version", 7, "--data", "train.csv", "--golden-rows", 2)
    published = gateway(work, *arguments, "--drop", "id", "target", "--repository", repository)
    assert published == Ended(0, f"published fraud:7 in {repository}/fraud/7\n", published.error)
    assert "train.csv: 2 rows fit the inputs" in published.error.splitlines()
    await_ready(server, "fraud", 7)
    manifest = server.versions("fraud")[7]["manifest"]
    assert manifest["features"] == {"x": ["age", "bmi", "bp"]}
    assert manifest["data"]["rows"] == 2
    again = gateway(work, *arguments, "--drop", "id", "--drop", "target")
    assert (again.code, again.output) == (1, "")
    assert again.error.splitlines()[-1].startswith("gateway: fraud:7: models/fraud/7 exists")
    assert gateway(work, "check").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("publish", "fraud"), 2, "the following arguments are required: FILE.onnx"),
        (("publish", "a b", "affine.onnx"), 2, "model 'a b': expected a name of letters"),
        (("publish", "fraud", "no.onnx"), 2, "no.onnx: no such file"),
        (("publish", "fraud", "affine.onnx", "--version", "new"), 2, "argument --version: invalid int value"),
        (("publish", "fraud", "affine.onnx", "--strip-zipmp"), 2, "did you mean '--strip-zipmap'?"),
        (("publish", "fraud", "affine.onnx", "--repository", "no/models"), 3, "no/models: cannot be written"),
        (("publish", "fraud", "noise.onnx"), 1, "onnxruntime refuses the model"),
        (("check", "no"), 1, "checked no: 0 versions of 0 models, 1 faults"),
        (("models", "--admin", "localhost:8002"), 2, "expected an address like http://127.0.0.1:8002"),
    ],
)
def test_exit_codes_tell_a_no_from_wrong_usage_from_no_start(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "affine.onnx").write_bytes(onnx_models.affine())
    (tmp_path / "noise.onnx").write_bytes(b"no model")
    ended = gateway(tmp_path, *arguments)
    assert ended.code == code
    assert said in ended.error.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["affine.onnx", "noise.onnx"]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "affine.onnx").write_bytes(onnx_models.affine())
    (tmp_path / "long.csv").write_text("a,b,c\n" + "1,2,3\n" * 3_000_000)
    command = ["publish", "fraud", "affine.onnx", "--data", "long.csv"]
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("requests share runs"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=WITHIN_S)
    assert (process.returncode, output, error) == (1, "", "gateway: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["affine.onnx", "long.csv"]


# --- what a running gateway serves ------------------------------------------------------------------------------


def test_models_shows_a_line_a_version(server: GatewayProcess, repository: Path) -> None:
    add_version(repository, "broken", 2, b"no model")
    eventually(lambda: server.state("broken", 2) == "FAILED", what="broken:2 FAILED")
    shown = gateway(repository.parent, "models", "--admin", server.admin_url)
    assert shown.code == 0
    header, *lines = shown.output.splitlines()
    assert header.split() == ["MODEL", "VERSION", "STATE", "PROVIDERS", "RUNS", "FILE", "SHA256", "REASON"]
    (steady,) = [line.split() for line in lines if line.startswith("steady")]
    assert steady[:5] == ["steady", "1", "READY", "cpu", "shared"]
    (broken,) = [line.split() for line in lines if line.startswith("broken")]
    assert broken[:3] == ["broken", "2", "FAILED"]
    assert "onnxruntime refuses the model" in " ".join(broken)


def test_models_as_json_is_the_servers_own_answer(server: GatewayProcess, repository: Path) -> None:
    shown = gateway(repository.parent, "models", "--admin", f"{server.admin_url}/", "--json")
    assert shown.code == 0
    steady = next(model for model in json.loads(shown.output)["models"] if model["name"] == "steady")
    assert steady == {"name": "steady", "versions": [server.versions("steady")[1]]}


def test_an_answer_that_is_no_gateways_is_1(server: GatewayProcess, repository: Path) -> None:
    """The data plane instead of the admin plane, most likely."""
    shown = gateway(repository.parent, "models", "--admin", server.data_url)
    assert (shown.code, shown.output) == (1, "")
    assert "/admin/v1/models: 404: " in shown.error
    assert shown.error.count("\n") == 1


def test_a_gateway_that_is_not_there_is_3_and_one_line(repository: Path) -> None:
    shown = gateway(repository.parent, "models", "--admin", "http://127.0.0.1:1")
    assert (shown.code, shown.output) == (3, "")
    assert shown.error.startswith("gateway: http://127.0.0.1:1: no gateway answers there (Connection refused)")
    assert shown.error.count("\n") == 1


def test_models_asks_where_the_settings_say(server: GatewayProcess, tmp_path: Path) -> None:
    host, port = server.admin_address
    (tmp_path / "gateway.toml").write_text(f'[server]\nadmin_host = "{host}"\nadmin_port = {port}\n')
    assert gateway(tmp_path, "models").code == 0


# --- two at once -----------------------------------------------------------------------------------------------


def test_two_publishers_never_get_one_number(tmp_path: Path) -> None:
    (tmp_path / "affine.onnx").write_bytes(onnx_models.affine())
    repository = tmp_path / "models"
    each = 15

    def publish_all(publisher: Publisher) -> list[str]:
        arguments = {"model": "fraud", "file": str(tmp_path / "affine.onnx"), "repository": str(repository)}
        return [publisher.publish(**arguments) for _ in range(each)]

    with Publisher() as first, Publisher() as second, ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for said in pool.map(publish_all, (first, second)) for outcome in said]
    assert sorted(outcomes, key=lambda outcome: int(outcome.partition(":")[2])) == [
        f"fraud:{number}" for number in range(1, 2 * each + 1)
    ]
    assert [path.name for path in repository.iterdir()] == ["fraud"]
    assert gateway(tmp_path, "check").code == 0


def test_of_two_that_want_one_number_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "affine.onnx").write_bytes(onnx_models.affine())
    arguments = {"model": "fraud", "file": str(tmp_path / "affine.onnx"), "repository": str(tmp_path / "models")}
    with Publisher() as first, Publisher() as second:
        for version in range(1, 11):
            first.begin(**arguments, version=version)
            second.begin(**arguments, version=version)
            refused, published = sorted([first.finish()[-1], second.finish()[-1]])
            assert published == f"fraud:{version}"
            assert refused.startswith(f"PublishRefused: fraud:{version}: ")
    assert sorted(int(path.name) for path in (tmp_path / "models" / "fraud").iterdir()) == list(range(1, 11))
