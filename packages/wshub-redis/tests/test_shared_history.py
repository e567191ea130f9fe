"""Shared histories: publishers, rights, refusals, and data of somebody else."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import wait_until
from history_hubs import HISTORY, QUICK, event, open_hub, open_reader
from redis_servers import RedisServer, run_server

from wshub_core import (
    BridgeState,
    BridgeUnavailableError,
    HistoryLimits,
    HistoryUnavailableError,
    Hub,
    InvalidConfigError,
    MessageTooLargeError,
)
from wshub_core.testing import connect
from wshub_redis import AsyncRedisPublisher, RedisBridge, RedisPublisher

RIGHTS = (
    "+publish +subscribe +unsubscribe +@connection +evalsha +eval +script|load +info +time "
    "+hmget +hset +hlen +hgetall +hdel +xadd +xlen +xrange +xtrim +del +pexpire"
)
"""The documented rights."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


async def test_messages_of_publishers_without_a_hub_are_stored(server: RedisServer) -> None:
    async with (
        open_hub(server.url) as (hub, _),
        AsyncRedisPublisher(server.url, history=HISTORY) as publisher,
    ):
        reader = await open_reader(hub)
        with RedisPublisher(server.url, history=HISTORY) as blocking:
            for number in range(0, 100, 2):
                await publisher.publish("log", event(number))
                await asyncio.to_thread(blocking.publish, "log", event(number + 1))
            await asyncio.to_thread(blocking.publish, "log:b", event("other"))
            await asyncio.to_thread(blocking.publish_event, "none", 1)
        await publisher.send_event("all")
        received = [*await reader.receive(100)]
        assert received == [(number, number + 1) for number in range(100)]
        message = await reader.client.receive()
        assert (message.data["event"], message.offset) == ("all", 0)
        assert (await hub.history("log:b")).messages[0].data == "other"
        with server.client() as client:
            assert sorted(client.keys()) == [
                b"ws:history:{ws}:log",
                b"ws:history:{ws}:log:b",
                b"ws:position:{ws}:log",
                b"ws:position:{ws}:log:b",
            ]
    # Without the setting, messages are live only.
    async with (
        open_hub(server.url) as (hub, _),
        AsyncRedisPublisher(server.url) as publisher,
    ):
        reader = await open_reader(hub)
        with RedisPublisher(server.url) as blocking:
            await asyncio.to_thread(blocking.publish, "log", event("blocking"))
        await publisher.publish("log", event("async"))
        assert await reader.receive(2) == [("blocking", 0), ("async", 0)]


async def test_publishers_check_their_history_and_the_size_of_messages(server: RedisServer) -> None:
    for kind in (RedisPublisher, AsyncRedisPublisher):
        with pytest.raises(InvalidConfigError, match="history"):
            kind(server.url, history={"a b": HistoryLimits()})
        with pytest.raises(InvalidConfigError, match=r"HistoryLimits\(…\)"):
            kind(server.url, history={"log": 5})  # type: ignore[dict-item]
    async with open_hub(server.url) as (hub, bridge):
        reader = await open_reader(hub)
        with RedisPublisher(server.url, history=HISTORY) as publisher:
            # The largest message fits through every hub.
            size = 65_536
            while True:
                try:
                    await asyncio.to_thread(publisher.publish, "log", event("x" * size))
                    break
                except MessageTooLargeError:
                    size -= 1
            assert size > 65_000
            assert await reader.receive(1) == [("x" * size, 1)]
            with pytest.raises(MessageTooLargeError):
                hub.publish("log", event("x" * (size + 1)))
            await bridge.publish("log", event("x" * size))
            assert await reader.receive(1) == [("x" * size, 2)]


async def test_publish_waits_until_redis_has_the_message(server: RedisServer) -> None:
    async with open_hub(server.url) as (hub, bridge), open_hub(server.url) as (other, _):
        for number in range(5):
            await bridge.publish("log", event(number))
            assert (await other.history("log")).offset == number + 1
        assert bridge.stats().published == 5
        heard: list[Any] = []
        hub.add_publish_listener(lambda _, message: heard.append(message.data))
        await open_reader(hub)
        await bridge.publish("log", event("x"))
        hub.publish("log", event("y"))
        await bridge.publish("log", event("z"))
        assert heard == ["x", "y", "z"]


async def test_a_hub_of_go_ws_shares_the_channel(server: RedisServer) -> None:
    async with open_hub(server.url) as (hub, bridge):
        reader = await open_reader(hub)
        with server.client() as client, client.pubsub() as subscription:
            subscription.subscribe("ws:channel:log")
            subscription.get_message(timeout=5)
            await bridge.publish("log", event(1))
            message = subscription.get_message(timeout=5)
            assert message is not None
            envelope = json.loads(message["data"])
            # As before, with two fields that go-ws ignores.
            assert {*envelope} == {"sourceId", "id", "epoch", "offset", "message"}
            assert {*envelope["message"]} == {"type", "channel", "data", "timestamp"}
            text = '{"sourceId":"go","message":{"type":"event","data":2,"epoch":"e","offset":9}}'
            client.publish("ws:channel:log", text)
        await bridge.publish("log", event(3))
        assert await reader.receive(3) == [(1, 1), (2, 0), (3, 2)]
        assert [each.data for each in (await hub.history("log")).messages] == [1, 3]


async def test_a_hub_without_history_delivers_the_messages_of_the_others(
    server: RedisServer,
) -> None:
    async with (
        open_hub(server.url) as (hub, bridge),
        Hub() as plain,
        RedisBridge(plain, server.url) as plain_bridge,
    ):
        reader = await open_reader(plain)
        assert reader.answer == {}
        for number in range(3):
            await bridge.publish("log", event(number))
        assert await reader.receive(3) == [(0, 0), (1, 0), (2, 0)]
        other = await open_reader(hub)
        await plain_bridge.publish("log", event("plain"))
        assert await other.receive(1) == [("plain", 0)]
        assert await reader.receive(1) == [("plain", 0)]


async def test_a_bridge_without_histories_has_no_further_connection(server: RedisServer) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url):
        with server.client() as client:
            assert len(client.client_list()) == 3
            assert "cmdstat_script|load" not in client.info("commandstats")
    async with open_hub(server.url) as (hub, bridge):
        await bridge.publish("none", event(1))
        with server.client() as client:
            assert len(client.client_list()) == 4


# Rights and refusals.


def run_guarded(rights: str) -> Any:
    config = (
        "user default on nopass ~* &* +@all\n"
        f"user hub on >secret resetchannels resetkeys ~ws:* &ws:* {rights}\n"
    )
    return run_server(config=config)


@pytest.mark.parametrize("missing", ["", "+info ", "+script|load "])
async def test_the_documented_rights_are_enough(missing: str) -> None:
    rights = RIGHTS.replace(missing, "")
    with run_guarded(rights) as server:
        options: dict[str, Any] = {"username": "hub", "password": "secret"}
        async with (
            open_hub(server.url, **options) as (hub, bridge),
            AsyncRedisPublisher(server.url, history=HISTORY, **options) as publisher,
        ):
            reader = await open_reader(hub)
            for number in range(70):
                hub.publish("log", event(number))
            await publisher.publish("log", event(70))
            with RedisPublisher(server.url, history=HISTORY, **options) as blocking:
                await asyncio.to_thread(blocking.publish, "log", event(71))
            await bridge.publish("log", event(72))
            received = [data for data, offset in await reader.receive(73) if offset]
            assert sorted(received) == list(range(73))
            assert len((await hub.history("log")).messages) == 73
            await hub.clear_history("log")
            assert bridge.stats().lost == 0


async def test_a_user_without_the_rights_publishes_messages_without_history() -> None:
    rights = "+publish +subscribe +unsubscribe +@connection"
    with run_guarded(rights) as server:
        options: dict[str, Any] = {"username": "hub", "password": "secret"}
        async with open_hub(server.url, **options) as (hub, bridge):
            reader = await open_reader(hub)
            assert reader.answer == {"reason": "unavailable"}
            hub.publish("log", event(1))
            assert await reader.receive(1) == [(1, 0)]
            with pytest.raises(BridgeUnavailableError, match="refuses to publish") as caught:
                await bridge.publish("log", event(2))
            assert not caught.value.may_have_arrived
            assert await reader.receive(1) == [(2, 0)]
            with pytest.raises(HistoryUnavailableError, match=r"(?i)permission"):
                await hub.history("log")
            with (
                RedisPublisher(server.url, history=HISTORY, **options) as blocking,
                pytest.raises(BridgeUnavailableError),
            ):
                await asyncio.to_thread(blocking.publish, "log", event(3))
            assert bridge.state == BridgeState.UP
            assert bridge.stats().lost == 2


async def test_a_message_that_is_stored_and_not_passed_on_is_read_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with run_guarded(RIGHTS) as server:
        options: dict[str, Any] = {"username": "hub", "password": "secret"}
        async with open_hub(server.url, **options) as (hub, bridge):
            reader = await open_reader(hub)
            with server.client() as client:
                client.execute_command("ACL", "SETUSER", "hub", "-publish")
            with pytest.raises(BridgeUnavailableError, match="does not pass them on") as caught:
                await bridge.publish("log", event(1))
            assert caught.value.may_have_arrived
            with (
                RedisPublisher(server.url, history=HISTORY, **options) as blocking,
                pytest.raises(BridgeUnavailableError, match="does not pass them on"),
            ):
                await asyncio.to_thread(blocking.publish, "log", event(2))
            hub.bridge_port.resync_history()
            assert await reader.receive(2) == [(1, 1), (2, 2)]
            assert "does not pass them on" in caplog.text


async def test_messages_that_redis_refuses_reach_the_clients_of_this_hub(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        open_hub(server.url) as (hub, bridge),
        open_hub(server.url) as (other, other_bridge),
    ):
        reader, far = await open_reader(hub), await open_reader(other)
        await bridge.publish("log", event("before"))
        with server.client() as client:
            client.config_set("maxmemory", 1)
            for number in range(3):
                hub.publish("log", event(number))
            with pytest.raises(BridgeUnavailableError, match=r"(?i)OutOfMemory|OOM") as caught:
                await bridge.publish("log", event(3))
            assert not caught.value.may_have_arrived
            assert await reader.receive(5) == [("before", 1), (0, 0), (1, 0), (2, 0), (3, 0)]
            client.config_set("maxmemory", 0)
            key = "ws:history:{ws}:log"
            client.rename(key, "aside")
            client.set(key, "somebody else's")
            hub.publish("log", event(4))
            assert await reader.receive(1) == [(4, 0)]
            assert "WRONGTYPE" in caplog.text or "refuses to publish" in caplog.text
            with pytest.raises(HistoryUnavailableError, match="WRONGTYPE"):
                await hub.history("log")
            client.rename("aside", key)
        await other_bridge.publish("log", event("after"))
        assert await reader.receive(1) == [("after", 2)]
        assert await far.receive(2) == [("before", 1), ("after", 2)]
        assert (bridge.stats().lost, bridge.state) == (5, BridgeState.UP)


async def test_a_server_that_forgets_the_scripts_gets_them_again(server: RedisServer) -> None:
    async with (
        open_hub(server.url) as (hub, bridge),
        AsyncRedisPublisher(server.url, history=HISTORY) as publisher,
    ):
        reader = await open_reader(hub)
        blocking = RedisPublisher(server.url, history=HISTORY)
        with server.client() as client:
            for number in range(5):
                client.script_flush()
                for part in range(100):
                    hub.publish("log", event([number, part]))
                await bridge.publish("log", event([number, 100]))
                client.script_flush()
                assert (await hub.history("log", limit=1)).offset == 103 * number + 101
                client.script_flush()
                await publisher.publish("log", event([number, 101]))
                client.script_flush()
                await asyncio.to_thread(blocking.publish, "log", event([number, 102]))
        blocking.close()
        received = await reader.receive(515)
        assert [offset for _, offset in received] == list(range(1, 516))
        assert [data for data, _ in received] == [[n, m] for n in range(5) for m in range(103)]
        assert bridge.stats().lost == 0


async def test_a_history_that_cannot_be_read_raises_soon(server: RedisServer) -> None:
    async with open_hub(server.url) as (hub, bridge):
        await bridge.publish("log", event(1))
        server.kill()
        await wait_until(lambda: bridge.state == BridgeState.DOWN)
        # The first call waits until the outage is a second old, the others do not.
        for call in (hub.clear_history("log"), hub.history("log"), hub.clear_history("log")):
            with pytest.raises(HistoryUnavailableError, match="cannot be reached"):
                await asyncio.wait_for(call, 10)


async def test_a_read_waits_for_the_end_of_an_outage_that_has_just_begun(
    server: RedisServer,
) -> None:
    async with open_hub(server.url) as (hub, bridge):
        await bridge.publish("log", event(1))
        with server.client() as client:
            for kind in ("normal", "pubsub") * 3:
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                assert [each.data for each in (await hub.history("log")).messages] == [1]


async def test_a_read_without_a_reply_raises_after_the_timeout(server: RedisServer) -> None:
    async with open_hub(server.url) as (hub, bridge):
        await bridge.publish("log", event(1))
        server.pause()
        with pytest.raises(HistoryUnavailableError, match="cannot be reached"):
            await hub.history("log")
        server.resume()
        await wait_until(lambda: bridge.state == BridgeState.UP)

        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(HistoryUnavailableError):
                    assert (await hub.history("log")).messages
                    break
                await asyncio.sleep(0.02)


async def test_reads_can_be_cancelled_and_run_together(server: RedisServer) -> None:
    async with open_hub(server.url) as (hub, bridge):
        for number in range(50):
            await bridge.publish(f"log:{number}", event(number))
        server.pause()
        abandoned = [asyncio.create_task(hub.history("log:1")) for _ in range(30)]
        await asyncio.sleep(0.05)
        for task in abandoned:
            task.cancel()
        await asyncio.wait(abandoned)
        server.resume()
        pages = await asyncio.gather(*(hub.history(f"log:{number}") for number in range(50)))
        assert [page.messages[0].data for page in pages] == list(range(50))


async def test_entries_that_somebody_has_damaged_become_error_messages(
    server: RedisServer,
) -> None:
    async with open_hub(server.url) as (hub, bridge):
        for number in range(6):
            await bridge.publish("log", event(number))
        with server.client() as client:
            client.xdel("ws:history:{ws}:log", "3-0", "6-0")
        reader = await open_reader(hub, last=100)
        received = [await reader.client.receive() for _ in range(6)]
        assert [each.offset for each in received] == list(range(1, 7))
        assert [each.type for each in received].count("error") == 2
        assert "could not be read" in received[2].data
        hub.publish("log", event("live"))
        assert await reader.receive(1) == [("live", 7)]


async def test_unconfirmed_clients_get_a_position_when_the_history_is_available_again(
    server: RedisServer,
) -> None:
    async with open_hub(server.url) as (hub, bridge):
        client = await connect(hub)
        await bridge.publish("log", event(1))
        server.kill()
        await wait_until(lambda: bridge.state == BridgeState.DOWN)
        client.send(b'{"type":"subscribe","id":1,"channel":"log","history":{"since":0}}')
        server.start()
        await asyncio.to_thread(server.wait_ready)
        await wait_until(lambda: bridge.state == BridgeState.UP)
        types: list[str] = []
        while "subscribed" not in types or types[-1] != "event":
            types.append((await client.receive()).type)
            if types[-1] == "subscribed":
                hub.publish("log", event(2))


async def test_another_server_leads_to_a_new_epoch(server: RedisServer) -> None:
    assert QUICK["timeout"] == 1.0
    with run_server("--save", "900 1000000") as keeper:
        async with open_hub(keeper.url) as (hub, bridge):
            for number in range(5):
                await bridge.publish("log", event(number))
            with keeper.client() as client:
                client.save()
            # These messages are confirmed, and lost with the server.
            for number in range(5, 8):
                await bridge.publish("log", event(number))
            reader = await open_reader(hub, since=0)
            await reader.receive(8)
            epoch = reader.answer["epoch"]
            keeper.restart()
            await wait_until(lambda: bridge.stats().reconnects >= 2)
            await wait_until(lambda: bridge.state == BridgeState.UP)
            await bridge.publish("log", event("new"))
            assert await reader.receive_new_epoch() != epoch
            again = await open_reader(hub, since=8, epoch=epoch)
            while again.answer["reason"] == "unavailable":
                again = await open_reader(hub, since=8, epoch=epoch)
            assert again.answer["reason"] == "foreign_epoch"
            kept = await again.receive_until("new")
            assert kept == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), ("new", 6)]
