"""The Redis bridge: data on the wire, subscriptions, and rejected settings."""

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis
import redis.asyncio
from fleet import wait_until
from redis_servers import RedisServer, find_free_port, run_server

from wshub_core import (
    BridgeAttachedError,
    BridgeState,
    BridgeStats,
    BridgeUnavailableError,
    HistoryLimits,
    Hub,
    HubConfig,
    InvalidChannelError,
    InvalidConfigError,
    Message,
    MessageTooLargeError,
    MessageType,
)
from wshub_core.logs import RECORDS_PER_PERIOD
from wshub_core.testing import MemoryBridge, MemoryClient, MemoryExchange, connect
from wshub_redis import (
    AsyncRedisPublisher,
    InvalidPrefixError,
    RedisBridge,
    RedisPublisher,
)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.fixture
async def client(server: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis(port=server.port) as client:
        yield client


async def listen(hub: Hub, *channels: str) -> MemoryClient:
    client = await connect(hub)
    for channel in channels:
        client.subscribe(channel)
    await client.sync()
    return client


async def channels_on(client: Any, prefix: str = "ws") -> list[bytes]:
    return sorted(await client.pubsub_channels(f"{prefix}:[bc]*"))


async def test_messages_have_the_channels_and_fields_of_go_ws(
    server: RedisServer, client: Any
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge, client.pubsub() as listener:
        # This is how hubs of go-ws subscribe.
        await listener.psubscribe("ws:broadcast", "ws:channel:*")
        for _ in range(2):
            await listener.get_message(timeout=5)
        hub.send_process_output("build-42", "Compiling main.py...")
        hub.send_event("deploy", {"n": 1})
        output = await listener.get_message(timeout=5)
        event = await listener.get_message(timeout=5)
        assert output["channel"] == b"ws:channel:process:build-42"
        envelope = json.loads(output["data"])
        assert envelope["sourceId"] == bridge.source_id
        stamp = envelope["message"].pop("timestamp")
        assert stamp.endswith("Z")
        assert envelope["message"] == {
            "type": "process_output",
            "channel": "process:build-42",
            "processId": "build-42",
            "data": "Compiling main.py...",
        }
        assert event["channel"] == b"ws:broadcast"
        assert json.loads(event["data"])["message"]["data"] == {"event": "deploy", "data": {"n": 1}}


async def test_a_message_of_a_go_ws_hub_is_delivered(server: RedisServer, client: Any) -> None:
    stamp = "2026-11-23T04:14:16.618311291+01:00"
    async with Hub() as hub, RedisBridge(hub, server.url):
        listener = await listen(hub, "process:b")
        message = {"type": "process_output", "processId": "b", "data": "line", "timestamp": stamp}
        envelope = {"sourceId": "id-1-abcdef", "message": message}
        assert await client.publish("ws:channel:process:b", json.dumps(envelope)) == 1
        received = await listener.receive()
        assert (received.channel, received.process_id, received.data) == ("process:b", "b", "line")
        assert received.timestamp is not None
        assert received.timestamp.isoformat() == "2026-11-23T04:14:16.618311+01:00"
        # An older go-ws hub writes Go's zero time.
        message["timestamp"] = "0001-01-01T00:00:00Z"
        await client.publish("ws:broadcast", json.dumps(envelope))
        received = await listener.receive()
        assert received.timestamp is not None
        assert received.timestamp.year > 2000


async def test_the_bridge_subscribes_to_the_channels_of_its_clients_and_to_no_pattern(
    server: RedisServer, client: Any
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url):
        own = [b"ws:broadcast", b"ws:channel:wshub:private:fleet"]
        assert await channels_on(client) == own
        first, second = await listen(hub, "a", "b"), await listen(hub, "a")
        expected = [own[0], b"ws:channel:a", b"ws:channel:b", own[1]]
        assert await channels_on(client) == expected
        first.close()
        await first.wait_closed()
        second.unsubscribe("a")
        second.subscribe("a")
        await second.sync()
        assert await channels_on(client) == expected
        # One second later the channel is unsubscribed from. Only the server knows when.
        async with asyncio.timeout(10):
            while await channels_on(client) != [own[0], b"ws:channel:a", own[1]]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert await client.pubsub_numpat() == 0
    assert await channels_on(client) == []


async def test_many_channels_are_subscribed_to_in_batches(server: RedisServer, client: Any) -> None:
    async with Hub(HubConfig(max_subscriptions=10_000)) as hub:
        listener = await connect(hub)
        for number in range(3_000):
            await hub.subscribe(hub.connections[0], f"c{number}")
        before = await commands(client, "subscribe")
        async with RedisBridge(hub, server.url):
            assert len(await channels_on(client)) == 3_002
            assert await commands(client, "subscribe") - before == 6
            await client.publish("ws:channel:c2999", b'{"message":{"type":"event","data":"far"}}')
            assert (await listener.receive()).data == "far"


async def commands(client: Any, name: str) -> int:
    stats = await client.info("commandstats")
    return int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"])


async def test_junk_is_dropped_and_counted_and_does_not_stop_the_bridge(
    server: RedisServer, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        listener = await listen(hub, "news")
        junk = [
            b"",
            b"junk",
            b"null",
            b"{}",
            b'{"sourceId":"x","message":null}',
            b'{"sourceId":"x","message":{}}',
            b'{"sourceId":"x","message":{"type":""}}',
            b'{"sourceId":"x","message":{"type":5}}',
            b'{"sourceId":5,"message":{"type":"event"}}',
            b'{"sourceId":"x","message":{"type":"event","processId":"a b"}}',
            b'{"sourceId":"x","message":{"type":"event","timestamp":"yesterday"}}',
            b'{"sourceId":"x","message":{"type":"event","data":"\xff"}}',
            b'{"sourceId":"x","message":{"type":"event","data":"%b"}}' % (b"x" * 65_536),
            b"[" * 65_000,
        ]
        for data in junk:
            await client.publish("ws:channel:news", data)
        await client.publish("ws:broadcast", b"junk")
        envelope = b'{"extra":"%b","message":{"type":"event","data":"fits"}}'
        # The limit is exactly the limit of go-ws hubs.
        fits = envelope % (b"x" * (65_536 - len(envelope) + 2))
        assert len(fits) == 65_536
        await client.publish("ws:channel:news", fits)
        assert (await listener.receive()).data == "fits"
        stats = bridge.stats()
        assert (stats.junk, stats.received) == (len(junk) + 1, 1)
        assert bridge.state == BridgeState.UP
        warnings = [each.getMessage() for each in caplog.records if each.name == "wshub.redis"]
        # The log shows the first records of a flood only.
        assert 1 < len(warnings) <= RECORDS_PER_PERIOD
        assert all("dropped a message on the Redis channel 'ws:" in each for each in warnings)
        assert "left out" in warnings[-1]


async def test_own_messages_and_duplicates_are_dropped(server: RedisServer, client: Any) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        listener = await listen(hub, "news")
        await bridge.publish("news", Message(type=MessageType.EVENT, data="own"))
        for number in (1, 2, 2, 1, 3):
            envelope = {"sourceId": "x", "id": number, "message": {"type": "e", "data": number}}
            await client.publish("ws:channel:news", json.dumps(envelope))
        received = [(await listener.receive()).data for _ in range(4)]
        assert received == ["own", 1, 2, 3]
        stats = bridge.stats()
        assert (stats.duplicates, stats.received, stats.published) == (2, 3, 1)


async def test_own_messages_are_recognized_in_any_json_form(
    server: RedisServer, client: Any
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        listener = await listen(hub, "news")
        source = bridge.source_id
        message = {"type": "event", "data": "own"}
        for own in (
            json.dumps({"sourceId": source, "id": 1, "message": message}),
            json.dumps({"message": message, "id": 1, "sourceId": source}, indent=1),
            json.dumps({"sourceId": source, "message": message}),
            json.dumps({"v": 2, "sourceId": source, "id": None, "message": message}),
            f'{{"source\\u0049d":"{source}","message":{{"type":"event"}}}}',
            # An own message that was inflated on its way is not junk.
            json.dumps({"x": "x" * 65_536, "sourceId": source, "message": message}),
        ):
            await client.publish("ws:channel:news", own)
        # A similar source id belongs to another hub.
        other = {"sourceId": source[:-1], "id": 1, "message": {"type": "event", "data": "other"}}
        await client.publish("ws:channel:news", json.dumps(other))
        assert (await listener.receive()).data == "other"
        await listener.sync()
        assert not listener.messages
        assert (bridge.stats().junk, bridge.stats().received) == (0, 1)


async def test_messages_that_clients_cannot_receive_are_dropped_and_counted(
    server: RedisServer, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    channel = "c" * 256
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        listener = await listen(hub, channel)
        # The envelope has the maximum size. The hub adds the channel and the time, and then the
        # message is too large for its clients.
        envelope = b'{"message":{"type":"event","data":"%b"}}'
        exact = envelope % (b"x" * (65_536 - len(envelope) + 2))
        assert len(exact) == 65_536
        deep = b'{"message":{"type":"event","data":' + b"[" * 20_000 + b"]" * 20_000 + b"}}"
        for junk in (exact, deep, b'{"message":{"type":"pong"}}'):
            await client.publish(f"ws:channel:{channel}", junk)
        await client.publish("ws:broadcast", b'{"message":{"type":"event","channel":"no spaces"}}')
        await client.publish("ws:broadcast", exact)
        fits = envelope % (b"x" * 65_000)
        await client.publish(f"ws:channel:{channel}", fits)
        assert len((await listener.receive()).data) == 65_000
        await listener.sync()
        assert not listener.messages
        stats = bridge.stats()
        assert (stats.junk, stats.received) == (5, 1)
        assert bridge.state == BridgeState.UP
    reasons = ["65536", "recursion", "between one client", "no spaces", "65536"]
    warnings = [each.getMessage() for each in caplog.records if each.name == "wshub.redis"]
    for reason, warning in zip(reasons, warnings, strict=True):
        assert reason in warning


async def test_a_forged_number_does_not_silence_a_source(server: RedisServer, client: Any) -> None:
    async with Hub() as here, Hub() as there:
        listener = await listen(there, "news")
        async with RedisBridge(here, server.url) as bridge, RedisBridge(there, server.url) as far:
            for number in (2**53 + 1, 2**64, -1):
                forged = {"sourceId": bridge.source_id, "id": number, "message": {"type": "event"}}
                await client.publish("ws:channel:news", json.dumps(forged))
            await bridge.publish("news", Message(type=MessageType.EVENT, data="true"))
            assert (await listener.receive()).data == "true"
            assert far.stats().junk == 3


async def test_a_message_that_is_too_large_for_its_envelope_reaches_no_client(
    server: RedisServer, client: Any
) -> None:
    async with Hub() as hub, RedisBridge(hub, server.url) as bridge:
        listener = await listen(hub, "news")
        message = Message(type=MessageType.EVENT, data="x" * 65_400)
        with pytest.raises(MessageTooLargeError, match="are for the bridge"):
            hub.publish("news", message)
        with pytest.raises(MessageTooLargeError):
            await bridge.publish("news", message)
        with pytest.raises(MessageTooLargeError):
            await bridge.broadcast(message)
        with pytest.raises(InvalidChannelError):
            await bridge.publish("no spaces", message)
        await listener.sync()
        assert not listener.messages
        assert bridge.stats().published == 0
        # A local message has no envelope.
        hub.publish("news", message, local_only=True)
        assert (await listener.receive()).data == message.data


async def test_fleets_with_different_prefixes_do_not_reach_each_other(server: RedisServer) -> None:
    async with (
        Hub() as one,
        Hub() as other,
        RedisBridge(one, server.url, prefix="one") as bridge,
        RedisBridge(other, server.url, prefix="other") as other_bridge,
    ):
        listener = await listen(other, "news")
        await bridge.publish("news", Message(type=MessageType.EVENT, data="theirs"))
        await bridge.broadcast(Message(type=MessageType.EVENT, data="theirs"))
        await other_bridge.publish("news", Message(type=MessageType.EVENT, data="ours"))
        assert (await listener.receive()).data == "ours"
        await listener.sync()
        assert not listener.messages


async def test_a_database_number_separates_no_fleets_and_a_warning_says_so(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        Hub() as one,
        Hub() as other,
        RedisBridge(one, f"{server.url}/0"),
        RedisBridge(other, f"{server.url}/7"),
    ):
        assert "database 7 does not separate fleets" in caplog.text
        assert "database 0" not in caplog.text
        listener = await connect(other)
        one.send_event("hello")
        assert (await listener.receive()).data["event"] == "hello"


async def test_the_start_fails_without_a_server() -> None:
    port = find_free_port()
    async with Hub() as hub:
        bridge = RedisBridge(hub, f"redis://user:secret@127.0.0.1:{port}")
        with pytest.raises(
            BridgeUnavailableError, match=f"cannot connect to redis at 127.0.0.1:{port}"
        ) as caught:
            await bridge.start()
        assert "secret" not in str(caught.value)
        # The hub works as before, and accepts another bridge.
        hub.send_event("still here")
        async with MemoryBridge(hub, MemoryExchange()):
            pass
        assert bridge.state == BridgeState.DOWN
        await bridge.stop()


async def test_the_start_fails_within_the_timeout_if_the_server_does_not_respond() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with Hub() as hub:
            bridge = RedisBridge(hub, f"redis://u:p@127.0.0.1:{port}", timeout=0.2)
            with pytest.raises(BridgeUnavailableError, match=r"within 0\.2 s"):
                await bridge.start()


async def test_a_stopped_bridge_can_be_started_again(server: RedisServer) -> None:
    async with Hub() as hub, Hub() as other, RedisBridge(other, server.url):
        listener = await listen(other, "news")
        bridge = RedisBridge(hub, server.url)
        with pytest.raises(BridgeUnavailableError, match="not running"):
            await bridge.publish("news", Message(type=MessageType.EVENT, data=0))
        for number in (1, 2):
            await bridge.start()
            with pytest.raises(BridgeAttachedError):
                await bridge.start()
            await bridge.publish("news", Message(type=MessageType.EVENT, data=number))
            assert (await listener.receive()).data == number
            await bridge.stop()
            await bridge.stop()
        near = await listen(hub, "news")
        with pytest.raises(BridgeUnavailableError, match="not running"):
            await bridge.publish("news", Message(type=MessageType.EVENT, data=3))
        # The hub's own clients have received the message.
        assert (await near.receive()).data == 3


async def test_a_hub_may_be_closed_before_its_bridge_is_stopped(server: RedisServer) -> None:
    hub = Hub()
    async with hub:
        bridge = RedisBridge(hub, server.url)
        await bridge.start()
    await bridge.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stopped_bridge_leaves_no_task_and_no_connection(
    server: RedisServer, client: Any
) -> None:
    before = len(await client.client_list())
    async with Hub() as hub, RedisBridge(hub, server.url):
        assert len(await client.client_list()) == before + 2
    # The server accepts this connection after it has closed the others.
    async with redis.asyncio.Redis(port=server.port) as later:
        assert len(await later.client_list()) == before + 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_idle_bridge_tests_its_connections_and_keeps_them(
    server: RedisServer, client: Any
) -> None:
    before = await commands(client, "publish")
    async with Hub() as hub, RedisBridge(hub, server.url, probe_interval=0.05) as bridge:
        await asyncio.sleep(0.5)
        assert await commands(client, "publish") >= before + 3
        # Probe messages are not counted.
        # A probe may wait for its confirmation just now.
        stats = replace(bridge.stats(), queued_messages=0, queued_bytes=0, lag_seconds=0.0)
        assert stats == BridgeStats()
        assert bridge.state == BridgeState.UP


async def test_a_state_callback_may_be_async_and_may_fail(server: RedisServer) -> None:
    states = []

    async def note(bridge: RedisBridge) -> None:
        await asyncio.sleep(0)
        states.append(bridge.state)
        raise RuntimeError("a bug of the application")

    async with (
        Hub() as hub,
        RedisBridge(hub, server.url, on_state_change=note),
        redis.asyncio.Redis(port=server.port) as client,
    ):
        await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await wait_until(lambda: len(states) == 2)
    assert states == [BridgeState.DEGRADED, BridgeState.UP]
    assert hub.stats().callback_errors == 2


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"redis": "http://localhost"}, InvalidConfigError, "use redis://"),
        ({"redis": "redis://:pa/ss@localhost"}, InvalidConfigError, "special characters"),
        ({"redis": ""}, InvalidConfigError, "use redis://"),
        ({"foo": 1}, InvalidConfigError, "foo"),
        ({"redis": redis.asyncio.Redis(), "password": "x"}, InvalidConfigError, "password: a"),
        ({"prefix": "ws:channel"}, InvalidPrefixError, "reserved for the names"),
        ({"sharded": True}, InvalidConfigError, "RedisCluster"),
        ({"timeout": 0}, InvalidConfigError, "above 0"),
        ({"probe_interval": -1}, InvalidConfigError, "above 0"),
        ({"replay_seconds": -1}, InvalidConfigError, "0 or above"),
        ({"max_queue_bytes": 0}, InvalidConfigError, "above 0"),
    ],
)
async def test_invalid_settings_are_rejected(
    settings: dict[str, Any], error: type[Exception], match: str
) -> None:
    async with Hub() as hub:
        with pytest.raises(error, match=match) as caught:
            RedisBridge(hub, **settings)
        assert "pa/" not in str(caught.value)


def test_an_object_of_the_wrong_kind_is_rejected() -> None:
    hub: Any = Hub()
    sync_client: Any = redis.Redis()
    async_client: Any = redis.asyncio.Redis()
    with pytest.raises(InvalidConfigError, match="its hub first"):
        RedisBridge("redis://localhost", hub)  # type: ignore[arg-type]
    given: list[Any] = [sync_client, None, redis.Redis]
    for wrong in given:
        with pytest.raises(InvalidConfigError, match=r"of redis\.asyncio, not"):
            RedisBridge(hub, wrong)
        with pytest.raises(InvalidConfigError, match=r"of redis\.asyncio, not"):
            AsyncRedisPublisher(wrong)
    # These clients would accept every message, and send none.
    given = [async_client, sync_client.pipeline(), None]
    for wrong in given:
        with pytest.raises(InvalidConfigError, match="without asyncio, not"):
            RedisPublisher(wrong)
    with pytest.raises(InvalidConfigError, match="timeout must be above 0"):
        RedisPublisher(timeout=0)


async def test_an_exception_of_a_state_callback_does_not_affect_the_connection(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: RedisBridge) -> None:
        raise RuntimeError("a bug of the application")

    async with (
        Hub() as hub,
        RedisBridge(hub, server.url, on_state_change=fail) as bridge,
        redis.asyncio.Redis(port=server.port) as client,
    ):
        await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await wait_until(lambda: bridge.stats().reconnects == 1)
        await wait_until(lambda: bridge.state == BridgeState.UP)
    assert "a bug of the application" in caplog.text
    assert "During handling" not in caplog.text
    assert "is up" in caplog.text


async def test_an_unknown_host_name_leaves_no_connection() -> None:
    async with Hub() as hub:
        with pytest.raises(BridgeUnavailableError, match="nowhere"):
            await RedisBridge(hub, "redis://nowhere.invalid:6379").start()
    gc.collect()


async def test_a_trace_context_reaches_other_hubs_with_and_without_a_history(
    server: RedisServer,
) -> None:
    context = f"00-{'a' * 32}-{'b' * 16}-01"
    config = HubConfig(history={"kept": HistoryLimits(messages=5)})
    async with (
        Hub(config) as here,
        Hub(config) as there,
        RedisBridge(here, server.url),
        RedisBridge(there, server.url),
    ):
        for channel in ("kept", "passed"):
            client = await listen(there, channel)
            here.publish(channel, Message(type="event", traceparent=context))
            assert (await client.receive()).traceparent == context
        assert [each.traceparent for each in (await there.history("kept")).messages] == [context]
