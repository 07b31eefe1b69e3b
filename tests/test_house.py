"""Owns the two rules of the house: imports point down only, and each library has one owner.

Never imports what it judges: it reads the source, so that an import inside a function counts too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gateway"

# Top to bottom; a module may import its own tier and every tier below it.
TIERS = (
    {
        "__main__",
        "cli",
        "commands",
        "app",
        "server",
        "supervisor",
        "acceptor",
        "listener",
        "replica",
        "orders",
        "listening",
        "protocol",
        "short_cycle",
        "admin_client",
        "tables",
    },
    {"api"},
    {
        "dataplane",
        "heard_routes",
        "local_aborts",
        "controlplane",
        "routeplane",
        "route_exposition",
        "route_fitness",
        "routes_in_force",
        "route_upkeep",
        "route_writer",
        "shadowing",
        "call",
        "endpoints",
        "route_health",
        "shadow_lane",
        "spare_time",
        "busy_poll",
        "publishing",
        "candidate",
        "staging",
        "data_files",
        "checking",
        "version_check",
        "referencing",
        "yardsticks",
    },
    {"routing", "inference", "monitoring"},
    {"store", "telemetry"},
    {"errors", "messages", "identity", "settings", "toml_files", "__init__", "__version__"},
)
STRANGERS = {"routing", "inference", "monitoring"}  # of one tier, and never each other

OWNERS = {
    "google.protobuf": ("inference/",),
    "onnx": ("inference/",),
    "onnxruntime": ("inference/session.py",),
    "simdjson": ("api/number_arrays.py",),
    "prometheus_client": ("telemetry/metrics.py",),
    "pyarrow": ("data_files.py",),
    "redis": ("store/redis_connection.py",),
    "scipy": ("monitoring/",),
    "starlette": ("api/", "app.py"),
    "uvicorn": ("server.py", "listener.py", "protocol.py", "short_cycle.py"),
}

TIER_OF = {noun: level for level, tier in enumerate(TIERS) for noun in tier}


def imported(source: str) -> Iterator[str]:
    """Yield the dotted name of everything that the source imports, wherever in it; relative ones start with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def faults(path: str, source: str) -> list[str]:
    """List how the imports of gateway/<path> break the rules; empty when they keep them."""
    noun = path.removesuffix(".py").split("/")[0]
    if noun not in TIER_OF:
        return [f"{path}: {noun} stands in no tier"]
    found = []
    for name in imported(source):
        target = name.split(".")[1] if name.startswith("gateway.") else noun
        if name.startswith("."):
            found.append(f"{path}: {name} is relative")
        elif target not in TIER_OF:
            found.append(f"{path}: {name} stands in no tier")
        elif TIER_OF[target] < TIER_OF[noun]:
            found.append(f"{path}: {name} points up")
        elif target != noun and {target, noun} <= STRANGERS:
            found.append(f"{path}: {name} is a stranger's")
        for library, owners in OWNERS.items():
            if f"{name}.".startswith(f"{library}.") and not path.startswith(owners):
                found.append(f"{path}: {name} belongs to {' and '.join(owners)}")
    return found


def test_every_import_points_down_and_every_library_has_one_owner() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
    assert modules
    assert [fault for path, source in modules.items() for fault in faults(path, source)] == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("inference/batcher.py", "from gateway import dataplane", "gateway.dataplane points up"),
        ("inference/batcher.py", "def run():\n    import gateway.api.v2", "gateway.api.v2 points up"),
        ("errors.py", "from gateway.store.interface import RouteStore", "gateway.store.interface.RouteStore points up"),
        ("__init__.py", "from gateway.cli import main", "gateway.cli.main points up"),
        ("routing/route.py", "from gateway.inference import registry", "gateway.inference.registry is a stranger's"),
        ("api/v2.py", "from .payload import decode", ".payload.decode is relative"),
        ("api/v2.py", "from gateway.helpers import retry", "gateway.helpers.retry stands in no tier"),
        ("helpers.py", "import json", "helpers stands in no tier"),
        ("dataplane.py", "import onnxruntime as ort", "onnxruntime belongs to inference/session.py"),
        ("inference/batcher.py", "from onnxruntime import InferenceSession", "belongs to inference/session.py"),
        ("api/payload.py", "import simdjson", "simdjson belongs to api/number_arrays.py"),
        (
            "api/admin.py",
            "import uvicorn.config",
            "belongs to server.py and listener.py and protocol.py and short_cycle.py",
        ),
        (
            "publishing.py",
            "from google.protobuf import text_format",
            "google.protobuf.text_format belongs to inference/",
        ),
    ],
)
def test_the_checker_names_a_bad_import(path: str, source: str, fault: str) -> None:
    (found,) = faults(path, source)
    assert found.endswith(fault)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("app.py", "from starlette.applications import Starlette\nfrom gateway import __version__, server"),
        ("api/asgi.py", "from gateway.api.exchange import Exchange\nfrom gateway.dataplane import DataPlane"),
        ("inference/session.py", "import onnx\nimport onnxruntime\nfrom gateway.telemetry.metrics import Metrics"),
        ("monitoring/recorder.py", "import numpy as np\nfrom gateway.errors import GatewayError"),
    ],
)
def test_the_checker_lets_a_good_import_pass(path: str, source: str) -> None:
    assert faults(path, source) == []
