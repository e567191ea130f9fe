"""A blocked loop or a stopped process does not end a healthy connection."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from client_servers import Log, accept_upgrade, event, run, tcp_server, text_frame, websocket_server
from support import PATIENCE_SECONDS, eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from wshub_client import LostError, ReconnectingClient
from wshub_client.waiting import TimeSlice, wait_awake
from wshub_core import Message


class ThreadedServer:
    """A server that answers also while the client's loop stands still.

    Attributes:
        closes: The codes with which clients have closed.
        delay: How long each pong takes, in seconds.
    """

    def __init__(self) -> None:
        self.closes: list[int | None] = []
        self.delay = 0.0
        self.connections = 0
        self.url = ""

    def handle(self, connection: ServerConnection) -> None:
        self.connections += 1
        try:
            for text in connection:
                frame = json.loads(text)
                if frame["type"] == "ping":
                    time.sleep(self.delay)
                    connection.send(json.dumps({"type": "pong", "id": frame.get("id")}))
        except ConnectionClosed:
            pass
        self.closes.append(connection.close_code)


@contextmanager
def threaded_server() -> Iterator[ThreadedServer]:
    threaded = ThreadedServer()
    with serve(threaded.handle, "127.0.0.1", 0, compression=None) as server:
        threaded.url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}/ws"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield threaded
        finally:
            server.shutdown()
            thread.join(PATIENCE_SECONDS)


@pytest.mark.parametrize("before", [0.0, 0.06, 0.11, 0.16, 0.21, 0.26])
async def test_a_blocked_loop_ends_no_connection(before: float) -> None:
    log = Log()
    with threaded_server() as server:
        options: dict[str, Any] = {"heartbeat_interval": 0.1, "pong_timeout": 0.2}
        async with ReconnectingClient(server.url, **options, **log.callbacks()):
            for _ in range(3):
                await asyncio.sleep(before)
                # Longer than interval and timeout together, at any moment between them.
                time.sleep(0.5)  # noqa: ASYNC251
            await asyncio.sleep(0.3)
    assert log.entries == ["connect", "disconnect"]
    assert server.connections == 1


async def test_a_standstill_that_ends_just_after_the_deadline_ends_no_connection() -> None:
    log = Log()
    with threaded_server() as server:
        options: dict[str, Any] = {"heartbeat_interval": 0.1, "pong_timeout": 0.3}
        async with ReconnectingClient(server.url, **options, **log.callbacks()):
            for _ in range(4):
                await asyncio.sleep(0.12)
                server.delay = 0.2
                time.sleep(0.33)  # noqa: ASYNC251
                server.delay = 0.0
    assert log.entries == ["connect", "disconnect"]


async def test_a_dead_connection_is_detected_after_a_standstill() -> None:
    async def fall_silent(socket: Any) -> None:
        frame = json.loads(await socket.recv())
        await socket.send(json.dumps({"type": "pong", "id": frame["id"]}))
        await socket.wait_closed()

    log = Log()
    async with websocket_server(fall_silent, close_timeout=0.1) as url:
        client = ReconnectingClient(
            url, heartbeat_interval=0.1, pong_timeout=0.2, close_timeout=0.2, **log.callbacks()
        )
        running = asyncio.create_task(run(client))
        await client.wait_connected()
        await asyncio.sleep(0.15)
        time.sleep(0.5)  # noqa: ASYNC251
        await eventually(lambda: "disconnect" in log.entries)
        assert isinstance(log.errors[0], LostError)
        await client.close()
        await running


async def test_a_standstill_during_a_dial_does_not_fail_it() -> None:
    log = Log()
    with threaded_server() as server:
        client = ReconnectingClient(server.url, open_timeout=0.3, **log.callbacks())
        running = asyncio.create_task(run(client))
        for _ in range(3):
            await asyncio.sleep(0.002)
            time.sleep(0.5)  # noqa: ASYNC251
        await client.wait_connected()
        await client.close()
        await running
    assert log.entries == ["connect", "disconnect"]
    assert server.connections == 1


async def test_a_silent_server_is_a_failed_dial_also_after_a_standstill() -> None:
    async def be_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with tcp_server(be_silent) as url:
        running = asyncio.create_task(
            run(ReconnectingClient(url, open_timeout=0.2, max_attempts=0, close_timeout=0.2))
        )
        await asyncio.sleep(0.05)
        time.sleep(0.5)  # noqa: ASYNC251
        async with asyncio.timeout(5):
            error = await running
    assert "has not answered within 0.2 s" in str(getattr(error, "__cause__", ""))


async def test_a_closing_handshake_survives_a_standstill() -> None:
    with threaded_server() as server:
        client = ReconnectingClient(server.url, close_timeout=0.2)
        await client.__aenter__()
        # More than the kernel takes at once, so that the close frame has to wait.
        sending = [
            asyncio.create_task(client.send(Message(type="event", data="x" * 65_000)))
            for _ in range(300)
        ]
        await asyncio.sleep(0)
        closing = asyncio.create_task(client.close())
        await asyncio.sleep(0.001)
        time.sleep(0.5)  # noqa: ASYNC251
        await closing
        await asyncio.gather(*sending, return_exceptions=True)
        await eventually(lambda: server.closes == [1000])


async def test_the_bytes_of_an_incomplete_message_show_that_the_hub_is_alive() -> None:
    log = Log()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept_upgrade(await reader.readuntil(b"\r\n\r\n")))
        frame = text_frame(event("x" * 20_000))
        for start in range(0, len(frame), 1_000):
            writer.write(frame[start : start + 1_000])
            await asyncio.sleep(0.05)
        await reader.read()

    async with tcp_server(trickle) as url:
        options: dict[str, Any] = {"heartbeat_interval": 0.1, "pong_timeout": 0.2}
        async with ReconnectingClient(
            url, close_timeout=0.2, on_error=log.note_error, **options
        ) as client:
            assert len((await client.receive()).data) == 20_000
    assert log.errors == []


async def test_waiting_ends_in_time_when_the_loop_runs() -> None:
    loop = asyncio.get_running_loop()
    forever = asyncio.create_task(asyncio.Event().wait())
    before = loop.time()
    await wait_awake(forever, 0.1)
    assert not forever.done()
    assert loop.time() - before >= 0.1
    forever.cancel()


async def test_a_long_piece_of_work_lets_others_run() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    turn = TimeSlice()
    for _ in range(10):
        time.sleep(0.006)  # noqa: ASYNC251
        await turn.give_way()
    assert ticks >= 9
    ticking.cancel()
