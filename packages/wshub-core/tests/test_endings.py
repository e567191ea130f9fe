"""The ends of connections, callbacks and hubs in unusual situations."""

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgi_servers import uvicorn_server
from raw_client import HANDSHAKE, RawClient, raw, text
from support import Serve, Served, WireClient, eventually, wshub
from websockets.asyncio.client import connect as dial
from websockets.exceptions import InvalidStatus

from wshub_core import (
    AuthResult,
    Connection,
    Disconnect,
    Hub,
    HubConfig,
    Message,
    Request,
    Response,
)
from wshub_core.testing import connect

FRAME = text('{"type":"x"}')


async def test_a_request_that_is_too_large_gets_431_and_leaves_no_socket(served: Served) -> None:
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 1_000) for number in range(80))
    async with raw(served) as client:
        client.writer.write(b"GET /ws HTTP/1.1\r\nHost: x\r\n" + lines + b"\r\n")
        assert (await client.read_head()).startswith(b"HTTP/1.1 431 ")
    await eventually(lambda: not served.sockets)


@pytest.mark.parametrize("clients", [1, 4])
async def test_all_frames_before_the_end_are_served(serve: Serve, clients: int) -> None:
    served_frames: list[Connection] = []
    ended: list[Connection] = []
    all_ended = asyncio.Event()

    async def take(connection: Connection, message: Message) -> None:
        await asyncio.sleep(0)
        served_frames.append(connection)

    def note(connection: Connection, _: Disconnect) -> None:
        ended.append(connection)
        if len(ended) == clients:
            all_ended.set()

    served = await serve(on_message=take, on_disconnect=note)

    async def send_and_leave(client: RawClient) -> None:
        await client.open()
        client.writer.write(FRAME * 600)
        await client.writer.drain()
        client.writer.close()

    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(raw(served)) for _ in range(clients)]
        await asyncio.gather(*map(send_and_leave, opened))
        async with asyncio.timeout(40):
            await all_ended.wait()
    assert sorted(served_frames.count(each) for each in ended) == [600] * clients


async def test_on_disconnect_is_called_once_after_a_flood(
    serve: Serve,
) -> None:
    ended: list[Connection] = []

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    served = await serve(
        on_message=hang,
        on_disconnect=lambda connection, _: ended.append(connection),
        close_timeout=0.1,
    )
    async with AsyncExitStack() as stack:
        for _ in range(20):
            client = await stack.enter_async_context(raw(served))
            await client.open()
            client.writer.write(FRAME * 20_000)
        await eventually(lambda: served.hub.stats().clients == 20)
        await served.hub.close()
        await served.server.close()
    assert len(ended) == len(set(ended)) == 20


async def test_no_frame_is_served_after_a_callback_that_ignores_its_cancellation() -> None:
    events: list[str] = []
    gate = asyncio.Event()

    async def resist(connection: Connection, message: Message) -> None:
        events.append(f"begin {message.data}")
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()
        events.append(f"end {message.data}")

    config = HubConfig(
        on_message=resist, on_disconnect=lambda *_: events.append("disconnect"), close_timeout=0.05
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        for number in range(3):
            client.send(Message(type="x", data=number))
        client.close()
        await eventually(lambda: "disconnect" in events)
        gate.set()
        await eventually(lambda: "end 0" in events)
    assert events == ["begin 0", "disconnect", "end 0"]


async def test_the_cleanup_of_a_callback_ends_before_on_disconnect() -> None:
    events: list[str] = []

    async def hang(connection: Connection, message: Message) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            events.append("cleaned up")

    config = HubConfig(
        on_message=hang, on_disconnect=lambda *_: events.append("disconnect"), close_timeout=0.05
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        client.send(Message(type="x"))
    assert events == ["cleaned up", "disconnect"]


async def test_an_on_disconnect_that_hangs_is_cancelled() -> None:
    cancelled = asyncio.Event()

    async def hang(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with Hub(HubConfig(on_disconnect=hang, close_timeout=0.05)) as hub:
        client = await connect(hub)
        client.close()
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_a_callback_that_cancels_itself_loses_no_frames() -> None:
    received: list[object] = []

    async def take(connection: Connection, message: Message) -> None:
        await asyncio.sleep(0)
        received.append(message.data)
        if message.data == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    async with Hub(HubConfig(on_message=take)) as hub:
        client = await connect(hub)
        for number in range(6):
            client.send(Message(type="x", data=number))
        await client.sync()
    assert received == list(range(6))


async def test_an_answer_that_is_too_large_is_not_sent_and_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[Disconnect] = []
    served = await serve(max_message_bytes=300, on_disconnect=lambda _, end: ended.append(end))
    client = await served.connect()
    await client.send(type="subscribe", channel="a" * 150, id="i" * 100)
    await client.sync()
    assert "exceeds max_message_bytes and is not sent" in caplog.text
    await client.socket.close()
    await eventually(lambda: len(ended) == 1)


async def test_frames_after_invalid_text_are_not_served(serve: Serve) -> None:
    received: list[Message] = []
    served = await serve(on_message=lambda _, message: received.append(message))
    async with raw(served) as client:
        await client.open()
        client.writer.write(FRAME + text(b"\xff") + FRAME * 20)
        assert (await client.read_close()).code == 1007
    assert len(received) == 1


async def test_several_exits_at_once_end_the_program_cleanly() -> None:
    code = """
import asyncio
from websockets.asyncio.client import connect
from wshub_core import Hub, HubConfig

def leave(*_):
    raise SystemExit(7)

async def main():
    config = HubConfig(on_message=leave, on_disconnect=lambda *_: print("disconnected", flush=True))
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        async with connect(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as socket:
            for _ in range(5):
                await socket.send('{"type":"x"}')
            async for _ in socket:
                pass
    print("main is not reached")

asyncio.run(main())
"""
    async with asyncio.timeout(20), wshub(code=code) as process:
        output, errors = await process.communicate()
    assert (process.returncode, output) == (7, b"disconnected\n"), errors.decode()


async def test_an_endpoint_can_shut_the_server_down() -> None:
    async with asyncio.timeout(5), Hub() as hub:

        async def shut_down(request: Request) -> Response:
            await server.close()
            return Response(200)

        async with hub.serve("127.0.0.1", 0, process_request=shut_down) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /shutdown HTTP/1.1\r\nHost: x\r\n\r\n")
            await server.serve_forever()
        await reader.read()
        writer.close()


async def test_shutdown_hooks_are_called_once_and_may_close_the_hub() -> None:
    called = 0

    async def close() -> None:
        nonlocal called
        called += 1
        await hub.close()

    async with asyncio.timeout(5):
        async with Hub() as hub:
            hub.add_shutdown_hook(close)
            await asyncio.gather(hub.close(), hub.close())
        await hub.close()
    assert called == 1


async def test_shutdown_hooks_that_add_hooks_do_not_keep_the_hub_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wshub_core.loop.shutdown._MIN_HOOKS_SECONDS", 0.05)

    async def bring_another() -> None:
        async def another() -> None:
            await bring_another()

        hub.add_shutdown_hook(another)

    async with asyncio.timeout(5):
        async with Hub(HubConfig(close_timeout=0.05)) as hub:
            hub.add_shutdown_hook(bring_another)
    assert "added too late" in caplog.text


async def test_a_callback_may_close_the_hub() -> None:
    async def close(*_: object) -> None:
        await hub.close(1012, "restart")

    async with asyncio.timeout(5), Hub(HubConfig(on_message=close)) as hub:
        client = await connect(hub)
        client.send(Message(type="x"))
        assert await client.wait_closed() == 1012


async def test_the_shutdown_goes_on_when_the_caller_of_close_is_cancelled() -> None:
    async with asyncio.timeout(5), Hub(HubConfig(close_timeout=0.05)) as hub:
        client = await connect(hub)
        client.stall()
        closing = asyncio.create_task(hub.close())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        closing.cancel()
        assert await client.wait_closed() == 1006


async def test_closing_the_hub_aborts_handshakes_in_authentication() -> None:
    asked = asyncio.Event()

    async def hang(_: Request) -> AuthResult:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    hub = Hub(HubConfig(authenticator=hang, open_timeout=60, close_timeout=0.05))
    async with asyncio.timeout(5), hub, hub.serve("127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(HANDSHAKE)
        await asked.wait()
        await hub.close()
        assert await reader.read() == b""
        writer.close()


async def test_closing_the_hub_refuses_asgi_handshakes_in_authentication_with_503() -> None:
    asked = asyncio.Event()

    async def hang(_: Request) -> AuthResult:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    hub = Hub(HubConfig(authenticator=hang, open_timeout=60, close_timeout=0.05))
    async with asyncio.timeout(10), uvicorn_server(hub.asgi()) as port:
        dialing = asyncio.create_task(dial(f"ws://127.0.0.1:{port}/ws", proxy=None).__aenter__())
        await asked.wait()
        await hub.close()
        with pytest.raises(InvalidStatus, match="503"):
            await dialing


@pytest.mark.parametrize("frames", [1, 2_000])
async def test_the_end_of_an_asgi_client_is_noticed_while_its_callback_hangs(
    frames: int,
) -> None:
    ended: list[Disconnect] = []

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    hub = Hub(
        HubConfig(
            on_message=hang, on_disconnect=lambda _, end: ended.append(end), close_timeout=0.1
        )
    )
    async with asyncio.timeout(15), uvicorn_server(hub.asgi()) as port:
        async with dial(f"ws://127.0.0.1:{port}/ws", proxy=None) as socket:
            for _ in range(frames):
                await socket.send('{"type":"x"}')
        await eventually(lambda: len(ended) == 1)


async def test_an_async_publish_listener_is_logged_as_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def listen(channel: str, message: Message) -> None:
        raise AssertionError

    wrong: Any = listen
    async with Hub() as hub:
        hub.add_publish_listener(wrong)
        hub.publish_event("a", 1)
        assert hub.stats().callback_errors == 1
    assert "publish listener must be a plain function, not an async one" in caplog.text


async def test_an_async_authorizer_runs_once_per_channel_and_is_cancelled_at_the_end() -> None:
    asked = 0
    cancelled = asyncio.Event()

    async def decide(connection: Connection, channel: str) -> bool:
        nonlocal asked
        asked += 1
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    async with Hub(HubConfig(channel_authorizer=decide)) as hub:
        client = await connect(hub)
        for _ in range(10):
            hub.subscribe_nowait(hub.connections[0], "a")
        await asyncio.sleep(0)
        assert asked == 1
        client.vanish()
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_a_served_hub_serves_a_new_client(served: Served) -> None:
    async with dial(f"ws://127.0.0.1:{served.server.port}/ws", proxy=None) as socket:
        await WireClient(socket).sync()
