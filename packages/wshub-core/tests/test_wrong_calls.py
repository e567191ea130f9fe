"""Common mistakes raise errors that name the correct call."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from asgi_servers import uvicorn_server
from support import Serve, Served
from websockets.asyncio.client import connect as dial
from websockets.exceptions import InvalidStatus

from wshub_core import (
    Hub,
    HubNotStartedError,
    InvalidChannelError,
    Message,
    Reply,
    ReservedTypeError,
)
from wshub_core.testing import MemoryBridge, MemoryExchange, connect
from wshub_core.values.messages import REQUESTS_AND_ANSWERS


async def test_publish_event_takes_plain_data() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        await hub.subscribe(hub.connections[0], "a")
        hub.publish_event("a", {"x": 1})
        hub.publish_event("a")
        message = await client.receive()
        assert (message.type, message.channel, message.data) == ("event", "a", {"x": 1})
        assert (await client.receive()).data is None


WRONG_CALLS: list[tuple[Callable[[Any], object], str]] = [
    (lambda hub: hub.publish("a", {"x": 1}), "use publish_event(channel, data)"),
    (lambda hub: hub.publish("a", "text"), "use publish_event(channel, data)"),
    (
        lambda hub: hub.publish(Message(type="x"), "a"),
        "publish(channel, message) takes a Message",
    ),
    (lambda hub: hub.broadcast({"x": 1}), "use send_event(name, data)"),
    (lambda hub: hub.publish(5, Message(type="x")), "a channel must be a str, not int"),
    (lambda hub: hub.publish_event(b"a", 1), "a channel must be a str, not bytes"),
    (lambda hub: hub.send_process_output(7, "line"), "a process id must be a str, not int"),
    (lambda hub: hub.connections[0].send({"x": 1}), "connection.send(message) takes a Message"),
]


@pytest.mark.parametrize(("call", "text"), WRONG_CALLS)
async def test_a_wrong_call_raises_an_error_with_the_correct_call(
    call: Callable[[Any], object], text: str
) -> None:
    async with Hub() as hub:
        client = await connect(hub)
        with pytest.raises(TypeError, match=re.escape(text)):
            call(hub)
        await client.sync()
        assert not client.messages


def test_the_error_of_a_hub_that_was_not_started_names_the_lifespan() -> None:
    with pytest.raises(HubNotStartedError, match="enters it in its lifespan"):
        Hub().send_event("x")


async def test_the_log_names_the_lifespan_when_the_hub_was_not_started(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # An application with its own lifespan that does not enter the hub.
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await hub.asgi()(scope, receive, send)

    async with uvicorn_server(app) as port:
        with pytest.raises(InvalidStatus, match="503"):
            async with dial(f"ws://127.0.0.1:{port}/ws", proxy=None):
                pass
    assert "an ASGI application enters it in its lifespan" in caplog.text


@pytest.mark.parametrize("type_", sorted(REQUESTS_AND_ANSWERS))
async def test_requests_and_answers_cannot_be_published(type_: str) -> None:
    async with Hub() as hub:
        client = await connect(hub)
        with pytest.raises(ReservedTypeError, match="publish it with a type of your own"):
            hub.publish("a", Message(type=type_))
        with pytest.raises(ReservedTypeError, match="between one client and its hub"):
            hub.broadcast(Message(type=type_))
        with pytest.raises(ReservedTypeError):
            hub.broadcast(Reply(type="error", id=1))
        # A message to a single client may have any type.
        assert hub.connections[0].send(Message(type=type_))
        assert (await client.receive()).type == type_


async def test_a_broadcast_with_an_invalid_channel_is_refused_with_a_bridge() -> None:
    message = Message(type="event", channel="a b")
    async with Hub() as hub, MemoryBridge(hub, MemoryExchange()):
        with pytest.raises(InvalidChannelError, match="a b"):
            hub.broadcast(message)
        hub.broadcast(message, local_only=True)
        with pytest.raises(InvalidChannelError):
            hub.publish("", Message(type="event"))


async def test_refused_origins_do_not_fill_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        with pytest.raises(InvalidStatus, match="403"):
            await served.connect(origin="https://evil.example")
    # asyncio has records of its own when the machine is slow.
    records = [each for each in caplog.records if each.name.startswith("wshub")]
    assert 1 <= len(records) <= 5


async def test_a_callback_that_fails_for_each_message_does_not_fill_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("mistake")

    served = await serve(on_message=fail, on_connect=fail)
    client = await served.connect()
    for number in range(200):
        await client.send(type="x", data=number)
    await client.sync()
    assert served.hub.stats().callback_errors == 201
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 6
    assert sum("on_connect failed" in each for each in messages) == 1


async def test_channels_of_the_hub_are_closed_to_clients(serve: Serve) -> None:
    served = await serve(publish_authorizer=lambda *_: True)
    client = await served.connect()
    await client.send(type="event", id=1, channel="wshub:page", data=1)
    assert (await client.receive())["code"] == "publish_denied"
    await client.send(type="subscribe", id=2, channel="wshub:private:page")
    assert (await client.receive())["code"] == "subscription_denied"
    await client.send(type="subscribe", id=3, channel="wshub:page")
    assert (await client.receive())["type"] == "subscribed"


async def test_malformed_frames_are_counted(served: Served) -> None:
    client = await served.connect()
    for frame in ("junk", "[]", '{"type":5}', '{"type":"subscribe"}'):
        await client.socket.send(frame)
    await client.sync()
    assert served.hub.stats().ignored_frames == 4
    await client.socket.send('{"type":"subscribe","id":7,"channel":["a"]}')
    answer = await client.receive()
    assert (answer["type"], answer["id"], answer["code"]) == ("error", 7, "malformed_frame")
    assert "malformed frame: " in answer["data"]
    assert served.hub.stats().ignored_frames == 5


async def test_the_answer_to_an_invalid_message_names_the_error(serve: Serve) -> None:
    served = await serve(publish_authorizer=lambda *_: True)
    client = await served.connect()
    deep = "[" * 30_000 + "]" * 30_000
    await client.socket.send(f'{{"type":"event","id":1,"channel":"a","data":{deep}}}')
    answer = await client.receive()
    assert (answer["type"], answer["id"], answer["code"]) == ("error", 1, "malformed_frame")
    assert "nested too deeply" in answer["data"]
    await client.socket.send('{"type":"event","id":2,"channel":"a","data":"\\ud83d"}')
    answer = await client.receive()
    assert (answer["type"], answer["id"], answer["code"]) == ("error", 2, "malformed_frame")
    await client.sync()
