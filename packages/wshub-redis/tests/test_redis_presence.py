"""The presence of a fleet on a real server: the contract, dead hubs, outages, lost data."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis_servers import RedisServer, run_cluster, run_server

from wshub_core import (
    AuthResult,
    Bridge,
    HistoryLimits,
    Hub,
    HubConfig,
    PresenceCount,
    PresenceOutcome,
    PresenceSettings,
    PresenceUnavailableError,
    PresenceUpdate,
    StoredMember,
)
from wshub_core.presence.local import LocalPresence
from wshub_core.testing import MemoryClient, PresenceContract, connect
from wshub_redis import RedisBridge, presence_store
from wshub_redis.presence_store import RedisPresenceStore
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.scripts import Script

CHANNEL = "room:1"
ANNOUNCED = PresenceSettings(announce=True, leave_delay=0.2)

prefixes = count()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return f"ws{next(prefixes)}"


class TestRedisBridge(PresenceContract):
    @pytest.fixture(autouse=True)
    def use(self, server: RedisServer, prefix: str) -> None:
        self.server = server
        self.prefix = prefix

    def open_bridge(self, hub: Hub) -> AbstractAsyncContextManager[Bridge]:
        return RedisBridge(hub, self.server.url, prefix=self.prefix)


@asynccontextmanager
async def open_hub(
    redis: Any, prefix: str, presence: PresenceSettings = ANNOUNCED, **options: Any
) -> AsyncIterator[Hub]:
    config = HubConfig(
        presence={"room:*": presence},
        authenticator=lambda request: AuthResult(True, request.query.removeprefix("user=")),
        history=options.pop("history", {}),
    )
    async with Hub(config) as hub, RedisBridge(hub, redis, prefix=prefix, timeout=1.0, **options):
        yield hub


async def subscribe(hub: Hub, user: str, channel: str = CHANNEL) -> MemoryClient:
    client = await connect(hub, query=f"user={user}")
    client.subscribe(channel)
    await client.sync()
    return client


async def wait_users(hub: Hub, *users: str, seconds: float = 20) -> None:
    """Wait until these users are the members, one connection each."""
    found: list[str] = []
    try:
        async with asyncio.timeout(seconds):
            while found != sorted(users):
                try:
                    members = (await hub.presence(CHANNEL)).members
                except PresenceUnavailableError:
                    members = ()
                found = sorted(each.user_id for each in members)
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{found} instead of {users}") from None


async def wait_unavailable(hub: Hub) -> None:
    """Wait until a hub has noticed that the server is away."""
    async with asyncio.timeout(10):
        while True:
            try:
                await hub.presence(CHANNEL)
            except PresenceUnavailableError:
                return
            await asyncio.sleep(0.02)


async def receive_news(client: MemoryClient) -> tuple[str, list[str]]:
    """Return the type of the next message about users, and the users."""
    message = await client.receive()
    return message.type, sorted(each["userId"] for each in message.data)


async def assert_no_news(hub: Hub, client: MemoryClient) -> None:
    """Check that no message about users is under way, with the help of one more user."""
    await subscribe(hub, "marker")
    assert await receive_news(client) == ("join", ["marker"])


# Dead hubs.

MEMBERS = """
import asyncio, sys
from wshub_core import AuthResult, Hub, HubConfig, PresenceSettings
from wshub_core.testing import connect
from wshub_redis import RedisBridge, presence_store

async def main(url, prefix, *users):
    presence_store.LEASE_SECONDS = 2.0
    presence = {"room:*": PresenceSettings(announce=True, leave_delay=0.2)}
    authenticator = lambda request: AuthResult(True, request.query)
    async with (
        Hub(HubConfig(presence=presence, authenticator=authenticator)) as hub,
        RedisBridge(hub, url, prefix=prefix),
    ):
        for user in users:
            (await connect(hub, query=user)).subscribe("room:1")
        print((await hub.presence_count("room:1")).connections, flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_the_members_of_a_killed_hub_go_and_are_announced(
    server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_store, "LEASE_SECONDS", 2.0)
    async with open_hub(server.url, prefix) as here, open_hub(server.url, prefix) as there:
        observer = await subscribe(here, "observer")
        assert await receive_news(observer) == ("join", ["observer"])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", MEMBERS, server.url, prefix, "ada", "bob"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                await process.stdout.readline()
            await wait_users(here, "ada", "bob", "observer")
            assert await receive_news(observer) == ("join", ["ada", "bob"])
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
        # Ada returns to another hub, as after a deployment. Bob does not.
        await subscribe(there, "ada")
        await wait_users(there, "ada", "observer")
        assert await receive_news(observer) == ("leave", ["bob"])
        await assert_no_news(here, observer)


async def test_a_hub_that_was_taken_for_dead_brings_its_members_back(
    server: RedisServer, prefix: str
) -> None:
    async with open_hub(server.url, prefix) as here, open_hub(server.url, prefix) as there:
        observer = await subscribe(there, "observer")
        assert await receive_news(observer) == ("join", ["observer"])
        await subscribe(here, "ada")
        assert await receive_news(observer) == ("join", ["ada"])
        (hub_id,) = {
            each.connection_id.rpartition("-")[0]
            for each in (await here.presence(CHANNEL)).members
            if each.user_id == "ada"
        }
        # The lease of the hub ends, as if its process had been suspended.
        with server.client() as client:
            client.zadd(RedisChannels(prefix).key("presence", CHANNEL) + b"|hubs", {hub_id: 1})
        await wait_users(there, "observer")
        await subscribe(there, "bob")
        news = [await receive_news(observer) for _ in range(2)]
        assert news == [("leave", ["ada"]), ("join", ["bob"])]
        # The next update of the hub finds out.
        await subscribe(here, "carl")
        await wait_users(there, "ada", "bob", "carl", "observer")
        joined: list[str] = []
        while len(joined) < 2:
            kind, users = await receive_news(observer)
            assert kind == "join"
            joined += users
        assert sorted(joined) == ["ada", "carl"]


async def test_members_stay_while_their_hub_refreshes_them(
    server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_store, "LEASE_SECONDS", 0.9)
    async with open_hub(server.url, prefix) as here, open_hub(server.url, prefix) as there:
        await subscribe(here, "ada")
        await wait_users(there, "ada")
        for _ in range(40):
            await asyncio.sleep(0.05)
            assert (await there.presence_count(CHANNEL)).connections == 1


async def test_nothing_stays_on_redis_for_ever(server: RedisServer, prefix: str) -> None:
    async with open_hub(server.url, prefix) as hub:
        (await subscribe(hub, "ada")).close()
        await subscribe(hub, "bob")
        await wait_users(hub, "bob")
        with server.client() as client:
            keys = client.keys(f"{prefix}:*")
            assert len(keys) >= 3
            assert all(client.pttl(key) > 0 for key in keys)
    with server.client() as client:
        # The version of the last update is kept for updates that arrive late.
        assert all(client.pttl(key) <= 3_610_000 for key in client.keys(f"{prefix}:*"))


# Outages.


async def test_during_an_outage_the_members_are_unknown_and_afterwards_complete(
    prefix: str,
) -> None:
    with run_server() as server:
        async with open_hub(server.url, prefix) as here, open_hub(server.url, prefix) as there:
            observer = await subscribe(here, "observer")
            leaver = await subscribe(here, "leaver")
            await subscribe(there, "stayer")
            await wait_users(here, "leaver", "observer", "stayer")
            joined: list[str] = []
            while len(joined) < 3:
                joined += (await receive_news(observer))[1]
            server.kill()
            await wait_unavailable(here)
            leaver.close()
            await subscribe(there, "newcomer")
            await asyncio.sleep(0.5)
            # The data of the server is lost.
            server.start()
            server.wait_ready()
            await wait_users(here, "newcomer", "observer", "stayer")
            await wait_users(there, "newcomer", "observer", "stayer")
            news = sorted([await receive_news(observer) for _ in range(2)])
            assert news == [("join", ["newcomer"]), ("leave", ["leaver"])]
            await assert_no_news(here, observer)


async def test_a_pause_of_the_server_leaves_no_ghosts(prefix: str) -> None:
    with run_server() as server:
        async with open_hub(server.url, prefix) as here, open_hub(server.url, prefix) as there:
            await subscribe(here, "stayer")
            await wait_users(there, "stayer")
            for _ in range(3):
                server.pause()
                clients = [await subscribe(here, f"user-{number}") for number in range(20)]
                # The updates time out, and arrive when the server runs again.
                await asyncio.sleep(random.random() * 2.5)
                for client in clients:
                    client.close()
                server.resume()
                await wait_users(there, "stayer")


async def test_a_bridge_that_starts_without_redis_makes_up_for_it(prefix: str) -> None:
    with run_server() as server:
        server.kill()
        async with open_hub(server.url, prefix, require_redis=False) as here:
            await subscribe(here, "ada")
            with pytest.raises(PresenceUnavailableError):
                await here.presence(CHANNEL)
            server.start()
            server.wait_ready()
            await wait_users(here, "ada")
            async with open_hub(server.url, prefix) as there:
                await wait_users(there, "ada")


async def test_a_flushed_script_cache_does_no_harm(server: RedisServer, prefix: str) -> None:
    async with open_hub(server.url, prefix) as hub:
        await subscribe(hub, "ada")
        await wait_users(hub, "ada")
        with server.client() as client:
            client.script_flush()
        await subscribe(hub, "bob")
        await wait_users(hub, "ada", "bob")


async def test_presence_and_history_share_a_channel(server: RedisServer, prefix: str) -> None:
    history = {"room:*": HistoryLimits()}
    async with (
        open_hub(server.url, prefix, history=history) as here,
        open_hub(server.url, prefix, history=history) as there,
    ):
        await subscribe(here, "ada")
        observer = await subscribe(there, "observer")
        await wait_users(here, "ada", "observer")
        bob = await subscribe(there, "bob")
        await wait_users(here, "ada", "bob", "observer")
        bob.close()
        news = set[tuple[str, str]]()
        while ("leave", "bob") not in news:
            kind, users = await receive_news(observer)
            news |= {(kind, user) for user in users}
        page = await here.history(CHANNEL)
        assert [each.type for each in page.messages].count("leave") == 1
        assert [each.offset for each in page.messages] == list(range(1, page.offset + 1))


async def test_many_members_that_go_at_once_cost_few_commands(
    server: RedisServer, prefix: str
) -> None:
    async with open_hub(server.url, prefix) as hub:
        clients = [await connect(hub, query=f"user={number}") for number in range(2_000)]
        for client in clients:
            client.subscribe(CHANNEL)
        assert (await hub.presence_count(CHANNEL)).connections == 2_000
        with server.client() as redis:
            redis.config_resetstat()
            for client in clients:
                client.close()
            assert (await hub.presence_count(CHANNEL)).connections == 0
            calls = redis.info("commandstats")
        scripts = sum(
            calls.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval")
        )
        assert scripts <= 10


# Deployments.


@pytest.mark.parametrize("sharded", [False, True])
async def test_a_cluster_has_the_members_of_all_hubs(sharded: bool, prefix: str) -> None:
    with run_cluster() as nodes:
        startup = [ClusterNode("127.0.0.1", nodes[0].port)]
        async with RedisCluster(startup_nodes=startup) as cluster:
            options: dict[str, Any] = {"sharded": sharded}
            async with (
                open_hub(cluster, prefix, **options) as here,
                open_hub(cluster, prefix, **options) as there,
            ):
                observer = await subscribe(here, "observer")
                client = await subscribe(there, "ada")
                await wait_users(here, "ada", "observer")
                await wait_users(there, "ada", "observer")
                for number in range(2, 8):
                    await subscribe(there, "ada", f"room:{number}")
                    count = PresenceCount(connections=1, users=1)
                    assert await there.presence_count(f"room:{number}") == count
                client.close()
                news = set[tuple[str, str]]()
                while ("leave", "ada") not in news:
                    kind, users = await receive_news(observer)
                    news |= {(kind, user) for user in users}


async def test_a_user_with_the_documented_rights_is_enough(prefix: str) -> None:
    config = (
        "user default on >pass ~* &* +@all\n"
        f"user hub on >secret resetchannels &{prefix}:* +publish +subscribe +unsubscribe "
        f"+@connection ~{prefix}:* +evalsha +eval +script|load +info +time +pexpire "
        "+@hash +@sortedset\n"
    )
    with run_server(config=config, password="pass") as server:
        options: dict[str, Any] = {"username": "hub", "password": "secret"}
        async with (
            open_hub(server.url, prefix, **options) as here,
            open_hub(server.url, prefix, **options) as there,
        ):
            client = await subscribe(here, "ada")
            await wait_users(there, "ada")
            client.close()
            await wait_users(there)


# The scripts, compared with the store in memory.


class _Commands:
    def __init__(self, client: Redis) -> None:
        self._client = client

    async def call(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        text = script.text.decode()
        return await self._client.eval(text, len(keys), *keys, *arguments)


class _Router:
    """A router whose shard runs scripts on a client of redis-py."""

    def __init__(self, client: Redis) -> None:
        self.commands = _Commands(client)

    def shard_for(self, _: bytes) -> "_Router":
        return self


@asynccontextmanager
async def open_store(server: RedisServer, prefix: str) -> AsyncIterator[RedisPresenceStore]:
    async with Redis(host="127.0.0.1", port=server.port) as client:
        yield RedisPresenceStore(RedisChannels(prefix), _Router(client), is_sharded=False)  # type: ignore[arg-type]


def make_member(hub_id: str, number: int) -> StoredMember:
    user = ["", "ada", "bob\nbob", "c\u2028\U0001f600"][number % 4]
    name = f"{hub_id}-{number}"
    return StoredMember(name, user, f'{{"userId":"{number}","connectionId":"{name}"}}'.encode())


steps = st.lists(
    st.tuples(
        st.sampled_from(["hub-1", "hub-2"]),
        st.sets(st.integers(0, 9), max_size=4),
        st.sets(st.integers(0, 9), max_size=4),
        st.booleans(),
    ),
    max_size=12,
)


@given(steps=steps, delay=st.sampled_from([0.0, 1_000.0]), announce=st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_scripts_agree_with_the_store_in_memory(
    server: RedisServer, steps: Any, delay: float, announce: bool
) -> None:
    asyncio.run(compare(server, steps, PresenceSettings(announce=announce, leave_delay=delay)))


async def compare(server: RedisServer, steps: Any, presence: PresenceSettings) -> None:
    memory = LocalPresence(lambda: 0.0)
    members: dict[str, dict[int, StoredMember]] = {"hub-1": {}, "hub-2": {}}
    bases = {"hub-1": 0, "hub-2": 0}
    async with open_store(server, f"ws{next(prefixes)}") as store:
        for version, (hub_id, leaving, entering, is_complete) in enumerate(steps, 1):
            own = members[hub_id]
            left = [own.pop(number) for number in leaving if number in own]
            entered = [make_member(hub_id, n) for n in entering - own.keys()]
            own |= dict(zip(entering - own.keys(), entered, strict=True))
            kept = None
            if is_complete or not bases[hub_id]:
                kept = [each.connection_id for each in own.values()]
                # Members that only a complete update removes.
                left = left[:1]
            update = PresenceUpdate(CHANNEL, presence, bases[hub_id], version, left, entered, kept)
            (expected,) = await memory.update(hub_id, [update])
            (outcome,) = await store.update(hub_id, [update])
            assert describe(outcome) == describe(expected)
            bases[hub_id] = version
            for limit in (0, 1, 100):
                stored = await store.read(CHANNEL, presence, limit)
                expected_read = await memory.read(CHANNEL, presence, limit)
                assert (stored.connections, stored.users) == (
                    expected_read.connections,
                    expected_read.users,
                )
                assert len(stored.payloads) == len(expected_read.payloads)
            assert sorted(stored.payloads) == sorted(expected_read.payloads)


def describe(outcome: PresenceOutcome) -> Any:
    assert not outcome.needs_all
    return sorted(outcome.joined), sorted(outcome.left), outcome.next_leave is None


async def test_late_and_unfounded_updates_are_not_applied(server: RedisServer, prefix: str) -> None:
    presence = PresenceSettings()
    ada, bob = make_member("hub", 1), make_member("hub", 2)

    async with open_store(server, prefix) as store:

        async def update(base: int, version: int, **changes: Any) -> bool:
            update = PresenceUpdate(CHANNEL, presence, base, version, **changes)
            (outcome,) = await store.update("hub", [update])
            return outcome.needs_all

        assert await update(3, 4, entered=[ada])
        assert not await update(0, 5, entered=[ada], kept=[ada.connection_id])
        assert await update(4, 6, entered=[bob])
        assert await update(0, 5, entered=[bob], kept=[bob.connection_id])
        assert await update(0, 4, kept=[])
        assert not await update(5, 7, left=[ada])
        # Without members, too: the update of an old connection can arrive very late.
        assert await update(0, 6, entered=[bob], kept=[bob.connection_id])
        assert await update(0, 6, entered=[bob])
        stored = await store.read(CHANNEL, presence, 10)
        assert (stored.connections, stored.users, stored.payloads) == (0, 0, [])


async def test_the_members_of_many_dead_hubs_are_removed_in_parts(
    server: RedisServer, prefix: str
) -> None:
    presence = PresenceSettings(announce=True, leave_delay=0)
    async with open_store(server, prefix) as store:
        for hub in range(5):
            members = [
                StoredMember(f"hub-{hub}-{n}", f"user-{n}", b'{"n":%d}' % n) for n in range(900)
            ]
            kept = [each.connection_id for each in members]
            update = PresenceUpdate(CHANNEL, presence, 0, 1, (), members, kept)
            (outcome,) = await store.update(f"hub-{hub}", [update])
            assert len(outcome.joined) == (0 if hub else 900)
        key = RedisChannels(prefix).key("presence", CHANNEL) + b"|hubs"
        with server.client() as client:
            client.zadd(key, {f"hub-{hub}": 1 for hub in range(5)})
        left: list[bytes] = []
        version, base = 2, 0
        update = PresenceUpdate(CHANNEL, presence, 0, 1, kept=())
        (outcome,) = await store.update("living", [update])
        left += outcome.left
        while outcome.next_leave is not None:
            version, base = version + 1, max(version - 1, 1)
            (outcome,) = await store.update(
                "living", [PresenceUpdate(CHANNEL, presence, base, base, kept=None)]
            )
            left += outcome.left
            version = base
        assert sorted(left) == sorted(b'{"n":%d}' % n for n in range(900))
        stored = await store.read(CHANNEL, presence, 10)
        assert (stored.connections, stored.users) == (0, 0)
