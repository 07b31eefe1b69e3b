import os
import sys
from pathlib import Path

import pytest

from loadtests.bench.process import BenchFailure, run_pinned, running
from loadtests.bench.procfs import default_cores
from loadtests.bench.servers import Launch, Server

CORES = default_cores()[0]


def python_server(script: str, ready_path: str = "/") -> Server:
    def command(launch: Launch) -> list[str]:
        return [sys.executable, "-c", script, str(launch.port)]

    return Server(key="stand-in", title="stand-in", command=command, ready_path=ready_path)


def start(server: Server, directory: Path) -> None:
    with running(server, repository=directory, answer_bytes=2, cores=CORES, directory=directory):
        raise AssertionError("it never became ready")


def test_a_server_that_cannot_start_is_named_with_the_last_line_it_wrote(tmp_path: Path) -> None:
    broken = python_server("import sys; sys.exit('no such model: fraud')")
    with pytest.raises(BenchFailure, match="stand-in exited with 1: no such model: fraud"):
        start(broken, tmp_path)


def test_a_server_is_gone_with_its_children_when_the_measurement_ends(tmp_path: Path) -> None:
    script = (
        "import http.server, subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
        "open('child', 'w').write(str(child.pid));"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"
    )
    with running(
        python_server(script), repository=tmp_path, answer_bytes=2, cores=CORES, directory=tmp_path
    ) as started:
        pids = [started.pid, int((tmp_path / "child").read_text())]
        assert started.ready_s > 0
        assert started.resident_bytes > 1_000_000
        assert [os.sched_getaffinity(pid) for pid in pids] == [set(CORES)] * 2
        groups = {os.getpgid(pid) for pid in pids}
    assert groups == {started.pid}
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)


def test_a_command_that_fails_says_so_in_its_own_last_line(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("import sys; sys.exit('first line\\nlast line')")
    with pytest.raises(BenchFailure, match=r"^last line$"):
        run_pinned([sys.executable, "-E", str(script)], CORES, within_s=30)


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    script = tmp_path / "hangs.py"
    script.write_text("import signal; signal.pause()")
    with pytest.raises(BenchFailure, match="took longer than 0"):
        run_pinned([sys.executable, "-E", str(script)], CORES, within_s=0.2)
