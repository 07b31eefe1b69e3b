"""One Redis: its address, its time limits, its retries, and the translation of its errors.

The only module that imports the redis library. Knows no key and no script of anybody's.

Addresses, each with `?option=value` of redis-py behind it (`ssl_ca_certs`, `ssl_certfile`, `db`, …):

    redis://[[user]:password@]host[:6379][/db]            rediss://… the same over TLS
    unix://[user@]/path/to/redis.sock[?db=0]
    redis+sentinel://[[user]:password@]host[:26379][,host[:26379]…]/service[/db]
        user and password are those of Redis; `?sentinel_username=…&sentinel_password=…` are those of the sentinels
    redis+cluster://[[user]:password@]host[:6379][,host[:6379]…]
        rediss+sentinel:// and rediss+cluster:// speak TLS with everybody
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from importlib import resources
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec

from gateway.errors import InvalidSetting, StoreUnavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

CALL_TIMEOUT_S = 0.25
MAX_CONNECTIONS = 32
SILENCE_S = 5.0
"""A subscription that hears nothing for so long is asked whether it lives."""

_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

Argument = str | bytes | int | float


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed address.

    Attributes:
        url: What redis-py reads: one of the nodes, with user, password, database and options.
        nodes: Host and port of every sentinel or cluster node, empty for a single Redis.
        service: Name of the sentinels' service.
        sentinel_login: Options for the sentinels' own connections.
    """

    kind: Literal["single", "sentinel", "cluster"]
    url: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_login: dict[str, str] = {}

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Read an address.

        Raises:
            InvalidSetting: it cannot be read; the text never repeats the address, which may hold a password.
        """
        parts = urlsplit(url)
        scheme, _, kind = parts.scheme.partition("+")
        if parts.scheme not in _SCHEMES:
            raise InvalidSetting(f"redis: unknown scheme '{parts.scheme}', expected one of {', '.join(_SCHEMES)}")
        if kind == "":
            if scheme != "unix":
                _node(parts.netloc.rpartition("@")[2] or "localhost", default_port=6379)
            return cls(kind="single", url=url)
        login, _, hosts = parts.netloc.rpartition("@")
        nodes = tuple(_node(host, default_port=26379 if kind == "sentinel" else 6379) for host in hosts.split(","))
        path = [step for step in parts.path.split("/") if step]
        options = dict(parse_qsl(parts.query))
        sentinel_login = {
            key.removeprefix("sentinel_"): options.pop(key)
            for key in ("sentinel_username", "sentinel_password")
            if key in options
        }
        if kind == "sentinel" and not 1 <= len(path) <= 2:
            raise InvalidSetting(f"redis: expected {scheme}+sentinel://host[:port][,…]/service[/db]")
        database = f"/{path[1]}" if kind == "sentinel" and len(path) == 2 else ""
        host, port = nodes[0]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        plain = f"{scheme}://{login + '@' if login else ''}{address}{database}?{urlencode(options)}"
        if kind == "sentinel":
            return cls(kind="sentinel", url=plain, nodes=nodes, service=path[0], sentinel_login=sentinel_login)
        return cls(kind="cluster", url=plain, nodes=nodes)


def _node(host: str, *, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    try:
        port = parts.port or default_port
    except ValueError:  # its text may hold a piece of a password with a '/' or '#' in it
        raise InvalidSetting(
            "redis: the port of a host is not a number from 1 to 65535; a password needs its special characters as %xx"
        ) from None
    if not parts.hostname:
        raise InvalidSetting("redis: expected host[:port], got an empty host")
    return parts.hostname, port


class Script:
    """A Lua script and the name that Redis gives it."""

    def __init__(self, file_name: str) -> None:
        self.source = resources.files("gateway.store").joinpath(file_name).read_text()
        # Redis names scripts by SHA-1; nothing is protected by it.
        self.sha1 = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class RedisConnection:
    """A client with short calls: 250 ms each, one retry for reads, none for writes.

    Opened and closed as an async context manager; opening imports the library and connects to nobody.

    Args:
        url: As above.
    Raises:
        InvalidSetting: the address, or on opening one of its options, cannot be read.
    """

    def __init__(self, url: str, *, call_timeout_s: float = CALL_TIMEOUT_S, silence_s: float = SILENCE_S) -> None:
        self._address = RedisAddress.parse(url)
        self._silence_s = silence_s
        self._call_timeout_s = call_timeout_s
        self._client: Redis | RedisCluster | None = None
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(importlib.import_module, "redis.asyncio")
        try:
            self._client = self._open()
        except (ValueError, TypeError) as exc:
            raise InvalidSetting(f"redis: {exc}") from exc
        self._resources.push_async_callback(self._client.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()

    async def read(self, *command: Argument, give_up_at: float = math.inf) -> object:
        """Send a command that changes nothing; asked once more when the first answer is lost.

        Args:
            give_up_at: Loop time after which nobody waits, however short that makes the call.
        Raises:
            StoreUnavailable: no answer, or a refusal; "not_written", since it writes nothing.
        """
        try:
            return await self._call(*command, give_up_at=give_up_at)
        except StoreUnavailable as exc:
            if exc.outcome == "not_written":  # it did answer: asking again would not help
                raise
        try:
            return await self._call(*command, give_up_at=give_up_at)
        except StoreUnavailable as exc:
            raise StoreUnavailable(str(exc), outcome="not_written") from exc

    async def read_script(
        self, script: Script, keys: Sequence[str], *args: Argument, give_up_at: float = math.inf
    ) -> object:
        """Run a script that changes nothing, as `read` sends a command."""
        try:
            return await self.read("EVALSHA", script.sha1, len(keys), *keys, *args, give_up_at=give_up_at)
        except _NoScript:
            return await self.read("EVAL", script.source, len(keys), *keys, *args, give_up_at=give_up_at)

    async def write_script(
        self, script: Script, keys: Sequence[str], *args: Argument, give_up_at: float = math.inf
    ) -> object:
        """Run a script that writes, once.

        Raises:
            StoreUnavailable: "not_written" when Redis answered with a refusal, "unknown" when no answer came.
        """
        try:
            return await self._call("EVALSHA", script.sha1, len(keys), *keys, *args, give_up_at=give_up_at)
        except _NoScript:  # Redis was restarted; it ran nothing
            return await self._call("EVAL", script.source, len(keys), *keys, *args, give_up_at=give_up_at)

    async def listen(self, channel: str) -> AsyncGenerator[None]:
        """Subscribe, and yield once when subscribed and once for each message, whatever it says.

        Raises:
            StoreUnavailable: the subscription is lost; subscribe again.
        """
        pubsub = self._open_client().pubsub()
        try:
            with self._translated():
                async with asyncio.timeout(2 * self._call_timeout_s):
                    await pubsub.subscribe(channel)
            is_asked = False
            while True:
                with self._translated():
                    message = await pubsub.get_message(timeout=self._silence_s)
                    if message is None:
                        if is_asked:
                            raise StoreUnavailable("redis: the subscription is silent", outcome="not_written")
                        async with asyncio.timeout(self._call_timeout_s):
                            await pubsub.ping()
                    is_asked = message is None
                if message is not None and message["type"] in {"subscribe", "message"}:
                    yield
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]  # redis-py leaves it so

    async def _call(self, *command: Argument, give_up_at: float) -> object:
        left_s = give_up_at - asyncio.get_running_loop().time()
        if left_s <= 0:
            raise StoreUnavailable("redis: no time left for another call", outcome="not_written")
        with self._translated():
            async with asyncio.timeout(min(self._call_timeout_s, left_s)):
                answer: object = await self._open_client().execute_command(*command)
                return answer

    def _open_client(self) -> Redis | RedisCluster:
        if self._client is None:
            raise StoreUnavailable("redis: the connection is not open", outcome="not_written")
        return self._client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the library's errors into ours; the texts hold addresses, never passwords."""
        from redis import exceptions  # the library is imported when the connection is opened, not before

        try:
            yield
        except exceptions.NoScriptError as exc:
            raise _NoScript from exc
        except (TimeoutError, exceptions.TimeoutError) as exc:
            limit_ms = round(self._call_timeout_s * 1000)
            raise StoreUnavailable(f"redis: no answer within {limit_ms} ms", outcome="unknown") from exc
        except (exceptions.ConnectionError, exceptions.RedisClusterException, exceptions.ClusterError, OSError) as exc:
            raise StoreUnavailable(f"redis: no connection: {exc}", outcome="unknown") from exc
        except exceptions.RedisError as exc:
            raise StoreUnavailable(f"redis: refused: {exc}", outcome="not_written") from exc

    def _open(self) -> Redis | RedisCluster:
        from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
        from redis.asyncio.cluster import ClusterNode
        from redis.asyncio.connection import SSLConnection, parse_url
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        address = self._address
        limits = {
            # Every call has its limit in `_call`. The library's own rests on asyncio.wait_for, which in Python 3.11
            # swallows a cancellation that arrives together with the answer, ours included.
            "socket_timeout": None,
            "socket_connect_timeout": self._call_timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "max_connections": MAX_CONNECTIONS,
        }
        if address.kind == "single":
            pool = ConnectionPool.from_url(address.url, **limits)
            # Connects to nobody, and refuses an option it does not know.
            pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it so
            return Redis.from_pool(pool)
        options: dict[str, Any] = {**limits, **parse_url(address.url)}
        if options.pop("connection_class", None) is SSLConnection:
            options["ssl"] = True
        del options["host"]
        options.pop("port", None)
        if address.kind == "cluster":
            return RedisCluster(startup_nodes=[ClusterNode(host, port) for host, port in address.nodes], **options)
        # The sentinels are asked one after the other within one call.
        patience_s = self._call_timeout_s / (len(address.nodes) + 1)
        sentinel_options = {key: value for key, value in options.items() if key.startswith("ssl") or key == "retry"}
        sentinel = Sentinel(  # type: ignore[no-untyped-call]  # redis-py leaves it so
            address.nodes,
            sentinel_kwargs={
                **sentinel_options,
                **address.sentinel_login,
                "socket_timeout": patience_s,
                "socket_connect_timeout": patience_s,
            },
            **options,
        )
        self._resources.push_async_callback(sentinel.aclose)
        client: Redis = sentinel.master_for(address.service)
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py leaves it so
        return client


class _NoScript(Exception):
    """Redis does not hold the script; it ran nothing."""
