"""Owns the promise that every kind of Redis address works: password, TLS, sentinels, cluster; each for real."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.errors import InvalidSetting, StoreUnavailable
from gateway.store.records import RouteRecord
from gateway.store.redis_connection import RedisAddress, RedisConnection
from gateway.store.redis_store import RedisStore
from tests.store.changes import Listener, put
from tests.store.redis_server import RedisServer, eventually, free_port


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisAddress(kind="single", url="redis://h")),
        ("rediss://u:p@h:1/2?a=b", RedisAddress(kind="single", url="rediss://u:p@h:1/2?a=b")),
        ("unix:///run/redis.sock?db=1", RedisAddress(kind="single", url="unix:///run/redis.sock?db=1")),
        (
            "redis+sentinel://a,b:2/main",
            RedisAddress(kind="sentinel", url="redis://a:26379?", nodes=(("a", 26379), ("b", 2)), service="main"),
        ),
        (
            "rediss+sentinel://u:p%40@[::1]:1/main/3?sentinel_password=s&ssl_ca_certs=/c",
            RedisAddress(
                kind="sentinel",
                url="rediss://u:p%40@[::1]:1/3?ssl_ca_certs=%2Fc",
                nodes=(("::1", 1),),
                service="main",
                sentinel_login={"password": "s"},
            ),
        ),
        (
            "redis+cluster://:p@a,b:7",
            RedisAddress(kind="cluster", url="redis://:p@a:6379?", nodes=(("a", 6379), ("b", 7))),
        ),
    ],
)
def test_an_address_is_read_into_its_parts(url: str, expected: RedisAddress) -> None:
    assert RedisAddress.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:6379",
        "http://hunter2@h",
        "redis+sentinel://:hunter2@h",
        "redis+sentinel://:hunter2@h/a/b/c",
        "redis+sentinel://:hunter2@h,/a",
        "redis://:hunter2/hunter2@h",
        "redis://:p@h:hunter2",
        "redis://h:99999",
    ],
)
def test_a_wrong_address_is_refused_without_repeating_a_password(url: str) -> None:
    with pytest.raises(InvalidSetting, match="redis") as caught:
        RedisStore(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@h?colour=blue",
        "redis+sentinel://:hunter2@h/main?colour=blue",
        "redis+cluster://:hunter2@h?colour=blue",
        "redis://:hunter2@h?max_connections=many",
    ],
)
async def test_an_unknown_option_is_refused_on_opening(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"colour|max_connections") as caught:
        await RedisConnection(url).__aenter__()
    assert "hunter2" not in str(caught.value)


async def first_put(store: RedisStore) -> RouteRecord:
    """Write the first revision, as soon as the store answers in time: a connection that is just being made may not."""
    ends_at = time.monotonic() + 10
    while True:
        try:
            return await put(store, 1)
        except StoreUnavailable as exc:
            if exc.outcome != "not_written" or time.monotonic() > ends_at:
                raise


async def assert_two_replicas_share_routes(url: str) -> None:
    async with RedisStore(url) as store, RedisStore(url) as other:
        listener = Listener(other)
        second = await put(store, 2, await first_put(store))
        await listener.until(lambda: listener.routes.get("fraud") == second, within_s=5)
        assert await other.read("fraud") == second
        assert len(await other.history("fraud")) == len(await other.audit()) == 2
        await listener.close()


@pytest.mark.redis
async def test_a_user_with_a_password_is_let_in_and_others_are_not(redis_server: RedisServer) -> None:
    redis_server.command("ACL", "SETUSER", "gate", "on", ">p@ss/w", "~{gateway*", "&{gateway*", "+@all")
    redis_server.command("ACL", "SETUSER", "default", "off")
    await assert_two_replicas_share_routes(redis_server.url.replace("unix://", "unix://gate:p%40ss%2Fw@"))
    async with RedisStore(redis_server.url.replace("unix://", "unix://gate:wrong@")) as store:
        with pytest.raises(StoreUnavailable) as caught:
            await store.read("fraud")
        assert "wrong" not in str(caught.value)


@pytest.mark.redis
async def test_a_database_of_its_own_is_used(redis_server: RedisServer) -> None:
    await assert_two_replicas_share_routes(f"{redis_server.url}?db=3")
    assert redis_server.command("DBSIZE") == b":0\r\n"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Make a certificate for 127.0.0.1 that only its own file vouches for."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return tmp_path / "cert.pem"


@pytest.mark.redis
async def test_tls_is_spoken_and_the_certificate_is_verified(certificate: Path) -> None:
    port = free_port()
    key = certificate.with_name("key.pem")
    options = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with RedisServer(*options, "--tls-auth-clients", "no"):
        url = f"rediss://127.0.0.1:{port}"
        await assert_two_replicas_share_routes(f"{url}?ssl_ca_certs={certificate}")
        async with RedisStore(url) as store:
            with pytest.raises(StoreUnavailable, match="certificate"):
                await store.read("fraud")


@pytest.mark.redis
async def test_a_cluster_keeps_all_keys_of_the_routes_together() -> None:
    """One node with all slots: it refuses a script whose keys are of several slots, as any cluster does."""
    port = free_port()
    options = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port", str(free_port()))
    with RedisServer(*options, port=port) as server:
        assert server.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383") == b"+OK\r\n"

        async def is_up() -> bool:
            return b"cluster_state:ok" in server.command("CLUSTER", "INFO")

        await eventually(is_up, within_s=10, what="the cluster")
        await assert_two_replicas_share_routes(f"redis+cluster://127.0.0.1:{port}")
        server.kill()
        async with RedisStore(f"redis+cluster://127.0.0.1:{port}") as store:
            with pytest.raises(StoreUnavailable):
                await store.read("fraud")


class Sentinels:
    """Two Redis, one the replica of the other, and one sentinel that watches them."""

    def __init__(self, servers: ExitStack) -> None:
        self.first = servers.enter_context(RedisServer(port=free_port()))
        replica_of = ("--replicaof", f"127.0.0.1 {self.first.port}", "--repl-diskless-sync-delay", "0")
        self.second = servers.enter_context(RedisServer(*replica_of, port=free_port()))
        watched = (
            f"sentinel monitor main 127.0.0.1 {self.first.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )
        self.sentinel = servers.enter_context(RedisServer("--sentinel", port=free_port(), config=watched))

    @property
    def url(self) -> str:
        """Address of the service."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/main"


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    with ExitStack() as servers:
        yield Sentinels(servers)


@pytest.mark.redis
async def test_a_failover_of_the_sentinels_is_followed_in_a_new_epoch(sentinels: Sentinels) -> None:
    async def is_replicated() -> bool:
        return b"fraud" in sentinels.second.command("HGETALL", "{gateway:routes}:heads")

    async def is_seen() -> bool:
        return b"127.0.0.1" in sentinels.sentinel.command("SENTINEL", "REPLICAS", "main")

    async with RedisStore(sentinels.url) as store:
        listener = Listener(store)
        await listener.until(lambda: listener.is_reached is True, within_s=5)
        first = await put(store, 1)
        await eventually(is_replicated, within_s=10, what="the route on the second Redis")
        await eventually(is_seen, within_s=20, what="the second Redis at the sentinel")
        sentinels.first.kill()
        await listener.until(lambda: listener.is_reached is False, within_s=5)
        assert listener.routes == {"fraud": first}
        await listener.until(lambda: listener.is_reached is True, within_s=20)
        second = await put(store, 2, first)
        assert second.revision == 2
        assert second.epoch > first.epoch
        await listener.close()
