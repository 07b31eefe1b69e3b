"""`gateway routes` and `gateway replicas` as a shell sees them, against a running gateway that asks for tokens."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway.cli import main
from tests.support import onnx_models
from tests.support.repositories import add_version
from tests.support.server import QUICK_STOP, GatewayProcess, running_gateway

TOKEN = "a-token-of-the-tests"
READER = "another-that-only-reads"


def hashed(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


CONFIG = f"""{QUICK_STOP}
[[auth.tokens]]
name = "sre"
sha256 = "{hashed(TOKEN)}"
scopes = ["read", "write"]

[[auth.tokens]]
name = "reader"
sha256 = "{hashed(READER)}"
scopes = ["read"]
"""


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    output: str
    error: str


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    root = tmp_path_factory.mktemp("commands")
    add_version(root, "echo", 1, onnx_models.identity())
    add_version(root, "echo", 2, onnx_models.affine())
    with running_gateway(root, config=CONFIG) as process:
        yield process


class Shell:
    """Runs commands against one gateway."""

    def __init__(self, server: GatewayProcess, capsys: pytest.CaptureFixture[str]) -> None:
        self._admin = server.admin_url
        self._capsys = capsys

    def run(self, *arguments: str) -> Ended:
        """Run a command, and hold what it says on standard error to one line."""
        try:
            code = main([*arguments, "--admin", self._admin])
        except SystemExit as exc:
            code = int(str(exc.code))
        output, error = self._capsys.readouterr()
        assert error.count("\n") <= 1, error
        return Ended(code, output, error)

    def routes(self, *arguments: str) -> Ended:
        return self.run("routes", *arguments)

    def document(self, name: str) -> dict[str, Any]:
        ended = self.routes("show", name, "--json")
        assert ended.code == 0, ended.error
        found: dict[str, Any] = json.loads(ended.output)
        return found

    def weights(self, name: str) -> dict[str, float]:
        return {variant["name"]: variant["weight"] for variant in self.document(name)["variants"]}


@pytest.fixture
def shell(
    server: GatewayProcess, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Shell:
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", TOKEN)
    monkeypatch.chdir(tmp_path)
    return Shell(server, capsys)


def write(name: str, *, challenger: float = 10, **more: object) -> str:
    """Write a document of two variants into the working directory, and return its file."""
    stable = {"name": "stable", "model": "echo", "version": 1, "weight": 100 - challenger}
    other = {"name": "challenger", "model": "echo", "version": 2, "weight": challenger}
    Path(f"{name}.json").write_text(json.dumps({"name": name, "variants": [stable, other]} | more))
    return f"{name}.json"


def test_a_document_creates_a_route_replaces_it_and_then_changes_nothing(shell: Shell) -> None:
    created = shell.routes("apply", write("applied"), "--reason", "begin")
    assert (created.code, created.output) == (
        0,
        "created  applied: revision 1: stable 90 % echo:1, challenger 10 % echo:2\n",
    )
    assert shell.routes("apply", write("applied")).output.startswith("unchanged  applied: revision 1:")
    replaced = shell.routes("apply", write("applied", challenger=12.5))
    assert replaced.output.splitlines() == [
        "/variants/0/weight: 90 -> 87.5",
        "/variants/1/weight: 10 -> 12.5",
        "2.5 % of the keys move",
        "replaced  applied: revision 2: stable 87.5 % echo:1, challenger 12.5 % echo:2",
    ]
    assert shell.document("applied")["reason"] == ""


def test_a_document_may_be_toml_or_come_from_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("r.toml").write_text(
        'name = "piped"\n[[variants]]\nname = "stable"\nmodel = "echo"\nversion = 1\nweight = 100\n'
    )
    assert shell.routes("apply", "r.toml").code == 0
    content = Path(write("piped")).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert shell.routes("apply", "-").code == 0
    assert shell.weights("piped") == {"stable": 90, "challenger": 10}


def test_what_is_shown_can_be_applied_again(shell: Shell) -> None:
    shell.routes("apply", write("again"))
    Path("shown.json").write_text(shell.routes("show", "again", "--json").output)
    assert shell.routes("apply", "shown.json").output.startswith("unchanged  again")


def test_a_shift_an_abort_and_a_rollback_say_what_is_then_in_force(shell: Shell) -> None:
    shell.routes("apply", write("moved"))
    shifted = shell.routes("shift", "moved", "challenger=25", "--reason", "looks good")
    assert shifted.output == "moved: revision 2: stable 75 % echo:1, challenger 25 % echo:2\n"
    assert shell.routes("abort", "moved").output == "moved: revision 3: stable 100 % echo:1, challenger 0 % echo:2\n"
    assert shell.routes("rollback", "moved").output.startswith("moved: revision 4: stable 75 %")
    assert shell.routes("rollback", "moved", "--to", "1").output.startswith("moved: revision 5: stable 90 %")
    history = shell.routes("history", "moved").output.splitlines()
    assert history[0].split() == ["REVISION", "AT", "ACTOR", "ACTION", "VARIANTS", "REASON"]
    assert [line.split()[0] for line in history[1:]] == ["5", "4", "3", "2", "1"]
    assert {line.split()[2] for line in history[1:]} == {"sre"}
    assert history[4].endswith("looks good")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shift", "dry", "challenger=25"], ["/variants/0/weight: 90 -> 75", "/variants/1/weight: 10 -> 25", "15 %"]),
        (["shift", "dry", "challenger=10"], ["nothing would change"]),
        (["abort", "dry"], ["/variants/0/weight: 90 -> 100", "/variants/1/weight: 10 -> 0", "10 %"]),
        (["rollback", "dry"], ["/variants/0/weight: 90 -> 50", "/variants/1/weight: 10 -> 50", "40 %"]),
        (["rollback", "dry", "--to", "1"], ["/variants/0/weight: 90 -> 50", "/variants/1/weight: 10 -> 50", "40 %"]),
    ],
)
def test_a_dry_run_shows_what_would_move_and_moves_nothing(shell: Shell, arguments: list[str], said: list[str]) -> None:
    shell.routes("apply", write("dry", challenger=50))
    shell.routes("apply", write("dry", challenger=10))
    before = shell.document("dry")["revision"]
    ended = shell.routes(*arguments, "--dry-run")
    assert ended.code == 0, ended.error
    for line, start in zip(ended.output.splitlines(), said, strict=True):
        assert line.startswith(start)
    assert shell.document("dry")["revision"] == before


def test_a_dry_run_of_a_new_document_shows_all_of_it(shell: Shell) -> None:
    ended = shell.routes("apply", write("unborn"), "--dry-run")
    assert ended == (0, "the route: nothing -> stable 90 % echo:1, challenger 10 % echo:2\n", "")
    assert shell.routes("show", "unborn").code == 1


def test_a_route_is_shown_with_its_variants_and_shadows(shell: Shell) -> None:
    shadows = [{"name": "next", "model": "echo", "version": 2, "sample": 50}]
    shell.routes("apply", write("shown", shadows=shadows, reason="try it"))
    page = shell.routes("show", "shown").output
    for words in ("revision   1  ", "challenger  echo:2  10 %    yes    closed", "next    echo:2  50 %", "try it"):
        assert words in page
    line = next(line for line in shell.routes("list").output.splitlines() if line.startswith("shown"))
    assert line.split()[:4] == ["shown", "1", "stable", "90"]
    assert "next 50 %" in line


def test_a_deleted_route_is_gone(shell: Shell) -> None:
    shell.routes("apply", write("brief"))
    assert shell.routes("delete", "brief", "--reason", "done").output.startswith("deleted  brief")
    ended = shell.routes("show", "brief")
    assert ended.code == 1
    assert ended.error.endswith("/admin/v1/routes/brief: 404: there is no route 'brief'\n")


def test_every_command_prints_the_whole_answer_as_json(shell: Shell) -> None:
    shell.routes("apply", write("whole"))
    for arguments in (
        ["routes", "list"],
        ["routes", "history", "whole"],
        ["routes", "shift", "whole", "challenger=20"],
        ["routes", "shift", "whole", "challenger=30", "--dry-run"],
        ["routes", "abort", "whole"],
        ["routes", "rollback", "whole"],
        ["routes", "adopt", "whole"],
        ["routes", "apply", "whole.json"],
        ["routes", "delete", "whole"],
        ["replicas"],
    ):
        ended = shell.run(*arguments, "--json")
        assert ended.code == 0, (arguments, ended.error)
        assert isinstance(json.loads(ended.output), dict)


def test_replicas_are_listed_with_what_they_serve(shell: Shell) -> None:
    lines = shell.run("replicas").output.splitlines()
    assert lines[0].split() == ["REPLICA", "ADMIN", "SEEN", "ROUTE", "REVISION", "APPLIED", "REASON"]
    assert any(line.split()[3:] == ["echo", "1", "yes"] for line in lines[1:])


# --- 1: the answer is no -----------------------------------------------------------------------------------


def test_a_refusal_names_the_fault_and_its_place(shell: Shell) -> None:
    shell.routes("apply", write("refused"))
    ended = shell.routes("shift", "refused", "chalenger=25")
    assert ended.code == 1
    assert "422: route 'refused': /weights/chalenger: " in ended.error
    assert "did you mean 'challenger'?" in ended.error
    dry = shell.routes("shift", "refused", "chalenger=25", "--dry-run")
    assert dry.code == 1
    assert "/weights/chalenger" in dry.error
    document = shell.routes("apply", write("refused", colour="blue"), "--dry-run")
    assert (document.code, document.output) == (1, "")
    assert "/colour: route: unknown 'colour'" in document.error
    assert shell.routes("apply", write("refused", colour="blue")).code == 1
    assert shell.document("refused")["revision"] == 1


@pytest.mark.parametrize(
    ("token", "said"),
    [("", "401: this call needs a token"), ("wrong", "401: this token is not known"), (READER, "403: token 'reader'")],
)
def test_without_the_right_token_nothing_is_done(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, token: str, said: str
) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", token)
    ended = shell.routes("abort", "echo")
    assert ended.code == 1
    assert said in ended.error
    assert not token or token not in ended.error


def test_a_rollback_that_leads_nowhere_is_refused(shell: Shell) -> None:
    shell.routes("apply", write("first"))
    for arguments in (["rollback", "first"], ["rollback", "first", "--to", "7"]):
        assert shell.routes(*arguments).code == 1
        assert shell.routes(*arguments, "--dry-run").code == 1


# --- 2: wrong usage ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lst"], "invalid choice: 'lst'"),
        (["show"], "the following arguments are required: R"),
        (["shift", "echo"], "the following arguments are required: NAME=PERCENT"),
        (["shift", "echo", "challenger"], "expected NAME=PERCENT, for instance challenger=5, got 'challenger'"),
        (["shift", "echo", "challenger=many"], "got 'challenger=many'"),
        (["shift", "echo", "challenger=101"], "got 'challenger=101'"),
        (["shift", "echo", "challenger=nan"], "got 'challenger=nan'"),
        (["shift", "echo", "=5"], "got '=5'"),
        (["rollback", "echo", "--to", "x"], "argument --to: invalid int value: 'x'"),
        (["apply", "nowhere.json"], "nowhere.json: cannot be read: No such file or directory"),
        (["apply", "bad.json"], "bad.json: not JSON: "),
        (["apply", "bad.toml"], "bad.toml: not TOML: "),
        (["apply", "list.json"], "list.json: expected a route document, an object"),
        (["apply", "nameless.json"], "nameless.json: expected a route document with its 'name'"),
        (["list", "--dry-run"], "unknown '--dry-run'"),
    ],
)
def test_wrong_usage_is_2_and_one_line(shell: Shell, arguments: list[str], said: str) -> None:
    Path("bad.json").write_text("{")
    Path("bad.toml").write_text("{")
    Path("list.json").write_text("[]")
    Path("nameless.json").write_text('{"variants": []}')
    ended = shell.routes(*arguments)
    assert ended.code == 2
    assert said in ended.error
    assert ended.output == ""


def test_a_token_that_cannot_be_one_is_not_sent_and_not_shown(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", "name = secret\nx")
    ended = shell.routes("list")
    assert ended.code == 2
    assert "secret" not in ended.error
