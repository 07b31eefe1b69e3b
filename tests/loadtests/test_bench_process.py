import os
import select
import sys
import time
from pathlib import Path

import pytest

from loadtests.bench import procfs
from loadtests.bench.process import BenchFailure, RunningServer, run_pinned, running
from loadtests.bench.procfs import default_cores
from loadtests.bench.servers import Launch, Server

CORES = default_cores()[0]


def python_server(script: str, ready_path: str = "/") -> Server:
    def command(launch: Launch) -> list[str]:
        return [sys.executable, "-c", script, str(launch.port)]

    return Server(key="stand-in", title="stand-in", command=command, ready_path=ready_path)


def start(server: Server, directory: Path) -> None:
    with running(server, repository=directory, model="m", answer_bytes=2, cores=CORES, directory=directory):
        raise AssertionError("it never became ready")


def test_a_server_that_cannot_start_is_named_with_the_last_line_it_wrote(tmp_path: Path) -> None:
    broken = python_server("import sys; sys.exit('no such model: fraud')")
    with pytest.raises(BenchFailure, match="stand-in exited with 1: no such model: fraud"):
        start(broken, tmp_path)


SERVER_WITH_A_CHILD = (
    "import http.server, subprocess, sys;"
    "child = subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()'], start_new_session={alone});"
    "open('child', 'w').write(str(child.pid));"
    "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()"
)


def child_of(started: RunningServer) -> int:
    return int(Path(f"/proc/{started.pid}/cwd").readlink().joinpath("child").read_text())


def wait_for_state(pid: int, letters: str) -> None:
    """Wait until the state in /proc/PID/stat is one of `letters`: the kernel hands out signals when it gets to it."""
    deadline = time.monotonic() + 20
    while (found := procfs.stat_fields(Path(f"/proc/{pid}/stat").read_text())[0]) not in letters:
        assert time.monotonic() < deadline, f"{pid} is {found}, not one of {letters}"
        select.select([], [], [], 0.002)


def wait_for_end(process: int) -> None:
    """Wait until the process behind a pidfd has ended."""
    ended, _, _ = select.select([process], [], [], 20)
    os.close(process)
    assert ended


@pytest.mark.parametrize("alone", [False, True], ids=["one group", "a child in a group of its own"])
def test_a_server_is_gone_with_its_children_when_the_measurement_ends(
    tmp_path: Path,
    alone: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    server = python_server(SERVER_WITH_A_CHILD.format(alone=alone))
    with running(server, repository=tmp_path, model="m", answer_bytes=2, cores=CORES, directory=tmp_path) as started:
        pids = [started.pid, child_of(started)]
        assert started.ready_s > 0
        assert started.resident_bytes > 1_000_000
        assert [os.sched_getaffinity(pid) for pid in pids] == [set(CORES)] * 2
        assert [os.getpgid(pid) for pid in pids] == [started.pid, pids[1] if alone else started.pid]
        processes = [os.pidfd_open(pid) for pid in pids]
    for process in processes:
        wait_for_end(process)


def test_a_paused_server_stops_with_its_children_and_is_ended_all_the_same(tmp_path: Path) -> None:
    server = python_server(SERVER_WITH_A_CHILD.format(alone=True))
    with running(server, repository=tmp_path, model="m", answer_bytes=2, cores=CORES, directory=tmp_path) as started:
        pids = [started.pid, child_of(started)]
        processes = [os.pidfd_open(pid) for pid in pids]
        for change, letters in ((started.pause, "T"), (started.resume, "RSD"), (started.pause, "T")):
            change()
            for pid in pids:
                wait_for_state(pid, letters)
    for process in processes:
        wait_for_end(process)


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
