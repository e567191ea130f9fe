"""How clients behave: one list of tests for all of them (docs/reference/client-behaviour.md).

A scenario is named for the row of the table that it holds. It starts a hub, or a server whose
answers it writes itself, and judges the client by what that server sees and by what the client
reports.
"""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias, TypeVar

from demo_process import free_port
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from wshub_auth import BearerTokenAuth, FirstOf, SubprotocolTokenAuth
from wshub_core import (
    V1_SUBPROTOCOL,
    AuthError,
    AuthResult,
    Connection,
    Hub,
    HubConfig,
    Message,
    Reply,
    Request,
)

T = TypeVar("T")

QUICK: dict[str, Any] = {"initial_backoff": 0.02, "max_backoff": 0.05}
"""For clients that shall come back soon."""

PATIENCE = 10.0
"""How long, in seconds, the tests wait for something that must happen."""

Event: TypeAlias = dict[str, Any]


class FailedError(Exception):
    """A call has failed.

    Attributes:
        name: The error's class.
        fields: Its text, and what else it has: status, reason, channel, code, count.
    """

    def __init__(self, name: str, **fields: Any) -> None:
        self.name = name
        self.fields = fields
        super().__init__(f"{name}: {fields}")


class ClientUnderTest(Protocol):
    """A client in any language. Methods raise `FailedError` if the client's do fail."""

    async def start(
        self,
        url: str,
        *,
        tokens: list[str | None] | None = None,
        faulty: bool = False,
        **options: object,
    ) -> None:
        """Let a new client dial; close the one before, and forget its events.

        Args:
            url: The hub's address.
            tokens: For a token function: what it returns, dial by dial, the last one again and
                again; with None it raises.
            faulty: Whether each callback raises, after it has recorded its event.
            options: Those of the client, in snake case; ``queue`` is a mapping. ``plain``, which
                offers no subprotocols, can be ignored by clients that need none.
        """

    async def subscribe(self, channel: str) -> None:
        """Subscribe, and do not wait for the outcome."""

    async def subscribe_confirmed(self, channel: str) -> None:
        """Subscribe, and wait for the outcome."""

    async def unsubscribe(self, channel: str) -> None:
        """End a subscription."""

    async def publish(self, channel: str, data: object) -> None:
        """Publish an event, and wait for the outcome."""

    async def send(self, message: dict[str, object]) -> None:
        """Send a message as it is."""

    async def close(self) -> None:
        """Close the client, and wait until it is closed."""

    async def state(self) -> str:
        """Return ``disconnected``, ``connecting`` or ``connected``."""

    async def events(self) -> list[Event]:
        """Return all events up to now, in order.

        ``{"event": "connect"}``, ``{"event": "reconnect", "attempts": 2}``,
        ``{"event": "disconnect"}``, ``{"event": "message", "type": …, "channel": …, "data": …}``
        (with ``""`` and None for what is absent), ``{"event": "error", "name": "LostError", "code":
        1006, …}``, and last ``{"event": "end", "name": None}`` or with an error's name and fields.
        """


Scenario: TypeAlias = Callable[[ClientUnderTest], Awaitable[None]]

SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    """Add a scenario to the list."""
    SCENARIOS.append(function)
    return function


# Waiting.


async def eventually(ask: Callable[[], Awaitable[T]], holds: Callable[[T], object]) -> T:
    """Ask again and again until the answer is as it should be; return it."""
    answer = await ask()
    try:
        async with asyncio.timeout(PATIENCE):
            while not holds(answer):
                await asyncio.sleep(0.005)
                answer = await ask()
    except TimeoutError:
        raise AssertionError(f"this never changed: {answer}") from None
    return answer


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until something holds that the server sees."""

    async def ask() -> object:
        return condition()

    await eventually(ask, bool)


async def wait_state(client: ClientUnderTest, state: str) -> None:
    await eventually(client.state, lambda now: now == state)


async def wait_event(client: ClientUnderTest, name: str, count: int = 1) -> list[Event]:
    """Wait until there are so many events of a name; return these."""
    events = await eventually(client.events, lambda events: len(named(events, name)) >= count)
    return named(events, name)


def named(events: list[Event], name: str) -> list[Event]:
    return [each for each in events if each["event"] == name]


def names(events: list[Event]) -> list[str]:
    return [each["event"] for each in events]


def holds(event: Event, **fields: object) -> bool:
    return {name: event.get(name) for name in fields} == fields


async def failure_of(call: Awaitable[None]) -> FailedError:
    try:
        await call
    except FailedError as error:
        return error
    raise AssertionError("this should have failed")


async def messages_of(client: ClientUnderTest, count: int) -> list[object]:
    """Wait for so many messages; return the data of all that have come."""
    return [each["data"] for each in await wait_event(client, "message", count)]


# Servers.


class RunningHub:
    """A hub that is served, and its connections in order."""

    def __init__(self, hub: Hub, port: int, connections: list[Connection]) -> None:
        self.hub = hub
        self.url = f"ws://127.0.0.1:{port}/ws"
        self.connections = connections

    async def drop(self, code: int = 1012) -> None:
        """Close the newest connection."""
        await self.connections[-1].close(code)

    async def settle(self, client: ClientUnderTest) -> None:
        """Wait until the hub has served all that the client has sent."""
        before = len(named(await client.events(), "message"))
        await client.send({"type": "ping"})
        await wait_event(client, "message", before + 1)


@asynccontextmanager
async def run_hub(port: int = 0, **settings: Any) -> AsyncIterator[RunningHub]:
    """Serve a real hub, which pages of any origin may use."""
    connections: list[Connection] = []
    config = HubConfig(
        **{
            "allowed_origins": ["*"],
            "on_connect": connections.append,
            "close_timeout": 2,
            **settings,
        }
    )
    async with Hub(config) as hub, hub.serve("127.0.0.1", port) as server:
        yield RunningHub(hub, server.port, connections)


class Peer:
    """One connection of a client to a server whose answers a scenario writes."""

    def __init__(self, number: int, socket: ServerConnection) -> None:
        self.number = number
        self.socket = socket
        self.frames: list[dict[str, Any]] = []

    async def read(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.socket.recv())
        self.frames.append(frame)
        return frame

    async def read_to_ping(self) -> list[dict[str, Any]]:
        """Return all frames up to the next ping, with it."""
        frames = [await self.read()]
        while frames[-1]["type"] != "ping":
            frames.append(await self.read())
        return frames

    async def send(self, *frames: dict[str, Any]) -> None:
        """Send frames in one message, as hubs of go-ws may."""
        await self.socket.send("\n".join(map(json.dumps, frames)))

    async def greet(self) -> None:
        """Answer up to the first ping, so that the client is connected."""
        await self.read_to_ping()
        await self.send({"type": "pong"})

    async def serve(self) -> None:
        """Answer pings until the connection ends."""
        while True:
            if (await self.read())["type"] == "ping":
                await self.send({"type": "pong"})

    async def be_silent(self) -> None:
        """Read until the connection ends."""
        while True:
            await self.read()


Script: TypeAlias = Callable[[Peer], Awaitable[None]]


class ScriptedServer:
    """A server whose answers a scenario writes; its connections, in order."""

    def __init__(self) -> None:
        self.url = ""
        self.peers: list[Peer] = []
        self.most_at_once = 0
        self.dialed_at: list[float] = []


@asynccontextmanager
async def run_script(
    script: Script, port: int = 0, *, plain: bool = False
) -> AsyncIterator[ScriptedServer]:
    """Serve connections with a script; when it ends, they are closed with 1000.

    It answers requests as go-ws does, without ids. A ``plain`` one also selects no subprotocol.
    """
    scripted = ScriptedServer()
    open_now = 0

    async def handle(socket: ServerConnection) -> None:
        nonlocal open_now
        open_now += 1
        scripted.most_at_once = max(scripted.most_at_once, open_now)
        scripted.dialed_at.append(time.monotonic())
        peer = Peer(len(scripted.peers) + 1, socket)
        scripted.peers.append(peer)
        try:
            with contextlib.suppress(ConnectionClosed):
                await script(peer)
                await socket.close()
        finally:
            open_now -= 1

    def select(_: ServerConnection, offered: Any) -> Any:
        return V1_SUBPROTOCOL if V1_SUBPROTOCOL in offered and not plain else None

    async with serve(
        handle,
        "127.0.0.1",
        port,
        select_subprotocol=select,
        close_timeout=1,
        compression=None,
        ping_interval=None,
    ) as server:
        scripted.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        yield scripted
        # The library does not close what is accepted just while it closes itself.
        server.server.close()
        await asyncio.sleep(0.01)


async def serve_normally(peer: Peer) -> None:
    await peer.greet()
    await peer.serve()


# The rows, in the order of the table.


@scenario
async def states(client: ClientUnderTest) -> None:
    may_answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_to_ping()
        await may_answer.wait()
        await peer.send({"type": "pong"})
        await peer.read()
        await peer.socket.close(1013, "retry-after: 60")

    async with run_script(script) as server:
        await client.start(server.url)
        await wait_until(lambda: server.peers and server.peers[0].frames)
        assert await client.state() == "connecting"
        may_answer.set()
        await wait_state(client, "connected")
        await client.send({"type": "go away"})
        await wait_event(client, "disconnect")
        assert await client.state() == "disconnected"
        await client.close()
        assert await client.state() == "disconnected"


@scenario
async def open_with_subscriptions_and_a_ping(client: ClientUnderTest) -> None:
    may_answer = asyncio.Event()
    opening: list[dict[str, Any]] = []

    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.greet()
            for _ in range(2):
                await peer.read_to_ping()
                await peer.send({"type": "pong"})
            return
        frames = await peer.read_to_ping()
        # A client may begin with a frame that only asks whether the hub answers ids.
        opening.extend(each for each in frames if each["type"] != "unsubscribe")
        await may_answer.wait()
        await peer.send({"type": "pong"})
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe("news")
        await client.subscribe("news")
        await client.subscribe("process:x")
        await wait_until(lambda: opening)
        assert [(each["type"], each.get("channel"), each.get("data")) for each in opening] == [
            ("subscribe", "news", "news"),
            ("subscribe", "process:x", "process:x"),
            ("ping", None, None),
        ]
        ids = [each["id"] for each in opening[:2]]
        assert len(set(ids)) == 2
        assert all(isinstance(each, str | int) for each in ids)
        assert await client.state() == "connecting"
        assert named(await client.events(), "reconnect") == []
        may_answer.set()
        await wait_event(client, "reconnect")


@scenario
async def connect_once_then_reconnect_and_early_messages_come_after(
    client: ClientUnderTest,
) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 2:
            return
        await peer.read_to_ping()
        await peer.send({"type": "event", "data": f"early {peer.number}"})
        await peer.send({"type": "pong"}, {"type": "event", "data": f"late {peer.number}"})
        if peer.number == 3:
            await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await messages_of(client, 4)
        events = [each for each in await client.events() if each["event"] != "error"]
        assert names(events) == [
            *("connect", "message", "message", "disconnect"),
            *("reconnect", "message", "message"),
        ]
        messages = [each["data"] for each in named(events, "message")]
        assert messages == ["early 1", "late 1", "early 3", "late 3"]
        assert named(events, "reconnect") == [{"event": "reconnect", "attempts": 2}]


@scenario
async def restore_each_subscription_once(client: ClientUnderTest) -> None:
    async with run_hub() as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        for channel in ("a", "b", "a"):
            await client.subscribe_confirmed(channel)
        for count in (1, 2):
            await running.drop()
            await wait_event(client, "reconnect", count)
            # It is told when all is in place, so what is published now arrives.
            assert running.hub.channels == ("a", "b")
            running.hub.publish("a", Message(type="event", data=count))
            await wait_event(client, "message", count)
        await running.settle(client)
        assert [each["data"] for each in named(await client.events(), "message")] == [1, 2, None]


@scenario
async def restore_through_a_restart_of_the_hub(client: ClientUnderTest) -> None:
    async with run_hub() as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
    await wait_event(client, "disconnect")
    port = int(running.url.split(":")[2].removesuffix("/ws"))
    async with run_hub(port) as running:
        [reconnect] = await wait_event(client, "reconnect")
        assert reconnect["attempts"] >= 1
        running.hub.publish("a", Message(type="event", data="here again"))
        assert await messages_of(client, 1) == ["here again"]


@scenario
async def lost_is_told_and_one_dial_at_a_time_follows(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number < 4:
            await peer.socket.close(1012, "restart")

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "disconnect", 3)
        events = (await client.events())[:4]
        assert names(events) == ["connect", "error", "disconnect", "reconnect"]
        assert holds(events[1], name="LostError", code=1012, reason="restart")
        assert server.most_at_once == 1


@scenario
async def backoff_has_a_highest_bound(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.read()

    async with run_script(script) as server:
        # Without the bound these dials would take hours.
        await client.start(
            server.url, initial_backoff=1_000.0, max_backoff=0.05, backoff_multiplier=1_000.0
        )
        await wait_until(lambda: len(server.peers) >= 6)


@scenario
async def backoff_counts_connections_that_do_not_hold(client: ClientUnderTest) -> None:
    async with run_script(Peer.greet) as server:
        await client.start(server.url, max_attempts=2, stable_after=60.0, **QUICK)
        [end] = await wait_event(client, "end")
        assert end["name"] == "RetriesExhaustedError"
        assert len(server.peers) == 3
        assert names(await client.events()).count("disconnect") == 3


@scenario
async def backoff_forgets_failures_after_a_connection_that_holds(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await asyncio.sleep(0.15)  # longer than stable_after

    async with run_script(script) as server:
        await client.start(server.url, max_attempts=1, stable_after=0.05, **QUICK)
        await wait_event(client, "reconnect", 3)
        assert named(await client.events(), "end") == []


@scenario
async def retry_after_of_a_close(client: ClientUnderTest) -> None:
    closed_at: list[float] = []

    async def script(peer: Peer) -> None:
        if peer.number == 3:
            await serve_normally(peer)
        if peer.number == 2:
            await peer.greet()
        closed_at.append(time.monotonic())
        await peer.socket.close(1013, "retry-after: 1")

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "reconnect")
        for end, dial in zip(closed_at, server.dialed_at[1:], strict=True):
            assert dial - end > 0.95
        assert named(await client.events(), "end") == []


@scenario
async def retry_after_of_a_full_hub(client: ClientUnderTest) -> None:
    async with run_hub(max_connections=1) as running, connect(running.url):
        await client.start(running.url, **QUICK)
        await wait_event(client, "error")
        # It comes back in five seconds.
        await wait_state(client, "disconnected")
        assert names(await client.events()) == ["error"]


@scenario
async def exhausted_after_max_attempts(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_to_ping()

    async with run_script(script) as server:
        await client.start(server.url, max_attempts=2, **QUICK)
        [end] = await wait_event(client, "end")
        assert end["name"] == "RetriesExhaustedError"
        assert len(server.peers) == 3
        events = await client.events()
        assert names(events)[-1] == "end"
        assert "connect" not in names(events)
        assert "disconnect" not in names(events)
        assert await client.state() == "disconnected"


@scenario
async def exhausted_where_nobody_listens(client: ClientUnderTest) -> None:
    await client.start(f"ws://127.0.0.1:{free_port()}/ws", max_attempts=1, **QUICK)
    [end] = await wait_event(client, "end")
    assert end["name"] == "RetriesExhaustedError"


@scenario
async def refused_without_authentication(client: ClientUnderTest) -> None:
    asked: list[Request] = []

    def authenticate(request: Request) -> AuthResult:
        asked.append(request)
        return AuthResult(False)

    async with run_hub(authenticator=authenticate) as running:
        await client.start(running.url, **QUICK)
        [end] = await wait_event(client, "end")
        events = await client.events()
        assert names(events) == ["error", "end"]
        for event in events:
            assert holds(event, name="RefusedError", status=HTTPStatus.UNAUTHORIZED)
        assert isinstance(end["reason"], str)
        assert len(asked) == 1


@scenario
async def refused_origin(client: ClientUnderTest) -> None:
    async with run_hub(check_origin=lambda _: False) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "end")
        events = await client.events()
        assert names(events) == ["error", "end"]
        for event in events:
            assert holds(event, name="RefusedError", status=HTTPStatus.FORBIDDEN)


@scenario
async def refused_for_now(client: ClientUnderTest) -> None:
    class BusyError(AuthError):
        retry_after = 1.0

    refused_at: list[float] = []
    accepted_at: list[float] = []

    def authenticate(_: Request) -> AuthResult:
        if not refused_at:
            refused_at.append(time.monotonic())
            return AuthResult(False, error=BusyError("the user database is away"))
        accepted_at.append(time.monotonic())
        return AuthResult(True, "alice")

    async with run_hub(authenticator=authenticate) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        assert names(await client.events()) == ["error", "connect"]
        assert accepted_at[0] - refused_at[0] > 0.95


@scenario
async def terminal_closes(client: ClientUnderTest) -> None:
    for code in (1002, 1007, 1008, 3003, 4500, 4999):

        async def script(peer: Peer, code: int = code) -> None:
            await peer.greet()
            await peer.socket.close(code, "for good")

        async with run_script(script) as server:
            await client.start(server.url, heartbeat_interval=0.05, **QUICK)
            [end] = await wait_event(client, "end")
            assert holds(end, name="ClosedError", code=code, reason="for good")
            events = await client.events()
            assert names(events) == ["connect", "error", "disconnect", "end"]
            assert holds(events[1], name="ClosedError", code=code)
            assert len(server.peers) == 1
    await asyncio.sleep(0.1)  # no heartbeat goes on
    assert await client.events() == events


@scenario
async def other_closes_are_losses(client: ClientUnderTest) -> None:
    codes = [1000, 1001, 1005, 1006, 1009, 1011, 1013, 3000, 3004, 4000, 4499]

    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number > len(codes):
            await peer.serve()
        code = codes[peer.number - 1]
        if code == 1005:
            peer.socket.protocol.send_close()
            peer.socket.send_data()
            await peer.socket.wait_closed()
        elif code == 1006:
            peer.socket.transport.abort()
        else:
            await peer.socket.close(code)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "reconnect", len(codes))
        errors = named(await client.events(), "error")
        assert [(each["name"], each["code"]) for each in errors] == [
            ("LostError", code) for code in codes
        ]


@scenario
async def token_of_a_function_at_every_dial(client: ClientUnderTest) -> None:
    presented: list[str] = []

    async with run_hub(authenticator=take_tokens(presented)) as running:
        await client.start(running.url, tokens=["a/b+c=", None, "third"], **QUICK)
        await wait_event(client, "connect")
        await running.drop()
        await wait_event(client, "reconnect")
        assert presented == ["a/b+c=", "third"]
        events = await client.events()
        assert names(events) == ["connect", "error", "disconnect", "error", "reconnect"]
        assert events[-1]["attempts"] == 2


@scenario
async def token_as_text(client: ClientUnderTest) -> None:
    presented: list[str] = []

    async with run_hub(authenticator=take_tokens(presented)) as running:
        await client.start(running.url, token="secret-1", **QUICK)
        await wait_event(client, "connect")
        await running.drop()
        await wait_event(client, "reconnect")
        assert presented == ["secret-1", "secret-1"]


@scenario
async def token_that_expires_is_asked_for_again(client: ClientUnderTest) -> None:
    presented: list[str] = []
    ends = {"short": 1.0}

    async with run_hub(authenticator=take_tokens(presented, ends)) as running:
        await client.start(running.url, tokens=["short", "long"], **QUICK)
        await client.subscribe("a")
        await wait_event(client, "reconnect")
        events = await client.events()
        assert names(events) == ["connect", "error", "disconnect", "reconnect"]
        assert holds(events[1], name="LostError", code=3000)
        assert presented == ["short", "long"]
        assert running.hub.channels == ("a",)


def take_tokens(
    presented: list[str], ends: dict[str, float] | None = None
) -> Callable[[Request], Awaitable[AuthResult]]:
    """Return an authenticator that notes and accepts every token, for some seconds each."""

    def validate(token: str) -> AuthResult:
        presented.append(token)
        lifetime = (ends or {}).get(token)
        expires_at = None if lifetime is None else time.time() + lifetime
        return AuthResult(True, "alice", expires_at=expires_at)

    return FirstOf(BearerTokenAuth(validate), SubprotocolTokenAuth(validate))


@scenario
async def heartbeat_finds_a_dead_link(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number == 1:
            await peer.be_silent()
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, heartbeat_interval=0.2, pong_timeout=0.3, **QUICK)
        await wait_event(client, "reconnect")
        assert names(await client.events()) == ["connect", "error", "disconnect", "reconnect"]
        assert [each["type"] for each in server.peers[0].frames] == ["ping", "ping"]


@scenario
async def heartbeat_keeps_a_quiet_link(client: ClientUnderTest) -> None:
    async with run_script(serve_normally) as server:
        await client.start(server.url, heartbeat_interval=0.05, pong_timeout=5.0, **QUICK)
        await wait_until(lambda: server.peers and len(server.peers[0].frames) >= 6)
        # Its own pings are its own business.
        assert names(await client.events()) == ["connect"]


@scenario
async def silent_server_is_a_failed_dial(client: ClientUnderTest) -> None:
    async with run_script(Peer.be_silent) as server:
        await client.start(server.url, open_timeout=0.5, max_attempts=1, **QUICK)
        [end] = await wait_event(client, "end")
        assert end["name"] == "RetriesExhaustedError"
        # On a busy machine a dial can be over before this server has noticed it.
        assert len(server.peers) <= 2
        assert set(names(await client.events())) == {"error", "end"}


@scenario
async def silent_server_that_does_not_even_shake_hands(client: ClientUnderTest) -> None:
    # The kernel accepts for a socket that listens; nobody ever reads.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}/ws"
        await client.start(url, open_timeout=0.2, max_attempts=1, **QUICK)
        [end] = await wait_event(client, "end")
        assert end["name"] == "RetriesExhaustedError"
        assert len(named(await client.events(), "error")) >= 2


@scenario
async def messages_come_in_batches_and_junk_is_skipped(client: ClientUnderTest) -> None:
    parts = [
        '{"type":"event","data":1}',
        "",
        '{"type":"process_output","channel":"process:x","processId":"x","data":"ü\\n"}',
        "   ",
        "no JSON",
        "[]",
        '"text"',
        "null",
        "7",
        "{}",
        '{"type":5}',
        '{"type":"event","channel":["no name"]}',
        "[" * 20_000,
        '{"type":"event","data":3,"more":{"unknown":true}}',
        "",
    ]

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.send("\n".join(parts))
        await peer.socket.send(b'{"type":"event","data":4}')
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        assert await messages_of(client, 4) == [1, "ü\n", 3, 4]
        assert (await client.events())[2] == {
            "event": "message",
            "type": "process_output",
            "channel": "process:x",
            "data": "ü\n",
        }
        assert set(names(await client.events())) == {"connect", "message"}


@scenario
async def messages_are_all_but_the_answers_to_the_client_itself(client: ClientUnderTest) -> None:
    async with run_hub() as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
        await client.send({"type": "ping"})
        await client.unsubscribe("a")
        await client.send({"type": "subscribe", "channel": "not a channel"})
        await wait_event(client, "message", 2)
        messages = [(each["type"], each["data"]) for each in (await client.events())[1:]]
        assert messages == [("pong", None), ("error", "Subscribe: invalid channel name")]


@scenario
async def subscribe_is_confirmed_or_refused(client: ClientUnderTest) -> None:
    asked: list[str] = []

    def authorize(_: Connection, channel: str) -> bool:
        asked.append(channel)
        return channel != "secret"

    async with run_hub(channel_authorizer=authorize) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("open")
        error = await failure_of(client.subscribe_confirmed("secret"))
        assert error.name == "SubscriptionRefusedError"
        assert error.fields["channel"] == "secret"
        assert error.fields["code"] == "subscription_denied"
        assert running.hub.channels == ("open",)
        # What was refused is not wanted any more.
        await running.drop()
        await wait_event(client, "reconnect")
        assert asked == ["open", "secret", "open"]
        assert all(each["event"] != "message" for each in await client.events())


@scenario
async def refusal_that_nobody_waits_for_is_an_error(client: ClientUnderTest) -> None:
    async with run_hub(channel_authorizer=lambda *_: False) as running:
        await client.start(running.url, **QUICK)
        await client.subscribe("secret")
        [error] = await wait_event(client, "error")
        assert holds(
            error, name="SubscriptionRefusedError", channel="secret", code="subscription_denied"
        )
        assert "subscription unauthorised" in error["text"]
        await wait_event(client, "connect")
        assert sorted(names(await client.events())) == ["connect", "error"]


@scenario
async def subscribe_is_confirmed_across_reconnects(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.greet()
            await peer.read()
            return
        frames = {each["type"]: each for each in await peer.read_to_ping()}
        # Where answers carry ids, pongs do so too, if the ping has one.
        pong = {"type": "pong", **({"id": frames["ping"]["id"]} if "id" in frames["ping"] else {})}
        await peer.send(
            {"type": "subscribed", "channel": "a", "id": frames["subscribe"]["id"]}, pong
        )
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
        assert named(await client.events(), "disconnect")
        assert len(server.peers) == 2


@scenario
async def subscribe_to_a_hub_that_answers_no_ids(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        while True:
            frame = await peer.read()
            if frame["type"] == "wait for more":
                more = [(await peer.read())["type"] for _ in range(3)]
                assert more == ["ping", "subscribe", "ping"]
                await peer.send(
                    {"type": "pong"},
                    {"type": "error", "data": "Subscribe: invalid process ID"},
                    {"type": "pong"},
                )
            elif frame["type"] == "ping":
                await peer.send({"type": "pong"})
            elif frame["type"] == "subscribe" and frame["channel"] == "secret":
                await peer.send({"type": "error", "data": "Subscribe: subscription unauthorised"})
            elif frame["type"] == "subscribe" and frame["channel"] == "too much":
                await peer.send({"type": "error", "data": "subscription limit exceeded"})

    async with run_script(script, plain=True) as server:
        await client.start(server.url, plain=True, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
        error = await failure_of(client.subscribe_confirmed("secret"))
        assert (error.name, error.fields["channel"]) == ("SubscriptionRefusedError", "secret")
        await client.subscribe_confirmed("b")
        error = await failure_of(client.publish("a", 1))
        assert error.name == "PublishRefusedError"
        # A pong for the application comes through, although this hub's pongs all look alike.
        await client.send({"type": "ping"})
        await wait_event(client, "message")
        await client.subscribe_confirmed("c")
        # And it is not taken for the answer to what the client asks after it.
        await client.send({"type": "wait for more"})
        await client.send({"type": "ping"})
        error = await failure_of(client.subscribe_confirmed("process:x"))
        assert error.name == "SubscriptionRefusedError"
        messages = await wait_event(client, "message", 2)
        assert [each["type"] for each in messages] == ["pong", "pong"]


@scenario
async def unsubscribe_ends_what_was_wanted(client: ClientUnderTest) -> None:
    async with run_hub() as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
        await client.subscribe_confirmed("b")
        await client.unsubscribe("a")
        await client.unsubscribe("a")
        await client.unsubscribe("never subscribed")
        await wait_until(lambda: running.hub.channels == ("b",))
        await running.drop()
        await wait_event(client, "reconnect")
        assert "a" not in running.hub.channels
        await client.subscribe_confirmed("a")
        assert set(running.hub.channels) == {"a", "b"}


@scenario
async def unsubscribe_before_the_hub_has_answered(client: ClientUnderTest) -> None:
    asked = asyncio.Event()
    may_answer = asyncio.Event()

    async def authorize(_: Connection, channel: str) -> bool:
        asked.set()
        await may_answer.wait()
        return channel == "open"

    async with run_hub(channel_authorizer=authorize) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe("secret")
        await asked.wait()
        await client.unsubscribe("secret")
        await client.subscribe("open")
        await client.unsubscribe("open")
        may_answer.set()
        await running.settle(client)
        # What is not wanted any more can be neither refused nor in place.
        assert names(await client.events()) == ["connect", "message"]
        assert running.hub.channels == ()


@scenario
async def publish_is_confirmed_or_refused(client: ClientUnderTest) -> None:
    async with run_hub(publish_authorizer=lambda _, channel: channel == "open") as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("open")
        await client.publish("open", {"n": 1})
        [message] = await wait_event(client, "message")
        assert holds(message, type="event", channel="open", data={"n": 1})
        error = await failure_of(client.publish("closed", 2))
        assert error.name == "PublishRefusedError"
        assert (error.fields["channel"], error.fields["code"]) == ("closed", "publish_denied")
        assert names(await client.events()) == ["connect", "message"]


@scenario
async def publish_to_a_hub_that_takes_no_messages(client: ClientUnderTest) -> None:
    heard: list[Message] = []
    async with run_hub() as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        error = await failure_of(client.publish("a", 1))
        assert (error.name, error.fields["code"]) == ("PublishRefusedError", "not_served")
    # This one has listeners of its own and says nothing at all.
    async with run_hub(on_message=lambda _, message: heard.append(message)) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        error = await failure_of(client.publish("a", 1))
        assert (error.name, error.fields["code"]) == ("PublishRefusedError", "not_served")
        assert len(heard) == 1


@scenario
async def publish_fails_with_the_connection(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        if peer.number == 1:
            await peer.read()
            await peer.socket.close(1013, "retry-after: 60")

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        assert (await failure_of(client.publish("a", 1))).name == "LostError"
        assert (await failure_of(client.publish("a", 1))).name == "NotConnectedError"


@scenario
async def send_needs_a_connection(client: ClientUnderTest) -> None:
    heard: list[Message] = []
    async with run_hub(on_message=lambda _, message: heard.append(message)) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.send({"type": "hello", "channel": "x", "data": [1]})
        await running.settle(client)
        assert [(each.type, each.channel, each.data) for each in heard] == [("hello", "x", [1])]
    await wait_event(client, "disconnect")
    error = await failure_of(client.send({"type": "hello"}))
    assert error.name == "NotConnectedError"


@scenario
async def send_keeps_in_the_queue_and_in_order(client: ClientUnderTest) -> None:
    heard: list[object] = []
    port = free_port()
    limits = {"messages": 100, "bytes": 10_000, "age": 60.0}
    await client.start(f"ws://127.0.0.1:{port}/ws", queue=limits, **QUICK)
    for number in range(20):
        await client.send({"type": "count", "data": number})
    async with run_hub(port, on_message=lambda _, message: heard.append(message.data)) as running:
        await wait_event(client, "connect")
        for number in range(20, 40):
            await client.send({"type": "count", "data": number})
        await running.settle(client)
        assert heard == list(range(40))
        await running.drop()
        await wait_event(client, "reconnect")
        await running.settle(client)
        assert heard == list(range(40))


@scenario
async def queue_bounds(client: ClientUnderTest) -> None:
    for limits, sent, kept in (
        ({"messages": 2, "bytes": 10_000, "age": 60.0}, 5, 2),
        ({"messages": 99, "bytes": 350, "age": 60.0}, 5, 3),
        ({"messages": 99, "bytes": 10_000, "age": 0.05}, 3, 0),
    ):
        heard: list[str] = []

        def hear(_: Connection, message: Message, heard: list[str] = heard) -> None:
            heard.append(str(message.data))

        port = free_port()
        await client.start(f"ws://127.0.0.1:{port}/ws", queue=limits, **QUICK)
        texts = [f"{number}" * 80 for number in range(sent)]
        for text in texts:
            await client.send({"type": "text", "data": text})
        if kept:
            await wait_dropped(client, sent - kept)
        else:
            await asyncio.sleep(0.1)  # until the last is too old
        async with run_hub(port, on_message=hear) as running:
            await wait_event(client, "connect")
            await running.settle(client)
            assert heard == texts[sent - kept :]
        await wait_dropped(client, sent - kept)


async def wait_dropped(client: ClientUnderTest, count: int) -> None:
    """Wait until the client has said that so many messages were dropped."""

    async def ask() -> int:
        errors = named(await client.events(), "error")
        return sum(each["count"] for each in errors if each["name"] == "DroppedError")

    await eventually(ask, lambda dropped: dropped == count)


@scenario
async def queue_that_is_left_at_the_end_is_told(client: ClientUnderTest) -> None:
    async with run_script(Peer.be_silent) as server:
        await client.start(server.url, queue={"messages": 100}, open_timeout=0.5, max_attempts=0)
        for number in range(3):
            await client.send({"type": "number", "data": number})
        await wait_event(client, "end")
        await wait_dropped(client, 3)


@scenario
async def send_refuses_what_is_too_large_for_the_hub(client: ClientUnderTest) -> None:
    async with run_hub(publish_authorizer=lambda *_: True) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        for size in (65_500, 65_440, 65_536):
            error = await failure_of(client.publish("open", "x" * size))
            assert error.name == "MessageTooLargeError"
        error = await failure_of(client.send({"type": "text", "data": "x" * 65_536}))
        assert error.name == "MessageTooLargeError"
        await client.publish("open", "x" * 65_400)
        assert names(await client.events()) == ["connect"]


@scenario
async def open_ends_with_a_server_that_floods(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        for _ in range(130):
            await peer.send({"type": "event", "data": "x" * 300_000})
            await asyncio.sleep(0)
        await peer.be_silent()

    async with run_script(script) as server:
        await client.start(server.url, max_attempts=0, **QUICK)
        [end] = await wait_event(client, "end")
        assert end["name"] == "RetriesExhaustedError"
        assert len(server.peers) == 1


@scenario
async def close_while_connected(client: ClientUnderTest) -> None:
    ends: list[int | None] = []

    async def script(peer: Peer) -> None:
        await peer.greet()
        try:
            await peer.serve()
        finally:
            ends.append(peer.socket.close_code)

    async with run_script(script) as server:
        await client.start(server.url, heartbeat_interval=0.1, pong_timeout=5.0, **QUICK)
        await wait_event(client, "connect")
        await asyncio.gather(client.close(), client.close())
        await client.close()
        events = await client.events()
        assert names(events) == ["connect", "disconnect", "end"]
        assert events[-1]["name"] is None
        await wait_until(lambda: ends)
        assert ends == [1000]
        assert await client.state() == "disconnected"
        assert (await failure_of(client.send({"type": "x"}))).name == "ClientClosedError"
        assert (await failure_of(client.publish("x", 1))).name == "ClientClosedError"
        assert (await failure_of(client.subscribe_confirmed("x"))).name == "ClientClosedError"
        await no_dial_comes(server)
        assert await client.events() == events


@scenario
async def close_before_anything(client: ClientUnderTest) -> None:
    async with run_script(serve_normally) as server:
        await client.start(server.url, **QUICK)
        await client.close()
        # It may have been connected already.
        assert set(names(await client.events())) <= {"connect", "disconnect", "end"}
        assert names(await client.events())[-1] == "end"
        await no_dial_comes(server)


@scenario
async def close_while_the_hub_is_silent(client: ClientUnderTest) -> None:
    async with run_script(Peer.be_silent) as server:
        await client.start(server.url, **QUICK)
        waiting = asyncio.create_task(failure_of(client.subscribe_confirmed("a")))
        await wait_until(lambda: server.peers and server.peers[0].frames)
        await client.close()
        assert await client.events() == [{"event": "end", "name": None}]
        assert (await waiting).name == "ClientClosedError"
        await no_dial_comes(server)


@scenario
async def close_between_two_dials(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.close(1013, "retry-after: 1")

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "disconnect")
        await client.close()
        assert names(await client.events()) == ["connect", "error", "disconnect", "end"]
        await no_dial_comes(server, 1.2)


@scenario
async def close_after_the_end(client: ClientUnderTest) -> None:
    async with run_hub(check_origin=lambda _: False) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "end")
        await client.close()
        assert names(await client.events()) == ["error", "end"]


async def no_dial_comes(server: ScriptedServer, seconds: float = 0.2) -> None:
    """Wait, longer than any backoff here, and see that no connection was made."""
    before = len(server.peers)
    await asyncio.sleep(seconds)
    assert len(server.peers) == before


@scenario
async def callbacks_that_raise_change_nothing(client: ClientUnderTest) -> None:
    async with run_hub() as running:
        await client.start(running.url, faulty=True, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
        running.hub.publish("a", Message(type="event", data=1))
        await wait_event(client, "message", 1)
        await running.drop()
        await wait_event(client, "reconnect")
        running.hub.publish("a", Message(type="event", data=2))
        await wait_event(client, "message", 2)
        await client.close()
        assert names(await client.events()) == [
            *("connect", "message", "error", "disconnect"),
            *("reconnect", "message", "disconnect", "end"),
        ]


# Answers, and what only looks like one.


@scenario
async def refused_of_several_by_a_hub_that_answers_no_ids(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 1:
            await peer.greet()
            await peer.socket.close(1013, "retry-after: 1")
        while True:
            frame = await peer.read()
            if frame["type"] == "ping":
                await peer.send({"type": "pong"})
            elif frame["type"] == "subscribe" and frame["channel"].startswith("secret"):
                await peer.send({"type": "error", "data": "Subscribe: subscription unauthorised"})
            elif frame["type"] == "go away":
                return

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "disconnect")
        channels = ("news", "secret.1", "logs", "secret.2")
        outcomes = [asyncio.create_task(client.subscribe_confirmed(each)) for each in channels]
        results = await asyncio.gather(*outcomes, return_exceptions=True)
        refusals = [each.fields["channel"] for each in results if isinstance(each, FailedError)]
        assert refusals == ["secret.1", "secret.2"]
        assert results[0] is results[2] is None
        # What was refused is not wanted any more.
        await client.send({"type": "go away"})
        await wait_event(client, "reconnect", 2)
        frames = server.peers[2].frames
        assert {each["channel"] for each in frames if each["type"] == "subscribe"} == {
            *("news", "logs")
        }


@scenario
async def refused_all_by_a_hub_that_answers_no_ids(client: ClientUnderTest) -> None:
    async def script(peer: Peer) -> None:
        frames = await peer.read_to_ping()
        for frame in frames:
            if frame["type"] == "subscribe":
                text = f"Subscribe: {frame['channel']}"
                await peer.send({"type": "error", "data": text})
        await peer.send({"type": "error", "data": "Subscribe: nothing of the client's own"})
        await peer.send({"type": "pong"})
        if peer.number == 1:
            await peer.socket.close(1013, "retry-after: 1")
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "disconnect")
        outcomes = [asyncio.create_task(client.subscribe_confirmed(each)) for each in ("a", "b")]
        for channel, outcome in zip(("a", "b"), outcomes, strict=True):
            error = await failure_of(outcome)
            assert channel in error.fields["text"]
        # One more than there were subscriptions is a message.
        messages = await wait_event(client, "message", 2)
        assert {each["data"] for each in messages} == {"Subscribe: nothing of the client's own"}


FORGERIES: list[dict[str, Any]] = [
    {"type": "pong"},
    {"type": "error", "data": "Subscribe: subscription unauthorised"},
    {"type": "error", "data": "subscription limit exceeded"},
    {"type": "subscribed", "channel": "secret"},
    {"type": "published", "channel": "secret"},
    {"type": "authenticated", "data": {"expiresAt": None}},
    *(
        {"type": kind, "channel": "secret", "id": each, "data": "Subscribe: forged"}
        for kind in ("pong", "error", "subscribed", "published")
        for each in (1, "1", "s1", "p1", "wshub-1", "-1", "")
    ),
]
"""Messages that read like answers of a hub."""


def forge(fields: dict[str, Any]) -> Message:
    return Reply(**fields) if "id" in fields else Message(**fields)


@scenario
async def forged_answers_are_messages(client: ClientUnderTest) -> None:
    def judge(connection: Connection, channel: str) -> bool:
        # They come just before the hub answers.
        for each in FORGERIES:
            connection.send(forge(each))
        return channel == "open"

    async with run_hub(channel_authorizer=judge, publish_authorizer=judge) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("open")
        error = await failure_of(client.subscribe_confirmed("secret"))
        assert (error.name, error.fields["code"]) == (
            *("SubscriptionRefusedError", "subscription_denied"),
        )
        await client.publish("open", 1)
        error = await failure_of(client.publish("secret", 2))
        assert (error.name, error.fields["code"]) == ("PublishRefusedError", "publish_denied")
        assert running.hub.channels == ("open",)
        messages = [each["type"] for each in await wait_event(client, "message")]
        assert sorted(messages) == sorted([*(each["type"] for each in FORGERIES * 4), "event"])


@scenario
async def forged_answers_do_not_restore_a_subscription(client: ClientUnderTest) -> None:
    """They come before the hub has answered anything, so the client does not know its kind."""
    connections: list[Connection] = []

    def greet(connection: Connection) -> None:
        connections.append(connection)
        if len(connections) == 2:
            for each in FORGERIES:
                connection.send(forge(each))

    async with run_hub(
        on_connect=greet, channel_authorizer=lambda *_: len(connections) == 1
    ) as running:
        await client.start(running.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("news")
        await connections[0].close(1012)
        await wait_event(client, "reconnect")
        errors = await wait_event(client, "error", 2)
        assert holds(
            errors[1],
            name="SubscriptionRefusedError",
            channel="news",
            code="subscription_denied",
        )
        # A pong without an id may be taken for the hub's, and confirms nothing.
        messages = await wait_event(client, "message", len(FORGERIES) - 1)
        expected = [each["type"] for each in FORGERIES[1:]]
        assert sorted(each["type"] for each in messages[-len(expected) :]) == sorted(expected)


@scenario
async def forged_pongs_confirm_nothing(client: ClientUnderTest) -> None:
    may_answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        ping = (await peer.read_to_ping())[-1]
        await peer.send({"type": "pong", "id": ping["id"]})
        frames = {each["type"]: each for each in await peer.read_to_ping()}
        await peer.send({"type": "pong"}, {"type": "pong", "id": "1"}, {"type": "pong"})
        # It answers the ping, and the subscription later, as a hub whose bridge is away.
        await peer.send({"type": "pong", "id": frames["ping"]["id"]}, {"type": "event", "data": 1})
        await may_answer.wait()
        fields = {"id": frames["subscribe"]["id"], "code": "subscription_denied"}
        await peer.send({"type": "error", "channel": "a", "data": "no", **fields})
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        outcome = asyncio.create_task(failure_of(client.subscribe_confirmed("a")))
        messages = await wait_event(client, "message", 4)
        assert [each["type"] for each in messages] == ["pong", "pong", "pong", "event"]
        assert not outcome.done()
        may_answer.set()
        assert (await outcome).fields["code"] == "subscription_denied"


@scenario
async def answers_that_are_odd_stop_nothing(client: ClientUnderTest) -> None:
    odd: list[Any] = [None, True, 5, 1.5, "", [], {}, {"toString": 1, "valueOf": 1}]
    frames = [
        {"type": kind, name: each}
        for kind in ("error", "pong", "subscribed", "published", "authenticated")
        for name in ("data", "id", "code")
        for each in odd
    ]

    async def script(peer: Peer) -> None:
        ping = (await peer.read_to_ping())[-1]
        await peer.send({"type": "pong", "id": ping["id"]})
        asked = {each["type"]: each for each in await peer.read_to_ping()}
        await peer.send(*frames, {"type": "event", "data": "good"})
        answer = {"id": asked["subscribe"]["id"], "data": {"toString": 1}, "code": [5]}
        await peer.send({"type": "error", "channel": "a", **answer})
        await peer.send({"type": "pong", "id": asked["ping"]["id"]})
        await peer.serve()

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        error = await failure_of(client.subscribe_confirmed("a"))
        assert error.name == "SubscriptionRefusedError"
        messages = named(await client.events(), "message")
        assert len(messages) == len(frames) + 1
        assert messages[-1]["data"] == "good"
        assert "disconnect" not in names(await client.events())
