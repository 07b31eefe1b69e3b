"""Owns one way of asking for each client the gateway promises to answer: Triton's two, KServe's and curl.

Uses them as their documentation says, and nothing below their surface.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import kserve
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio

from tests.e2e.oracle import Array, Tensors, datatype_of
from tests.e2e.wire import binary_body, infer_path, json_body, read_outputs
from tests.support.server import GatewayProcess, HttpAnswer

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One inference request, in words that every client has.

    Attributes:
        outputs: Asked for by name; all when empty.
        version: None asks the model's route.
        compression: "gzip" or "deflate", both ways.
    """

    model: str
    inputs: Mapping[str, Array]
    outputs: Sequence[str] = ()
    version: int | None = None
    binary: bool = False
    compression: str | None = None
    request_id: str = "a-client's-own-id"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client made of the answer; "" where the client does not show it."""

    outputs: Tensors
    model_name: str
    model_version: str
    request_id: str


def ask_triton(gateway: GatewayProcess, question: Question) -> Reply:
    """Ask with tritonclient.http."""
    with closing(triton.InferenceServerClient(_host(gateway))) as client:
        return _triton_reply(client.infer(**_triton_arguments(triton, question)), question)


def ask_triton_asynchronously(gateway: GatewayProcess, question: Question) -> Reply:
    """Ask with tritonclient.http's async_infer, which answers later."""
    with closing(triton.InferenceServerClient(_host(gateway), concurrency=2)) as client:
        pending = client.async_infer(**_triton_arguments(triton, question))
        return _triton_reply(pending.get_result(timeout=20), question)


def ask_triton_aio(gateway: GatewayProcess, question: Question) -> Reply:
    """Ask with tritonclient.http.aio."""

    async def ask(client: Any) -> Reply:  # noqa: ANN401 - tritonclient ships no types
        return _triton_reply(await client.infer(**_triton_arguments(triton_aio, question)), question)

    return with_triton_aio(gateway, ask)


def ask_kserve(gateway: GatewayProcess, question: Question) -> Reply:
    """Ask with KServe's InferenceRESTClient, which cannot pin a version and compresses nothing."""
    inputs = []
    for name, array in question.inputs.items():
        tensor = kserve.InferInput(name, list(array.shape), datatype_of(array))
        tensor.set_data_from_numpy(array, binary_data=question.binary)
        inputs.append(tensor)
    request = kserve.InferRequest(
        question.model,
        inputs,
        request_id=question.request_id,
        parameters={"binary_data_output": question.binary},
        request_outputs=[
            kserve.protocol.infer_type.RequestedOutput(name, {"binary_data": question.binary})
            for name in question.outputs
        ]
        or None,
    )

    async def ask(client: Any) -> Reply:  # noqa: ANN401 - kserve ships no types
        answer = await client.infer(gateway.data_url, request, model_name=question.model)
        outputs = {output.name: output.as_numpy() for output in answer.outputs}
        return Reply(outputs, answer.model_name, "", answer.id)

    return with_kserve(ask)


def ask_curl(gateway: GatewayProcess, question: Question) -> Reply:
    """Ask with curl, the body from standard input."""
    headers = ["-H", "accept-encoding: identity"]
    if question.compression:  # curl's --compressed asks for all it knows; what it sends is not compressed
        headers = ["--compressed", "-H", f"accept-encoding: {question.compression}"]
    if question.binary:
        body, length = binary_body(question.inputs, outputs=question.outputs)
        headers += ["-H", f"inference-header-content-length: {length}"]
    else:
        body = json_body(question.inputs, outputs=question.outputs, request_id=question.request_id)
    answer = curl(gateway.data_url + infer_path(question.model, question.version), *headers, body=body)
    assert answer.status == 200, answer.body
    length = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    message = json.loads(answer.body[:length])
    request_id = question.request_id if question.binary else message["id"]  # the binary body carries none
    return Reply(read_outputs(answer), message["model_name"], message["model_version"], request_id)


Ask = Callable[[GatewayProcess, Question], Reply]

CLIENTS: dict[str, Ask] = {
    "tritonclient": ask_triton,
    "tritonclient async_infer": ask_triton_asynchronously,
    "tritonclient.aio": ask_triton_aio,
    "kserve": ask_kserve,
    "curl": ask_curl,
}


def curl(url: str, *arguments: str, body: bytes | None = None, within_s: float = 20.0) -> HttpAnswer:
    """Run curl and return what it got, decompressed if --compressed is among the arguments."""
    command = ["curl", "--silent", "--show-error", "--include", "--max-time", f"{within_s:g}", *arguments]
    if body is not None:
        command += ["--data-binary", "@-"]
    ran = subprocess.run([*command, url], input=body, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    head, _, content = ran.stdout.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 100"):
        head, _, content = content.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return HttpAnswer(int(status_line.split()[1]), headers, content)


def with_triton_aio(gateway: GatewayProcess, use: Callable[[Any], Awaitable[T]]) -> T:
    """Run `use` with an open tritonclient.http.aio client in a loop of its own."""

    async def run() -> T:
        async with triton_aio.InferenceServerClient(_host(gateway)) as client:
            return await use(client)

    return asyncio.run(run())


def with_kserve(use: Callable[[Any], Awaitable[T]]) -> T:
    """Run `use` with an open KServe v2 client in a loop of its own."""

    async def run() -> T:
        async with kserve.InferenceRESTClient(kserve.RESTConfig(protocol="v2")) as client:
            return await use(client)

    return asyncio.run(run())


def _triton_arguments(module: Any, question: Question) -> dict[str, Any]:  # noqa: ANN401 - a module
    inputs = []
    for name, array in question.inputs.items():
        tensor = module.InferInput(name, list(array.shape), datatype_of(array))
        tensor.set_data_from_numpy(array, binary_data=question.binary)
        inputs.append(tensor)
    outputs = [module.InferRequestedOutput(name, binary_data=question.binary) for name in question.outputs]
    return {
        "model_name": question.model,
        "inputs": inputs,
        "outputs": outputs or None,
        "model_version": "" if question.version is None else str(question.version),
        "request_id": question.request_id,
        "request_compression_algorithm": question.compression,
        "response_compression_algorithm": question.compression,
    }


def _triton_reply(result: Any, question: Question) -> Reply:  # noqa: ANN401 - tritonclient ships no types
    message = result.get_response()
    outputs = {output["name"]: result.as_numpy(output["name"]) for output in message["outputs"]}
    return Reply(outputs, message["model_name"], message["model_version"], message["id"])


def _host(gateway: GatewayProcess) -> str:
    return gateway.data_url.removeprefix("http://")
