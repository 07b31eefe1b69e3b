"""Owns the sending of fuzzed requests and the judging of every answer as HTTP, as JSON and against its case.

Never knows how a case was made.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.fuzz.cases import Case, Ending

WAIT_S = 20.0
"""Beyond this a request hangs; the machine may be busy, so it says "never", not "slow"."""

_STATUS_LINE = re.compile(r"HTTP/1\.1 (\d{3}) [ -~]*")
_HEADER = re.compile(r"([!#$%&'*+\-.^_`|~0-9a-z]+): ([\x20-\x7e\x80-\xff]*)")
_INFLATE: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
_RESET = struct.pack("ii", 1, 0)


class Unfit(AssertionError):
    """An answer, or the lack of one, that breaks a promise."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server said that it would close the connection."""
        return self.headers.get("connection") == "close"


@dataclass(slots=True)
class Tally:
    """What came back, and what was wrong with it."""

    statuses: Counter[int] = field(default_factory=Counter)
    silent: int = 0
    sent: int = 0
    faults: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Sum it up by class of status."""
        classes = Counter(f"{status // 100}xx" for status in self.statuses.elements())
        detail = " ".join(f"{status}:{count}" for status, count in sorted(self.statuses.items()))
        by_class = ", ".join(f"{count} {name}" for name, count in sorted(classes.items()))
        return f"{self.sent} requests: {by_class}, {self.silent} cut off without an answer ({detail})"


class Connection:
    """One connection that is opened again whenever the server, or a case, has closed it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def exchange(self, case: Case) -> list[Answer]:
        """Send a case and read what its ending says must come.

        Raises: Unfit: no answer, or none that is HTTP.
        """
        reader, writer = await self._open()
        try:
            for piece in case.pieces:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:  # refused before it was sent whole: the answer is on its way
            if case.ending is Ending.KEEP:
                raise
        if case.ending is Ending.ABORT:
            self.reset()
            return []
        if case.ending is Ending.HALF_CLOSE:
            if not writer.transport.is_closing():
                writer.write_eof()
            return await self._read_until_closed(reader)
        answers = [await _read_answer(reader, is_head=case.is_head) for _ in range(case.answers)]
        if case.ending is not Ending.KEEP:
            self.reset()
        elif any(answer.closes for answer in answers):
            if not answers[-1].closes or (await reader.read(1) and not case.is_head):
                raise Unfit("the server said it would close, and did not")
            self.reset()
        return answers

    def reset(self) -> None:
        """Close at once; both sides forget the connection."""
        if self._writer is not None:
            connected = self._writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def _read_until_closed(self, reader: asyncio.StreamReader) -> list[Answer]:
        answers = []
        try:
            while not reader.at_eof():
                answers.append(await _read_answer(reader, is_head=False))
        except (EOFError, ConnectionError):
            pass
        self.reset()
        return answers

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(*self._address, limit=2**22)
        return self._reader, self._writer


async def run(
    cases: Iterable[Case], data: tuple[str, int], admin: tuple[str, int], tally: Tally, *, at_once: int
) -> None:
    """Send all cases, several at a time, and write down what was wrong; each has its own deadline."""
    shared = iter(cases)
    await asyncio.gather(*(_work(shared, Connection(data), Connection(admin), tally) for _ in range(at_once)))


async def _work(cases: Iterator[Case], data: Connection, admin: Connection, tally: Tally) -> None:
    for case in cases:
        connection = admin if case.is_admin else data
        tally.sent += max(1, case.answers)
        try:
            async with asyncio.timeout(WAIT_S):
                answers = await connection.exchange(case)
            tally.statuses.update(answer.status for answer in answers)
            tally.silent += not answers
            check(case, answers)
        except (Unfit, TimeoutError, ConnectionError, EOFError, ValueError) as exc:
            connection.reset()
            tally.faults.append(f"{case.name}\n  {type(exc).__name__}: {exc}\n  {case.wire[:1500]!r}")
    data.reset()
    admin.reset()


def check(case: Case, answers: list[Answer]) -> None:
    """Hold the answers to the case and to what every answer owes.

    Raises: Unfit: a status that the case does not allow, an error that is not the protocol's, another's answer.
    """
    for number, answer in enumerate(answers):
        if answer.status not in case.allowed and not _is_full_queue(answer):
            raise Unfit(f"status {answer.status}, allowed {sorted(case.allowed)}: {answer.body[:300]!r}")
        if answer.status >= 400:
            _check_error(answer, is_head=case.is_head)
        wanted = case.request_ids[number] if number < len(case.request_ids) else None
        if wanted is not None and answer.headers.get("x-request-id", wanted) != wanted:
            raise Unfit(f"the answer is {answer.headers['x-request-id']}'s, asked was {wanted}")
        if answer.status == 200 and "x-gateway-model" in answer.headers:
            _check_prediction(answer)


def _is_full_queue(answer: Answer) -> bool:
    """Tell whether others filled the queue meanwhile, which may happen to anybody."""
    return answer.status == 503 and b"queue holds" in answer.body


_ERROR_TYPES = {"application/json", "application/problem+json"}


def _check_error(answer: Answer, *, is_head: bool) -> None:
    if answer.headers.get("content-type") not in _ERROR_TYPES or "content-encoding" in answer.headers:
        raise Unfit(f"an error in none of the two forms: {answer.headers}")
    if is_head:
        return
    message = json.loads(answer.body)
    if not isinstance(message, dict) or not isinstance(message.get("error"), str) or not message["error"]:
        raise Unfit(f"an error without its text: {answer.body[:300]!r}")
    if answer.status == 405 and not answer.headers.get("allow"):
        raise Unfit("405 without Allow")
    if answer.status == 415 and not answer.headers.get("accept-encoding"):
        raise Unfit("415 without Accept-Encoding")
    if answer.status == 503 and not answer.headers.get("retry-after"):
        raise Unfit("503 without Retry-After")


def _check_prediction(answer: Answer) -> None:
    """Read an inference answer to its last byte."""
    body = answer.body
    if encoding := answer.headers.get("content-encoding"):
        body = _INFLATE[encoding](body)
    offset = int(answer.headers.get("inference-header-content-length", len(body)))
    message = json.loads(body[:offset])
    if "model_name" not in message:  # REST v1, which has neither names nor binary tensors
        return
    for output in message["outputs"]:
        if "data" in output:
            elements = 1
            for size in output["shape"]:
                elements *= size
            if len(output["data"]) != elements:
                raise Unfit(f"{len(output['data'])} elements of shape {output['shape']}")
        else:
            offset += output["parameters"]["binary_data_size"]
    if offset != len(body):
        raise Unfit(f"{len(body) - offset} bytes belong to no output")


async def _read_answer(reader: asyncio.StreamReader, *, is_head: bool) -> Answer:
    """Read one whole answer, past any interim ones.

    Raises:
        Unfit: it is not HTTP. EOFError: the connection ended first.
    """
    while True:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        match = _STATUS_LINE.fullmatch(status_line)
        if match is None:
            raise Unfit(f"no status line: {status_line!r}")
        status = int(match[1])
        if status != 100:
            break
    headers: dict[str, str] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None or header[1] in headers:
            raise Unfit(f"no header, or one twice: {line!r}")
        headers[header[1]] = header[2]
    if status == 204 and not {"content-length", "transfer-encoding"} & headers.keys():
        return Answer(status, headers, b"")  # it may have neither: RFC 9110, 8.6
    if not headers.get("content-length", "").isdigit() or "transfer-encoding" in headers or status == 204:
        raise Unfit(f"no length: {headers}")
    body = b"" if is_head else await reader.readexactly(int(headers["content-length"]))
    return Answer(status, headers, body)
