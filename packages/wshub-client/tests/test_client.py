"""The client in Python against servers that behave, and against those that do not."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from client_servers import (
    HELLO,
    Log,
    answer_pings,
    event,
    run,
    tcp_server,
    websocket_server,
)
from support import eventually
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from wshub_client import (
    ClientClosedError,
    ClosedError,
    ConnectionState,
    DialError,
    DroppedError,
    LostError,
    NotConnectedError,
    ProcessPublisher,
    QueueLimits,
    ReconnectingClient,
    RefusedError,
    RetriesExhaustedError,
    SubscriptionRefusedError,
)
from wshub_core import (
    Hub,
    HubConfig,
    InvalidChannelError,
    InvalidConfigError,
    Message,
    MessageEncodeError,
    MessageTooLargeError,
    run_process,
)
from wshub_core.testing import ManualClock

QUICK: dict[str, Any] = {"initial_backoff": 0.001, "max_backoff": 0.002, "open_timeout": 2.0}


def has(entries: list[Any], entry: object, count: int) -> bool:
    return entries.count(entry) == count


def has_accepted(hub: Hub, count: int) -> bool:
    return hub.stats().connections == count


def has_dialled(dials: list[float], count: int) -> bool:
    return len(dials) == count


@pytest.fixture(autouse=True)
async def leave_nothing_behind() -> AsyncIterator[None]:
    yield
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    async with Hub() as hub:
        yield hub


@pytest.fixture
async def url(hub: Hub) -> AsyncIterator[str]:
    async with hub.serve("127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.port}/ws"


# The ordinary course.


async def test_entering_subscribing_iterating_leaving(hub: Hub, url: str) -> None:
    async with ReconnectingClient(url) as client:
        assert client.state.value == 2
        await client.subscribe("news", confirm=True)
        assert client.channels == ("news",)
        for number in range(3):
            hub.publish("news", Message(type="event", data=number))
        received = []
        async for message in client:
            received.append(message.data)
            if len(received) == 3:
                break
        assert received == [0, 1, 2]
        await client.unsubscribe("news")
        await client.send(Message(type="ping"))
        assert (await client.receive()).type == "pong"
        assert hub.channels == ()
    assert client.state is ConnectionState.DISCONNECTED
    await eventually(lambda: hub.stats().clients == 0)


async def test_running_with_callbacks(hub: Hub, url: str) -> None:
    log = Log()
    client = ReconnectingClient(url, **log.callbacks())
    await client.subscribe("news")
    running = asyncio.create_task(run(client))
    await eventually(lambda: hub.channels == ("news",))
    hub.publish("news", HELLO)
    await eventually(lambda: "hello" in log.entries)
    await client.close()
    assert await running is None
    assert log.entries == ["connect", "hello", "disconnect"]


async def test_callbacks_may_be_async_and_use_the_client(hub: Hub, url: str) -> None:
    heard = []

    async def on_connect() -> None:
        await client.subscribe("news", confirm=True)
        hub.publish("news", HELLO)

    async def on_message(message: Message) -> None:
        heard.append(message.data)
        await client.close()

    client = ReconnectingClient(url, on_connect=on_connect, on_message=on_message)
    async with asyncio.timeout(5):
        await client.run()
    assert heard == ["hello"]


async def test_raw_messages_come_as_they_were_read() -> None:
    async def batch(socket: ServerConnection) -> None:
        await socket.send(event(1) + "\n" + event(2))
        await answer_pings(socket)

    raw: list[str | bytes] = []
    async with (
        websocket_server(batch) as url,
        ReconnectingClient(url, on_raw=raw.append) as client,
    ):
        await client.send(Message(type="ping"))
        await eventually(lambda: len(raw) == 3)
    assert raw[0] == event(1) + "\n" + event(2)


async def test_what_a_go_hub_sends_is_understood() -> None:
    async def go(socket: ServerConnection) -> None:
        zero = '{"type":"event","data":1,"timestamp":"0001-01-01T00:00:00Z"}'
        nine = '{"type":"event","data":2,"timestamp":"2026-11-23T04:14:16.618311291+01:00"}'
        await socket.send([zero[:5], zero[5:] + "\n" + nine + "\n", "\nnot a message\n\n{}\n"])
        await socket.send((event(3) + "\n").encode())
        await answer_pings(socket)

    async with websocket_server(go) as url, ReconnectingClient(url) as client:
        messages = [await client.receive() for _ in range(3)]
    assert [message.data for message in messages] == [1, 2, 3]
    assert messages[0].timestamp is None
    assert messages[1].timestamp is not None
    assert messages[1].timestamp.isoformat() == "2026-11-23T04:14:16.618311+01:00"


# What is presented.


async def test_token_headers_and_origin_are_presented_at_every_dial() -> None:
    seen: list[tuple[str | None, ...]] = []
    names = ("Authorization", "X-Room", "Origin")

    def note(connection: ServerConnection, request: Request) -> Response | None:
        seen.append(tuple(request.headers.get(name) for name in names))
        return connection.respond(503, "") if len(seen) < 3 else None

    tokens = iter(["one", "two", "three"])

    async def next_token() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    async with websocket_server(answer_pings, process_request=note) as url:
        options: dict[str, Any] = {
            "token": next_token,
            "headers": {"X-Room": "7"},
            "origin": "https://app.example",
        }
        async with ReconnectingClient(url, **options, **QUICK):
            pass
    assert seen == [(f"Bearer {n}", "7", "https://app.example") for n in ("one", "two", "three")]


async def test_a_token_function_that_raises_is_a_failed_dial_and_tells_no_secret(url: str) -> None:
    calls = 0

    def token() -> str:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise LookupError("s3cret")
        return "fine"

    log = Log()
    async with ReconnectingClient(url, token=token, on_error=log.note_error, **QUICK):
        pass
    assert log.entries == ["DialError", "DialError"]
    assert str(log.errors[0]) == "the token function failed: LookupError"
    assert isinstance(log.errors[0].__cause__, LookupError)


# Servers that are none.


def http(status: str, body: bytes = b"", *headers: str) -> Any:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()

    return answer


async def say_ssh(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (http("200 OK", b"welcome"), "answered 200 welcome"),
        (http("404 Not Found", b"nothing here\nat all"), "answered 404 nothing here"),
        (http("500 Internal Server Error"), "answered 500 Internal Server Error"),
        (http("101 Switching Protocols"), "is no WebSocket server"),
        (say_ssh, "is no WebSocket server"),
        (hang_up, "is no WebSocket server"),
        (say_nothing, "has not answered within 0.2 s"),
    ],
)
async def test_a_server_that_is_no_hub_is_a_failed_dial(handler: Any, text: str) -> None:
    async with tcp_server(handler) as url:
        timeout = 0.2 if handler is say_nothing else 10.0
        options = QUICK | {"open_timeout": timeout, "max_attempts": 1}
        log = Log()
        client = ReconnectingClient(url + "?token=s3cret", on_error=log.note_error, **options)
        error = await run(client)
    assert isinstance(error, RetriesExhaustedError)
    assert str(error) == "max retries (1) exceeded"
    assert log.entries == ["DialError", "RetriesExhaustedError"]
    for failure in (log.errors[0], error.__cause__):
        assert isinstance(failure, DialError)
        assert text in str(failure)
        assert "s3cret" not in str(failure)


async def test_nobody_listens_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    error = await run(ReconnectingClient(f"ws://127.0.0.1:{port}/ws", max_attempts=2, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert f"cannot connect to ws://127.0.0.1:{port}/ws" in str(error.__cause__)


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fail)
    error = await run(ReconnectingClient("ws://hub.invalid/ws", max_attempts=1, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert "Name or service not known" in str(error.__cause__)


async def test_tls_with_a_server_that_speaks_none(url: str) -> None:
    secure = url.replace("ws://", "wss://")
    error = await run(ReconnectingClient(secure, max_attempts=1, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert isinstance(error.__cause__, DialError)
    assert f"cannot connect to {secure}: " in str(error.__cause__)
    with pytest.raises(InvalidConfigError, match="ssl goes with wss"):
        ReconnectingClient(url, ssl=ssl.create_default_context())


async def test_tls_with_a_server_that_anybody_could_be(hub: Hub, tmp_path: Path) -> None:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost "
        "-addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem"
    )
    await asyncio.to_thread(
        subprocess.run, command.split(), cwd=tmp_path, check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    async with hub.serve("localhost", 0, ssl=context) as server:
        url = f"wss://localhost:{server.port}/ws"
        error = await run(ReconnectingClient(url, max_attempts=1, **QUICK))
        assert isinstance(error, RetriesExhaustedError)
        assert "TLS" in str(error.__cause__)
        assert "self-signed certificate" in str(error.__cause__)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
        async with ReconnectingClient(url, ssl=trusting) as client:
            await client.subscribe("news", confirm=True)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirects_are_not_followed(hub: Hub, url: str, status: int) -> None:
    location = f"Location: {url}?token=s3cret"
    async with tcp_server(http(f"{status} Elsewhere", b"", location)) as elsewhere:
        error = await run(ReconnectingClient(elsewhere, token="mine", **QUICK))
    assert isinstance(error, RefusedError)
    assert error.status == status
    assert error.reason == f"the server redirects to {url}; use that address if you trust it"
    assert hub.stats().connections == 0


# Servers that change their minds.


async def test_a_server_that_flaps_is_asked_less_and_less_often() -> None:
    dials: list[float] = []
    clock = ManualClock()

    async def flap(socket: ServerConnection) -> None:
        dials.append(clock.time())
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.close(1011)

    log = Log()
    async with websocket_server(flap) as url:
        client = ReconnectingClient(url, clock=clock, stable_after=60.0, **log.callbacks())
        running = asyncio.create_task(run(client))
        for number in range(1, 8):
            await eventually(partial(has_dialled, dials, number))
            await eventually(partial(has, log.entries, "disconnect", number))
            assert client.state is ConnectionState.DISCONNECTED
            # At the end of the bound at the latest, and never two at a time.
            clock.advance(min(2.0 ** (number - 1), 30.0))
        await eventually(lambda: len(dials) == 8)
        await client.close()
        await running
    waits = [later - earlier for earlier, later in pairwise(dials)]
    assert all(wait <= min(2.0**n, 30.0) for n, wait in enumerate(waits))
    assert log.entries[:5] == ["connect", "LostError", "disconnect", ("reconnect", 1), "LostError"]


async def test_a_connection_that_holds_makes_failures_forgotten(hub: Hub, url: str) -> None:
    clock = ManualClock()
    log = Log()
    client = ReconnectingClient(
        url, clock=clock, stable_after=60.0, max_attempts=1, **log.callbacks()
    )
    running = asyncio.create_task(run(client))
    for number in range(1, 4):
        await eventually(partial(has_accepted, hub, number))
        await eventually(lambda: client.state is ConnectionState.CONNECTED)
        clock.advance(61.0)
        await hub.connections[0].close(1000)
        await eventually(partial(has, log.entries, "disconnect", number))
        clock.advance(1.0)
    await eventually(lambda: client.state is ConnectionState.CONNECTED)
    await client.close()
    assert await running is None


async def test_junk_and_huge_messages() -> None:
    sent = 0

    async def send_junk(socket: ServerConnection) -> None:
        nonlocal sent
        sent += 1
        for junk in (
            "",
            "\n\n",
            "junk",
            "[]",
            "null",
            "1",
            '{"type":5}',
            "[" * 60_000,
            b"\xff\xfe",
        ):
            await socket.send(junk)
        if sent == 1:
            await socket.recv()
            await socket.send('{"type":"pong"}')
            await socket.send("x" * 200_000)
        await answer_pings(socket)

    log = Log()
    async with websocket_server(send_junk) as url:
        client = ReconnectingClient(url, max_message_bytes=100_000, **QUICK, **log.callbacks())
        running = asyncio.create_task(run(client))
        await eventually(lambda: ("reconnect", 1) in log.entries)
        await client.close()
        await running
    assert log.entries == ["connect", "LostError", "disconnect", ("reconnect", 1), "disconnect"]


async def test_a_link_that_goes_dead_is_noticed() -> None:
    clock = ManualClock()
    pings = 0

    async def fall_silent(socket: ServerConnection) -> None:
        nonlocal pings
        async for _ in socket:
            pings += 1
            if pings == 1:
                await socket.send('{"type":"pong"}')

    log = Log()
    async with websocket_server(fall_silent) as url:
        client = ReconnectingClient(
            url, clock=clock, heartbeat_interval=25.0, pong_timeout=10.0, **log.callbacks()
        )
        running = asyncio.create_task(run(client))
        await eventually(lambda: log.entries == ["connect"])
        clock.advance(24.0)
        await asyncio.sleep(0.01)
        assert pings == 1
        clock.advance(2.0)
        await eventually(lambda: pings == 2)
        assert log.entries == ["connect"]
        clock.advance(10.0)
        await eventually(lambda: log.entries[1:] == ["LostError", "disconnect"])
        assert str(log.errors[0]) == "connection lost: 1006 nothing came for 35 s"
        await client.close()
        await running


async def test_any_message_is_a_sign_of_life() -> None:
    clock = ManualClock()
    pings = 0
    open_sockets: list[ServerConnection] = []

    async def talk(socket: ServerConnection) -> None:
        nonlocal pings
        open_sockets.append(socket)
        async for _ in socket:
            pings += 1
            await socket.send('{"type":"pong"}')

    async with websocket_server(talk) as url, ReconnectingClient(url, clock=clock) as client:
        for number in range(5):
            clock.advance(20.0)
            await open_sockets[0].send(event(number))
            assert (await client.receive()).data == number
        assert pings == 1


# An application that is slow, or wrong.


async def test_a_slow_reader_holds_the_hub_back_and_loses_nothing() -> None:
    config = HubConfig(max_outbox_bytes=50_000_000)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, inbox_size=10) as client:
            for number in range(20_000):
                hub.broadcast(Message(type="event", data=[number, "x" * 1_000]))
            await asyncio.sleep(0.2)
            # What the client does not take waits at the hub.
            delivered = hub.stats().deliveries
            assert delivered < 20_000
            received = [(await client.receive()).data[0] for _ in range(20_000)]
            assert received == list(range(20_000))
            assert client.dropped_messages == 0


async def test_a_reader_that_takes_a_break_is_not_taken_for_dead() -> None:
    ends: list[Any] = []
    config = HubConfig(
        heartbeat_interval=0.05, pong_timeout=0.3, on_disconnect=lambda _, end: ends.append(end)
    )
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, inbox_size=10, heartbeat_interval=0.05) as client:
            for number in range(100):
                hub.broadcast(Message(type="event", data=number))
            # Far longer than the hub waits for a sign of life.
            await asyncio.sleep(1.0)
            assert ends == []
            assert [(await client.receive()).data for _ in range(100)] == list(range(100))


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [*range(90, 100)]), ("drop_newest", [*range(10)])]
)
async def test_a_policy_that_drops_counts_and_tells(
    hub: Hub, url: str, overflow: Any, kept: list[int]
) -> None:
    log = Log()
    options: dict[str, Any] = {"inbox_size": 10, "overflow": overflow}
    async with ReconnectingClient(url, on_error=log.note_error, **options) as client:
        await client.subscribe("a", confirm=True)
        for number in range(100):
            hub.publish("a", Message(type="event", data=number))
        await client.subscribe("b", confirm=True)  # by then all of it has come
        assert client.dropped_messages == 90
        assert [(await client.receive()).data for _ in range(10)] == kept
        hub.publish("a", HELLO)
        assert (await client.receive()).data == "hello"
        await eventually(lambda: log.entries == ["DroppedError"])
        (error,) = log.errors
        assert isinstance(error, DroppedError)
        assert error.count == 90


async def test_callbacks_that_raise_are_logged_and_change_nothing(
    hub: Hub, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def fail(name: str) -> Any:
        async def later(*_: object) -> None:
            calls.append(name)
            raise LookupError(f"in {name}")

        def now(*_: object) -> None:
            calls.append(name)
            raise LookupError(f"in {name}")

        return later if name == "on_message" else now

    names = ("on_connect", "on_message", "on_error", "on_disconnect", "on_reconnect")
    client = ReconnectingClient(url, **{name: fail(name) for name in names}, **QUICK)
    running = asyncio.create_task(run(client))
    await eventually(lambda: hub.stats().clients == 1)
    hub.broadcast(HELLO)
    await eventually(lambda: "on_message" in calls)
    await hub.connections[0].close(4000)
    await eventually(lambda: "on_reconnect" in calls)
    await client.close()
    assert await running is None
    assert calls == [*names, "on_disconnect"]
    for name in names:
        assert f"LookupError: in {name}" in caplog.text


async def test_a_callback_that_never_returns_holds_up_nothing_but_callbacks(
    hub: Hub, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = asyncio.Event()

    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    client = ReconnectingClient(url, on_connect=hang, close_timeout=0.05, **QUICK)
    running = asyncio.create_task(run(client))
    await hanging.wait()
    await hub.connections[0].close(4000)
    await eventually(lambda: client.state is not ConnectionState.CONNECTED)
    await eventually(lambda: client.state is ConnectionState.CONNECTED)
    async with asyncio.timeout(2):
        await client.close()
        await running
    assert caplog.text.count("a callback takes too long") == 1


async def test_a_callback_that_awaits_something_cancelled_is_not_the_end(url: str) -> None:
    heard = []

    async def await_cancelled() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    client = ReconnectingClient(
        url, on_connect=await_cancelled, on_message=lambda message: heard.append(message.type)
    )
    async with client:
        await client.send(Message(type="ping"))
        await eventually(lambda: heard == ["pong"])


async def test_what_cannot_be_sent_is_said_and_the_connection_lives_on(url: str) -> None:
    async with ReconnectingClient(url) as client:
        with pytest.raises(MessageEncodeError, match="failed to marshal message"):
            await client.send(Message(type="event", data=float("nan")))
        with pytest.raises(MessageTooLargeError):
            await client.send(Message(type="event", data="x" * 65_536))
        with pytest.raises(MessageEncodeError):
            await client.publish("chat", print)
        with pytest.raises(InvalidChannelError):
            await client.publish("a b")
        with pytest.raises(InvalidChannelError):
            await client.subscribe("")
        assert client.channels == ()
        await client.unsubscribe("never wanted")
        await client.send(Message(type="ping"))
        assert (await client.receive()).type == "pong"


async def test_many_senders_at_once(url: str) -> None:
    async with ReconnectingClient(url) as client:
        await asyncio.gather(*(client.send(Message(type="ping")) for _ in range(32)))
        assert [(await client.receive()).type for _ in range(32)] == ["pong"] * 32


# Subscriptions.


async def test_those_who_wait_for_a_confirmation_get_it_across_reconnects() -> None:
    gate = asyncio.Event()

    async def decide(connection: Any, channel: str) -> bool:
        await gate.wait()
        return channel != "secret"

    config = HubConfig(channel_authorizer=decide)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, **QUICK) as client:
            waiting = [
                asyncio.create_task(client.subscribe(channel, confirm=True))
                for channel in ("news", "news", "secret")
            ]
            await asyncio.sleep(0.01)
            for connection in hub.connections:
                closing = asyncio.create_task(connection.close(4000))
            gate.set()
            await closing
            async with asyncio.timeout(5):
                await asyncio.wait(waiting)
            assert [task.exception() for task in waiting[:2]] == [None, None]
            assert isinstance(waiting[2].exception(), SubscriptionRefusedError)
            assert client.channels == ("news",)
            await client.subscribe("news", confirm=True)  # it stands already


async def test_unsubscribing_ends_the_wait() -> None:
    async with websocket_server(answer_pings) as url, ReconnectingClient(url) as client:
        waiting = asyncio.create_task(client.subscribe("news", confirm=True))
        await asyncio.sleep(0)
        await client.unsubscribe("news")
        with pytest.raises(SubscriptionRefusedError, match="unsubscribed meanwhile"):
            await waiting


# The end, at every moment.


async def test_closing_before_the_beginning(url: str) -> None:
    client = ReconnectingClient(url)
    await client.close()
    await client.close()
    await client.run()
    for use in (client.subscribe("a"), client.send(HELLO), client.publish("a"), client.receive()):
        with pytest.raises(ClientClosedError):
            await use
    with pytest.raises(ClientClosedError):
        async with client:
            pass
    assert [message async for message in client] == []


async def test_closing_while_it_dials() -> None:
    dialled = asyncio.Event()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        await reader.read()

    async with tcp_server(accept) as url:
        log = Log()
        client = ReconnectingClient(url, **log.callbacks())
        running = asyncio.create_task(run(client))
        await dialled.wait()
        assert client.state is ConnectionState.CONNECTING
        async with asyncio.timeout(2):
            await client.close()
            assert await running is None
        assert log.entries == []


async def test_closing_while_it_waits_to_dial() -> None:
    log = Log()
    async with tcp_server(hang_up) as url:
        client = ReconnectingClient(url, clock=ManualClock(), **log.callbacks())
        running = asyncio.create_task(run(client))
        await eventually(lambda: log.entries == ["DialError"])
        async with asyncio.timeout(2):
            await asyncio.gather(client.close(), client.close())
        assert await running is None
        assert log.entries == ["DialError"]


async def test_closing_tells_the_hub_and_everybody_who_waits(url: str, hub: Hub) -> None:
    client = ReconnectingClient(url)
    async with client:
        await client.subscribe("news", confirm=True)
        receiving = asyncio.create_task(client.receive())
        await asyncio.sleep(0)
        assert client.state is ConnectionState.CONNECTED
    with pytest.raises(ClientClosedError):
        await receiving
    await eventually(lambda: hub.stats().clients == 0)
    with pytest.raises(ClientClosedError):
        await client.send(HELLO)


async def test_cancelling_at_any_moment_leaves_nothing(hub: Hub, url: str) -> None:
    for turns in range(60):
        client = ReconnectingClient(url, **QUICK)
        await client.subscribe("news")
        running = asyncio.create_task(client.run())
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert client.state is ConnectionState.DISCONNECTED
    await eventually(lambda: hub.stats().clients == 0)


async def test_closing_at_any_moment_leaves_nothing(hub: Hub, url: str) -> None:
    for turns in range(60):
        client = ReconnectingClient(url, **QUICK)
        running = asyncio.create_task(client.run())
        subscribing = asyncio.create_task(client.subscribe("news", confirm=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.close()
        await running
        results = await asyncio.gather(subscribing, return_exceptions=True)
        assert results[0] is None or isinstance(results[0], ClientClosedError)
    await eventually(lambda: hub.stats().clients == 0)


async def test_what_has_come_can_still_be_read_after_the_end() -> None:
    async def send_and_leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        for number in range(3):
            await socket.send(event(number))
        await socket.close(4500, "banned")

    async with websocket_server(send_and_leave) as url, ReconnectingClient(url) as client:
        assert [(await client.receive()).data for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Exception, match="closed for good: 4500 banned"):
            await client.receive()


async def test_a_lost_connection_says_how() -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.close(1013, "retry-after: 7")

    log = Log()
    async with websocket_server(leave) as url:
        client = ReconnectingClient(url, clock=ManualClock(), **log.callbacks())
        running = asyncio.create_task(run(client))
        await eventually(lambda: "disconnect" in log.entries)
        await client.close()
        await running
    (error,) = log.errors
    assert isinstance(error, LostError)
    assert (error.code, error.reason, error.retry_after) == (1013, "retry-after: 7", 7.0)


async def test_every_frame_is_json_that_go_understands() -> None:
    frames: list[dict[str, Any]] = []

    async def note(socket: ServerConnection) -> None:
        async for text in socket:
            assert isinstance(text, str)
            frames.append(json.loads(text))
            if frames[-1]["type"] == "ping":
                await socket.send('{"type":"pong"}')

    async with websocket_server(note) as url:
        client = ReconnectingClient(url)
        await client.subscribe("a")
        async with client:
            await client.subscribe("b", confirm=True)
            await client.unsubscribe("a")
            await client.send(Message(type="event", channel="a", data={"n": 1}))
            await eventually(lambda: frames[-1]["type"] == "event")
    ids = [frame.pop("id") for frame in frames if "id" in frame]
    assert len(set(ids)) == len(ids) == 6
    assert frames == [
        {"type": "unsubscribe", "channel": "", "data": ""},
        {"type": "subscribe", "channel": "a", "data": "a"},
        {"type": "ping"},
        {"type": "ping"},  # when it is clear that the hub answers no ids
        {"type": "subscribe", "channel": "b", "data": "b"},
        {"type": "ping"},
        {"type": "unsubscribe", "channel": "a", "data": "a"},
        {"type": "event", "channel": "a", "data": {"n": 1}},
    ]


# What once went wrong.


async def test_a_client_that_only_publishes_is_not_held_up_by_what_it_hears(hub: Hub) -> None:
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as chatty, chatty.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url, inbox_size=10, **QUICK) as client, asyncio.timeout(10):
            for _ in range(100):
                for number in range(10):
                    chatty.broadcast(Message(type="event", data=number))
                await client.publish("chat", "hello")
            await client.subscribe("a", confirm=True)
            # Bounded all the same, and counted.
            assert client.dropped_messages >= 1_000 - 160


async def test_a_connection_that_ends_while_its_reader_is_held_is_noticed(
    hub: Hub, url: str
) -> None:
    async with ReconnectingClient(url, inbox_size=10, heartbeat_interval=0.05, **QUICK) as client:
        for number in range(100):
            hub.broadcast(Message(type="event", data=number))
        await asyncio.sleep(0.1)
        await hub.connections[0].close(1012)
        await eventually(lambda: hub.stats().connections == 2)
        assert [(await client.receive()).data for _ in range(100)] == list(range(100))


async def test_closing_does_not_wait_for_a_peer_that_does_not_read() -> None:
    release = asyncio.Event()

    async def stop_reading(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        socket.transport.pause_reading()
        await release.wait()

    async with websocket_server(stop_reading, close_timeout=0.1) as url:
        client = ReconnectingClient(url, close_timeout=0.2)
        async with asyncio.timeout(10), client:

            async def send_much() -> None:
                while True:
                    await client.send(Message(type="event", data="x" * 60_000))

            sending = asyncio.create_task(send_much())
            await asyncio.sleep(0.2)
            await asyncio.gather(client.close(), client.close())
            with pytest.raises((NotConnectedError, ClientClosedError)):
                await sending
        release.set()


@pytest.mark.parametrize("token", ["s3cret\n", "s3cret\r\nX-Evil: 1", "s3cr\u00e9t"])
async def test_a_token_that_no_header_can_carry_is_not_shown(
    url: str, token: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidConfigError, match="header Authorization") as raised:
        ReconnectingClient(url, token=token)
    assert "s3cr" not in str(raised.value)
    with pytest.raises(InvalidConfigError, match="header X-Key"):
        ReconnectingClient(url, headers={"X-Key": token})
    error = await run(ReconnectingClient(url, token=lambda: token, max_attempts=0, **QUICK))
    assert error is not None
    assert "s3cr" not in f"{error} {error.__cause__} {caplog.text}"


async def test_not_even_a_debug_log_has_the_token(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with ReconnectingClient(url, token="s3cret"):
        pass
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("token", ["", b"bytes", 5, None])
async def test_a_token_function_that_returns_no_text_is_a_failed_dial(url: str, token: Any) -> None:
    error = await run(ReconnectingClient(url, token=lambda: token, max_attempts=0, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert str(error.__cause__) == "the token function failed: TypeError"


async def test_a_token_function_that_awaits_something_cancelled_is_a_failed_dial(url: str) -> None:
    async def token() -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    error = await run(ReconnectingClient(url, token=token, max_attempts=0, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert str(error.__cause__) == "the token function failed: CancelledError"


@pytest.mark.parametrize(
    "headers",
    [("Retry-After: 1", "Retry-After: 2"), ("Location: /a", "Location: /b")],
)
async def test_doubled_headers_of_an_answer_are_no_end(headers: tuple[str, str]) -> None:
    async with tcp_server(http("503 Away", b"", *headers)) as url:
        error = await run(ReconnectingClient(url, max_attempts=0, **QUICK))
    assert isinstance(error, RetriesExhaustedError)
    assert isinstance(error.__cause__, DialError)


async def test_an_answer_belongs_to_the_subscription_that_asked() -> None:
    answers = iter([False, True])
    gate = asyncio.Event()

    async def decide(connection: Any, channel: str) -> bool:
        await gate.wait()
        return next(answers)

    config = HubConfig(channel_authorizer=decide)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url) as client:
            await client.subscribe("x")
            await client.unsubscribe("x")
            confirming = asyncio.create_task(client.subscribe("x", confirm=True))
            await asyncio.sleep(0.01)
            gate.set()
            await confirming
            assert client.channels == hub.channels == ("x",)


async def test_a_refusal_that_names_another_channel_is_not_ours() -> None:
    async def refuse_another(socket: ServerConnection) -> None:
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] == "subscribe":
                refusal = {
                    "type": "error",
                    "channel": "other",
                    "data": "Subscribe: subscription unauthorised",
                }
                await socket.send(json.dumps(refusal))
            elif frame["type"] == "ping":
                await socket.send('{"type":"pong"}')

    async with websocket_server(refuse_another) as url, ReconnectingClient(url) as client:
        await client.subscribe("mine", confirm=True)
        assert (await client.receive()).channel == "other"


async def test_what_was_queued_is_sent_before_closing_or_counted() -> None:
    heard: list[Any] = []
    config = HubConfig(on_message=lambda _, message: heard.append(message.data))
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        client = ReconnectingClient(url, queue=QueueLimits())
        for number in range(500):
            await client.send(Message(type="note", data=number))
        async with client:
            pass
        await eventually(lambda: heard == list(range(500)))
    log = Log()
    client = ReconnectingClient(
        url, queue=QueueLimits(), max_attempts=0, on_error=log.note_error, **QUICK
    )
    for number in range(5):
        await client.send(Message(type="note", data=number))
    await run(client)
    dropped = [error for error in log.errors if isinstance(error, DroppedError)]
    assert [error.count for error in dropped] == [5]


async def test_many_drops_are_one_report() -> None:
    log = Log()
    async with tcp_server(hang_up) as url:
        client = ReconnectingClient(
            url, queue=QueueLimits(messages=1), clock=ManualClock(), on_error=log.note_error
        )
        running = asyncio.create_task(run(client))
        for number in range(5_000):
            await client.send(Message(type="note", data=number))
        await client.close()
        await running
    dropped = [error.count for error in log.errors if isinstance(error, DroppedError)]
    assert sum(dropped) == 5_000
    assert len(dropped) <= 3


async def test_a_server_that_floods_and_never_answers_is_a_failed_dial() -> None:
    async def flood(socket: ServerConnection) -> None:
        while True:
            await socket.send(event("x" * 500_000))

    async with websocket_server(flood) as url:
        client = ReconnectingClient(
            url, max_attempts=0, open_timeout=30.0, max_message_bytes=1_000_000
        )
        error = await run(client)
    assert isinstance(error, RetriesExhaustedError)
    assert "sends without end" in str(error.__cause__)


async def test_those_who_wait_when_it_is_closed_before_it_began_are_told() -> None:
    client = ReconnectingClient("ws://127.0.0.1:1/ws")
    waiting = asyncio.create_task(client.subscribe("a", confirm=True))
    await asyncio.sleep(0)
    await client.close()
    with pytest.raises(ClientClosedError):
        await waiting


async def test_waiting_in_vain_leaves_nothing_behind(url: str) -> None:
    async with (
        websocket_server(answer_nothing_but_the_first) as silent,
        ReconnectingClient(silent, close_timeout=0.2) as client,
    ):
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await client.subscribe("a", confirm=True)
        (subscription,) = vars(vars(client)["_subscriptions"])["_table"].values()
        assert subscription.waiters == set()


async def answer_nothing_but_the_first(socket: ServerConnection) -> None:
    await socket.recv()
    await socket.send('{"type":"pong"}')
    async for _ in socket:
        pass


async def test_running_again_after_the_end_tells_it_again(url: str) -> None:
    async def leave(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.close(4500, "banned")

    async with websocket_server(leave) as banning:
        client = ReconnectingClient(banning)
        for _ in range(2):
            with pytest.raises(ClosedError, match="4500 banned"):
                await client.run()


@pytest.mark.parametrize("size", range(65_380, 65_480, 4))
async def test_a_message_at_the_limit_is_published_or_refused_here(size: int) -> None:
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url) as client:
            try:
                await client.publish("chat", "x" * size)
            except MessageTooLargeError:
                assert size > 65_400
            assert hub.stats().connections == 1
            await client.publish("chat", "still here")


async def test_a_process_is_followed_through_cuts_at_any_moment() -> None:
    heard: list[Message] = []
    code = "import time\nfor n in range(3000): print(n, flush=True); time.sleep(0.0003)"
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        hub.add_publish_listener(lambda _, message: heard.append(message))
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with (
            ReconnectingClient(url, **QUICK) as client,
            ProcessPublisher(client) as publisher,
            asyncio.timeout(30),
        ):
            running = asyncio.create_task(run_process(publisher, "x", sys.executable, "-c", code))
            while not running.done():
                await asyncio.sleep(0.05)
                for connection in hub.connections:
                    cutting = asyncio.create_task(connection.close(1012))
                    await asyncio.wait({cutting}, timeout=1)
            assert await running == 0
    lines = [int(message.data) for message in heard if message.type == "process_output"]
    assert lines == sorted(set(lines))
    assert len(lines) > 1_500
    assert heard[-1].data == {"exitCode": 0, "status": "exited"}


@pytest.mark.parametrize("length", range(65_380, 65_500, 10))
async def test_no_line_is_too_long_to_follow(length: int) -> None:
    heard: list[str] = []
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        hub.add_publish_listener(lambda _, message: heard.append(message.data))
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url) as client, ProcessPublisher(client) as publisher:
            code = f"print('x' * {length})"
            assert await run_process(publisher, "x", sys.executable, "-c", code) == 0
    assert sum(len(line) for line in heard if isinstance(line, str)) == length
