"""Owns a Triton repository for one model of the Python backend, and becomes the tritonserver that pytriton bundles.

Never imported by the benchmark, and never uses pytriton itself: its proxy would cost Triton time.

Runs, in the environment of the peer, as
`python -m loadtests.bench.peers.triton_start MODEL.onnx --name tabular --port N`.
"""

import argparse
import os
import shutil
import sys
import sysconfig
from pathlib import Path

import onnxruntime

_DATA_TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64"}


def configuration(name: str, file: Path) -> str:
    """Return the config.pbtxt for `file`: batches of up to 64 rows, without a waiting window, one instance."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    inputs = ", ".join(_tensor(value) for value in session.get_inputs())
    outputs = ", ".join(_tensor(value) for value in session.get_outputs())
    return f"""\
name: "{name}"
backend: "python"
max_batch_size: 64
input [{inputs}]
output [{outputs}]
dynamic_batching {{ }}
instance_group [{{ count: 1 kind: KIND_CPU }}]
parameters {{ key: "model_file" value {{ string_value: "{file}" }} }}
"""


def _tensor(value: onnxruntime.NodeArg) -> str:
    dims = list(value.shape[1:])
    # Triton has no tensor without dimensions besides the batch's; one of size 1 is taken for it.
    shape = f"dims: {dims}" if dims else "dims: [1] reshape: { shape: [] }"
    return f'{{ name: "{value.name}" data_type: {_DATA_TYPES[value.type]} {shape} }}'


def main() -> None:
    """Lay out repository and backend in the working directory, then run tritonserver in this process's place."""
    parser = argparse.ArgumentParser(prog="triton_start")
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    packages = Path(sysconfig.get_paths()["purelib"])
    bundle = packages / "pytriton" / "tritonserver"
    model = Path("models") / arguments.name
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(configuration(arguments.name, arguments.file), encoding="utf-8")
    shutil.copy(Path(__file__).with_name("triton_model.py"), model / "1" / "model.py")
    backend = Path(shutil.copytree(bundle / "backends" / "python", Path("backends") / "python"))
    # The process that runs the Python code is built for one release of Python each.
    release = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(bundle / "python_backend_stubs" / release / "triton_python_backend_stub", backend)
    libraries = [str(packages / "nvidia_pytriton.libs"), sysconfig.get_config_var("LIBDIR")]
    environment = {
        **os.environ,
        # It finds its packages beside the first `python3` of PATH, and its shared libraries nowhere by itself.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
    }
    options = {
        "model-repository": "models",
        "backend-directory": "backends",
        "http-address": "127.0.0.1",
        "http-port": arguments.port,
        "allow-grpc": "false",
        "allow-metrics": "false",
        "exit-timeout-secs": 3,
    }
    server = bundle / "bin" / "tritonserver"
    # The process that is measured is the server itself, not one that started it.
    os.execve(server, [str(server), *(f"--{key}={value}" for key, value in options.items())], environment)  # noqa: S606 - no shell, fixed arguments


if __name__ == "__main__":
    main()
