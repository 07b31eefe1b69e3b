import re
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.lock_part import lock_part
from tests.support.server import ROOT

LOCK = """\
# made by a tool
asked==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:ab
    # via the-project (pyproject.toml)
deep==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:ba
    # via shared
deep==3.0 ; python_full_version >= '3.12' \\
    --hash=sha256:bb
    # via shared
other==4.0 \\
    --hash=sha256:ca
    # via the-project (pyproject.toml)
shared==5.0 \\
    --hash=sha256:da
    # via
    #   asked
    #   other
unasked==6.0 \\
    --hash=sha256:ea
    # via other
"""


def pins(part: str) -> list[str]:
    return re.findall(r"^([a-z][a-z0-9-]*==[0-9.]+)", part, re.MULTILINE)


def test_a_part_has_what_is_wanted_and_all_that_needs_in_every_variant() -> None:
    assert pins(lock_part(LOCK, ["asked"])) == ["asked==1.0", "deep==2.0", "deep==3.0", "shared==5.0"]


def test_every_line_of_a_pin_comes_along() -> None:
    assert "--hash=sha256:aa \\\n    --hash=sha256:ab" in lock_part(LOCK, ["asked"])


def test_a_package_that_is_not_locked_is_an_error() -> None:
    with pytest.raises(ValueError, match="not in the lock: absent"):
        lock_part(LOCK, ["asked", "absent"])


def test_the_part_for_load_tests_is_complete_and_leaves_the_rest_out() -> None:
    """Complete: whatever pip would install for locust here is pinned, at the version installed here."""
    part = lock_part(Path(ROOT / "requirements-test.lock").read_text(), ["locust", "scikit-learn", "orjson"])
    names = {pin.partition("==")[0] for pin in pins(part)}
    needed = subprocess.run(
        [sys.executable, "-c", _NEEDED, "locust", "scikit-learn", "orjson"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(needed.stdout.split()) - names == set()
    assert not names & {"onnxruntime", "playwright", "xgboost-cpu", "kserve"}


_NEEDED = """
import importlib.metadata as metadata, re, sys
from packaging.requirements import Requirement
todo, seen = list(sys.argv[1:]), set()
while todo:
    name = re.sub("[-_.]+", "-", todo.pop()).lower()
    if name not in seen:
        seen.add(name)
        for text in metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(requirement.name)
print(*seen)
"""
