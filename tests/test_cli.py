"""The command line as a shell sees it: exit codes, one line on standard error, where settings come from."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway import __version__
from gateway.cli import main
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import START_WITHIN_S, running_gateway, start_gateway


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    error: str


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Write a repository with one model."""
    path = tmp_path / "models"
    path.mkdir()
    add_version(path, "fraud", 3, onnx_models.identity())
    return path


def serve(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Ended:
    """Run `gateway serve` where it cannot start, and hold it to one line on standard error and none on the other."""
    with start_gateway(arguments, folder, environment) as process:
        output, error = process.communicate(timeout=START_WITHIN_S)
    assert output == ""
    assert error.startswith("gateway")
    assert error.count("\n") == 1, error
    return Ended(process.returncode, error)


# --- 2: wrong usage ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--prot", "1"], "unknown '--prot', did you mean '--port'?"),
        (["serve", "--prot=1"], "unknown '--prot', did you mean '--port'?"),
        (["serve", "--admin-por", "1"], "unknown '--admin-por', did you mean '--admin-port'?"),
        (["serve", "models", "more"], "unexpected argument 'more'"),
        (["serve", "--port", "many"], "argument --port: invalid int value: 'many'"),
        (["serve", "--port"], "argument --port: expected one argument"),
        (["serve", "--log-format", "xml"], "argument --log-format: invalid choice: 'xml' (choose from 'text', 'json')"),
        (["serv"], "invalid choice: 'serv' (choose from 'serve', 'publish'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_usage_is_2_and_one_line(arguments: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 2
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


@pytest.mark.parametrize("value", ["70000", "-1"])
def test_a_flag_out_of_range_is_wrong_usage(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", f"--admin-port={value}"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("gateway: --admin-port: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        (["--version"], f"onnx-gateway {__version__}\n"),
        (["--help"], "serve a model repository"),
        (["serve", "-h"], "--port"),
    ],
)
def test_help_and_version_are_0(flag: Sequence[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flag)
    assert ended.value.code == 0
    assert said in capsys.readouterr().out


# --- 3: could not start -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[limits]\nmax_body_byte = 1\n",
            "key 'limits.max_body_byte': unknown 'max_body_byte', did you mean 'max_body_bytes'?",
        ),
        ("[servers]\nport = 1\n", "key 'servers': unknown 'servers', did you mean 'server'?"),
        ('[server]\nport = "8000"\n', "key 'server.port': Expected `int`, got `str`"),
        ("[limits]\nbody_timeout_s = 0\n", "key 'limits.body_timeout_s': Expected `float` > 0.0"),
        ("server = [", "not TOML: "),
    ],
)
def test_a_wrong_settings_file_is_3_and_names_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    ended = serve(tmp_path, "--config", str(file))
    assert ended.code == 3
    assert f"{file}: " in ended.error
    assert said in ended.error


def test_a_settings_file_that_is_not_there_is_3(tmp_path: Path) -> None:
    ended = serve(tmp_path, "--config", "nowhere.toml")
    assert ended == (3, "gateway: nowhere.toml: cannot be read: No such file or directory\n")


def test_a_wrong_variable_is_3_and_named(tmp_path: Path) -> None:
    ended = serve(tmp_path, environment={"GATEWAY_LIMITS_MAX_CONNECTIONS": "none"})
    assert ended.code == 3
    assert "GATEWAY_LIMITS_MAX_CONNECTIONS" in ended.error


@pytest.mark.parametrize(("flag", "other"), [("--port", "--admin-port"), ("--admin-port", "--port")])
def test_a_port_in_use_is_3_and_says_which_flag_to_change(repository: Path, flag: str, other: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve(repository.parent, flag, str(port), other, "0")
    assert ended == (
        3,
        f"gateway: cannot listen on 127.0.0.1:{port}: Address already in use; choose another with {flag}\n",
    )


def test_replicas_without_redis_are_3(repository: Path) -> None:
    ended = serve(repository.parent, str(repository), "--port", "0", "--admin-port", "0", "--replicas", "2")
    assert ended == (
        3,
        "gateway: --replicas 2: replicas share what they know through Redis; say where with --redis URL\n",
    )


def test_replicas_that_cannot_start_are_3_and_one_line(repository: Path) -> None:
    ports = ("--port", "0", "--admin-port", "0")
    impossible = repository / "fraud" / "3" / "model.onnx" / "state"
    shared = ("--replicas", "3", "--redis", "redis://127.0.0.1:1", "--state-dir", str(impossible))
    ended = serve(repository.parent, str(repository), *ports, *shared)
    assert ended.code == 3
    assert ended.error.startswith(f"gateway: state directory {impossible}: cannot be written")


def test_a_state_directory_that_cannot_be_written_is_3_and_says_what_to_do(repository: Path) -> None:
    impossible = repository / "fraud" / "3" / "model.onnx"
    ended = serve(
        repository.parent, str(repository), "--port", "0", "--admin-port", "0", "--state-dir", str(impossible)
    )
    assert ended.code == 3
    assert ended.error.startswith(f"gateway: state directory {impossible}: cannot be written")
    assert "--state-dir none" in ended.error
    assert ended.error.count("\n") == 1


def test_a_damaged_state_file_is_3_and_is_not_overwritten(repository: Path) -> None:
    state = repository.parent / "state"
    state.mkdir()
    (state / "routes.state").write_text("noise")
    ended = serve(repository.parent, str(repository), "--port", "0", "--admin-port", "0", "--state-dir", str(state))
    assert ended.code == 3
    assert ended.error.startswith(f"gateway: {state / 'routes.state'}: does not begin like a state file")
    assert (state / "routes.state").read_text() == "noise"


def test_a_configured_route_that_cannot_be_read_is_3_and_named(repository: Path) -> None:
    (repository.parent / "gateway.toml").write_text("[routes.fraud]\nvariants = []\n")
    ended = serve(repository.parent, str(repository), "--port", "0", "--admin-port", "0")
    assert ended.code == 3
    assert "key 'routes.fraud.variants': expected 1 to 100 variants" in ended.error


def test_a_repository_that_is_not_there_is_3(tmp_path: Path) -> None:
    ended = serve(tmp_path, "nowhere", "--port", "0", "--admin-port", "0")
    assert ended == (3, "gateway: nowhere: no such directory\n")


EVERYWHERE = "0.0.0.0"  # noqa: S104 - that it is refused is the test


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1", "example.com"])
def test_the_admin_plane_does_not_leave_loopback(repository: Path, host: str) -> None:
    """It can unload every model, and nobody has to say who they are."""
    ended = serve(repository.parent, "--port", "0", "--admin-host", host, "--admin-port", "0")
    assert ended.code == 3
    assert ended.error.startswith(f"gateway: --admin-host {host}: ")
    assert "use 127.0.0.1" in ended.error


def test_a_host_that_is_not_ours_is_3(repository: Path) -> None:
    ended = serve(repository.parent, "--host", "192.0.2.1", "--port", "0", "--admin-port", "0")
    assert ended.code == 3
    assert "cannot listen on 192.0.2.1:0" in ended.error
    assert ended.error.endswith("choose another with --host\n")


# --- where settings come from ----------------------------------------------------------------------------------


def test_flags_win_over_variables_over_the_file_over_defaults(repository: Path) -> None:
    """What each source says of a limit, and which one holds, seen from outside."""
    config = "[limits]\nmax_header_bytes = 1000\nmax_body_bytes = 1000\n"
    environment = {"GATEWAY_LIMITS_MAX_BODY_BYTES": "2000", "GATEWAY_LOG_FORMAT": "json", "GATEWAY_PORT": "1"}
    with running_gateway(repository, config=config, environment=environment) as server:  # passes --port 0
        assert server.data_address[1] > 1
        assert server.log_records
        assert server.ask("/v2/models/fraud/infer", "POST", b" " * 2001).status == 413
        assert server.ask("/v2/models/fraud/infer", "POST", b" " * 2000).status == 400
        assert server.ask("/v2", headers={"x": "y" * 1000}).status == 431


def test_the_working_directory_may_hold_the_settings(repository: Path) -> None:
    """The repository's own directory may not: who publishes models does not thereby grant rights."""
    (repository / "gateway.toml").write_text("not even TOML")
    (repository.parent / "gateway.toml").write_text('[server]\nhost = "192.0.2.7"\nport = 0\nadmin_port = 0\n')
    ended = serve(repository.parent, str(repository))
    assert ended.code == 3
    assert "192.0.2.7" in ended.error


def test_gateway_config_names_the_file(repository: Path) -> None:
    file = repository.parent / "elsewhere.toml"
    file.write_text('[server]\nhost = "192.0.2.8"\nport = 0\nadmin_port = 0\n')
    ended = serve(repository.parent, environment={"GATEWAY_CONFIG": str(file)})
    assert ended.code == 3
    assert "192.0.2.8" in ended.error


def test_an_unknown_variable_is_a_warning(repository: Path) -> None:
    environment = {"GATEWAY_LOG_FORMAT": "json", "GATEWAY_PROT": "1"}
    with running_gateway(repository, environment=environment) as server:
        (warning,) = [record for record in server.log_records if record["event"] == "setting_ignored"]
    assert warning["level"] == "warning"
    assert "unknown 'GATEWAY_PROT', did you mean 'GATEWAY_PORT'?" in warning["reason"]


# --- what it says while it runs ------------------------------------------------------------------------------------


def test_the_banner_names_both_addresses_and_every_version(repository: Path) -> None:
    add_version(repository, "fraud", 4, b"noise")
    add_version(repository, "churn", 1, onnx_models.identity())
    with running_gateway(repository) as server:
        lines = server.banner.splitlines()
        assert lines[0] == f"predictions  {server.data_url}/v2"
        assert lines[1] == f"admin        {server.admin_url}/admin/v1/models"
        assert lines[2] == "  churn: 1 READY"
        assert lines[3].startswith("  fraud: 3 READY, 4 FAILED (onnxruntime refuses the model")
        assert lines[-1] == f"to look at it: {server.admin_url}/console"
        assert server.ask("/v2").status == 200


def test_json_logs_are_an_object_a_line(repository: Path) -> None:
    with running_gateway(repository, arguments=["--log-format", "json"]) as server:
        server.stop()
        records = server.log_records
    for record in records:
        assert {"time", "level", "logger", "event"} <= set(record)
    (loaded,) = [record for record in records if record["event"] == "version_loaded"]
    assert (loaded["model"], loaded["version"], loaded["level"]) == ("fraud", 3, "info")


def test_text_logs_are_a_line_an_event(repository: Path) -> None:
    with running_gateway(repository) as server:
        (line,) = [line for line in server.log.splitlines() if "version_loaded" in line]
    assert "info" in line
    assert "model=fraud version=3" in line
