"""What docs/operations.md says, held against what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.server import EXAMPLE_MODELS, ROOT, eventually, free_port, running_gateway

PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_every_link_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, heading = target.partition("#")
        file = (ROOT / "docs" / path).resolve()
        assert file.exists(), target
        slugs = {re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in headings(file)}
        assert not heading or heading in slugs, target


def headings(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.startswith("#")]


def test_every_alert_that_is_named_is_a_rule() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "dashboards" / "rules").glob("*.yml"))
    named = set(re.findall(r"`(Gateway[A-Z]\w+)`", PAGE))
    assert named
    assert {name for name in named if f"alert: {name}\n" not in rules} == set()


def test_every_event_that_is_named_is_logged() -> None:
    code = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    (line,) = re.findall(r"of your own: (.*)\.$", PAGE, re.MULTILINE)
    events = re.findall(r"`(\w+)`", line)
    assert len(events) >= 6
    assert [event for event in events if f'"{event}"' not in code] == []


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make ([a-z-]+)", PAGE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.redis
def test_the_user_of_the_page_may_do_all_that_a_gateway_does(tmp_path: Path) -> None:
    """A route is written, read back and counted on; Redis itself keeps a log of what it had to refuse."""
    (rule,) = re.findall(r"ACL SETUSER gateway (on >PASSWORD .*?)\n\n?  ```", PAGE, re.DOTALL)
    port = free_port()
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", str(tmp_path)]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)

    def redis(*words: str) -> str:
        done = subprocess.run(
            ["redis-cli", "-h", "127.0.0.1", "-p", str(port), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    try:
        eventually(lambda: redis("PING") == "PONG", within_s=20, what="redis")
        assert redis("ACL", "SETUSER", "gateway", *rule.split()) == "OK"
        url = f"redis://gateway:PASSWORD@127.0.0.1:{port}/0"
        settings = "[server]\ndrain_delay_s = 0.1\n\n[monitoring]\nbucket_s = 1\nwindow_buckets = 2\nmin_rows = 1\n"
        flags = ["--redis", url, "--state-dir", str(tmp_path / "state")]
        with running_gateway(EXAMPLE_MODELS, config=settings, arguments=flags) as process:
            aborted = process.ask_admin("/admin/v1/routes/diabetes/abort", "POST", {"reason": "a test"})
            assert aborted.status == 200, aborted.body
            names = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
            inputs = [{"name": name, "shape": [1, 1], "datatype": "FP32", "data": [1]} for name in names]

            def is_decided() -> bool:
                assert process.ask("/v2/models/diabetes/infer", "POST", {"inputs": inputs}).status == 200
                return bool(process.ask_admin("/admin/v1/drift/diabetes/1").json["window"])

            eventually(is_decided, within_s=60, what="a window, by way of Redis")
            assert process.ask_admin("/admin/v1/replicas").json["replicas"]
        assert redis("--scan", "--pattern", "gateway:1:{diabetes:1}:*")
        assert redis("ACL", "LOG") == ""
    finally:
        server.terminate()
        server.wait(20)
