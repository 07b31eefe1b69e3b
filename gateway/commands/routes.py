"""`gateway routes`: looks at routes and changes them, as the admin API lets anybody do it.

Decides nothing: what a change means the gateway's own rules say, and whether it may be made the gateway itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway.admin_client import AdminClient, Answered
from gateway.commands.arguments import OK, Commands, Parser, add_admin_flags, admin_client
from gateway.commands.route_tables import change_lines, history_table, route_line, route_page, routes_table
from gateway.errors import CallRefused, WrongUsage

if TYPE_CHECKING:
    from gateway.routing.route import Route

Json = dict[str, Any]

_EVERY = "/admin/v1/routes"


def add(commands: Commands) -> None:
    """Add the commands."""
    routes = commands.group("routes", "action", "show and change which versions answer a name")
    _flags(routes.add("list", _list, "show every route"))
    _flags(routes.add("show", _show, "show one route and how it does"), "R")
    _flags(routes.add("history", _history, "show the revisions of a route"), "R")
    shift = routes.add(
        "shift",
        _shift,
        "move weights",
        "Give the named variants these percentages; the first variant takes the rest. As few keys move as can be.",
    )
    _flags(shift, "R", changes="the weights")
    shift.add_argument("weights", nargs="+", metavar="NAME=PERCENT", help="for instance challenger=5")
    abort = routes.add("abort", _abort, "give everything to the first variant, now")
    _flags(abort, "R", changes="the abort")
    abort.add_argument("--shadows", action="store_true", help="remove the shadows too")
    rollback = routes.add("rollback", _rollback, "bring an earlier document back, with its keys where they were")
    _flags(rollback, "R", changes="the rollback")
    rollback.add_argument("--to", type=int, metavar="REV", help="default: the one before")
    apply = routes.add(
        "apply",
        _apply,
        "create or replace a route by a document",
        "Create or replace the route that FILE names, and show what that changes. The route must not change meanwhile.",
    )
    _flags(apply, changes="the document")
    apply.add_argument("file", metavar="FILE", help=".json or .toml; - reads JSON from standard input")
    _flags(routes.add("adopt", _adopt, "accept what a store holds that went backwards"), "R", reason=True)
    _flags(routes.add("delete", _delete, "delete a route"), "R", reason=True)


def _flags(parser: Parser, name: str = "", *, changes: str = "", reason: bool = False) -> None:
    if name:
        parser.add_argument("route", metavar=name, help="the name of the route")
    if changes or reason:
        parser.add_argument("--reason", default="", help="stands in history and audit")
    if changes:
        parser.add_argument("--dry-run", action="store_true", help=f"show what {changes} would move, and do nothing")
    add_admin_flags(parser)


# --- looking -------------------------------------------------------------------------------------------


def _list(parsed: argparse.Namespace) -> int:
    document = admin_client(parsed).get(_EVERY)
    print(_json(document) if parsed.json else routes_table(document["routes"]))
    return OK


def _show(parsed: argparse.Namespace) -> int:
    answered = _read(admin_client(parsed), parsed.route)
    print(_json(answered.document) if parsed.json else route_page(_document(answered), answered.etag))
    return OK


def _history(parsed: argparse.Namespace) -> int:
    document = admin_client(parsed).get(_place(parsed.route, "history"))
    print(_json(document) if parsed.json else history_table(document["revisions"]))
    return OK


# --- changing ------------------------------------------------------------------------------------------


def _shift(parsed: argparse.Namespace) -> int:
    weights = dict(_weight(word) for word in parsed.weights)
    if parsed.dry_run:
        from gateway.routing.edits import apply_shift

        return _preview_edit(parsed, lambda route: apply_shift(route, weights))
    return _act(parsed, "shift", {"weights": weights, "reason": parsed.reason})


def _abort(parsed: argparse.Namespace) -> int:
    if parsed.dry_run:
        from gateway.routing.edits import apply_abort

        return _preview_edit(parsed, lambda route: apply_abort(route, shadows=parsed.shadows))
    return _act(parsed, "abort", {"shadows": parsed.shadows, "reason": parsed.reason})


def _rollback(parsed: argparse.Namespace) -> int:
    if parsed.dry_run:
        client = admin_client(parsed)
        revisions = client.get(_place(parsed.route, "history"))["revisions"]
        wanted = [revision for revision in revisions[1:] if parsed.to in (None, revision["revision"])]
        if not wanted:
            asked = "earlier revision" if parsed.to is None else f"earlier revision {parsed.to}"
            raise CallRefused(f"route '{parsed.route}' has no {asked} to go back to")
        return _preview(parsed, client, wanted[0]["document"])
    body = {"reason": parsed.reason} | ({} if parsed.to is None else {"revision": parsed.to})
    return _act(parsed, "rollback", body)


def _apply(parsed: argparse.Namespace) -> int:
    document = _read_file(parsed.file)
    name = document.get("name")
    if not isinstance(name, str) or not name:
        raise WrongUsage(f"{parsed.file}: expected a route document with its 'name'")
    if parsed.reason:
        document |= {"reason": parsed.reason}
    client = admin_client(parsed)
    parsed.route = name
    if parsed.dry_run:
        return _preview(parsed, client, document)
    try:
        current = _read(client, name)
    except CallRefused as exc:
        if exc.status != 404:
            raise
        current = None
    condition = {"if-none-match": "*"} if current is None else {"if-match": current.etag}
    found = {} if current is None else client.ask("POST", _place(name, "validate"), document).document
    answered = client.ask("PUT", _place(name), document, condition)
    if parsed.json:
        print(_json(answered.document))
        return OK
    if current is not None and current.etag == answered.etag:
        print(f"unchanged  {route_line(_document(answered))}")
        return OK
    if current is not None:
        print("\n".join(change_lines(found or {})))
    print(f"{'created' if current is None else 'replaced'}  {route_line(_document(answered))}")
    return OK


def _adopt(parsed: argparse.Namespace) -> int:
    return _act(parsed, "adopt", {"reason": parsed.reason})


def _delete(parsed: argparse.Namespace) -> int:
    client = admin_client(parsed)
    current = _read(client, parsed.route)
    client.ask("DELETE", _place(parsed.route), {"reason": parsed.reason}, {"if-match": current.etag})
    print(_json({"deleted": parsed.route}) if parsed.json else f"deleted  {route_line(_document(current))}")
    return OK


# --- on the way ----------------------------------------------------------------------------------------


def _act(parsed: argparse.Namespace, action: str, body: Json) -> int:
    answered = admin_client(parsed).ask("POST", _place(parsed.route, action), body)
    print(_json(answered.document) if parsed.json else route_line(_document(answered)))
    return OK


def _preview_edit(parsed: argparse.Namespace, edit: Callable[[Route], Route]) -> int:
    from gateway.routing.document import parse_route
    from gateway.routing.route import to_document

    client = admin_client(parsed)
    route = parse_route(_document(_read(client, parsed.route)), name=parsed.route)
    return _preview(parsed, client, to_document(edit(route)))


def _preview(parsed: argparse.Namespace, client: AdminClient, document: Json) -> int:
    """Show what the document would change; one that would be refused is refused.

    Raises: CallRefused: with the faults that a PUT would name.
    """
    found = client.ask("POST", _place(parsed.route, "validate"), document).document or {}
    if parsed.json:
        print(_json(found))
    if not found.get("valid"):
        faults = "; ".join(f"{fault['pointer'] or 'the document'}: {fault['detail']}" for fault in found["errors"])
        raise CallRefused(f"route '{parsed.route}' would be refused: {faults}")
    if not parsed.json:
        print("\n".join(change_lines(found)) or "nothing would change")
    return OK


def _read(client: AdminClient, route: str) -> Answered:
    return client.ask("GET", _place(route))


def _place(route: str, action: str = "") -> str:
    return f"{_EVERY}/{urllib.parse.quote(route, safe='')}{action and f'/{action}'}"


def _document(answered: Answered) -> Json:
    return answered.document or {}


def _weight(word: str) -> tuple[str, float]:
    name, equals, percent = word.rpartition("=")
    try:
        weight = float(percent)
    except ValueError:
        weight = -1
    if not equals or not name or not 0 <= weight <= 100:
        raise WrongUsage(f"expected NAME=PERCENT, for instance challenger=5, got '{word}'")
    return name, int(weight) if weight.is_integer() else weight


def _read_file(name: str) -> Json:
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        document = tomllib.loads(content.decode()) if name.endswith(".toml") else json.loads(content)
    except OSError as exc:
        raise WrongUsage(f"{name}: cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise WrongUsage(f"{name}: not {'TOML' if name.endswith('.toml') else 'JSON'}: {exc}") from exc
    if not isinstance(document, dict):
        raise WrongUsage(f"{name}: expected a route document, an object")
    return document


def _json(value: object) -> str:
    return json.dumps(value, indent=2)
