"""Every block of docs/clients.md does what it says: clients against a server, conversions into one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gateway.inference.model_config import parse_model_config
from tests.e2e.test_readme import STRICT_SHELL, Block, blocks_of, for_this_server
from tests.e2e.wire import infer_path, json_body, read_outputs
from tests.support.repositories import add_version
from tests.support.server import ROOT, GatewayProcess, eventually

PAGE = (ROOT / "docs" / "clients.md").read_text()
NOT_RUN = "Not run by the tests"

KEEP_WHAT_IT_SAID = """
import numpy
some = features[:50]
numpy.savez("said", features=some, label=model.predict(some), probabilities=model.predict_proba(some))
"""
"""What a conversion is compared with: the library's own answers."""


def sections_of(text: str) -> dict[str, str]:
    """Return the text below every heading."""
    headings = list(re.finditer(r"^#+ (.*)$", text, re.MULTILINE))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    return {heading[1]: text[heading.end() : end] for heading, end in zip(headings, ends, strict=True)}


SECTIONS = sections_of(PAGE)
LIBRARIES = ["scikit-learn", "XGBoost", "LightGBM"]
CLIENT_BLOCKS = [
    pytest.param(block, id=f"{heading}-{number}")
    for heading, text in SECTIONS.items()
    if heading not in LIBRARIES and NOT_RUN not in text
    for number, block in enumerate(blocks_of(text), 1)
    if block.language in ("bash", "python")
]


def run(block: Block, folder: Path, *, more: str = "") -> str:
    """Run a pasted block, and return what it printed."""
    if block.language == "bash":
        command = ["bash", "-c", STRICT_SHELL + block.text]
    else:
        command = [sys.executable, "-W", "error", "-c", block.text + more]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_what_is_not_run_says_so() -> None:
    assert [heading for heading, text in SECTIONS.items() if NOT_RUN in text] == [
        "perf_analyzer",
        "PyTorch",
        "TensorFlow and Keras",
    ]
    assert len(CLIENT_BLOCKS) >= 10


@pytest.mark.parametrize("block", CLIENT_BLOCKS)
def test_a_client_block_works(gateway: GatewayProcess, tmp_path: Path, block: Block) -> None:
    pasted = block._replace(text=for_this_server(block.text, gateway))
    assert run(pasted, tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_converted_model_answers_as_its_library_does(
    gateway: GatewayProcess, example_repository: Path, tmp_path: Path, library: str
) -> None:
    (block,) = blocks_of(SECTIONS[library])
    run(block, tmp_path, more=KEEP_WHAT_IT_SAID)
    name = f"converted_by_{library.lower()}"
    add_version(example_repository, name, 1, (tmp_path / "model.onnx").read_bytes())
    eventually(lambda: gateway.ask(f"/v2/models/{name}/ready").status == 200, what=f"{name} READY")
    (version,) = gateway.versions(name).values()
    assert version["batching"]["shares_runs"] is True
    (described,) = gateway.ask(f"/v2/models/{name}").json["inputs"]
    label, probabilities = (output["name"] for output in gateway.ask(f"/v2/models/{name}").json["outputs"])
    with np.load(tmp_path / "said.npz") as said:
        answer = gateway.ask(infer_path(name), "POST", json_body({described["name"]: said["features"]}))
        assert answer.status == 200, answer.body
        got = read_outputs(answer)
        np.testing.assert_array_equal(got[label], said["label"])
        np.testing.assert_allclose(got[probabilities], said["probabilities"], atol=1e-5)


def test_the_settings_that_a_conversion_needs_are_understood() -> None:
    (block,) = [block for block in blocks_of(SECTIONS["TensorFlow and Keras"]) if block.language == "toml"]
    assert parse_model_config(block.text.encode(), where="model.toml").batching.enabled is True
