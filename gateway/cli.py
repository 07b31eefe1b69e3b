"""The command `gateway`: flags in, exit code out.

Does no work itself; imports what a command needs only when it runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Never

from gateway import __version__
from gateway.errors import CannotStart, GatewayError, InvalidSetting, WrongUsage, unknown_name
from gateway.settings import ServerSettings, Settings, load_settings

Command = Callable[[argparse.Namespace], int]

OK, NO, USAGE, NOT_STARTED = 0, 1, 2, 3

_SERVE_FLAGS = ("repository", "host", "port", "admin_host", "admin_port", "log_format")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns: 0 done, 1 the answer is no, 2 wrong usage, 3 could not start.
    """
    parsed = _parse(arguments)
    run: Command = parsed.run
    try:
        return run(parsed)
    except WrongUsage as exc:
        return _fail(exc, USAGE)
    except (InvalidSetting, CannotStart) as exc:
        return _fail(exc, NOT_STARTED)
    except GatewayError as exc:
        return _fail(exc, NO)
    except KeyboardInterrupt:
        return _fail("interrupted", NO)


def _fail(error: GatewayError | str, code: int) -> int:
    _tell(f"gateway: {error}")
    return code


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _serve(parsed: argparse.Namespace) -> int:
    flags = {name: getattr(parsed, name) for name in _SERVE_FLAGS}
    settings, warnings = load_settings(flags, os.environ, config=parsed.config)
    from gateway.server import run
    from gateway.telemetry.logs import configure_logging

    configure_logging(settings.server.log_format)
    for warning in warnings:
        logging.getLogger("gateway").warning("setting_ignored", extra={"reason": warning})
    run(settings)
    return OK


def _publish(parsed: argparse.Namespace) -> int:
    repository = _settings({"repository": parsed.repository}).server.repository
    from gateway.publishing import publish
    from gateway.telemetry.logs import configure_logging

    configure_logging("text")
    published = publish(
        parsed.model,
        parsed.file,
        repository=repository,
        version=parsed.number,
        data=parsed.data,
        drop=parsed.drop,
        golden=parsed.golden,
        golden_rows=parsed.golden_rows,
        strip_zipmap=parsed.strip_zipmap,
        report=_tell,
    )
    print(f"published {published.key} in {published.path}")
    return OK


def _check(parsed: argparse.Namespace) -> int:
    from gateway.checking import check_repository, check_settings
    from gateway.telemetry.logs import configure_logging

    configure_logging("text")
    about_settings, repository = check_settings(parsed.repository, os.environ, parsed.config)
    result = check_repository(repository, report=_tell)
    findings = [*about_settings, *result.findings]
    faults = [finding for finding in findings if finding.is_fault]
    notes = [finding for finding in findings if not finding.is_fault]
    if parsed.json:
        listed = {
            name: [{"file": finding.file, "key": finding.key, "reason": finding.reason} for finding in some]
            for name, some in (("faults", faults), ("notes", notes))
        }
        print(json.dumps(listed | {"models": result.models, "versions": result.versions}, indent=2))
    else:
        for finding in faults:
            print(finding)
        for finding in notes:
            print(f"note: {finding}")
    _tell(f"checked {repository}: {result.versions} versions of {result.models} models, {len(faults)} faults")
    return NO if faults else OK


def _models(parsed: argparse.Namespace) -> int:
    from gateway.admin_client import AdminClient
    from gateway.tables import byte_size, text_table

    document = AdminClient(parsed.admin or _admin_url()).get("/admin/v1/models")
    if parsed.json:
        print(json.dumps(document, indent=2))
        return OK
    rows = []
    for model in document["models"]:
        for version in model["versions"]:
            batching, memory = version.get("batching"), version.get("memory")
            rows.append(
                [
                    model["name"],
                    str(version["version"]),
                    version["state"],
                    ", ".join(version.get("providers", [])),
                    "" if batching is None else "shared" if batching["shares_runs"] else "one by one",
                    "" if memory is None else byte_size(memory["file_bytes"]),
                    version.get("sha256", "").removeprefix("sha256:")[:12],
                    version["reason"],
                ]
            )
    print(text_table(["MODEL", "VERSION", "STATE", "PROVIDERS", "RUNS", "FILE", "SHA256", "REASON"], rows))
    return OK


def _admin_url() -> str:
    server = _settings({}).server
    host = f"[{server.admin_host}]" if ":" in server.admin_host else server.admin_host
    return f"http://{host}:{server.admin_port}"


def _settings(flags: dict[str, str | None]) -> Settings:
    settings, warnings = load_settings(flags, os.environ)
    for warning in warnings:
        _tell(f"gateway: {warning}")
    return settings


class _Parser(argparse.ArgumentParser):
    """Takes no abbreviated flags, so that a new flag never changes what an old script means."""

    def __init__(self, *, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> Never:
        """Say in one line what is wrong with the arguments."""
        self.exit(USAGE, f"{self.prog}: {message} ('{self.prog} --help' shows the flags)\n")

    def refuse_unknown(self, extras: Sequence[str]) -> Never:
        """Name the first argument nobody knows and the nearest known flag."""
        name = extras[0].partition("=")[0]
        known = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
        self.error(unknown_name("arguments", name, known) if name.startswith("-") else f"unexpected argument '{name}'")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser, commands = _parser()
    parsed, extras = parser.parse_known_args(arguments)
    if extras:
        commands[parsed.command].refuse_unknown(extras)
    return parsed


def _parser() -> tuple[_Parser, dict[str, _Parser]]:
    parser = _Parser(prog="gateway", description="Serves versioned ONNX models over HTTP.")
    parser.add_argument("--version", action="version", version=f"onnx-gateway {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Command, summary: str, description: str) -> _Parser:
        added: _Parser = commands.add_parser(name, help=summary, prog=f"gateway {name}", description=description)
        added.set_defaults(run=run)
        return added

    known = {
        "serve": _add_serve_flags(
            command(
                "serve",
                _serve,
                "serve a model repository",
                "Serve a model repository. Flags win over GATEWAY_* variables, over gateway.toml, over defaults.",
            )
        ),
        "publish": _add_publish_flags(
            command(
                "publish",
                _publish,
                "put a new version of a model into the repository",
                "Validate an ONNX file as a server would, and put it into the repository as a new version.",
            )
        ),
        "check": _add_check_flags(
            command(
                "check",
                _check,
                "validate repository, models and settings without serving",
                "Validate everything a server would read. A line for each fault; exit code 1 if there is any.",
            )
        ),
        "models": _add_models_flags(
            command("models", _models, "show what a running gateway serves", "Show what a running gateway serves.")
        ),
    }
    return parser, known


def _add_serve_flags(serve: _Parser) -> _Parser:
    defaults = ServerSettings()
    serve.add_argument("repository", nargs="?", metavar="REPOSITORY", help=f"default: {defaults.repository}")
    serve.add_argument("--host", help=f"of the data plane, default: {defaults.host}")
    serve.add_argument("--port", type=int, help=f"of the data plane, default: {defaults.port}; 0 picks a free one")
    serve.add_argument("--admin-host", help=f"of the admin plane, default: {defaults.admin_host}")
    serve.add_argument("--admin-port", type=int, help=f"of the admin plane, default: {defaults.admin_port}")
    serve.add_argument("--config", type=Path, metavar="FILE", help="default: ./gateway.toml if there is one")
    serve.add_argument("--log-format", choices=["text", "json"], help=f"default: {defaults.log_format}")
    return serve


def _add_publish_flags(publish: _Parser) -> _Parser:
    # The model first: --drop takes every word that follows.
    publish.usage = (
        "gateway publish MODEL FILE.onnx [--version N] [--data FILE] [--drop COLUMN ...] "
        "[--golden FILE | --golden-rows N] [--strip-zipmap] [--repository DIR]"
    )
    publish.add_argument("model", metavar="MODEL", help="its name, as clients ask for it")
    publish.add_argument("file", type=Path, metavar="FILE.onnx", help="external data is taken from beside it")
    # Not "version": the whole command has a --version of its own.
    publish.add_argument("--version", type=int, dest="number", metavar="N", help="default: the next free number")
    publish.add_argument("--data", type=Path, metavar="FILE", help=".csv, .parquet, .npz or .jsonl; names the features")
    publish.add_argument(
        "--drop", nargs="+", action="extend", default=[], metavar="COLUMN", help="no features of --data"
    )
    publish.add_argument("--golden", type=Path, metavar="FILE", help="requests with the answers they must get")
    publish.add_argument(
        "--golden-rows",
        type=int,
        default=0,
        metavar="N",
        help="make golden.json of the first rows of --data and the answers of now; they can be read in the repository",
    )
    publish.add_argument("--strip-zipmap", action="store_true", help="make scikit-learn's probabilities a tensor")
    publish.add_argument("--repository", metavar="DIR", help=f"default: {ServerSettings().repository}")
    return publish


def _add_check_flags(check: _Parser) -> _Parser:
    check.add_argument("repository", nargs="?", metavar="REPOSITORY", help=f"default: {ServerSettings().repository}")
    check.add_argument("--config", type=Path, metavar="FILE", help="default: ./gateway.toml if there is one")
    check.add_argument("--json", action="store_true", help="faults and notes as one JSON document")
    return check


def _add_models_flags(models: _Parser) -> _Parser:
    server = ServerSettings()
    models.add_argument("--admin", metavar="URL", help=f"default: http://{server.admin_host}:{server.admin_port}")
    models.add_argument("--json", action="store_true", help="the whole answer as JSON")
    return models
