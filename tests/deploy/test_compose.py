"""The compose file without an engine: its schema, its linter, and every promise that can be read from it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings import load_settings
from tests.support.server import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GATEWAYS = ("gateway-1", "gateway-2")
SERVERS = [name for name in SERVICES if name != "locust"]  # which ends by itself


def run(*command: str) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name(command[0])
    return subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_the_file_is_what_the_compose_specification_allows() -> None:
    checked = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_yamllint_finds_nothing_to_say_of_any_yaml_here() -> None:
    assert "compose.yaml" in run("yamllint", "--list-files", ".").stdout
    checked = run("yamllint", "--strict", ".")
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_closed_and_bounded(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert "privileged" not in service
    assert "network_mode" not in service


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_says_how_it_is_and_comes_back(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", [name for name in SERVICES if "build" not in SERVICES[name]])
def test_every_foreign_image_is_pinned_to_an_exact_release(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(/[a-z]+)?:v?\d+\.\d+\.\d+(-[a-z]+)?", SERVICES[name]["image"])


def test_everything_published_is_published_on_loopback_only_and_once() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert len({port.split(":")[1] for port in ports}) == len(ports) == 6
    assert "ports" not in SERVICES["redis"]


def test_only_the_replicas_reach_redis() -> None:
    assert COMPOSE["networks"]["back"] == {"internal": True}
    assert {name for name, service in SERVICES.items() if "back" in service["networks"]} == {*GATEWAYS, "redis"}


def test_no_secret_is_in_the_file() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|AUTHORIZATION", name):
                assert name.endswith("__FILE"), name
                assert value.startswith("/run/secrets/")
    assert all(set(secret) == {"file"} for secret in COMPOSE["secrets"].values())
    assert all(secret["file"].startswith("./deploy/secrets/") for secret in COMPOSE["secrets"].values())
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_file_that_is_mounted_is_here_and_only_for_reading() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, *_, mode = volume.split(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert mode == "ro"
            else:
                assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", GATEWAYS)
def test_a_replica_has_time_to_drain(name: str) -> None:
    server = load_settings({}, {}, config=None)[0].server
    assert seconds(SERVICES[name]["stop_grace_period"]) >= server.drain_delay_s + server.drain_timeout_s + 5


def test_the_replicas_keep_their_state_apart_and_share_one_redis() -> None:
    first, second = (SERVICES[name] for name in GATEWAYS)
    assert first["environment"] == second["environment"]
    assert first["volumes"][0] == second["volumes"][0]
    assert first["volumes"][1] != second["volumes"][1]


def test_redis_keeps_routes_and_evicts_nothing() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for option in ("--appendonly yes", "--maxmemory 256mb", "--maxmemory-policy noeviction"):
        assert option in command


def test_the_secrets_that_are_made_are_settings_and_the_token_is_kept_nowhere(tmp_path: Path) -> None:
    made = subprocess.run(
        [ROOT / "deploy" / "secrets.sh", tmp_path / "secrets"], capture_output=True, text=True, check=True
    )
    (token,) = re.findall(r"GATEWAY_ADMIN_TOKEN=(\S+)", made.stdout)
    assert len(token) >= 43
    file = tmp_path / "secrets" / "gateway.toml"
    assert {path.name for path in file.parent.iterdir()} == set(COMPOSE["secrets"])
    assert token not in file.read_text()
    (written,) = tomllib.loads(file.read_text())["auth"]["tokens"]
    assert written["sha256"] == hashlib.sha256(token.encode()).hexdigest()
    environment = SERVICES["gateway-1"]["environment"] | {"GATEWAY_CONFIG": str(file)}
    settings, warnings = load_settings({}, environment)
    assert warnings == []  # no variable in the file is unknown to the gateway
    assert settings.server.admin_host == "0.0.0.0"  # noqa: S104 - what the container listens on
    assert [one.name for one in settings.auth.tokens] == ["operator"]


@pytest.mark.prometheus
def test_prometheus_would_accept_what_is_mounted(tmp_path: Path) -> None:
    for volume in SERVICES["prometheus"]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            place = tmp_path / Path(target).relative_to("/etc/prometheus")
            place.symlink_to(ROOT / source)
    checked = subprocess.run(
        ["promtool", "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rule files found" in checked.stdout


def test_prometheus_is_pointed_at_both_replicas() -> None:
    (group,) = yaml.safe_load((ROOT / "deploy" / "targets.yml").read_text())
    assert group["targets"] == [f"{name}:8002" for name in GATEWAYS]
