"""Answers to frames with an id, and the answers of go-ws to frames without an id."""

import asyncio
import json
from collections.abc import Awaitable
from typing import Any

import pytest
from support import Serve, WireClient, eventually
from websockets.frames import Close, Frame, Opcode

from wshub_core import AuthResult, Connection, Hub, HubConfig, LivePage, Message, Request
from wshub_core.testing import connect


def no_secrets(connection: Connection, channel: str) -> bool:
    return not channel.startswith("secret")


async def no_secrets_later(connection: Connection, channel: str) -> bool:
    await asyncio.sleep(0)
    return no_secrets(connection, channel)


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer without its timestamp."""
    assert answer.pop("timestamp")
    return answer


@pytest.mark.parametrize("authorizer", [no_secrets, no_secrets_later])
async def test_commands_with_an_id_get_answers(serve: Serve, authorizer: Any) -> None:
    served = await serve(channel_authorizer=authorizer, max_subscriptions=2)
    client = await served.connect()

    async def ask(kind: str, channel: str, number: Any) -> dict[str, Any]:
        await client.send(type=kind, channel=channel, id=number)
        return plain(await client.receive())

    assert await ask("subscribe", "a", 1) == {"type": "subscribed", "channel": "a", "id": 1}
    assert await ask("subscribe", "a", "x") == {"type": "subscribed", "channel": "a", "id": "x"}
    assert await ask("subscribe", "secret", 2) == {
        "type": "error",
        "channel": "secret",
        "data": "Subscribe: subscription unauthorised",
        "id": 2,
        "code": "subscription_denied",
    }
    assert await ask("subscribe", "ä", 3) == {
        "type": "error",
        "channel": "ä",
        "data": "Subscribe: invalid channel name",
        "id": 3,
        "code": "invalid_channel",
    }
    assert (await ask("subscribe", "process:a:b", 4))["code"] == "invalid_process_id"
    assert (await ask("subscribe", "b", 5))["type"] == "subscribed"
    assert await ask("subscribe", "c", 6) == {
        "type": "error",
        "channel": "c",
        "data": "subscription limit exceeded",
        "id": 6,
        "code": "subscription_limit",
    }
    assert await ask("unsubscribe", "a", 7) == {"type": "unsubscribed", "channel": "a", "id": 7}
    assert await ask("unsubscribe", "never", 8) == {
        "type": "unsubscribed",
        "channel": "never",
        "id": 8,
    }
    assert served.hub.channels == ("b",)
    await client.send(type="ping", id=9)
    assert plain(await client.receive()) == {"type": "pong", "id": 9}


async def test_a_frame_without_an_id_gets_the_answer_of_go_ws(serve: Serve) -> None:
    served = await serve(
        channel_authorizer=no_secrets, publish_authorizer=no_secrets, max_subscriptions=1
    )
    client = await served.connect()
    await client.send(type="subscribe", channel="a")
    await client.send(type="unsubscribe", channel="a")
    await client.send(type="event", channel="a", data=1)
    await client.send(type="event", channel="secret", data=1)
    await client.send(type="unknown")
    await client.send(type="subscribe", channel="secret")
    assert plain(await client.receive()) == {
        "type": "error",
        "data": "Subscribe: subscription unauthorised",
    }
    await client.send(type="ping")
    assert plain(await client.receive()) == {"type": "pong"}


@pytest.mark.parametrize("odd", [None, 1.5, True, [1], {"a": 1}, "x" * 129, 10**30])
async def test_an_invalid_id_counts_as_none(serve: Serve, odd: Any) -> None:
    served = await serve()
    client = await served.connect()
    await client.send(type="subscribe", channel="a", id=odd)
    await client.send(type="ping", id=odd)
    assert plain(await client.receive()) == {"type": "pong"}
    assert served.hub.channels == ("a",)


@pytest.mark.parametrize("kind", ["subscribe", "unsubscribe"])
async def test_an_answer_repeats_at_most_256_characters_of_a_name(serve: Serve, kind: str) -> None:
    served = await serve()
    client = await served.connect()
    await client.send(type=kind, channel="x" * 65_400, id=1)
    answer = await client.receive()
    assert answer["id"] == 1
    assert answer["channel"] == "x" * 256
    await client.sync()


# Publishing.


class Chat:
    """A hub whose clients may publish, with a sender and a listener."""

    def __init__(self, hub: Hub, sender: WireClient, listener: WireClient) -> None:
        self.hub = hub
        self.sender = sender
        self.listener = listener

    async def publish(self, **frame: Any) -> dict[str, Any]:
        await self.sender.send(**frame)
        return plain(await self.sender.receive())


@pytest.fixture(params=[no_secrets, no_secrets_later])
async def chat(serve: Serve, request: pytest.FixtureRequest) -> Chat:
    served = await serve(publish_authorizer=request.param)
    sender, listener = await served.connect(), await served.connect()
    for channel in ("chat", "secret", "process:a"):
        await listener.subscribe(channel)
    return Chat(served.hub, sender, listener)


async def test_clients_publish_to_channels_that_the_authorizer_allows(chat: Chat) -> None:
    answer = await chat.publish(type="event", channel="chat", data={"n": 1}, id=1)
    assert answer == {"type": "published", "channel": "chat", "id": 1}
    received = await chat.listener.receive()
    assert plain(received) == {"type": "event", "channel": "chat", "data": {"n": 1}}
    await chat.sender.send(type="event", channel="chat", data=2)
    assert (await chat.listener.receive())["data"] == 2
    await chat.publish(type="process_output", channel="process:a", processId="a", data="x", id=2)
    assert plain(await chat.listener.receive()) == {
        "type": "process_output",
        "channel": "process:a",
        "processId": "a",
        "data": "x",
    }


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "event", "channel": "secret", "data": 1}, "publish_denied"),
        ({"type": "event", "channel": "ä"}, "invalid_channel"),
        ({"type": "event", "channel": "x" * 257}, "invalid_channel"),
        ({"type": "process_output", "channel": "process:a:b"}, "invalid_process_id"),
        ({"type": "process_output", "channel": "chat", "processId": "a:b"}, "invalid_process_id"),
        ({"type": "event", "channel": "chat", "data": "x" * 65_460}, "message_too_large"),
        ({"type": "event", "data": "to nobody in particular"}, "not_served"),
        ({"type": "subscribed", "channel": "chat"}, "not_served"),
        ({"type": "error", "channel": "chat", "data": "forged"}, "not_served"),
    ],
)
async def test_a_refused_publish_gets_a_code_and_reaches_no_client(
    chat: Chat, frame: dict[str, Any], code: str
) -> None:
    answer = await chat.publish(**frame, id="x")
    assert (answer["type"], answer["id"], answer["code"]) == ("error", "x", code)
    await chat.sender.send(**frame)
    await chat.sender.sync()
    await chat.listener.sync()


async def test_publish_listeners_receive_messages_of_clients(serve: Serve) -> None:
    served = await serve(publish_authorizer=no_secrets)
    page = LivePage(served.hub)
    client = await served.connect()
    await client.send(type="event", channel="chat", data=1)
    await client.sync()
    listed = page.process_request(Request("GET", "/channels"))
    assert listed is not None
    assert json.loads(listed.body)["channels"][0]["channel"] == "chat"


async def test_without_a_publish_authorizer_the_application_gets_the_message() -> None:
    heard: list[Message] = []
    config = HubConfig(on_message=lambda _, message: heard.append(message))
    async with Hub(config) as hub:
        client = await connect(hub)
        client.subscribe("chat")
        client.send(Message(type="event", channel="chat", data=1))
        await client.sync()
        assert heard == [Message(type="event", channel="chat", data=1)]
    async with Hub() as hub:
        client = await connect(hub)
        client.subscribe("chat")
        client.send(b'{"type":"event","channel":"chat","data":1,"id":5}')
        answer = await client.receive()
        assert (answer.type, answer.data) == ("error", "event: not served here")


@pytest.mark.parametrize("answer", ["denied", 1, None])
async def test_only_true_of_a_publish_authorizer_allows(answer: Any) -> None:
    async with Hub(HubConfig(publish_authorizer=lambda *_: answer)) as hub:
        client = await connect(hub)
        client.subscribe("chat")
        client.send(Message(type="event", channel="chat", data=1))
        await client.sync()
        assert not client.messages


async def test_a_message_is_published_after_its_sender_has_left() -> None:
    gate = asyncio.Event()

    async def wait(connection: Connection, channel: str) -> bool:
        await gate.wait()
        return True

    async with Hub(HubConfig(publish_authorizer=wait)) as hub:
        client, listener = await connect(hub), await connect(hub)
        listener.subscribe("chat")
        client.send(Message(type="event", channel="chat", data="last words"))
        client.close()
        gate.set()
        assert (await listener.receive()).data == "last words"


async def test_waiting_messages_are_published_after_their_sender_has_left(serve: Serve) -> None:
    gate = asyncio.Event()

    async def wait(connection: Connection, channel: str) -> bool:
        await gate.wait()
        return True

    served = await serve(publish_authorizer=wait)
    client, listener = await served.connect(), await served.connect()
    await listener.subscribe("chat")
    frames = [
        Frame(Opcode.TEXT, json.dumps({"type": "event", "channel": "chat", "data": n}).encode())
        for n in range(3)
    ]
    # One write, so that the client has left before the second frame is authorized.
    frames.append(Frame(Opcode.CLOSE, Close(1000, "").serialize()))
    client.socket.transport.write(b"".join(frame.serialize(mask=True) for frame in frames))
    await eventually(lambda: served.hub.stats().clients == 1)
    gate.set()
    assert [(await listener.receive())["data"] for _ in range(3)] == [0, 1, 2]


# Tokens.


async def test_authenticate_frames_with_an_id_get_answers(serve: Serve) -> None:
    class Tokens:
        def __call__(self, request: Request) -> AuthResult | Awaitable[AuthResult]:
            return AuthResult(True, "alice")

        def authenticate_token(self, token: str) -> AuthResult | Awaitable[AuthResult]:
            return AuthResult(True, token, expires_at=4e9)

    served = await serve(authenticator=Tokens())
    client = await served.connect()
    await client.send(type="authenticate", data="alice", id=1)
    assert plain(await client.receive()) == {
        "type": "authenticated",
        "data": {"expiresAt": 4e9},
        "id": 1,
    }
    await client.send(type="authenticate", data="bob", id=2)
    assert plain(await client.receive()) == {
        "type": "error",
        "data": "Authenticate: token refused",
        "id": 2,
        "code": "token_refused",
    }
