"""Callbacks that raise, hang or ignore cancellation do not harm the hub or other clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest
from asgi_servers import uvicorn_server
from mistakes import MISTAKES
from support import WireClient, eventually, wshub
from websockets.asyncio.client import connect as dial
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from wshub_core import (
    AuthResult,
    Connection,
    Disconnect,
    DisconnectCause,
    Hub,
    HubConfig,
    Message,
    Request,
    Response,
)
from wshub_core.testing import connect

Open = Callable[[HubConfig], Any]


class Opened:
    def __init__(self, hub: Hub, port: int) -> None:
        self.hub = hub
        self.port = port

    def dial(self) -> Any:
        return dial(f"ws://127.0.0.1:{self.port}/ws", proxy=None, compression=None)


@pytest.fixture(params=["native", "uvicorn"])
async def open_hub(request: pytest.FixtureRequest) -> AsyncIterator[Open]:
    """Serve a hub natively or in an ASGI server."""
    async with AsyncExitStack() as stack:

        async def open_hub(config: HubConfig) -> Opened:
            if request.param == "uvicorn":
                hub = Hub(config)
                return Opened(hub, await stack.enter_async_context(uvicorn_server(hub.asgi())))
            hub = await stack.enter_async_context(Hub(config))
            server = await stack.enter_async_context(hub.serve("127.0.0.1", 0))
            return Opened(hub, server.port)

        yield open_hub


def settings(name: str, mistake: Callable[[], None], *, is_async: bool) -> dict[str, Any]:
    """Return settings with one callback that makes a mistake."""

    def fail(*_: object) -> None:
        mistake()

    async def fail_later(*_: object) -> None:
        await asyncio.sleep(0)
        mistake()

    config: dict[str, Any] = {name: fail_later if is_async else fail, "close_timeout": 1.0}
    if name == "on_auth_failure":
        config["authenticator"] = lambda _: AuthResult(False)
    return config


CALLBACKS = [
    "authenticator",
    "channel_authorizer",
    "check_origin",
    "on_auth_failure",
    "on_connect",
    "on_disconnect",
    "on_message",
    "publish_authorizer",
]


def has_errors(hub: Hub, count: int) -> bool:
    return hub.stats().callback_errors == count


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize(
    ("name", "is_async"),
    [
        *((name, False) for name in CALLBACKS),
        *((name, True) for name in CALLBACKS if name != "check_origin"),
    ],
)
async def test_a_failing_callback_harms_nothing_else(
    open_hub: Open, name: str, is_async: bool, mistake: Callable[[], None]
) -> None:
    opened = await open_hub(HubConfig(**settings(name, mistake, is_async=is_async)))
    is_admission = name in ("authenticator", "check_origin", "on_auth_failure")
    for number in range(1, 3):
        if is_admission:
            with pytest.raises(InvalidHandshake):
                async with opened.dial():
                    pass
        else:
            async with opened.dial() as socket:
                client = WireClient(socket)
                await client.send(type="subscribe", channel="a", id=1)
                refused = "error" if name == "channel_authorizer" else "subscribed"
                assert (await client.receive())["type"] == refused
                await client.send(type="event", channel="a", data=1, id=2)
                if name != "on_message":
                    denied = name == "publish_authorizer"
                    code = "publish_denied" if denied else "not_served"
                    assert (await client.receive())["code"] == code
                await client.sync()
        await eventually(lambda: opened.hub.stats().clients == 0)
        await eventually(partial(has_errors, opened.hub, number))
    async with asyncio.timeout(5):
        await opened.hub.close()


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("is_async", [False, True])
async def test_a_failing_process_request_gives_500(
    mistake: Callable[[], None], is_async: bool
) -> None:
    def fail(_: Request) -> Response:
        mistake()
        raise AssertionError

    async def fail_later(_: Request) -> Response:
        await asyncio.sleep(0)
        return fail(_)

    async with Hub() as hub:
        answer: Any = fail_later if is_async else fail
        async with hub.serve("127.0.0.1", 0, process_request=answer) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                assert b" 500 " in await reader.readline()
            writer.close()
        assert hub.stats().callback_errors == 1


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_publish_listener_and_a_shutdown_hook_may_fail(mistake: Callable[[], None]) -> None:
    async def fail_later() -> None:
        await asyncio.sleep(0)
        mistake()

    async with asyncio.timeout(5):
        async with Hub() as hub:
            client = await connect(hub)
            hub.add_publish_listener(lambda channel, message: mistake())
            hub.add_shutdown_hook(fail_later)
            await hub.subscribe(hub.connections[0], "a")
            hub.publish_event("a", 1)
            assert (await client.receive()).data == 1
        assert hub.stats().callback_errors == 2


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(7)"])
@pytest.mark.parametrize("name", ["on_connect", "on_message", "channel_authorizer"])
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_exit_in_a_callback_ends_the_program_cleanly(
    error: str, name: str, is_async: bool
) -> None:
    code = f"""
import asyncio, json, sys
from websockets.asyncio.client import connect
from wshub_core import Hub, HubConfig

{"async " if is_async else ""}def leave(*_):
    raise {error}

async def main():
    hub = Hub(HubConfig({name}=leave, on_disconnect=lambda *_: print("disconnected", flush=True)))
    async with hub, hub.serve("127.0.0.1", 0) as server:
        async with connect(f"ws://127.0.0.1:{{server.port}}/ws", proxy=None) as socket:
            await socket.send('{{"type":"subscribe","channel":"a"}}')
            await socket.send('{{"type":"hello"}}')
            async for _ in socket:
                pass

try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(7)
"""
    async with asyncio.timeout(20), wshub(code=code) as process:
        output, errors = await process.communicate()
    assert (process.returncode, output) == (7, b"disconnected\n"), errors.decode()


# Slow callbacks.


@pytest.mark.parametrize("name", ["on_connect", "on_message", "channel_authorizer"])
async def test_the_end_of_a_client_is_noticed_while_its_callback_hangs(
    open_hub: Open, name: str
) -> None:
    ends: list[Disconnect] = []
    started = asyncio.Event()

    async def hang(*_: object) -> None:
        started.set()
        await asyncio.Event().wait()

    config: dict[str, Any] = {name: hang}
    opened = await open_hub(
        HubConfig(close_timeout=0.1, on_disconnect=lambda _, end: ends.append(end), **config)
    )
    async with opened.dial() as socket:
        await socket.send('{"type":"subscribe","channel":"a"}')
        await socket.send('{"type":"hello"}')
        async with asyncio.timeout(5):
            await started.wait()
    await eventually(lambda: opened.hub.stats().clients == 0)
    await eventually(lambda: len(ends) == 1)
    assert ends[0].cause in (DisconnectCause.CLIENT_CLOSED, DisconnectCause.LOST)


async def test_pings_are_answered_while_a_callback_runs(open_hub: Open) -> None:
    gate = asyncio.Event()

    async def wait(*_: object) -> None:
        await gate.wait()

    opened = await open_hub(HubConfig(on_connect=wait))
    async with opened.dial() as socket, asyncio.timeout(5):
        for _ in range(3):
            await (await socket.ping())
        gate.set()
        await WireClient(socket).sync()


async def test_on_disconnect_runs_after_a_callback_that_ignores_its_cancellation() -> None:
    gate = asyncio.Event()
    ends: list[Disconnect] = []

    async def resist(connection: Connection) -> None:
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()

    config = HubConfig(
        on_connect=resist, on_disconnect=lambda _, end: ends.append(end), close_timeout=0.05
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        client.vanish()
        await eventually(lambda: len(ends) == 1)
        gate.set()


async def test_waiting_frames_are_served_after_the_client_has_left() -> None:
    steps: list[str] = []

    async def work(connection: Connection, message: Message) -> None:
        await asyncio.sleep(0.01)
        steps.append(str(message.data))

    config = HubConfig(on_message=work, on_disconnect=lambda *_: steps.append("end"))
    async with Hub(config) as hub:
        client = await connect(hub)
        for number in range(3):
            client.send(Message(type="x", data=number))
        client.close()
        await eventually(lambda: steps == ["0", "1", "2", "end"])


@pytest.mark.parametrize("name", ["authenticator", "on_auth_failure"])
async def test_clients_do_not_wait_for_an_authenticator_that_ignores_its_cancellation(
    open_hub: Open, name: str
) -> None:
    gate = asyncio.Event()

    async def resist(*_: object) -> None:
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()

    config: dict[str, Any] = {"authenticator": lambda _: AuthResult(False), name: resist}
    opened = await open_hub(HubConfig(open_timeout=0.1, close_timeout=0.1, **config))
    with pytest.raises(InvalidHandshake):
        async with opened.dial():
            pass
    gate.set()


async def test_a_shutdown_hook_that_hangs_does_not_keep_the_hub_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("wshub_core.loop.shutdown._MIN_HOOKS_SECONDS", 0.05)
    gate = asyncio.Event()

    async def resist() -> None:
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()

    async with asyncio.timeout(5):
        async with Hub(HubConfig(close_timeout=0.05)) as hub:
            hub.add_shutdown_hook(resist)
    assert "a shutdown hook takes too long" in caplog.text
    gate.set()


async def test_closing_a_connection_from_its_own_callbacks_does_not_wait() -> None:
    async def leave(connection: Connection, *_: object) -> None:
        await connection.close(4000, "enough")

    config = HubConfig(on_connect=leave, on_disconnect=leave)
    async with (
        asyncio.timeout(5),
        Hub(config) as hub,
        hub.serve("127.0.0.1", 0) as server,
        dial(f"ws://127.0.0.1:{server.port}/ws", proxy=None) as socket,
    ):
        with pytest.raises(ConnectionClosed, match="4000"):
            await socket.recv()


# Context variables.

user: ContextVar[str] = ContextVar("user", default="nobody")


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_callbacks_of_a_connection_share_one_context(
    open_hub: Open, is_async: bool
) -> None:
    seen: list[tuple[str, str]] = []
    names = iter(["alice", "bob"])

    def authenticate(request: Request) -> AuthResult:
        assert user.get() == "nobody"
        name = next(names)
        user.set(name)
        return AuthResult(True, name)

    async def authenticate_later(request: Request) -> AuthResult:
        await asyncio.sleep(0)
        return authenticate(request)

    def greet(connection: Connection) -> None:
        seen.append(("on_connect", user.get()))
        user.set(user.get().upper())

    async def take(connection: Connection, message: Message) -> None:
        await asyncio.sleep(0)
        seen.append(("on_message", user.get()))
        user.set(f"{user.get()}!")

    opened = await open_hub(
        HubConfig(
            authenticator=authenticate_later if is_async else authenticate,
            on_connect=greet,
            on_message=take,
            on_disconnect=lambda *_: seen.append(("on_disconnect", user.get())),
        )
    )
    for name in ("alice", "bob"):
        async with opened.dial() as socket:
            await socket.send('{"type":"hello"}')
            await WireClient(socket).sync()
        await eventually(lambda: len(seen) == 3)
        assert seen == [
            ("on_connect", name),
            ("on_message", name.upper()),
            ("on_disconnect", f"{name.upper()}!"),
        ]
        seen.clear()
    assert user.get() == "nobody"
