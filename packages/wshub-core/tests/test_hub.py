import asyncio
import gc
import json
import threading
import tracemalloc
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from support import PATIENCE_SECONDS, Serve, Served, WireClient, eventually, present
from websockets.exceptions import ConnectionClosed

from wshub_core import (
    Connection,
    Hub,
    HubAlreadyStartedError,
    HubClosedError,
    HubConfig,
    HubNotStartedError,
    InvalidChannelError,
    InvalidProcessIDError,
    Message,
    MessageEncodeError,
    MessageTooLargeError,
    MessageType,
    SubscriptionDeniedError,
    SubscriptionLimitError,
)

EVENT = Message(type=MessageType.EVENT, data="x")


def without_timestamp(frame: Any) -> Any:
    """Check the timestamp of a frame and return the other fields."""
    stamp = frame.pop("timestamp")
    assert stamp.endswith("Z")
    age = datetime.now(UTC) - datetime.fromisoformat(stamp)
    assert 0 <= age.total_seconds() < 60
    return frame


async def closing(client: WireClient) -> tuple[int | None, str | None]:
    """Wait for the end; return the close code and reason that the client has read."""
    try:
        while True:
            await client.receive()
    except ConnectionClosed:
        return client.socket.close_code, client.socket.close_reason


# The wire format of each helper.


async def test_an_event_reaches_all_clients(served: Served) -> None:
    clients = [await served.connect() for _ in range(3)]
    served.hub.send_event("deploy:started", {"env": "production"})
    served.hub.send_event("empty")
    for client in clients:
        assert without_timestamp(await client.receive()) == {
            "type": "event",
            "data": {"data": {"env": "production"}, "event": "deploy:started"},
        }
        assert without_timestamp(await client.receive()) == {
            "type": "event",
            "data": {"data": None, "event": "empty"},
        }


async def test_an_error_reaches_all_clients(served: Served) -> None:
    client = await served.connect()
    served.hub.send_error("disk full")
    assert without_timestamp(await client.receive()) == {"type": "error", "data": "disk full"}


async def test_process_output_and_status_go_to_the_channel_of_the_process(served: Served) -> None:
    client, other = await served.connect(), await served.connect()
    await client.subscribe("process:build-42")
    await other.subscribe("process:build-43")
    served.hub.send_process_output("build-42", "Compiling main.py...")
    served.hub.send_process_output("build-42", "")
    served.hub.send_process_status("build-42", "exited", -9)
    common = {"channel": "process:build-42", "processId": "build-42"}
    expected: list[dict[str, Any]] = [
        {"type": "process_output", "data": "Compiling main.py..."},
        {"type": "process_output", "data": ""},
        {"type": "process_status", "data": {"exitCode": -9, "status": "exited"}},
    ]
    for frame in expected:
        assert without_timestamp(await client.receive()) == {**frame, **common}
    await other.sync()


async def test_publish_sets_the_channel_and_reaches_only_subscribers(served: Served) -> None:
    client, other = await served.connect(), await served.connect()
    await client.subscribe("news")
    served.hub.publish("news", Message(type="custom", channel="mine", data=[1]))
    served.hub.publish("nobody-listens", EVENT)
    assert without_timestamp(await client.receive()) == {
        "type": "custom",
        "channel": "news",
        "data": [1],
    }
    await other.sync()


async def test_a_broadcast_keeps_the_callers_channel(served: Served) -> None:
    client = await served.connect()
    served.hub.broadcast(Message(type="event", channel="not a channel"))
    assert (await client.receive())["channel"] == "not a channel"


async def test_the_hub_overwrites_a_timestamp(served: Served) -> None:
    client = await served.connect()
    served.hub.broadcast(Message(type="event", timestamp=datetime(2000, 1, 1, tzinfo=UTC)))
    assert without_timestamp(await client.receive()) == {"type": "event"}


async def test_each_message_is_one_websocket_message(served: Served) -> None:
    client = await served.connect()
    for number in range(100):
        served.hub.broadcast(Message(type="event", data=number))
    for number in range(100):
        frame = await client.socket.recv()
        assert json.loads(frame)["data"] == number


# The commands of clients.


async def test_subscribing_by_channel_and_by_data(served: Served) -> None:
    client = await served.connect()
    await client.send(type="subscribe", channel="a")
    await client.send(type="subscribe", data="b")
    await client.sync()
    assert served.hub.channels == ("a", "b")
    assert served.hub.connections[0].subscriptions == ("a", "b")


async def test_unsubscribing_ends_delivery_and_empties_the_channel(served: Served) -> None:
    client, other = await served.connect(), await served.connect()
    await client.subscribe("a")
    await other.subscribe("a")
    await client.send(type="unsubscribe", channel="a")
    await client.send(type="unsubscribe", data="never subscribed")
    await client.sync()
    served.hub.publish("a", EVENT)
    assert (await other.receive())["data"] == "x"
    await client.sync()
    await other.send(type="unsubscribe", data="a")
    await other.sync()
    assert served.hub.channels == ()


async def test_a_ping_is_answered_with_a_bare_pong(served: Served) -> None:
    client = await served.connect()
    await client.send(type="ping", channel="a", data="ignored")
    assert without_timestamp(await client.receive()) == {"type": "pong"}


async def test_subscribing_twice_is_one_subscription_even_at_the_limit(serve: Serve) -> None:
    served = await serve(max_subscriptions=1)
    client = await served.connect()
    await client.subscribe("a")
    await client.subscribe("a")
    assert present(served.hub) == (1, 1, 1)
    served.hub.publish("a", EVENT)
    await client.receive()
    await client.sync()


@pytest.mark.parametrize(
    ("channel", "text"),
    [
        ("not a channel", "Subscribe: invalid channel name"),
        ("process:a:b", "Subscribe: invalid process ID"),
        ("secret", "Subscribe: subscription unauthorised"),
        ("second", "subscription limit exceeded"),
    ],
)
async def test_a_refusal_has_its_exact_text_and_the_connection_stays_open(
    serve: Serve, channel: str, text: str
) -> None:
    served = await serve(max_subscriptions=1, channel_authorizer=lambda _, name: name != "secret")
    client = await served.connect()
    await client.subscribe("first")
    await client.send(type="subscribe", channel=channel)
    assert without_timestamp(await client.receive()) == {"type": "error", "data": text}
    await client.sync()
    assert served.hub.channels == ("first",)


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "not json",
        "[]",
        '{"type":"subscribe"}',
        '{"type":"subscribe","channel":5}',
        '{"type":7}',
        '{"type":"unknown","channel":"a"}',
        "[" * 60_000,
        '{"type":"ping","data":' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"type":"subscribe","data":' + "9" * 5_000 + "}",
        b"\x00\xff\xfe\x80",
        b"",
    ],
)
async def test_a_malformed_frame_is_ignored(served: Served, frame: str | bytes) -> None:
    client = await served.connect()
    await client.socket.send(frame)
    await client.sync()
    assert present(served.hub) == (1, 0, 0)


async def test_a_binary_frame_is_served_like_a_text_frame(served: Served) -> None:
    client = await served.connect()
    await client.socket.send(b'{"type":"subscribe","channel":"a"}')
    await client.sync()
    assert served.hub.channels == ("a",)


# The channel authorizer.


async def test_an_async_authorizer_keeps_the_order_of_frames(serve: Serve) -> None:
    gate = asyncio.Event()

    async def authorize(connection: Connection, channel: str) -> bool:
        await gate.wait()
        return channel != "secret"

    served = await serve(channel_authorizer=authorize)
    client = await served.connect()
    await client.send(type="subscribe", channel="a")
    await client.send(type="unsubscribe", channel="a")
    await client.send(type="subscribe", channel="secret")
    await client.send(type="subscribe", channel="b")
    await client.send(type="ping")
    other = await served.connect()
    await other.sync()
    assert served.hub.subscriber_count("a") == 0
    gate.set()
    assert (await client.receive())["data"] == "Subscribe: subscription unauthorised"
    assert (await client.receive())["type"] == "pong"
    assert served.hub.channels == ("b",)
    await client.sync()


async def test_a_failing_authorizer_refuses_and_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(connection: Connection, channel: str) -> bool:
        raise LookupError("no database")

    async def fail_later(connection: Connection, channel: str) -> bool:
        raise LookupError("no database")

    for authorizer in (fail, fail_later):
        caplog.clear()
        served = await serve(channel_authorizer=authorizer)
        client = await served.connect()
        await client.send(type="subscribe", channel="a")
        assert (await client.receive())["data"] == "Subscribe: subscription unauthorised"
        assert served.hub.channels == ()
        assert "no database" in caplog.text


async def test_a_client_that_leaves_during_the_authorization_is_not_subscribed(
    serve: Serve,
) -> None:
    asked = asyncio.Event()
    gate = asyncio.Event()

    async def authorize(connection: Connection, channel: str) -> bool:
        asked.set()
        await gate.wait()
        return True

    served = await serve(channel_authorizer=authorize)
    client = await served.connect()
    await client.send(type="subscribe", channel="a")
    await asked.wait()
    (connection,) = served.hub.connections
    subscribing = asyncio.create_task(served.hub.subscribe(connection, "b"))
    await asyncio.sleep(0)
    closed = asyncio.create_task(connection.close(4001, "logged out"))
    assert await closing(client) == (4001, "logged out")
    await closed
    gate.set()
    await subscribing
    assert served.hub.channels == ()


async def test_an_authorizer_may_close_the_connection(serve: Serve) -> None:
    closings = []

    def authorize(connection: Connection, channel: str) -> Awaitable[bool]:
        closings.append(asyncio.create_task(connection.close(4003, "forbidden")))
        return asyncio.sleep(60, True)

    served = await serve(channel_authorizer=authorize)
    client = await served.connect()
    await client.send(type="subscribe", channel="a")
    assert await closing(client) == (4003, "forbidden")
    await closings[0]


async def test_an_authorizer_that_awaits_a_cancelled_task_refuses(serve: Serve) -> None:
    async def authorize(connection: Connection, channel: str) -> bool:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner
        return True

    served = await serve(channel_authorizer=authorize)
    client = await served.connect()
    await client.send(type="subscribe", channel="a")
    assert (await client.receive())["data"] == "Subscribe: subscription unauthorised"
    await client.sync()
    assert served.hub.stats().callback_errors == 1


# Subscribing from the server.


async def test_the_server_can_subscribe_a_connection(serve: Serve) -> None:
    served = await serve(max_subscriptions=1, channel_authorizer=lambda _, name: name != "secret")
    client = await served.connect()
    (connection,) = served.hub.connections
    await served.hub.subscribe(connection, "a")
    served.hub.publish("a", EVENT)
    assert (await client.receive())["channel"] == "a"
    with pytest.raises(SubscriptionLimitError, match="limit exceeded: 1 per connection"):
        await served.hub.subscribe(connection, "b")
    with pytest.raises(SubscriptionDeniedError, match="'secret' is not authorized"):
        await served.hub.subscribe(connection, "secret")
    with pytest.raises(InvalidChannelError, match="invalid channel name ''"):
        await served.hub.subscribe(connection, "")
    served.hub.unsubscribe(connection, "a")
    served.hub.unsubscribe(connection, "never")
    assert served.hub.channels == ()


async def test_a_connection_that_has_ended_is_not_subscribed(served: Served) -> None:
    client = await served.connect()
    (connection,) = served.hub.connections
    await client.socket.close()
    await eventually(lambda: served.hub.connections == ())
    await served.hub.subscribe(connection, "a")
    served.hub.unsubscribe(connection, "a")
    await connection.close()
    assert served.hub.channels == ()
    assert connection.subscriptions == ()


# Order and mistakes.


async def test_broadcasts_publishes_and_replies_keep_their_order(served: Served) -> None:
    client = await served.connect()
    await client.subscribe("a")
    for number in range(500):
        served.hub.broadcast(Message(type="event", data=2 * number))
        served.hub.publish("a", Message(type="event", data=2 * number + 1))
    await client.send(type="ping")
    received = [await client.receive() for _ in range(1_001)]
    assert [frame["data"] for frame in received[:-1]] == list(range(1_000))
    assert received[-1]["type"] == "pong"


async def test_threads_can_publish_and_the_order_of_each_thread_is_kept(served: Served) -> None:
    client = await served.connect()

    def work(name: str) -> None:
        for number in range(200):
            served.hub.broadcast(Message(type=name, data=number))

    threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    received: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for _ in range(600):
        frame = await client.receive()
        received[frame["type"]].append(frame["data"])
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert all(numbers == list(range(200)) for numbers in received.values())


async def test_an_invalid_message_raises_and_reaches_no_client(served: Served) -> None:
    client = await served.connect()
    await client.subscribe("a")
    hub = served.hub
    with pytest.raises(InvalidChannelError, match="invalid channel name 'a b'"):
        hub.publish("a b", EVENT)
    with pytest.raises(InvalidProcessIDError, match="invalid process ID 'a:b'"):
        hub.send_process_output("a:b", "line")
    with pytest.raises(InvalidProcessIDError, match="invalid process ID"):
        hub.broadcast(Message(type="event", process_id="a b"))
    with pytest.raises(MessageEncodeError, match="failed to marshal message"):
        hub.send_event("bad", object())
    with pytest.raises(MessageEncodeError, match="failed to marshal message"):
        hub.publish("nobody-listens", Message(type="event", data=float("nan")))
    with pytest.raises(MessageTooLargeError, match="the limit is 65536") as caught:
        hub.publish("a", Message(type="event", data="x" * 65_536))
    assert caught.value.size > caught.value.limit == 65_536
    await client.sync()


async def test_a_message_of_exactly_the_limit_is_delivered(serve: Serve) -> None:
    served = await serve(max_message_bytes=1_000)
    client = await served.connect()
    frame_size = 53  # {"type":"event","data":"","timestamp":"…"} with microseconds
    for size in range(1_000 - frame_size - 16, 1_001):
        try:
            served.hub.broadcast(Message(type="event", data="x" * size))
        except MessageTooLargeError as error:
            assert error.size > 1_000  # noqa: PT017 - both outcomes are right, at their sizes
            break
        assert len(await client.socket.recv()) <= 1_000
    else:
        pytest.fail("the limit was never reached")


async def test_a_publish_listener_receives_published_messages(served: Served) -> None:
    seen: list[tuple[str, Message]] = []
    served.hub.add_publish_listener(lambda channel, message: seen.append((channel, message)))
    served.hub.publish("a", EVENT)
    served.hub.broadcast(EVENT)
    assert [(channel, message.channel, message.data) for channel, message in seen] == [
        ("a", "a", "x")
    ]
    assert seen[0][1].timestamp is not None


async def test_messages_of_different_channels_do_not_mix(served: Served) -> None:
    clients = {name: await served.connect() for name in ("a", "b", "c")}
    for name, client in clients.items():
        await client.subscribe(name)
    for name in clients:
        for number in range(2):
            served.hub.publish(name, Message(type="event", data=f"{name}{number}"))
    for name, client in clients.items():
        assert [(await client.receive())["data"] for _ in range(2)] == [f"{name}0", f"{name}1"]


# Stats and ends.


async def test_stats_count_a_connection_once_per_channel(served: Served) -> None:
    first, second = await served.connect(), await served.connect()
    await first.subscribe("a")
    await first.subscribe("b")
    await second.subscribe("a")
    assert present(served.hub) == (2, 2, 3)
    assert served.hub.subscriber_count("a") == 2
    assert served.hub.subscriber_count("unknown") == 0
    addresses = [connection.remote_address for connection in served.hub.connections]
    assert addresses == sorted(addresses)
    assert addresses[0].startswith("127.0.0.1:")
    await first.socket.close()
    await eventually(lambda: present(served.hub) == (1, 1, 1))


async def test_a_client_that_vanishes_is_removed(served: Served) -> None:
    client, other = await served.connect(), await served.connect()
    await client.subscribe("a")
    client.socket.transport.abort()
    await eventually(lambda: present(served.hub) == (1, 0, 0))
    served.hub.broadcast(EVENT)
    assert (await other.receive())["data"] == "x"


async def test_closing_a_connection_sends_queued_messages_before_the_close(
    served: Served,
) -> None:
    client = await served.connect()
    (connection,) = served.hub.connections
    served.hub.broadcast(EVENT)
    closed = asyncio.create_task(connection.close(4001, "logged out"))
    await asyncio.sleep(0)
    served.hub.broadcast(Message(type="event", data="too late"))
    assert served.hub.connections == ()
    assert (await client.receive())["data"] == "x"
    assert await closing(client) == (4001, "logged out")
    await closed
    await connection.close()


async def test_closing_the_hub_closes_all_clients_and_refuses_further_messages(
    served: Served,
) -> None:
    client = await served.connect()
    await client.subscribe("a")
    served.hub.publish("a", EVENT)
    closed = asyncio.create_task(served.hub.close())
    assert (await client.receive())["data"] == "x"
    assert await closing(client) == (1001, "hub closed")
    await closed
    await served.hub.close()
    assert present(served.hub) == (0, 0, 0)
    with pytest.raises(HubClosedError, match="has been closed"):
        served.hub.broadcast(EVENT)
    with pytest.raises(HubClosedError, match="has been closed"):
        served.hub.publish("a", EVENT)
    with pytest.raises(HubClosedError, match="has been closed"):
        async with served.hub:
            pass


async def test_a_client_that_does_not_answer_the_close_is_aborted(serve: Serve) -> None:
    served = await serve(close_timeout=0.05)
    client = await served.connect()
    client.socket.transport.pause_reading()
    async with asyncio.timeout(5):
        await served.hub.close()
    client.socket.transport.abort()


async def test_a_hub_can_be_entered_only_once(served: Served) -> None:
    with pytest.raises(HubAlreadyStartedError, match="has been entered already"):
        await served.hub.__aenter__()


async def test_publishing_on_a_hub_that_was_not_entered_raises() -> None:
    hub = Hub()
    with pytest.raises(HubNotStartedError, match="async with hub"):
        hub.broadcast(EVENT)
    assert present(hub) == (0, 0, 0)
    assert hub.connections == ()
    assert hub.channels == ()
    assert hub.subscriber_count("a") == 0
    await hub.close()


def test_publishing_after_the_end_of_the_loop_raises() -> None:
    hub = Hub(HubConfig())
    asyncio.run(hub.__aenter__())
    with ThreadPoolExecutor(1) as pool, pytest.raises(HubClosedError, match="has been closed"):
        pool.submit(hub.broadcast, EVENT).result()
    with pytest.raises(HubClosedError, match="has been closed"):
        hub.broadcast(EVENT)


# A client that does not read.


async def test_a_slow_client_is_closed_with_a_reason_and_others_lose_no_messages(
    serve: Serve,
) -> None:
    served = await serve(max_outbox_bytes=200_000)
    slow = await served.connect(max_queue=1)
    others = [await served.connect() for _ in range(9)]
    slow.socket.transport.pause_reading()
    slow_connection = served.hub.connections[
        [connection.remote_address for connection in served.hub.connections].index(
            "{}:{}".format(*slow.socket.local_address)
        )
    ]
    await served.hub.subscribe(slow_connection, "a")
    sent = 0
    while slow_connection in served.hub.connections:
        served.hub.broadcast(Message(type="event", data=[sent, "x" * 30_000]))
        sent += 1
        for client in others:
            assert (await client.receive())["data"][0] == sent - 1
        assert sent < 2_000, "the slow client was never closed"
    assert served.hub.channels == ()
    slow.socket.transport.resume_reading()
    assert await closing(slow) == (1013, "slow consumer")


async def test_memory_does_not_grow_beside_a_client_that_stopped_reading(serve: Serve) -> None:
    served = await serve(max_outbox_bytes=200_000, overflow="drop_oldest", write_timeout=600.0)
    slow = await served.connect(max_queue=1)
    others = [await served.connect() for _ in range(9)]
    slow.socket.transport.pause_reading()

    async def publish(count: int) -> None:
        for number in range(count):
            served.hub.broadcast(Message(type="event", data=[number, "x" * 30_000]))
            for client in others:
                assert (await client.receive())["data"][0] == number

    # Fill the buffers of the kernel and the outbox, then measure six further megabytes.
    while served.hub.stats().dropped_messages == 0:
        await publish(10)
    gc.collect()
    tracemalloc.start()
    await publish(200)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1_000_000
    assert served.hub.stats().clients == 10
    assert served.hub.stats().dropped_messages >= 200
    slow.socket.transport.abort()
