"""The demo as a user runs it, until Ctrl-C."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import ROOT, ask, eventually

pytestmark = [pytest.mark.redis, pytest.mark.prometheus]


def test_the_demo_prints_where_everything_is_and_stops_all_of_it_at_ctrl_c(tmp_path: Path) -> None:
    printed = tmp_path / "printed"
    with printed.open("w") as out:
        demo = subprocess.Popen(
            [sys.executable, "-m", "loadtests.demo", "--port", "0", "--admin-port", "0", "--minutes", "5"],
            cwd=ROOT,
            stdout=out,
            stderr=out,
        )
        try:
            eventually(
                lambda: demo.poll() is not None or "It ends by itself after 5 minutes" in printed.read_text(),
                within_s=90,
                what="its addresses",
            )
            assert demo.poll() is None, printed.read_text()
            text = printed.read_text()
            (data,) = re.findall(r"^predictions +(\S+)/v2$", text, re.MULTILINE)
            replicas = re.findall(r"^replica \d +(\S+)/console", text, re.MULTILINE)
            (prometheus,) = re.findall(r"^Prometheus +(\S+)/alerts", text, re.MULTILINE)
            assert len(replicas) == 2
            for admin in replicas:
                assert ask(f"{admin}/console").status == 200
                variants = ask(f"{admin}/admin/v1/routes/breast_cancer").json["variants"]
                assert [variant["weight"] for variant in variants] == [90, 10]
            served = f"{prometheus}/api/v1/query?query=sum(gateway_requests_total%7Bcode=%22200%22%7D)"
            eventually(
                lambda: float((ask(served).json["data"]["result"] or [{"value": [0, 0]}])[0]["value"][1]) > 100,
                within_s=60,
                what="traffic in Prometheus",
            )
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0, printed.read_text()
            for url in (data, *replicas, prometheus):
                with pytest.raises(OSError, match="refused"):
                    ask(url)
        finally:
            demo.kill()
