"""The only reader of flags, `GATEWAY_*` variables and gateway.toml, in that order of precedence.

Never reads the model repository: who publishes models does not thereby grant rights.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.errors import InvalidSetting, WrongUsage, unknown_name
from gateway.toml_files import Table, convert_table, read_toml

DEFAULT_CONFIG = Path("gateway.toml")
ADMIN_TOKEN = "GATEWAY_ADMIN_TOKEN"  # noqa: S105 - the variable's name
"""The variable that holds the command line's own token; no setting of the server."""

Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Wait = Annotated[float, Meta(ge=0, le=86_400)]


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen and how to stop.

    Attributes:
        redis: Address of the Redis that the replicas share; "" for a replica by itself.
        state_dir: Where routes are kept over a restart; "" for `<repository>/.gateway`, "none" for nowhere.
        replicas: Processes that one parent runs; more than one needs `redis`.
        drain_delay_s: After SIGTERM, how long requests are still taken while readiness is 503.
        drain_timeout_s: After that, how long requests in flight may take.
        keep_alive_s: How long an idle connection stays open.
        repository_control: Whether load and unload work on the data plane too.
    """

    repository: str = "models"
    host: str = "127.0.0.1"
    port: Port = 8000
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8002
    redis: str = ""
    state_dir: str = ""
    replicas: Count = 1
    log_format: Literal["text", "json"] = "text"
    drain_delay_s: Wait = 5.0
    drain_timeout_s: Wait = 30.0
    keep_alive_s: Seconds = 75.0
    repository_control: bool = False

    @property
    def state_folder(self) -> Path | None:
        """The state directory, None to keep nothing."""
        if self.state_dir == "none":
            return None
        return Path(self.state_dir) if self.state_dir else Path(self.repository) / ".gateway"


class LimitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What one request may cost before it is refused.

    Attributes:
        max_body_bytes: As sent and inflated.
        max_tensor_elements: Of one tensor.
        body_timeout_s: From a request's first byte to its last.
        request_timeout_s: From the last byte to the answer; a caller may ask for less.
        max_connections: Open at once on each listener.
    """

    max_body_bytes: Count = 67_108_864
    max_json_depth: Count = 64
    max_header_bytes: Count = 16_384
    max_tensor_elements: Count = 16_777_216
    body_timeout_s: Seconds = 30.0
    request_timeout_s: Seconds = 30.0
    max_connections: Count = 8192


class MonitoringOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one model is watched: `[monitoring]` of its model.toml.

    Attributes:
        enabled: Whether it is.
        features: Names of the inputs to watch; all when None. Predictions are always watched.
        bucket_s: Length of a bucket in seconds.
        window_buckets: Buckets in a window.
        min_rows: Fewer rows in a window decide nothing.
        buffer_buckets: Buckets kept in the process while the store is away.
        sampling: Share of rows that are counted.
    """

    enabled: bool = True
    features: tuple[str, ...] | None = None
    bucket_s: Annotated[int, Meta(ge=1, le=86_400)] = 10
    window_buckets: Annotated[int, Meta(ge=1, le=10_000)] = 30
    min_rows: Count = 200
    buffer_buckets: Annotated[int, Meta(ge=1, le=10_000)] = 120
    sampling: Annotated[float, Meta(gt=0, le=1)] = 1.0


class MonitoringSettings(MonitoringOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What holds where a model.toml says nothing, and who is told of drift: `[monitoring]` of gateway.toml.

    Attributes:
        webhook: Address that is told when a version's state changes; "" tells nobody.
        webhook_authorization: Its `authorization` header, best given as GATEWAY_MONITORING_WEBHOOK_AUTHORIZATION.
    """

    webhook: str = ""
    webhook_authorization: str = ""

    @property
    def model_defaults(self) -> MonitoringOptions:
        """The options of a model that has none of its own."""
        names = MonitoringOptions.__struct_fields__
        return MonitoringOptions(**{name: getattr(self, name) for name in names})


Scope = Literal["read", "write", "abort", "override", "predict"]
"""What a token may grant."""

TokenName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
HostName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,252}[a-z0-9])?\Z")]


class TokenSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a token and what it grants; the token itself is nowhere, only its hash.

    Attributes:
        name: Stands in history and audit; a new token of the same name may be valid beside the old one.
        sha256: Of the token's characters, hex.
    """

    name: TokenName
    sha256: Sha256
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)]


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Who may do what; without tokens everybody on this machine may do everything.

    Attributes:
        predict: Whether predictions need a token of the scope `predict`.
        hosts: Names by which the admin plane is asked, beside localhost and `admin_host`; lower case, without port.
    """

    tokens: tuple[TokenSettings, ...] = ()
    predict: bool = False
    hosts: tuple[HostName, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would leave open who it was."""
        if len({token.sha256 for token in self.tokens}) < len(self.tokens):
            raise ValueError("two tokens have the same sha256")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration; swapped whole, never edited.

    Attributes:
        routes: Documents by route, as written; `gateway.routing.document` reads them.
    """

    server: ServerSettings = ServerSettings()
    limits: LimitSettings = LimitSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    auth: AuthSettings = AuthSettings()
    routes: dict[str, dict[str, Any]] = {}


_SECTIONS = {
    field.name: field.type
    for field in msgspec.structs.fields(Settings)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
}


def load_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], *, config: Path | None = None
) -> tuple[Settings, list[str]]:
    """Merge flags over environment over gateway.toml over defaults.

    Args:
        flags: Values of `[server]` keys given on the command line; None means not given.
        environment: The process environment.
        config: `--config`; without it `GATEWAY_CONFIG`, then `./gateway.toml` if there is one.
    Returns: The settings, and warnings to log (unknown `GATEWAY_*` variables).
    Raises:
        WrongUsage: a flag's value is wrong.
        InvalidSetting: an unknown key or a wrong value in the file or the environment, naming where it stands.
    """
    path = settings_file(config, environment)
    from_file = convert_table(read_toml(path), Settings, where=str(path)) if path else Settings()
    overrides, warnings = _from_environment(environment)
    given = {key: value for key, value in flags.items() if value is not None}
    sections: Table = {
        name: msgspec.structs.replace(getattr(from_file, name), **overrides.get(name, {})) for name in _SECTIONS
    }
    try:
        server = msgspec.convert(msgspec.to_builtins(sections["server"]) | given, ServerSettings)
    except msgspec.ValidationError as exc:
        text, _, pointer = str(exc).partition(" - at `$.")
        raise WrongUsage(f"--{pointer.rstrip('`').replace('_', '-')}: {text}") from exc
    settings = Settings(**(sections | {"server": server}), routes=from_file.routes)
    if settings.auth.predict and not any("predict" in token.scopes for token in settings.auth.tokens):
        raise InvalidSetting("auth.predict is true, and no token has the scope 'predict': nobody could predict")
    return settings, warnings


def settings_file(config: Path | None, environment: Mapping[str, str]) -> Path | None:
    """Find the file that is read: the named one, then `GATEWAY_CONFIG`, then `./gateway.toml` if there is one."""
    named = config or (Path(environment["GATEWAY_CONFIG"]) if environment.get("GATEWAY_CONFIG") else None)
    return named or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)


def is_loopback(host: str) -> bool:
    """Tell whether a listener on `host` is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Table], list[str]]:
    """Read `GATEWAY_PORT` and `GATEWAY_LIMITS_MAX_BODY_BYTES`: `[server]` keys go without their section."""
    known = {"GATEWAY_CONFIG": ("", ""), ADMIN_TOKEN: ("", "")}
    for section, struct in _SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            middle = "" if section == "server" else f"{section.upper()}_"
            known[f"GATEWAY_{middle}{field.name.upper()}"] = (section, field.name)
    overrides: dict[str, Table] = {}
    warnings: list[str] = []
    for variable in sorted(environment):
        if not variable.startswith("GATEWAY_"):
            continue
        if variable not in known:
            warnings.append(unknown_name("environment", variable, known))
            continue
        section, key = known[variable]
        if section:
            value = convert_table({key: environment[variable]}, _SECTIONS[section], where=variable, strict=False)
            overrides.setdefault(section, {})[key] = getattr(value, key)
    return overrides, warnings
