"""A door between one store and its Redis that can be shut, slowed, and made to lose answers.

Never changes a byte of what it lets pass.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.store.redis_server import RedisServer


class FaultProxy:
    """Forwards connections to a RedisServer while its switches say so.

    Attributes:
        drops_answers: Requests pass, answers are thrown away.
        delay_s: How long each piece waits, either way.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._directory = Path(tempfile.mkdtemp(prefix="gateway-proxy-"))
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._is_shut = False
        self.drops_answers = False
        self.delay_s = 0.0

    @property
    def url(self) -> str:
        """Address for the store under test."""
        return f"unix://{self._directory}/proxy.sock"

    def shut(self) -> None:
        """Cut every connection and refuse new ones."""
        self._is_shut = True
        self.cut()

    def cut(self) -> None:
        """Cut every connection; new ones are let through."""
        for writer in self._writers:
            writer.transport.abort()

    def reopen(self) -> None:
        """Let connections through again."""
        self._is_shut = False

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._serve, self._directory / "proxy.sock")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        self.shut()
        await asyncio.sleep(0)  # those that are being opened see that it is shut
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        shutil.rmtree(self._directory)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            upstream_reader, upstream = await asyncio.open_unix_connection(self._server.directory / "redis.sock")
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(upstream)
        if self._is_shut:
            writer.transport.abort()
            upstream.transport.abort()
            return
        for source, sink, is_answer in ((reader, upstream, False), (upstream_reader, writer, True)):
            task = asyncio.create_task(self._forward(source, sink, is_answer=is_answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool) -> None:
        try:
            while piece := await source.read(65536):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if is_answer and self.drops_answers:
                    continue
                sink.write(piece)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()
            self._writers.discard(sink)
