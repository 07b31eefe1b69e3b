"""Owns the list of the peers' configurations that are compared.

Never starts or installs anything: an entry says how.
"""

from collections.abc import Callable

from loadtests.bench import models
from loadtests.bench.peers.environment import Environment
from loadtests.bench.results import Peer
from loadtests.bench.servers import Launch, Server

# What the wheel of nvidia-pytriton in triton.txt carries inside.
_TRITONSERVER = "2.51.0"
_REPORTED = ("onnxruntime", "uvicorn", "uvloop", "httptools", "numpy")
_NAMES = {"mlserver": "MLServer", "litserve": "LitServe", "bentoml": "BentoML", "triton": "Triton"}

ENVIRONMENTS = {peer: Environment(peer=peer) for peer in _NAMES}


def facts(server: Server) -> Peer:
    """Return what the report says of a peer's server.

    Raises: ValueError: it is none.
    """
    if server.peer is None:
        raise ValueError(f"{server.key} is no peer")
    pins = ENVIRONMENTS[server.peer].pins()
    first, version = next(iter(pins.items()))
    versions = {first: version}
    if server.peer == "triton":
        versions = {"tritonserver": _TRITONSERVER, "nvidia-pytriton": version}
    versions |= {name: pins[name] for name in _REPORTED if name in pins}
    return Peer(name=_NAMES[server.peer], dialect=server.dialect, versions=versions)


def _file(launch: Launch) -> str:
    return str(models.model_file(launch.repository, launch.model))


def _module(peer: str, module: str) -> list[str]:
    return [str(ENVIRONMENTS[peer].python), "-m", f"loadtests.bench.peers.{module}"]


def _mlserver(*, workers: int, batching: bool) -> Callable[[Launch], list[str]]:
    def command(launch: Launch) -> list[str]:
        names = ["--name", launch.model, "--port", str(launch.port), "--grpc-port", str(launch.admin_port)]
        options = ["--workers", str(workers), *(["--batching"] if batching else [])]
        return [*_module("mlserver", "mlserver_start"), _file(launch), *names, *options]

    return command


def _litserve(launch: Launch) -> list[str]:
    return [*_module("litserve", "litserve_app"), _file(launch), "--port", str(launch.port)]


def _bentoml(launch: Launch) -> list[str]:
    return [*_module("bentoml", "bentoml_start"), _file(launch), "--port", str(launch.port)]


def _triton(launch: Launch) -> list[str]:
    options = ["--name", launch.model, "--port", str(launch.port)]
    return [*_module("triton", "triton_start"), _file(launch), *options]


def _mlserver_entry(key: str, title: str, *, workers: int, batching: bool) -> Server:
    return Server(
        key=key,
        title=title,
        command=_mlserver(workers=workers, batching=batching),
        ready_path="/v2/models/{model}/ready",
        encodings=("json",),
        peer="mlserver",
    )


PEERS = {
    server.key: server
    for server in (
        _mlserver_entry("mlserver", "MLServer", workers=0, batching=False),
        _mlserver_entry("mlserver-batching", "MLServer, batching", workers=0, batching=True),
        _mlserver_entry("mlserver-worker", "MLServer, 1 worker", workers=1, batching=False),
        _mlserver_entry("mlserver-worker-batching", "MLServer, 1 worker, batching", workers=1, batching=True),
        Server(
            key="litserve",
            title="LitServe, batching",
            command=_litserve,
            ready_path="/health",
            infer_path="/infer",
            dialect="rows",
            encodings=("json",),
            peer="litserve",
            polls_when_idle=True,
        ),
        Server(
            key="bentoml",
            title="BentoML, batching",
            command=_bentoml,
            ready_path="/readyz",
            infer_path="/infer",
            dialect="rows",
            encodings=("json",),
            peer="bentoml",
        ),
        Server(key="triton", title="Triton, Python backend", command=_triton, peer="triton"),
    )
}
