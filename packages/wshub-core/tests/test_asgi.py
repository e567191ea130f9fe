"""The hub inside ASGI applications, on uvicorn and Hypercorn."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvicorn
from asgi_servers import ASGI_SERVERS, ASGIServer
from fastapi import FastAPI
from starlette.routing import Mount, WebSocketRoute
from support import PATIENCE_SECONDS, WireClient, eventually, present, wshub
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from wshub_core import (
    AuthResult,
    Connection,
    Disconnect,
    DisconnectCause,
    HistoryLimits,
    Hub,
    HubConfig,
    Message,
    Request,
)
from wshub_core.testing import ManualClock

Open = Callable[..., Any]


class Mounted:
    """A hub in an ASGI server, with a method to connect clients."""

    def __init__(self, hub: Hub, port: int, stack: AsyncExitStack) -> None:
        self.hub = hub
        self.port = port
        self._stack = stack

    async def connect(self, path: str = "/ws", **options: Any) -> WireClient:
        url = f"ws://127.0.0.1:{self.port}{path}"
        return WireClient(
            await self._stack.enter_async_context(
                connect(url, proxy=None, compression=None, **options)
            )
        )


@pytest.fixture(params=ASGI_SERVERS.values(), ids=list(ASGI_SERVERS))
def server(request: pytest.FixtureRequest) -> ASGIServer:
    chosen: ASGIServer = request.param
    return chosen


@pytest.fixture
async def mount(server: ASGIServer) -> AsyncIterator[Open]:
    """Serve a hub with the given settings; the lifespan of the server enters the hub."""
    async with AsyncExitStack() as stack:

        async def mount(**settings: Any) -> Mounted:
            hub = Hub(HubConfig(**settings))
            port = await stack.enter_async_context(server(hub.asgi()))
            return Mounted(hub, port, stack)

        yield mount


async def test_messages_in_both_directions_keep_their_order(mount: Open) -> None:
    heard: list[Message] = []
    mounted = await mount(on_message=lambda _, message: heard.append(message))
    client, other = await mounted.connect(), await mounted.connect()
    await client.subscribe("a")
    for number in range(500):
        mounted.hub.publish("a", Message(type="event", data=number))
        mounted.hub.broadcast(Message(type="event", data=-number))
    received = [(await client.receive())["data"] for _ in range(1_000)]
    assert received == [each for number in range(500) for each in (number, -number)]
    assert [(await other.receive())["data"] for _ in range(500)] == [-n for n in range(500)]
    await client.socket.send(json.dumps({"type": "hello"}).encode())
    await client.sync()
    assert [message.type for message in heard] == ["hello"]
    assert mounted.hub.stats().deliveries >= 1_500


async def test_admission_is_the_same_as_natively(mount: Open) -> None:
    refused: list[AuthResult] = []

    def authenticate(request: Request) -> AuthResult:
        assert request.path == "/ws"
        assert request.method == "GET"
        return AuthResult(
            request.query == "token=good",
            request.remote_address.rpartition(":")[0],
            challenge='Bearer error="invalid_token"',
        )

    mounted = await mount(
        authenticator=authenticate,
        on_auth_failure=lambda _, result: refused.append(result),
        max_connections=1,
    )
    with pytest.raises(InvalidStatus) as raised:
        await mounted.connect("/ws?token=bad")
    assert raised.value.response.status_code == 401
    assert raised.value.response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert raised.value.response.body == b"Unauthorised\n"
    assert len(refused) == 1
    with pytest.raises(InvalidStatus, match="403"):
        await mounted.connect("/ws?token=good", origin="https://evil.example")
    assert len(refused) == 1
    client = await mounted.connect("/ws?token=good", subprotocols=["wshub.bearer", "s3cret"])
    assert client.socket.subprotocol == "wshub.bearer"
    assert mounted.hub.connections[0].user_id == "127.0.0.1"
    with pytest.raises(InvalidStatus, match="503"):
        await mounted.connect("/ws?token=good")


@pytest.mark.parametrize(
    ("target", "status", "header"), [("/ws?good", 426, b"upgrade: websocket"), ("/ws", 401, b"")]
)
async def test_plain_http_gets_the_same_responses_as_natively(
    mount: Open, target: str, status: int, header: bytes
) -> None:
    mounted = await mount(authenticator=lambda request: AuthResult(request.query == "good", "a"))
    reader, writer = await asyncio.open_connection("127.0.0.1", mounted.port)
    writer.write(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target.encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert int(answer.split(b" ")[1]) == status
    assert header in answer.lower()


async def test_the_close_code_reaches_the_other_side(mount: Open, server: ASGIServer) -> None:
    ends: list[Disconnect] = []
    mounted = await mount(on_disconnect=lambda _, end: ends.append(end))
    client = await mounted.connect()
    await client.socket.close(4000, "bye")
    await eventually(lambda: len(ends) == 1)
    # Hypercorn reports 1006 for every end.
    told = server is ASGI_SERVERS["uvicorn"]
    expected = (DisconnectCause.CLIENT_CLOSED, 4000) if told else (DisconnectCause.LOST, 1006)
    assert (ends[0].cause, ends[0].code) == expected

    client = await mounted.connect()
    mounted.hub.send_event("last")
    (connection,) = mounted.hub.connections
    await connection.close(4001, "logged out")
    assert (await client.receive())["data"]["event"] == "last"
    with pytest.raises(ConnectionClosed):
        await client.receive()
    assert (client.socket.close_code, client.socket.close_reason) == (4001, "logged out")
    await eventually(lambda: len(ends) == 2)
    assert ends[1] == Disconnect(DisconnectCause.SERVER_CLOSED, 4001, "logged out", 0)

    client = await mounted.connect()
    client.socket.transport.abort()
    await eventually(lambda: len(ends) == 3)
    assert (ends[2].cause, ends[2].code) == (DisconnectCause.LOST, 1006)
    assert present(mounted.hub) == (0, 0, 0)


async def test_on_connect_may_send_and_close(mount: Open) -> None:
    async def greet(connection: Connection) -> None:
        connection.send(Message(type="event", data="go away"))
        await connection.close(4001)

    mounted = await mount(on_connect=greet)
    client = await mounted.connect()
    assert (await client.receive())["data"] == "go away"
    with pytest.raises(ConnectionClosed):
        await client.receive()
    assert client.socket.close_code == 4001


async def test_a_message_that_is_too_large_ends_only_its_connection(mount: Open) -> None:
    ends: list[Disconnect] = []
    heard: list[Message] = []
    mounted = await mount(
        on_disconnect=lambda _, end: ends.append(end),
        on_message=lambda _, message: heard.append(message),
    )
    client, other = await mounted.connect(), await mounted.connect()
    await client.socket.send("x" * 65_537)
    for _ in range(5):
        await client.send(type="note")
    with pytest.raises(ConnectionClosed):
        await client.receive()
    assert client.socket.close_code == 1009
    await eventually(lambda: len(ends) == 1)
    assert heard == []
    assert (ends[0].cause, ends[0].code) == (DisconnectCause.PROTOCOL_ERROR, 1009)
    await other.sync()


async def test_frames_wait_while_a_callback_runs(mount: Open) -> None:
    gate, heard = asyncio.Event(), []

    async def wait(connection: Connection, message: Message) -> None:
        heard.append(message.data)
        await gate.wait()

    mounted = await mount(on_message=wait)
    client, other = await mounted.connect(), await mounted.connect()
    for number in range(10):
        await client.send(type="note", data=number)
    await other.sync()
    assert heard == [0]
    gate.set()
    await client.sync()
    assert heard == list(range(10))


async def stalled(mounted: Mounted) -> socket.socket:
    """Connect a client that never reads, with little room in the kernel."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", mounted.port))
    request = (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await loop.sock_sendall(client, request)
    await eventually(lambda: mounted.hub.stats().clients == 2)
    return client


async def test_a_client_that_does_not_read_is_evicted_without_harm_to_others(
    mount: Open,
) -> None:
    ends: list[Disconnect] = []
    mounted = await mount(
        on_disconnect=lambda _, end: ends.append(end), max_outbox_bytes=200_000, close_timeout=0.2
    )
    other = await mounted.connect()
    client = await stalled(mounted)
    try:
        sent = 0
        async with asyncio.timeout(20):
            while mounted.hub.stats().evictions == 0:
                mounted.hub.send_event("much", "x" * 60_000)
                sent += 1
                assert (await other.receive())["data"]["event"] == "much"
        await eventually(lambda: len(ends) == 1)
        assert ends[0].cause is DisconnectCause.SLOW_CONSUMER
        await other.sync()
    finally:
        client.close()


async def test_a_client_that_takes_no_bytes_is_aborted_after_the_write_timeout(mount: Open) -> None:
    ends: list[Disconnect] = []
    mounted = await mount(
        on_disconnect=lambda _, end: ends.append(end), write_timeout=0.2, overflow="drop_oldest"
    )
    other = await mounted.connect()
    client = await stalled(mounted)
    try:
        async with asyncio.timeout(20):
            while not ends:
                mounted.hub.send_event("much", "x" * 60_000)
                assert (await other.receive())["data"]["event"] == "much"
        assert ends[0].cause is DisconnectCause.WRITE_TIMEOUT
        await other.sync()
    finally:
        client.close()


async def test_the_hub_does_not_end_an_idle_connection_of_an_asgi_server(mount: Open) -> None:
    mounted = await mount(heartbeat_interval=0.02, pong_timeout=0.05)
    client = await mounted.connect()
    await asyncio.sleep(0.2)
    await client.sync()


async def test_closing_the_hub_closes_its_clients_with_1001(server: ASGIServer) -> None:
    hub = Hub()
    app = hub.asgi()

    async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await app(scope, receive, send)

    async with server(without_lifespan) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        with pytest.raises(InvalidStatus, match="503"):
            await connect(url, proxy=None)
        async with hub, connect(url, proxy=None) as client:
            await eventually(lambda: hub.stats().clients == 1)
            await hub.close()
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1001
        with pytest.raises(InvalidStatus, match="503"):
            await connect(url, proxy=None)


@pytest.mark.parametrize(
    ("route", "path"),
    [
        (lambda hub: WebSocketRoute("/ws", hub.asgi()), "/ws"),
        (lambda hub: Mount("/ws", hub.asgi()), "/ws/"),
    ],
    ids=["route", "mount"],
)
async def test_a_hub_can_be_a_route_of_a_web_application(
    server: ASGIServer, route: Any, path: str
) -> None:
    hub = Hub()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with hub:
            yield

    app = FastAPI(lifespan=lifespan)
    app.router.routes.append(route(hub))
    async with server(app) as port:
        async with connect(f"ws://127.0.0.1:{port}{path}", proxy=None) as socket:
            await WireClient(socket).subscribe("a")
            assert hub.channels == ("a",)
        await eventually(lambda: hub.stats().clients == 0)


# Cases that ASGI allows and these servers do not produce.


class Driver:
    """Calls an application as an ASGI server does."""

    def __init__(self, **scope: Any) -> None:
        self.scope = {
            "type": "websocket",
            "path": "/w s",
            "query_string": b"",
            "headers": [],
            **scope,
        }
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.incoming.put_nowait({"type": "websocket.connect"})
        self.sent: list[Any] = []

    async def send(self, event: Any) -> None:
        self.sent.append(event)

    async def run(self, hub: Hub) -> None:
        async with asyncio.timeout(5):
            await hub.asgi()(self.scope, self.incoming.get, self.send)


async def test_without_the_response_extension_a_refusal_is_a_close() -> None:
    driver = Driver()
    async with Hub(HubConfig(authenticator=lambda _: AuthResult(False))) as hub:
        await driver.run(hub)
    assert driver.sent == [{"type": "websocket.close"}]


async def test_optional_keys_of_a_scope_may_be_absent() -> None:
    seen: list[Request] = []

    def note(request: Request) -> AuthResult:
        seen.append(request)
        return AuthResult(True, "alice")

    driver = Driver(headers=[(b"X-A", b"1"), (b"x-a", b"\xe4")], client=None)
    driver.incoming.put_nowait({"type": "websocket.receive", "bytes": b'{"type":"ping"}'})
    async with Hub(HubConfig(authenticator=note)) as hub:
        running = asyncio.create_task(driver.run(hub))
        await eventually(lambda: len(driver.sent) == 2)
        driver.incoming.put_nowait({"type": "websocket.disconnect"})
        await running
        assert hub.stats().clients == 0
    (request,) = seen
    assert (request.path, request.headers) == ("/w%20s", {"x-a": ("1", "ä")})
    assert request.remote_address == ""
    assert json.loads(driver.sent[1]["text"])["type"] == "pong"


async def test_a_slow_client_that_takes_a_page_of_a_history_stays_connected() -> None:
    clock, driver = ManualClock(), Driver()
    config = HubConfig(history={"*": HistoryLimits()}, pong_timeout=100_000.0)
    takes: asyncio.Queue[None] = asyncio.Queue()

    async def send(event: Any) -> None:
        driver.sent.append(event)
        if event["type"] == "websocket.send":
            await takes.get()

    async with Hub(config, clock=clock) as hub:
        for number in range(20):
            hub.publish_event("a", number)
        frame = {"type": "subscribe", "channel": "a", "id": 1, "history": {"since": 0}}
        driver.incoming.put_nowait({"type": "websocket.receive", "text": json.dumps(frame)})
        running = asyncio.create_task(hub.asgi()(driver.scope, driver.incoming.get, send))
        for count in range(2, 22):
            await eventually(lambda count=count: len(driver.sent) == count)  # type: ignore[misc]
            # One message in each write timeout of 10 seconds.
            clock.advance(9)
            takes.put_nowait(None)
        await eventually(lambda: len(driver.sent) == 22)
        assert json.loads(driver.sent[-1]["text"])["data"] == 19
        assert hub.stats().evictions == 0
        driver.incoming.put_nowait({"type": "websocket.disconnect"})
        await running


async def test_a_failing_send_ends_the_connection() -> None:
    driver = Driver(client=("2001:db8::1", 5))

    async def send(event: Any) -> None:
        if event["type"] == "websocket.send":
            raise OSError("the client is gone")

    async with Hub() as hub:
        running = asyncio.create_task(hub.asgi()(driver.scope, driver.incoming.get, send))
        await eventually(lambda: hub.stats().clients == 1)
        assert hub.connections[0].remote_address == "[2001:db8::1]:5"
        hub.send_event("news")
        await running
        assert hub.stats().clients == 0


async def test_a_hub_that_fills_up_during_the_accept_closes_with_1013() -> None:
    gate = asyncio.Event()

    class Slow(Driver):
        async def send(self, event: Any) -> None:
            if event["type"] == "websocket.accept":
                await gate.wait()
            await super().send(event)

    drivers = [Slow() for _ in range(3)]
    async with Hub(HubConfig(max_connections=1)) as hub:
        running = [asyncio.create_task(driver.run(hub)) for driver in drivers]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        await eventually(lambda: sum(task.done() for task in running) == 2)
        assert hub.stats().clients == 1
        closes = [driver.sent[-1] for driver in drivers if len(driver.sent) == 2]
        assert [close["code"] for close in closes] == [1013, 1013]
        for driver in drivers:
            driver.incoming.put_nowait({"type": "websocket.disconnect"})
        await asyncio.wait(running)


async def test_a_cancelled_application_leaves_no_connection_and_no_task() -> None:
    driver = Driver()
    async with Hub() as hub:
        running = asyncio.create_task(driver.run(hub))
        await eventually(lambda: hub.stats().clients == 1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert hub.stats().clients == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_flood_of_buffered_events_does_not_hold_the_loop() -> None:
    count = 5_000
    received = 0
    turns = 0

    async def receive() -> dict[str, Any]:
        # Without a pause, like a server that has buffered the next message.
        nonlocal received
        received += 1
        if received == 1:
            return {"type": "websocket.connect"}
        if received <= count:
            return {"type": "websocket.receive", "text": '{"type":"unknown"}'}
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(event: Any) -> None:
        await asyncio.sleep(0)

    async def turn() -> None:
        nonlocal turns
        while received < count:
            await asyncio.sleep(0)
            turns += 1

    scope = {
        "type": "websocket",
        "path": "/ws",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
    }
    async with Hub() as hub:
        await asyncio.gather(hub.asgi()(scope, receive, send), turn())
    assert turns > 10


SERVE_A_CLOSED_HUB = """
import asyncio, uvicorn
from wshub_core import Hub

hub = Hub()
asyncio.run(hub.close())
uvicorn.run(hub.asgi(), port=0)
"""


async def test_a_server_does_not_start_with_a_closed_hub() -> None:
    async with wshub(code=SERVE_A_CLOSED_HUB) as process, asyncio.timeout(PATIENCE_SECONDS):
        _, errors = await process.communicate()
        assert process.returncode == 3
        assert b"the hub has been closed" in errors


async def test_a_server_starts_with_a_hub_that_runs_already() -> None:
    async with Hub() as hub:
        server = uvicorn.Server(uvicorn.Config(hub.asgi(), port=0, log_level="warning"))
        serving = asyncio.create_task(server.serve())
        await eventually(lambda: server.started)
        server.should_exit = True
        await serving
        assert hub.is_accepting
