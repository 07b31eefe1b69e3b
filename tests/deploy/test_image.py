"""The image without a container engine: its file is linted and read, its one build step run in a clean environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.server import EXAMPLE_MODELS, ROOT, ask, eventually, free_port

DOCKERFILE = ROOT / "Dockerfile"
NOBODY = 10001


def instructions(stage: str) -> list[tuple[str, str]]:
    """Return (instruction, arguments) of one stage, those of its base first."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    stages: dict[str, list[tuple[str, str]]] = {"${BASE}": []}
    current: list[tuple[str, str]] = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, name = rest.split(" AS ")
            current = stages[name] = [("FROM", base), *stages[base]]
        elif word != "ARG":
            current.append((word, " ".join(rest.split())))
    return stages[stage]


def arguments(stage: str, instruction: str) -> list[str]:
    return [rest for word, rest in instructions(stage) if word == instruction]


def test_hadolint_finds_nothing_to_say() -> None:
    checked = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "Dockerfile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_the_base_is_pinned_to_an_exact_release() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", DOCKERFILE.read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", ["cpu", "gpu", "loadtest"])
def test_an_image_runs_as_nobody_with_no_build_tools(target: str) -> None:
    assert arguments(target, "USER") == [f"{NOBODY}:{NOBODY}"]
    assert all("uninstall" in step and "pip" in step for step in arguments(target, "RUN"))


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_drains_on_the_right_signal_and_says_how_it_is(target: str) -> None:
    assert arguments(target, "STOPSIGNAL") == ["SIGTERM"]
    (healthcheck,) = arguments(target, "HEALTHCHECK")
    assert healthcheck.endswith('CMD ["python", "/opt/healthcheck.py", "/livez"]')
    assert arguments(target, "VOLUME") == ['["/var/lib/gateway"]']
    assert json.loads(arguments(target, "ENTRYPOINT")[-1]) + json.loads(arguments(target, "CMD")[-1]) == [
        "gateway",
        "serve",
    ]


def test_every_build_has_the_script_as_its_only_step() -> None:
    locks = {"cpu": "requirements.lock", "gpu": "requirements-gpu.lock", "loadtest": "requirements-test.lock"}
    for target, lock in locks.items():
        (step,) = arguments(f"build-{target}", "RUN")
        assert step.startswith(f"deploy/install.sh {lock} /opt/")


def test_the_builder_gets_every_file_it_copies() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name
        for target in ("cpu", "gpu", "loadtest", "build-cpu", "build-loadtest")
        for step in arguments(target, "COPY")
        if not step.startswith("--from=")
        for name in step.split()[:-1]
    }
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.timeout(600)
def test_what_the_step_installs_answers_predictions_as_nobody() -> None:
    """As in the container: a clean environment, its settings, its user where we may be another, nothing of ours.

    One test, because the step takes a while: it fetches what the lock names, as it does in a builder.
    """
    with tempfile.TemporaryDirectory(prefix="image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        installed = installed_in(folder)

        packages = {path.name for path in (installed / "lib").glob("python3*/site-packages/*")}
        assert {"gateway", "onnxruntime", "redis", "scipy"} <= packages
        assert not packages & {"pip", "setuptools", "wheel", "pkg_resources", "pytest", "locust", "sklearn"}
        assert not list((installed / "bin").glob("pip*"))

        with served_as_nobody(installed, folder) as (url, admin_url, is_healthy):
            assert is_healthy("/livez")
            golden = json.loads((EXAMPLE_MODELS / "diabetes" / "1" / "golden.json").read_text())["cases"][0]
            inputs = [
                {"name": name, "shape": [1, 1], "datatype": "FP32", "data": values}
                for name, values in golden["inputs"].items()
            ]
            answer = ask(f"{url}/v2/models/diabetes/infer", "POST", {"inputs": inputs})
            assert answer.status == 200, answer.body
            (expected,) = golden["outputs"]["progression"]
            assert answer.json["outputs"][0]["data"] == pytest.approx(expected, abs=golden["tolerance"])
            # What is no Python file came along as well: the page, and the scripts that Redis runs.
            assert ask(f"{admin_url}/console").status == 200
            assert {path.name for path in installed.glob("lib/python3*/site-packages/gateway/store/*.lua")} == {
                path.name for path in ROOT.glob("gateway/store/*.lua")
            }
        assert not is_healthy("/livez")


def installed_in(folder: Path) -> Path:
    """Run the image's build step on a copy of what the builder gets; the folder that the image keeps."""
    source, target = folder / "src", folder / "opt" / "gateway"
    for step in arguments("build-cpu", "COPY"):
        for path in step.split()[:-1]:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / path).is_dir():
                shutil.copytree(ROOT / path, source / path, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / path, source / path)
    (step,) = arguments("build-cpu", "RUN")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GATEWAY_"))}
    built = subprocess.run(
        step.replace("/opt/gateway", str(target)).split(),
        cwd=source,
        env=environment | {"PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    shutil.rmtree(source)
    return target


def may_run(python: Path, user: int) -> bool:
    """Tell whether another user may run this interpreter: root's own stands where nobody else can read."""
    try:
        return (
            subprocess.run([str(python), "-c", ""], user=user, group=user, extra_groups=[], check=False).returncode == 0
        )
    except PermissionError:
        return False


@contextmanager
def served_as_nobody(installed: Path, folder: Path) -> Iterator[tuple[str, str, Callable[[str], bool]]]:
    """Start what the image starts, with its variables; the URLs of its planes, and its health check."""
    models, state, log = folder / "models", folder / "state", folder / "log"
    shutil.copytree(EXAMPLE_MODELS, models)
    state.mkdir()
    data_port, admin_port = free_port(), free_port()
    variables = dict(pair for step in arguments("cpu", "ENV") for pair in re.findall(r"([A-Z_]+)=(\S+)", step))
    assert variables.pop("PATH").startswith("/opt/gateway/bin:")
    variables |= {
        "GATEWAY_REPOSITORY": str(models),
        "GATEWAY_HOST": "127.0.0.1",
        "GATEWAY_STATE_DIR": str(state),
        "GATEWAY_PORT": str(data_port),
        "GATEWAY_ADMIN_PORT": str(admin_port),
    }
    nobody = NOBODY if os.geteuid() == 0 and may_run(installed / "bin" / "python", NOBODY) else None
    if nobody is not None:
        os.chown(state, nobody, nobody)

    def is_healthy(path: str) -> bool:
        check = [str(installed / "bin" / "python"), str(ROOT / "deploy" / "healthcheck.py"), path]
        return subprocess.run(check, env=variables, capture_output=True, check=False).returncode == 0

    with log.open("w") as errors:
        process = subprocess.Popen(
            [str(installed / "bin" / "gateway"), "serve"],
            cwd=state,
            env=variables,
            stdout=errors,
            stderr=errors,
            user=nobody,
            group=nobody,
            extra_groups=None if nobody is None else [],
        )
        try:
            eventually(lambda: process.poll() is not None or is_healthy("/readyz"), within_s=60, what="ready")
            assert process.poll() is None, log.read_text()
            yield f"http://127.0.0.1:{data_port}", f"http://127.0.0.1:{admin_port}", is_healthy
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0, log.read_text()
        finally:
            process.kill()
