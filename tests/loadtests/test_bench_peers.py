import ensurepip
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from loadtests.bench import payloads
from loadtests.bench.__main__ import main
from loadtests.bench.cells import BODIES, Cell, parse_cell, peer_cells
from loadtests.bench.models import mlp
from loadtests.bench.peers.catalogue import ENVIRONMENTS, PEERS, facts
from loadtests.bench.peers.environment import Environment
from loadtests.bench.peers.triton_start import configuration
from loadtests.bench.process import BenchFailure
from loadtests.bench.procfs import default_cores
from loadtests.bench.results import Peer, Plan
from loadtests.bench.rounds import run_all
from loadtests.bench.servers import GATEWAY, SERVERS, YARDSTICK, Launch, Server

LAUNCH = Launch(repository=Path("repository"), port=1111, admin_port=2222, answer_bytes=9, model="mlp")


def quietly(_line: str) -> None:
    """Take a line of progress that the test does not read."""


def stand_in(directory: Path, requirements: str) -> Environment:
    (directory / "peer.txt").write_text(requirements, encoding="utf-8")
    return Environment(peer="peer", requirements=directory, cache=directory / "cache")


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS.keys())
def test_every_release_of_a_peer_is_pinned_and_its_onnxruntime_is_the_gateways(environment: Environment) -> None:
    pins = environment.pins()
    locked = Path(__file__).parents[2].joinpath("requirements-bench.lock").read_text(encoding="utf-8")
    assert f"onnxruntime=={pins['onnxruntime']} " in locked.replace(" \\\n", " ")
    assert environment.path.parent.name == ".bench"
    assert environment.path.name.endswith(f"-{next(iter(pins.values()))}")


@pytest.mark.parametrize("text", ["mlserver>=1.7\n", "mlserver\n", "==1.7\n", "# nothing\n"])
def test_a_requirement_without_its_release_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"peer\.txt: expected name==version"):
        stand_in(tmp_path, text).pins()


def test_an_environment_that_cannot_be_made_says_so_in_one_line(tmp_path: Path) -> None:
    broken = stand_in(tmp_path, "onnx-gateway-has-no-such-package==1.0\n")
    (tmp_path / "cache").write_text("a file where the folder should be")
    said: list[str] = []
    with pytest.raises(BenchFailure, match=r"^peer: its environment could not be made: [^\n]+$"):
        broken.make(said.append)
    assert said == ["installing peer into cache/peer-1.0 (once)"]
    assert not broken.is_complete()


def test_an_environment_is_made_once_and_anew_when_its_releases_change(tmp_path: Path) -> None:
    # pip itself: every environment brings this release along, so that nothing is fetched.
    environment = stand_in(tmp_path, f"# The installer.\npip=={ensurepip.version()}\n")
    said: list[str] = []
    environment.make(said.append)
    environment.make(said.append)
    assert said == [f"installing peer into cache/peer-{ensurepip.version()} (once)"]
    assert environment.python.is_file()
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"
    assert not stand_in(tmp_path, f"pip=={ensurepip.version()}\nother==2.0\n").is_complete()


@pytest.mark.parametrize("server", PEERS.values(), ids=PEERS.keys())
def test_a_peer_runs_in_its_own_environment_and_listens_where_it_is_told(server: Server) -> None:
    assert server.peer is not None
    command = server.command(LAUNCH)
    assert command[0] == str(ENVIRONMENTS[server.peer].python)
    assert "1111" in command
    assert str(Path("repository", "mlp", "1", "model.onnx")) in command
    module = Path(__file__).parents[2].joinpath(*command[2].split("."))
    assert module.with_suffix(".py").is_file()


def test_mlserver_is_measured_in_its_four_configurations() -> None:
    commands = {tuple(server.command(LAUNCH)[-3:]) for server in PEERS.values() if server.peer == "mlserver"}
    assert len(commands) == 4
    assert len({server.title for server in PEERS.values()}) == len(PEERS)
    assert not set(PEERS) & set(SERVERS)


def test_a_peer_is_described_by_the_releases_that_matter() -> None:
    assert facts(PEERS["triton"]).versions["tritonserver"] == "2.51.0"
    found = facts(PEERS["mlserver-batching"])
    assert (found.name, found.dialect) == ("MLServer", "v2")
    assert next(iter(found.versions)) == "mlserver"
    assert found.versions["mlserver"] == "1.7.1"
    with pytest.raises(ValueError, match="gateway is no peer"):
        facts(SERVERS[GATEWAY])


@pytest.mark.parametrize("cell", peer_cells(), ids=lambda cell: cell.name)
def test_every_peer_that_speaks_a_cells_encoding_gets_the_same_numbers(cell: Cell) -> None:
    tensor = payloads.inputs(cell.body)[0]
    speakers = [server for server in PEERS.values() if cell.encoding in server.encodings]
    assert speakers
    for server in speakers:
        content, json_bytes = payloads.infer_body(cell.body, tensor, cell.encoding, server.dialect)
        if server.dialect == "rows":
            rows = np.array(msgspec.json.decode(content)["rows"], dtype=np.float32)
            assert np.array_equal(rows, tensor)
        else:
            assert (content, json_bytes) == payloads.infer_body(cell.body, tensor, cell.encoding)


def test_triton_is_told_the_models_own_inputs_and_outputs(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(mlp().SerializeToString())
    told = configuration("mlp", file)
    assert 'input [{ name: "features" data_type: TYPE_FP32 dims: [512] }]' in told
    assert 'output [{ name: "probabilities" data_type: TYPE_FP32 dims: [10] }]' in told
    assert f'string_value: "{file}"' in told


def test_a_dialect_without_binary_tensors_refuses_them() -> None:
    body = BODIES["mlp"]
    with pytest.raises(ValueError, match="dialect 'rows' is JSON"):
        payloads.infer_body(body, payloads.inputs(body)[0], "binary", "rows")


def test_probabilities_are_read_from_plain_rows() -> None:
    assert payloads.probabilities(200, b"[[0.25,0.75]]", None, "rows").tolist() == [[0.25, 0.75]]
    for content in (b'{"probabilities":[[1.0]]}', b"[1.0]", b"[[0.5],[0.25,0.25]]"):
        with pytest.raises(ValueError, match=r"."):
            payloads.probabilities(200, content, None, "rows")


def test_a_peer_that_fails_is_named_and_the_others_are_measured(tmp_path: Path) -> None:
    def command(_launch: Launch) -> list[str]:
        return [sys.executable, "-c", "import sys; sys.exit('no such model')"]

    broken = Server(key="broken", title="Broken", command=command, peer="broken")
    plan = Plan(
        rounds=2,
        warmup_s=0.02,
        measure_s=0.1,
        ceiling_s=0.1,
        server_cores=default_cores()[0],
        client_cores=default_cores()[1],
    )
    run = run_all(
        [SERVERS["naive"], SERVERS[YARDSTICK], broken],
        [parse_cell("tabular-json-1")],
        plan,
        quietly,
        peers={"broken": Peer(name="Broken", dialect="v2", versions={"broken": "1"})},
        left_out={"Absent": "no network"},
    )
    (cell,) = run.cells
    assert cell.failures == {"broken": "Broken exited with 1: no such model"}
    assert {key: len(found) for key, found in cell.measurements.items()} == {"bare": 2, "naive": 2, "naive:again": 2}
    assert {start.server for start in run.starts} == {"naive", "bare"}
    assert run.left_out == {"Absent": "no network"}


@pytest.mark.parametrize(
    "arguments",
    [["--servers", "mlserver"], ["--servers", "bare,triton"], ["--peers", "--servers", "gateway,torchserve"]],
)
def test_peers_are_never_measured_alone_or_by_an_unknown_name(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert "expected" in capsys.readouterr().err
