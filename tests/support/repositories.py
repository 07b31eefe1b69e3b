"""Owns model repositories that tests write, the way publishers do: whole directories, renamed into place.

Never makes a model; it is given a file's bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

from tests.support.server import EXAMPLE_MODELS


def manifest_of(model: bytes) -> str:
    """Return the smallest manifest: the model's hash."""
    return f'[files]\n"model.onnx" = "sha256:{hashlib.sha256(model).hexdigest()}"\n'


def add_version(
    repository: Path,
    name: str,
    version: int,
    model: bytes,
    *,
    manifest: str | None = "",
    golden: object = None,
) -> Path:
    """Put a whole version into the repository in one rename.

    Args:
        manifest: None for none, "" for one that fits the model.
        golden: The content of golden.json, none without.
    Returns: Its directory.
    """
    staged = repository / f".staged-{name}-{version}"
    staged.mkdir(parents=True)
    (staged / "model.onnx").write_bytes(model)
    if manifest is not None:
        (staged / "manifest.toml").write_text(manifest or manifest_of(model))
    if golden is not None:
        (staged / "golden.json").write_text(json.dumps(golden))
    target = repository / name / str(version)
    target.parent.mkdir(exist_ok=True)
    return staged.rename(target)


def configure(repository: Path, name: str, text: str) -> None:
    """Write a model's model.toml, in one rename too."""
    folder = repository / name
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / ".model.toml"
    staged.write_text(text)
    staged.rename(folder / "model.toml")


def copy_examples(repository: Path) -> Path:
    """Copy every example model, so that a test may add to them."""
    for model in EXAMPLE_MODELS.iterdir():
        if model.is_dir() and any(path.name.isdigit() for path in model.iterdir()):
            shutil.copytree(model, repository / model.name)
    return repository
