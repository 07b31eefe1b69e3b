"""Holds the settings to their promises: flags over environment over gateway.toml over defaults, and every fault named.

Reads no real environment: it is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from gateway.errors import InvalidSetting
from gateway.settings import LimitSettings, MonitoringOptions, ServerSettings, Settings, is_loopback, load_settings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Start in a directory that has no gateway.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(
    *, flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None, file: str | None = None
) -> Settings:
    config = None
    if file is not None:
        config = Path("named.toml")
        config.write_text(file)
    settings, warnings = load_settings(flags or {}, environment or {}, config=config)
    assert warnings == []
    return settings


def fault(
    *, flags: Mapping[str, object] | None = None, environment: Mapping[str, str] | None = None, file: str | None = None
) -> str:
    with pytest.raises(InvalidSetting) as caught:
        load(flags=flags, environment=environment, file=file)
    return str(caught.value)


# --- precedence ---------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold() -> None:
    settings = load()
    assert settings == Settings(server=ServerSettings(), limits=LimitSettings())
    assert (settings.server.port, settings.server.admin_port, settings.server.repository) == (8000, 8002, "models")


@pytest.mark.parametrize(
    ("flag", "variable", "file", "port"),
    [
        (1, "2", "[server]\nport = 3", 1),
        (None, "2", "[server]\nport = 3", 2),
        (None, None, "[server]\nport = 3", 3),
        (None, None, None, 8000),
        (1, None, None, 1),
        (None, "2", None, 2),
    ],
)
def test_flags_win_over_the_environment_over_the_file_over_defaults(
    flag: int | None, variable: str | None, file: str | None, port: int
) -> None:
    environment = {"GATEWAY_PORT": variable} if variable else {}
    assert load(flags={"port": flag}, environment=environment, file=file).server.port == port


def test_what_a_stronger_source_does_not_say_stays_as_the_weaker_one_has_it() -> None:
    settings = load(
        flags={"port": 1, "host": None},
        environment={"GATEWAY_ADMIN_PORT": "2"},
        file="[server]\nhost = '::1'\n[limits]\nmax_json_depth = 4",
    )
    assert settings.server == ServerSettings(port=1, admin_port=2, host="::1")
    assert settings.limits == LimitSettings(max_json_depth=4)


def test_gateway_toml_in_the_working_directory_is_read_unasked(elsewhere: Path) -> None:
    (elsewhere / "gateway.toml").write_text("[server]\nport = 5")
    assert load().server.port == 5


def test_a_named_file_is_read_instead_of_the_one_in_the_working_directory(elsewhere: Path) -> None:
    (elsewhere / "gateway.toml").write_text("[server]\nport = 5\nhost = '::1'")
    (elsewhere / "other.toml").write_text("[server]\nport = 6")
    assert load(environment={"GATEWAY_CONFIG": "other.toml"}).server == ServerSettings(port=6)
    assert load(environment={"GATEWAY_CONFIG": "other.toml"}, file="[server]\nport = 7").server.port == 7


def test_a_file_of_the_model_repository_is_never_read(elsewhere: Path) -> None:
    (elsewhere / "models").mkdir()
    (elsewhere / "models" / "gateway.toml").write_text("[server]\nrepository_control = true")
    assert not load().server.repository_control


# --- the environment ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "section", "key", "expected"),
    [
        ("GATEWAY_PORT", "9000", "server", "port", 9000),
        ("GATEWAY_ADMIN_HOST", "::1", "server", "admin_host", "::1"),
        ("GATEWAY_KEEP_ALIVE_S", "61.5", "server", "keep_alive_s", 61.5),
        ("GATEWAY_REPOSITORY_CONTROL", "true", "server", "repository_control", True),
        ("GATEWAY_REPOSITORY_CONTROL", "0", "server", "repository_control", False),
        ("GATEWAY_LOG_FORMAT", "json", "server", "log_format", "json"),
        ("GATEWAY_LIMITS_MAX_BODY_BYTES", "1024", "limits", "max_body_bytes", 1024),
    ],
)
def test_a_variable_sets_the_key_it_is_named_after(
    variable: str, value: str, section: str, key: str, expected: object
) -> None:
    settings = load(environment={variable: value})
    assert getattr(getattr(settings, section), key) == expected


def test_every_key_has_a_variable() -> None:
    variables = {f"GATEWAY_{field.name.upper()}" for field in msgspec.structs.fields(ServerSettings)}
    variables |= {f"GATEWAY_LIMITS_{field.name.upper()}" for field in msgspec.structs.fields(LimitSettings)}
    for variable in variables:
        _, warnings = load_settings({}, {variable: "json" if variable == "GATEWAY_LOG_FORMAT" else "1"})
        assert warnings == []


def test_monitoring_gives_models_their_defaults_without_the_webhook() -> None:
    """The secret goes to the webhook alone, and best comes from the environment."""
    monitoring = load(
        file='[monitoring]\nbucket_s = 60\nfeatures = ["age"]\nwebhook = "https://hooks.example/drift"\n',
        environment={"GATEWAY_MONITORING_WEBHOOK_AUTHORIZATION": "Bearer s3cret", "GATEWAY_MONITORING_MIN_ROWS": "50"},
    ).monitoring
    assert monitoring.webhook_authorization == "Bearer s3cret"
    assert monitoring.model_defaults == MonitoringOptions(bucket_s=60, min_rows=50, features=("age",))


def test_an_unknown_gateway_variable_is_a_warning_that_names_the_nearest_known_one() -> None:
    settings, warnings = load_settings({}, {"GATEWAY_PROT": "1", "PATH": "/bin", "GATEWAY_PORT": "2"})
    assert warnings == ["environment: unknown 'GATEWAY_PROT', did you mean 'GATEWAY_PORT'?"]
    assert settings.server.port == 2


# --- faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("[servr]", "key 'servr': unknown 'servr', did you mean 'server'?", id="unknown section"),
        pytest.param("[server]\nprot = 1", "key 'server.prot': unknown 'prot', did you mean 'port'?", id="unknown key"),
        pytest.param("[server]\nport = '1'", "key 'server.port': Expected `int`, got `str`", id="a string"),
        pytest.param("[server]\nport = 65536", "key 'server.port': Expected `int` <= 65535", id="no such port"),
        pytest.param("[server]\nport = -1", "key 'server.port': Expected `int` >= 0", id="a negative port"),
        pytest.param("[server]\nlog_format = 'xml'", "key 'server.log_format': Invalid enum value 'xml'", id="choice"),
        pytest.param("[limits]\nmax_body_bytes = 0", "key 'limits.max_body_bytes': Expected `int` >= 1", id="nothing"),
        pytest.param(
            "[limits]\nbody_timeout_s = 0", "key 'limits.body_timeout_s': Expected `float` > 0.0", id="no time"
        ),
        pytest.param(
            "[limits]\nrequest_timeout_s = inf",
            "key 'limits.request_timeout_s': Expected `float` <= 86400.0",
            id="for ever",
        ),
        pytest.param(
            "[monitoring]\nbukket_s = 1",
            "key 'monitoring.bukket_s': unknown 'bukket_s', did you mean 'bucket_s'?",
            id="unknown key of monitoring",
        ),
        pytest.param("[monitoring]\nsampling = 0", "key 'monitoring.sampling': Expected `float` > 0.0", id="no rows"),
        pytest.param("server = 1", "key 'server': Expected `object`, got `int`", id="no table"),
    ],
)
def test_a_fault_in_the_file_names_the_file_and_the_key(text: str, said: str) -> None:
    assert fault(file=text) == f"named.toml: {said}"


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GATEWAY_PORT", "many", "GATEWAY_PORT: key 'port': Expected `int`, got `str`"),
        ("GATEWAY_PORT", "70000", "GATEWAY_PORT: key 'port': Expected `int` <= 65535"),
        (
            "GATEWAY_LIMITS_MAX_JSON_DEPTH",
            "0",
            "GATEWAY_LIMITS_MAX_JSON_DEPTH: key 'max_json_depth': Expected `int` >= 1",
        ),
    ],
)
def test_a_fault_in_the_environment_names_the_variable(variable: str, value: str, said: str) -> None:
    assert fault(environment={variable: value}) == said


def test_a_fault_in_a_flag_names_the_flag() -> None:
    assert fault(flags={"admin_port": 70_000}) == "--admin-port: Expected `int` <= 65535"


def test_a_named_file_that_is_not_there_is_an_error() -> None:
    assert fault(environment={"GATEWAY_CONFIG": "missing.toml"}).startswith("missing.toml: cannot be read")


def test_a_fault_in_the_file_is_told_even_where_a_flag_overrules_it() -> None:
    assert "server.port" in fault(flags={"port": 1}, file="[server]\nport = 'x'")


# --- where routes are kept, and which are there to begin with ------------------------------------------------


@pytest.mark.parametrize(
    ("state_dir", "expected"), [("", Path("here/.gateway")), ("elsewhere", Path("elsewhere")), ("none", None)]
)
def test_state_is_kept_in_the_repository_elsewhere_or_nowhere(state_dir: str, expected: Path | None) -> None:
    settings = load(flags={"repository": "here", "state_dir": state_dir})
    assert settings.server.state_folder == expected
    assert load(environment={"GATEWAY_STATE_DIR": "none"}).server.state_folder is None


def test_routes_are_taken_from_the_file_as_they_are_written() -> None:
    file = "[routes.fraud]\nvariants = [{name = 'stable', model = 'fraud', version = 3, weight = 100}]"
    variant = {"name": "stable", "model": "fraud", "version": 3, "weight": 100}
    assert load(file=file).routes == {"fraud": {"variants": [variant]}}
    assert load(environment={"GATEWAY_PORT": "1"}, file=file).routes == load(file=file).routes


# --- where a listener can be reached from -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),  # noqa: S104 - judged here, bound nowhere
        ("::", False),
        ("10.0.0.1", False),
        ("gateway.example", False),
        ("", False),
        ("127.0.0.1.example", False),
    ],
)
def test_only_loopback_addresses_count_as_reachable_from_this_machine_alone(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


# --- who may do what -------------------------------------------------------------------------------------

HASH = "a" * 64


def token(**more: object) -> str:
    keys = {"name": '"sre"', "sha256": f'"{HASH}"', "scopes": '["read"]'} | more
    return "[[auth.tokens]]\n" + "\n".join(f"{key} = {value}" for key, value in keys.items()) + "\n"


def test_tokens_are_read_from_the_file_and_one_name_may_have_two() -> None:
    auth = load(file=token() + token(sha256=f'"{"b" * 64}"', scopes='["read", "write"]')).auth
    assert [(entry.name, entry.scopes) for entry in auth.tokens] == [("sre", ("read",)), ("sre", ("read", "write"))]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (token(scopes='["root"]'), "auth.tokens[0].scopes[0]"),
        (token(scopes="[]"), "auth.tokens[0].scopes"),
        (token(sha256='"secret"'), "auth.tokens[0].sha256"),
        (token(sha256=f'"{"A" * 64}"'), "auth.tokens[0].sha256"),
        (token(name='"two words"'), "auth.tokens[0].name"),
        (token(token='"secret"'), "unknown 'token'"),
        (token() + token(name='"other"'), "two tokens have the same sha256"),
        ("[auth]\npredict = true", "no token has the scope 'predict'"),
        (token() + "[auth]\npredict = true", "no token has the scope 'predict'"),
        ('[auth]\nhosts = ["two words"]', "auth.hosts[0]"),
        ('[auth]\nhosts = ["a.example:8002"]', "auth.hosts[0]"),
    ],
)
def test_a_token_that_cannot_be_is_named_and_never_shown(text: str, said: str) -> None:
    found = fault(file=text)
    assert said in found
    assert "secret" not in found or "unknown 'token'" in found


def test_the_token_of_the_command_line_is_no_setting_and_no_mistake() -> None:
    load(environment={"GATEWAY_ADMIN_TOKEN": "secret"})


def test_predictions_may_be_closed_by_a_variable() -> None:
    assert load(file=token(scopes='["predict"]'), environment={"GATEWAY_AUTH_PREDICT": "true"}).auth.predict
