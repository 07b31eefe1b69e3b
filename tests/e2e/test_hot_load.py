"""Versions come, go and fail in a running gateway, and no request fails for it."""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.traffic import Traffic
from tests.e2e.wire import RawSocket, infer_path, json_body, read_outputs, request_bytes
from tests.support import onnx_models
from tests.support.repositories import add_version, configure, manifest_of
from tests.support.server import GatewayProcess, HttpAnswer, eventually, running_gateway

GOOD_MODELS = {
    "steady": [1],
    "busy": [1, 2],
    "copied": [1, 2],
    "mixed": [1],
    "held": [1, 2],
    "chosen": [1, 2],
    "settled": [1],
    "elsewhere": [1],
    "trimmed": [1, 2, 3],
    "brief": [1],
    "removed": [1],
}
"""Multipliers that the repository starts with."""

ROW = {"x": np.array([[1, 2, 3]], np.float32)}
NOTICED_WITHIN_S = 2.0


def multiplier(version: int) -> bytes:
    """Return a model whose answers say which version gave them: y = version · x."""
    return onnx_models.affine(scale=version, offset=0)


WRONG_GOLDEN = {"cases": [{"inputs": {"x": [[1, 2, 3]]}, "outputs": {"y": [[1, 2, 4]]}}]}
BAD_VERSIONS = {
    "noise": (1, b"no model at all", "onnxruntime refuses the model"),
    "mapped": (1, onnx_models.zipmap(), "gateway publish --strip-zipmap"),
    "liar": (1, multiplier(1), "golden.json: case 0: output 'y' differs"),
    "mixed": (2, b"no model either", "onnxruntime refuses the model"),
}
"""Versions that the repository starts with and that can never be served: number, file, reason."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the repository that the server starts with; each test has models of its own."""
    repository = tmp_path_factory.mktemp("hot")
    for name, versions in GOOD_MODELS.items():
        for version in versions:
            add_version(repository, name, version, multiplier(version))
    for name, (version, model, _) in BAD_VERSIONS.items():
        add_version(repository, name, version, model, golden=WRONG_GOLDEN)
    configure(repository, "chosen", "versions = [1]\n")
    configure(repository, "settled", "[batching]\nmax_row = 8\n")
    configure(repository, "elsewhere", '[execution]\nproviders = ["tensorrt", "cpu"]\n')
    return repository


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[GatewayProcess]:
    """Serve it."""
    with running_gateway(repository) as process:
        yield process


def check_version(answer: HttpAnswer) -> str:
    """Say what is wrong with an answer of a multiplier."""
    if answer.status != 200:
        return f"{answer.status}: {answer.body.decode()}"
    version = int(answer.json["model_version"])
    if not answer.headers["x-gateway-model"].endswith(f":{version}"):
        return f"{answer.headers} but {version}"
    return "" if np.array_equal(read_outputs(answer)["y"], ROW["x"] * version) else f"wrong: {answer.body.decode()}"


def infer(server: GatewayProcess, model: str, version: int | None = None) -> HttpAnswer:
    """Ask for one row."""
    return server.ask(infer_path(model, version), "POST", json_body(ROW))


def admin(server: GatewayProcess, model: str, version: int, action: str) -> HttpAnswer:
    """Load or unload a version."""
    return server.ask_admin(f"/admin/v1/models/{model}/versions/{version}/{action}", "POST")


def await_state(server: GatewayProcess, model: str, version: int, state: str, *, within_s: float = 10.0) -> None:
    """Wait for a version to be in a state."""
    eventually(
        lambda: server.state(model, version) == state, within_s=within_s, what=f"{model}:{version} being {state!r}"
    )


def await_scan(server: GatewayProcess, repository: Path) -> None:
    """Wait until the watcher has been round: a model put in now is served."""
    name = f"marker-{time.monotonic_ns()}"
    add_version(repository, name, 1, multiplier(1))
    await_state(server, name, 1, "READY")


# --- under load ---------------------------------------------------------------------------------------


def test_no_request_fails_while_versions_come_and_go(server: GatewayProcess, repository: Path) -> None:
    name = "busy"
    request = request_bytes(infer_path(name), json_body(ROW))
    with Traffic(server.data_address, request, check_version) as traffic:
        for turn in range(5):
            newest = 3 + turn
            add_version(repository, name, newest, multiplier(newest))
            assert admin(server, name, newest, "load").status == 200
            traffic.await_answers(20)
            # The routed version goes, and the route with it: the highest READY one takes over.
            routed = str(infer(server, name).json["model_version"])
            assert admin(server, name, int(routed), "unload").status == 200
            traffic.await_answers(20)
            assert infer(server, name).json["model_version"] != routed
            assert admin(server, name, int(routed), "load").status == 200
            # A reload with other settings replaces the session behind a route.
            configure(repository, name, f"[batching]\nmax_rows = {8 + turn}\n")
            assert server.ask_admin(f"/v2/repository/models/{name}/load", "POST").status == 200
            assert server.versions(name)[newest]["batching"]["max_rows"] == 8 + turn
            # A version that vanishes from the disk is unloaded when the watcher sees it.
            shutil.rmtree(repository / name / str(1 + turn))
            traffic.await_answers(20)
        for turn in range(5):
            await_state(server, name, 1 + turn, "")
    assert traffic.faults == []
    assert traffic.callers_left == 0
    assert traffic.answered > 500
    assert len(traffic.answers) > 3
    assert server.metric("gateway_rejected_total", model=name) == 0


def test_a_half_written_version_does_not_keep_a_model_without_its_route(
    server: GatewayProcess, repository: Path
) -> None:
    """The route waits for what the model's first scan found, not for whatever somebody copies in later."""
    name = "copied"
    assert infer(server, name).json["model_version"] == "2"
    (repository / name / "3").mkdir()
    (repository / name / "3" / "manifest.toml").write_text(manifest_of(multiplier(3)))
    await_state(server, name, 3, "LOADING")
    assert admin(server, name, 2, "unload").status == 200
    answer = infer(server, name)
    assert (answer.status, answer.json.get("model_version")) == (200, "1")


# --- new versions ------------------------------------------------------------------------------------------


def test_a_new_version_is_noticed_within_two_seconds_and_gets_no_traffic(
    server: GatewayProcess, repository: Path
) -> None:
    add_version(repository, "steady", 2, multiplier(2))
    eventually(lambda: 2 in server.versions("steady"), within_s=NOTICED_WITHIN_S, what="version 2 being noticed")
    await_state(server, "steady", 2, "READY")
    assert [infer(server, "steady").json["model_version"] for _ in range(20)] == ["1"] * 20
    assert server.ask("/v2/models/steady").json["versions"] == ["1", "2"]
    pinned = infer(server, "steady", 2)
    assert pinned.headers["x-gateway-assigned-by"] == "pinned"
    assert check_version(pinned) == ""
    assert server.metric("gateway_requests_total", model="steady", version="2", variant="stable") == 0


def test_a_model_that_is_still_being_written_is_not_touched(server: GatewayProcess, repository: Path) -> None:
    """Without a manifest only the clock tells that a file is whole: two seconds without a change."""
    model = multiplier(1)
    pieces = [model[start : start + 8] for start in range(0, len(model), 8)]
    folder = repository / "growing" / "1"
    folder.mkdir(parents=True)
    started = time.monotonic()
    states = set()
    with (folder / "model.onnx").open("wb", buffering=0) as file:

        def grow() -> bool:
            if len(pieces) > 1:
                file.write(pieces.pop(0))
            states.add(server.state("growing", 1))
            return time.monotonic() - started > 2.5

        eventually(grow, what="two and a half seconds of growth")
        for piece in pieces:
            file.write(piece)
    whole = time.monotonic()
    assert states <= {"", "LOADING"}
    assert server.versions("growing")[1]["reason"] == "waiting until the files stay unchanged"
    assert infer(server, "growing").status == 503
    await_state(server, "growing", 1, "READY")
    assert time.monotonic() - whole > 1.5
    assert check_version(infer(server, "growing")) == ""


def test_with_a_manifest_a_version_waits_until_its_hashes_match(server: GatewayProcess, repository: Path) -> None:
    model = multiplier(1)
    folder = repository / "arriving" / "1"
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text(manifest_of(model))
    await_state(server, "arriving", 1, "LOADING")
    assert server.versions("arriving")[1]["reason"] == "waiting for model.onnx"
    (folder / "model.onnx").write_bytes(model[:-5])
    eventually(lambda: "the manifest says" in server.versions("arriving")[1]["reason"], what="a hash that differs")
    assert server.state("arriving", 1) == "LOADING"
    waiting = infer(server, "arriving")
    assert (waiting.status, waiting.headers["retry-after"]) == (503, "1")
    assert "the manifest says" in waiting.error
    (folder / "model.onnx").write_bytes(model)
    await_state(server, "arriving", 1, "READY")
    assert check_version(infer(server, "arriving")) == ""


# --- failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_VERSIONS)
def test_a_version_that_cannot_be_served_is_failed_at_once_with_its_reason(server: GatewayProcess, name: str) -> None:
    """Its hash matches, so nothing more will arrive: there is nothing to wait for, and a restart is not held up."""
    version, _, reason = BAD_VERSIONS[name]
    assert server.state(name, version) == "FAILED"
    assert reason in server.versions(name)[version]["reason"]
    refused = admin(server, name, version, "load")
    assert refused.status == 400
    assert reason in refused.error
    pinned = infer(server, name, version)
    assert (pinned.status, pinned.headers["retry-after"]) == (503, "1")
    assert reason in pinned.error
    if GOOD_MODELS.get(name):
        return
    for answer in (infer(server, name), server.ask(f"/v2/models/{name}")):
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert reason in answer.error
    assert server.ask(f"/v2/models/{name}/ready").status == 503
    (entry,) = [one for one in server.ask("/v2/repository/index", "POST").json if one["name"] == name]
    assert entry["state"] == "UNAVAILABLE"
    assert reason in entry["reason"]
    assert server.metric("gateway_model_version_state", model=name, state="FAILED") == 1


def test_a_failed_version_does_not_disturb_its_model(server: GatewayProcess) -> None:
    assert server.state("mixed", 2) == "FAILED"
    assert check_version(infer(server, "mixed")) == ""
    assert server.ask_admin("/readyz").status == 200


def test_a_failed_version_is_tried_again_when_its_files_change(server: GatewayProcess, repository: Path) -> None:
    folder = add_version(repository, "mended", 1, b"noise")
    await_state(server, "mended", 1, "FAILED")
    (folder / "manifest.toml").write_text(manifest_of(multiplier(1)))
    (folder / "model.onnx").write_bytes(multiplier(1))
    await_state(server, "mended", 1, "READY")
    assert check_version(infer(server, "mended")) == ""


def test_a_fault_in_model_toml_is_named_and_can_be_mended(server: GatewayProcess, repository: Path) -> None:
    assert server.state("settled", 1) == "FAILED"
    reason = server.versions("settled")[1]["reason"]
    assert "model.toml: key 'batching.max_row'" in reason
    assert "did you mean 'max_rows'?" in reason
    configure(repository, "settled", "[batching]\nmax_rows = 8\n")
    await_state(server, "settled", 1, "READY")
    assert server.versions("settled")[1]["batching"]["max_rows"] == 8


def test_a_provider_that_is_not_there_fails_the_version(server: GatewayProcess) -> None:
    assert server.state("elsewhere", 1) == "FAILED"
    assert "execution provider 'tensorrt' is not part of the installed" in server.versions("elsewhere")[1]["reason"]


# --- load and unload ---------------------------------------------------------------------------------------------


def test_an_unloaded_version_stays_unloaded_until_it_is_loaded(server: GatewayProcess, repository: Path) -> None:
    assert admin(server, "held", 2, "unload").status == 200
    await_state(server, "held", 2, "UNLOADED")
    await_scan(server, repository)
    assert server.state("held", 2) == "UNLOADED"
    pinned = infer(server, "held", 2)
    assert (pinned.status, pinned.error) == (404, "model 'held' has no version 2 (READY versions: 1)")
    assert server.ask("/v2/models/held/versions/2/ready").status == 404
    assert server.ask("/v2/models/held").json["versions"] == ["1"]
    assert admin(server, "held", 2, "load").status == 200
    assert check_version(infer(server, "held", 2)) == ""
    assert infer(server, "held").json["model_version"] == "1"


def test_a_loaded_version_stays_loaded_although_model_toml_leaves_it_out(
    server: GatewayProcess, repository: Path
) -> None:
    assert server.state("chosen", 2) == ""
    assert infer(server, "chosen", 2).status == 404
    assert admin(server, "chosen", 2, "load").status == 200
    await_scan(server, repository)
    assert check_version(infer(server, "chosen", 2)) == ""
    assert infer(server, "chosen").json["model_version"] == "1"


def resident_mib(server: GatewayProcess) -> float:
    """Return the memory that the process has in RAM."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def test_an_unloaded_versions_memory_is_free_at_once(tmp_path: Path) -> None:
    """The next version may need it, on a GPU above all: neither an idle connection nor a failed request keeps it."""
    add_version(tmp_path, "large", 1, onnx_models.lookup(48 << 18))
    good, bad = (
        request_bytes(infer_path("large"), json_body({"x": np.array([index], np.int64)})) for index in (1, 48 << 18)
    )
    with running_gateway(tmp_path) as server, ExitStack() as connections:
        resident = []
        for _ in range(6):
            for content, status in ((bad, 400), (good, 200)):
                connection = connections.enter_context(RawSocket(server.data_address))
                connection.send(content)
                assert connection.receive().status == status
            assert admin(server, "large", 1, "unload").status == 200
            await_state(server, "large", 1, "UNLOADED")
            resident.append(resident_mib(server))
            assert admin(server, "large", 1, "load").status == 200
        assert max(resident) < resident[0] + 48, resident


def test_a_version_that_model_toml_no_longer_names_is_unloaded(server: GatewayProcess, repository: Path) -> None:
    configure(repository, "trimmed", "versions = [3]\n")
    for version in (1, 2):
        await_state(server, "trimmed", version, "UNLOADED")
    assert check_version(infer(server, "trimmed")) == ""


def test_unloading_every_version_removes_the_automatic_route(server: GatewayProcess) -> None:
    assert server.ask_admin("/v2/repository/models/brief/unload", "POST").status == 200
    eventually(lambda: server.state("brief", 1) == "UNLOADED", what="the unload")
    gone = infer(server, "brief")
    assert (gone.status, gone.error) == (404, "model 'brief' is unloaded")
    assert server.ask("/v2/models/brief/ready").status == 404
    assert server.ask_admin("/readyz").status == 200
    assert server.ask_admin("/v2/repository/models/brief/load", "POST").status == 200
    back = infer(server, "brief")
    assert (back.status, back.headers["x-gateway-revision"]) == (200, "1")


def test_a_removed_model_is_unknown(server: GatewayProcess, repository: Path) -> None:
    assert check_version(infer(server, "removed")) == ""
    shutil.rmtree(repository / "removed")
    eventually(lambda: server.versions("removed") == {}, what="the model being forgotten")
    gone = infer(server, "removed")
    assert (gone.status, gone.error) == (404, "no model or route 'removed'")
    assert server.ask_admin("/readyz").status == 200
    # Its series go with it, so that a scrape does not grow with everything that ever was.
    exposition = server.ask_admin("/metrics").body.decode()
    assert not [line for line in exposition.splitlines() if 'model="removed",version="1"' in line]


@pytest.mark.parametrize("action", ["load", "unload"])
def test_what_is_not_in_the_repository_cannot_be_loaded_or_unloaded(server: GatewayProcess, action: str) -> None:
    for answer in (
        admin(server, "nobody", 1, action),
        admin(server, "steady", 99, action),
        server.ask_admin(f"/v2/repository/models/nobody/{action}", "POST"),
    ):
        assert answer.status == 404
        assert "nobody" in answer.error or "99" in answer.error
    assert server.ask_admin(f"/admin/v1/models/steady/versions/one/{action}", "POST").status == 404


# --- readiness ---------------------------------------------------------------------------------------------------


def test_an_empty_repository_is_not_ready_until_something_is(tmp_path: Path) -> None:
    with running_gateway(tmp_path, until_ready=False) as server:
        assert "no models yet" in server.banner
        for answer in (server.ask("/v2/health/ready"), server.ask_admin("/readyz")):
            assert (answer.status, answer.json) == (503, {"ready": False})
        assert server.ask("/v2/health/live").status == 200
        assert server.ask_admin("/livez").status == 200
        add_version(tmp_path, "first", 1, multiplier(1))
        eventually(lambda: server.ask_admin("/readyz").status == 200, what="readiness")
        assert server.ask("/v2/health/ready").json == {"ready": True}
        assert admin(server, "first", 1, "unload").status == 200
        assert server.ask_admin("/readyz").status == 503
