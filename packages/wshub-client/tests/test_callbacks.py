"""Callbacks that raise, hang or exit."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest
from client_servers import HELLO, run
from support import eventually

from wshub_client import (
    ConnectionState,
    DialError,
    ProcessPublisher,
    PublishRefusedError,
    ReconnectingClient,
    RetriesExhaustedError,
)
from wshub_core import Hub, Message

QUICK: dict[str, Any] = {"initial_backoff": 0.001, "max_backoff": 0.002, "close_timeout": 0.2}

NAMES = ("on_connect", "on_message", "on_error", "on_disconnect", "on_reconnect")


class OutcomeError(BaseException):
    """An exception as in pytest, which `except Exception` does not catch."""


RAISED = [LookupError, OutcomeError, GeneratorExit, asyncio.CancelledError, StopIteration]


def raising(error: type[BaseException], is_async: bool, calls: list[str], name: str) -> Any:
    def now(*_: object) -> None:
        calls.append(name)
        raise error

    async def later(*_: object) -> None:
        calls.append(name)
        await asyncio.sleep(0)
        raise error

    return later if is_async else now


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("error", RAISED)
async def test_exceptions_in_callbacks_are_logged_and_counted_and_go_no_further(
    hub: Hub,
    url: str,
    error: type[BaseException],
    is_async: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[str] = []
    callbacks = {name: raising(error, is_async, calls, name) for name in NAMES}
    client = ReconnectingClient(url, **callbacks, **QUICK)
    running = asyncio.create_task(run(client))
    await eventually(lambda: hub.stats().clients == 1)
    hub.broadcast(HELLO)
    await eventually(lambda: "on_message" in calls)
    await hub.connections[0].close(4000)
    await eventually(lambda: "on_reconnect" in calls)
    hub.broadcast(HELLO)
    await eventually(lambda: calls.count("on_message") == 2)
    await client.close()
    assert await running is None
    assert calls == [*NAMES, "on_message", "on_disconnect"]
    assert client.callback_errors == len(calls)
    for name in NAMES:
        assert f"{name} failed" in caplog.text


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("error", RAISED)
async def test_exceptions_in_raw_callbacks_are_counted_too(
    hub: Hub, url: str, error: type[BaseException], is_async: bool
) -> None:
    calls: list[str] = []
    on_raw = raising(error, is_async, calls, "on_raw")
    async with ReconnectingClient(url, on_raw=on_raw, **QUICK) as client:
        for _ in range(5):
            hub.broadcast(HELLO)
        # The first pong is raw, too.
        await eventually(lambda: client.callback_errors == 6)


@pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize("error", RAISED)
async def test_a_token_function_may_raise_anything(
    url: str, error: type[BaseException], is_async: bool
) -> None:
    calls: list[str] = []
    token = raising(error, is_async, calls, "token")
    ended = await run(ReconnectingClient(url, token=token, max_attempts=2, **QUICK))
    assert isinstance(ended, RetriesExhaustedError)
    assert isinstance(ended.__cause__, DialError)
    assert str(ended.__cause__).startswith("the token function failed: ")
    assert len(calls) == 3


def test_a_callback_that_exits_ends_the_program_and_leaves_the_client_intact(
    subtests: pytest.Subtests,
) -> None:
    for error in (SystemExit, KeyboardInterrupt):
        for is_async in (False, True):
            for name in ("on_message", "token"):
                with subtests.test(error=error, is_async=is_async, name=name):
                    check_exit(error, is_async, name)


def check_exit(error: type[BaseException], is_async: bool, name: str) -> None:
    calls: list[str] = []
    heard: list[Any] = []

    def fail_once(message: Message) -> Any:
        heard.append(message.data)
        return raising(error, is_async, calls, name)() if len(heard) == 1 else None

    def fail_first() -> Any:
        return "a-token" if calls else raising(error, is_async, calls, name)()

    callback: dict[str, Any] = (
        {"on_message": fail_once} if name == "on_message" else {"token": fail_first}
    )

    async def start() -> tuple[Hub, contextlib.AsyncExitStack, ReconnectingClient]:
        stack = contextlib.AsyncExitStack()
        hub = await stack.enter_async_context(Hub())
        server = await stack.enter_async_context(hub.serve("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{server.port}/ws"
        return hub, stack, ReconnectingClient(url, **callback, **QUICK)

    async def finish() -> None:
        async with asyncio.timeout(5):
            await client.wait_connected()
            await eventually(lambda: len(heard) == (3 if name == "on_message" else 0))
            await client.close()
            await running
            await stack.aclose()

    async def go_on() -> None:
        await client.wait_connected()
        for number in range(3):
            hub.broadcast(Message(type="event", data=number))
        await asyncio.sleep(10)

    with asyncio.Runner() as runner:
        hub, stack, client = runner.run(start())
        loop = runner.get_loop()
        running = loop.create_task(client.run())
        with pytest.raises(error):
            loop.run_until_complete(go_on())
        assert calls == [name]
        # Whoever runs the loop again finds everything as it was.
        loop.run_until_complete(finish())
    assert heard == ([0, 1, 2] if name == "on_message" else [])
    assert client.callback_errors == (1 if name == "on_message" else 0)


def ignore_cancellation() -> tuple[Callable[..., Any], asyncio.Event]:
    """Return a callback that does not end when it is cancelled, and what ends it."""
    end = asyncio.Event()

    async def hang(*_: object) -> str:
        while not end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await end.wait()
        return "a-token"

    return hang, end


@pytest.mark.parametrize("name", ["on_connect", "on_message", "on_raw", "on_disconnect"])
async def test_closing_is_bounded_whatever_a_callback_does(
    hub: Hub, url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    hang, end = ignore_cancellation()
    callback: dict[str, Any] = {name: hang}
    client = ReconnectingClient(url, **callback, **QUICK)
    running = asyncio.create_task(run(client))
    await eventually(lambda: hub.stats().clients == 1)
    await client.wait_connected()
    for _ in range(4):
        hub.broadcast(HELLO)
    await client.subscribe("a", confirm=True)
    async with asyncio.timeout(5):
        await asyncio.gather(client.close(), client.close())
        await running
    assert caplog.text.count("a callback takes too long") == 1
    end.set()
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    # What nobody was told of any more is counted.
    assert client.dropped_messages >= (3 if name in ("on_message", "on_raw") else 0)


async def test_closing_is_bounded_whatever_a_token_function_does(url: str, hub: Hub) -> None:
    hang, end = ignore_cancellation()
    client = ReconnectingClient(url, token=hang, open_timeout=0.2, **QUICK)
    running = asyncio.create_task(run(client))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(5):
        await client.close()
        await running
    end.set()
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    # A token that comes too late dials no more.
    assert hub.stats().connections == 0


async def test_no_callback_is_called_after_one_that_suppressed_its_cancellation(
    hub: Hub, url: str
) -> None:
    hang, end = ignore_cancellation()
    calls: list[object] = []

    async def on_message(message: Message) -> None:
        calls.append(message.data)
        await hang()

    async with ReconnectingClient(url, on_message=on_message, **QUICK) as client:
        for _ in range(3):
            hub.broadcast(HELLO)
        await client.subscribe("a", confirm=True)
    end.set()
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert calls == ["hello"]
    assert client.dropped_messages == 2


@pytest.mark.parametrize("error", RAISED)
async def test_shutdown_hooks_of_a_publisher_are_all_called(
    url: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    async def publish() -> None:
        async with ReconnectingClient(url) as client, ProcessPublisher(client) as publisher:
            for name in ("first", "second"):
                publisher.add_shutdown_hook(raising(error, True, calls, name))
            publisher.send_process_status("x", "running")
            await eventually(lambda: len(calls) == 2)

    with pytest.raises(PublishRefusedError, match="not served here"):
        await publish()
    assert sorted(calls) == ["first", "second"]
    assert caplog.text.count("a shutdown hook failed") == 2


async def test_exceptions_in_callbacks_are_logged_and_change_nothing(
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


async def test_a_callback_that_never_returns_delays_other_callbacks_only(
    hub: Hub, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    hanging = asyncio.Event()

    async def hang() -> None:
        hanging.set()
        await asyncio.Event().wait()

    client = ReconnectingClient(url, on_connect=hang, **QUICK | {"close_timeout": 0.05})
    running = asyncio.create_task(run(client))
    await hanging.wait()
    await hub.connections[0].close(4000)
    await eventually(lambda: client.state is not ConnectionState.CONNECTED)
    await eventually(lambda: client.state is ConnectionState.CONNECTED)
    async with asyncio.timeout(2):
        await client.close()
        await running
    assert caplog.text.count("a callback takes too long") == 1


async def test_a_callback_that_awaits_a_cancelled_future_does_not_end_the_client(url: str) -> None:
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
