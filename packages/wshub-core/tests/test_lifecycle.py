"""The life of connections and the callbacks that follow it, without sockets and waits."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
from support import eventually

from wshub_core import (
    AuthenticatorError,
    AuthError,
    AuthResult,
    Connection,
    Disconnect,
    DisconnectCause,
    Hub,
    HubConfig,
    Message,
    MessageType,
    Request,
)
from wshub_core.connections.connection import ServerConnection
from wshub_core.hub import running_hub
from wshub_core.testing import HandshakeRefusedError, ManualClock, MemoryClient, connect

HELLO = Message(type=MessageType.EVENT, data="hello")


class Application:
    """An application that records its callbacks, which are plain or async functions."""

    def __init__(self, is_async: bool) -> None:
        self.is_async = is_async
        self.heard: list[Any] = []
        self.ends: list[Disconnect] = []
        self.on_message: Callable[[Connection, Message], Awaitable[None] | None] | None = None

    def config(self, **settings: Any) -> HubConfig:
        callbacks: dict[str, Any] = {
            "on_connect": self.note_connect,
            "on_message": self.note_message,
            "on_disconnect": self.note_disconnect,
        }
        return HubConfig(**callbacks | settings)

    def note_connect(self, connection: Connection) -> Awaitable[None] | None:
        self.heard.append("connect")
        return self.later()

    def note_message(self, connection: Connection, message: Message) -> Awaitable[None] | None:
        self.heard.append(message.data)
        if self.on_message is not None:
            return self.on_message(connection, message)
        return self.later()

    def note_disconnect(
        self, connection: Connection, disconnect: Disconnect
    ) -> Awaitable[None] | None:
        self.heard.append("disconnect")
        self.ends.append(disconnect)
        return self.later()

    def later(self) -> Awaitable[None] | None:
        """Return a coroutine that waits for a few rounds of the loop, or None if not async."""
        return self._turns() if self.is_async else None

    async def _turns(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.fixture(params=[False, True], ids=["plain", "async"])
def application(request: pytest.FixtureRequest) -> Application:
    return Application(request.param)


def say(client: MemoryClient, *data: Any) -> None:
    for each in data:
        client.send(Message(type="say", data=each))


# Order and re-entrance.


async def test_callbacks_of_a_connection_run_in_order(application: Application) -> None:
    async with Hub(application.config()) as hub:
        client = await connect(hub)
        say(client, 1, 2, 3)
        client.close()
        await eventually(lambda: "disconnect" in application.heard)
    assert application.heard == ["connect", 1, 2, 3, "disconnect"]


async def test_messages_before_the_end_are_served(
    application: Application,
) -> None:
    async with Hub(application.config()) as hub:
        client = await connect(hub)
        say(client, *range(50))
        client.vanish()
        await eventually(lambda: "disconnect" in application.heard)
    assert application.heard == ["connect", *range(50), "disconnect"]


async def test_commands_and_application_messages_are_served_in_order(
    application: Application,
) -> None:
    async with Hub(application.config()) as hub:
        client = await connect(hub)

        def answer(connection: Connection, message: Message) -> Awaitable[None] | None:
            connection.send(Message(type="heard", data=len(connection.subscriptions)))
            return application.later()

        application.on_message = answer
        say(client, 0)
        client.subscribe("a")
        say(client, 1)
        client.unsubscribe("a")
        say(client, 2)
        await client.sync()
        assert [message.data for message in client.messages] == [0, 1, 0]


async def test_a_slow_callback_delays_no_other_connection() -> None:
    gate = asyncio.Event()
    heard: list[int] = []

    async def hear(connection: Connection, message: Message) -> None:
        if message.data == "wait":
            await gate.wait()
        heard.append(connection.id)

    async with Hub(HubConfig(on_message=hear)) as hub:
        slow, quick = await connect(hub), await connect(hub)
        say(slow, "wait", "after")
        say(quick, "now")
        await quick.sync()
        assert heard == [2]
        gate.set()
        await slow.sync()
        assert heard == [2, 1, 1]


async def test_a_callback_may_use_the_hub_on_its_own_connection(application: Application) -> None:
    async def greet(connection: Connection) -> None:
        await hub.subscribe(connection, "news")
        connection.send(HELLO)
        hub.publish("news", Message(type="event", data="first news"))

    async with Hub(HubConfig(on_connect=greet)) as hub:
        client = await connect(hub)
        assert (await client.receive()).data == "hello"
        assert (await client.receive()).data == "first news"


async def test_a_callback_may_close_its_own_connection(application: Application) -> None:
    after: list[str] = []

    async def close(connection: Connection, message: Message) -> None:
        await connection.close(4000, "enough")
        after.append("went on")

    async with Hub(application.config()) as hub:
        application.on_message = close
        client = await connect(hub)
        say(client, 1, "ignored after the close")
        assert await client.wait_closed() == 4000
    assert application.heard == ["connect", 1, "disconnect"]
    assert after == ["went on"]
    assert application.ends == [Disconnect(DisconnectCause.SERVER_CLOSED, 4000, "enough", 0)]


async def test_on_connect_may_close_the_connection_at_once() -> None:
    ends: list[Disconnect] = []

    async def turn_away(connection: Connection) -> None:
        await connection.close(4003, "not today")

    config = HubConfig(on_connect=turn_away, on_disconnect=lambda _, end: ends.append(end))
    async with Hub(config) as hub:
        client = await connect(hub)
        assert await client.wait_closed() == 4003
    assert [end.code for end in ends] == [4003]


async def test_waiting_messages_of_a_closed_connection_are_not_served() -> None:
    heard: list[int] = []
    gate = asyncio.Event()

    async def hear(connection: Connection, message: Message) -> None:
        heard.append(message.data)
        await gate.wait()
        await connection.close()

    async with Hub(HubConfig(on_message=hear)) as hub:
        client = await connect(hub)
        (connection,) = hub.connections
        client.send(b'{"type":"say","data":1}')
        # This frame was read before the close, like a frame of the same TCP segment.
        cast(ServerConnection, connection).receive(b'{"type":"say","data":2}')
        gate.set()
        await client.wait_closed()
    assert heard == [1]


async def test_on_disconnect_runs_after_a_cancelled_callback() -> None:
    ends: list[DisconnectCause] = []

    async def hang(connection: Connection, message: Message) -> None:
        await asyncio.Event().wait()

    config = HubConfig(
        on_message=hang,
        on_disconnect=lambda _, end: ends.append(end.cause),
        close_timeout=0.05,
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        say(client, "x")
    assert ends == [DisconnectCause.SERVER_CLOSED]


async def test_a_callback_that_ignores_its_cancellation_does_not_keep_the_hub_open() -> None:
    gate = asyncio.Event()

    async def resist(connection: Connection, message: Message) -> None:
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()

    async with asyncio.timeout(5):
        async with Hub(HubConfig(on_message=resist, close_timeout=0.05)) as hub:
            client = await connect(hub)
            say(client, "x")
    gate.set()
    await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})


# Callbacks that fail.


async def test_callbacks_that_raise_are_logged_and_counted_without_other_effect(
    application: Application, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> Awaitable[None] | None:
        if application.is_async:
            return fail_later()
        raise LookupError("no database")

    async def fail_later() -> None:
        raise LookupError("no database")

    config = HubConfig(on_connect=fail, on_message=fail, on_disconnect=fail)
    async with Hub(config) as hub:
        client, other = await connect(hub), await connect(hub)
        say(client, 1)
        client.subscribe("a")
        await client.sync()
        assert hub.channels == ("a",)
        client.close()
        await other.sync()
    assert hub.stats().callback_errors == 5
    for name in ("on_connect", "on_message", "on_disconnect"):
        assert f"{name} failed" in caplog.text
    assert "no database" in caplog.text


async def test_a_callback_that_never_ends_does_not_keep_the_hub_open() -> None:
    cancelled: list[str] = []

    async def hang(connection: Connection, message: Message) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(message.data)

    async with Hub(HubConfig(on_message=hang, close_timeout=0.05)) as hub:
        client = await connect(hub)
        say(client, "x")
        await asyncio.sleep(0)
    assert cancelled == ["x"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


# The causes of an end.


async def test_each_kind_of_end_has_its_cause() -> None:
    ends: dict[int, Disconnect] = {}
    config = HubConfig(
        max_outbox_bytes=70_000,
        on_disconnect=lambda connection, end: ends.update({connection.id: end}),
    )
    clock = ManualClock()
    hub = Hub(config, clock=clock)
    async with hub:
        clients = [await connect(hub) for _ in range(7)]
        closes, vanishes, closed, evicted, silent, stalled, stays = clients
        closes.close(4009, "done")
        vanishes.vanish()
        await hub.connections[0].close(4001, "logged out")
        evicted.stall()
        slow_connection = hub.connections[0]
        for _ in range(3):
            slow_connection.send(Message(type="x", data="x" * 60_000))
            await asyncio.sleep(0)
        assert slow_connection not in hub.connections
        silent.fall_silent()
        stalled.stall()
        hub.broadcast(HELLO)
        await stays.sync()
        for _ in range(70):
            clock.advance(1.0)
            await asyncio.sleep(0)
        assert hub.stats().clients == 1
        assert stays.close_code is None
    assert ends == {
        1: Disconnect(DisconnectCause.CLIENT_CLOSED, 4009, "done", 0),
        2: Disconnect(DisconnectCause.LOST, 1006, "", 0),
        3: Disconnect(DisconnectCause.SERVER_CLOSED, 4001, "logged out", 0),
        4: Disconnect(DisconnectCause.SLOW_CONSUMER, 1013, "slow consumer", 0),
        5: Disconnect(DisconnectCause.PONG_TIMEOUT, 1011, "pong timeout", 0),
        6: Disconnect(DisconnectCause.WRITE_TIMEOUT, 1013, "write timeout", 0),
        7: Disconnect(DisconnectCause.SERVER_CLOSED, 1001, "hub closed", 0),
    }
    assert closed.close_code == 4001
    assert silent.close_code == 1011
    assert hub.stats().evictions == 2


# The heartbeat.


async def test_an_idle_client_that_answers_pings_stays_connected() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        client = await connect(hub)
        clock.advance(300.0)
        assert client.pings == 10
        assert client.close_code is None


async def test_any_received_byte_is_a_sign_of_life() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        client = await connect(hub)
        client.fall_silent()
        for _ in range(10):
            clock.advance(50.0)
            client.send(b"not even JSON")
        assert client.close_code is None
        clock.advance(59.0)
        assert client.close_code is None
        clock.advance(2.0)
        assert client.close_code == 1011


async def test_a_client_that_answers_pings_survives_a_slow_callback() -> None:
    gate = asyncio.Event()

    async def wait(connection: Connection, message: Message) -> None:
        await gate.wait()

    clock = ManualClock()
    async with Hub(HubConfig(on_message=wait), clock=clock) as hub:
        client = await connect(hub)
        say(client, "x")
        clock.advance(600.0)
        assert client.close_code is None
        gate.set()
        await client.sync()


async def test_a_dead_client_is_closed_in_time_during_a_callback() -> None:
    ends: list[DisconnectCause] = []

    async def hang(connection: Connection) -> None:
        await asyncio.Event().wait()

    clock = ManualClock()
    config = HubConfig(on_connect=hang, on_disconnect=lambda _, end: ends.append(end.cause))
    async with Hub(config, clock=clock) as hub:
        client = await connect(hub)
        client.fall_silent()
        clock.advance(61.0)
        assert client.close_code == 1011
        assert hub.stats().clients == 0
        await eventually(lambda: not running_hub(hub).registry)
        # The callback gets ten seconds to end by itself.
        await asyncio.sleep(0)
        clock.advance(11.0)
        await eventually(lambda: ends == [DisconnectCause.PONG_TIMEOUT])


async def test_no_timer_runs_for_an_empty_hub() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        client = await connect(hub)
        client.close()
        clock.advance(1_000.0)
        assert client.pings == 0


# Slow consumers.


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
async def test_the_drop_policies_count_dropped_messages(overflow: Any) -> None:
    ends: list[Disconnect] = []
    config = HubConfig(
        max_message_bytes=2_000,
        max_outbox_bytes=21_500,
        overflow=overflow,
        on_disconnect=lambda _, end: ends.append(end),
    )
    async with Hub(config) as hub:
        slow, healthy = await connect(hub), await connect(hub)
        slow.stall()
        for number in range(100):
            hub.broadcast(Message(type="event", data=[number, "x" * 1_000]))
            assert (await healthy.receive()).data[0] == number
        dropped = hub.connections[0].dropped_messages
        slow.resume()
        await slow.sync()
        received = [message.data[0] for message in slow.messages]
        assert len(received) + dropped == 100
        assert 15 <= len(received) <= 21
        if overflow == "drop_newest":
            assert received == list(range(len(received)))
        else:
            # The transport had taken the first message already.
            assert received == [0, *range(101 - len(received), 100)]
        slow.close()
        assert ends == [Disconnect(DisconnectCause.CLIENT_CLOSED, 1000, "", dropped)]
        assert hub.stats().dropped_messages == dropped
        assert hub.stats().deliveries == 100 + len(received) + 1  # and a pong


async def test_a_burst_in_one_round_evicts_no_client_that_reads() -> None:
    config = HubConfig(max_message_bytes=2_000, max_outbox_bytes=2_500)
    async with Hub(config) as hub:
        clients = [await connect(hub) for _ in range(3)]
        for number in range(500):
            hub.broadcast(Message(type="event", data=[number, "x" * 1_000]))
        for client in clients:
            received = [(await client.receive()).data[0] for _ in range(500)]
            assert received == list(range(500))
        assert hub.stats().evictions == 0


async def test_a_slow_client_that_makes_progress_is_not_aborted() -> None:
    clock = ManualClock()
    async with Hub(clock=clock) as hub:
        client, other = await connect(hub), await connect(hub)
        client.stall()
        for _ in range(5):
            hub.broadcast(HELLO)
        await other.sync()
        for _ in range(4):
            clock.advance(9.0)
            client.take_one()
        assert client.close_code is None
        client.resume()
        await client.sync()
        assert len(client.messages) == 5


# Admission.


async def test_admission_checks_run_in_order() -> None:
    asked: list[str] = []

    async def authenticate(request: Request) -> AuthResult:
        asked.append("authenticator")
        return AuthResult(request.header("x-user") is not None, request.header("x-user") or "")

    foreign = {"Origin": "https://evil.example"}
    config = HubConfig(authenticator=authenticate, max_connections=1)
    async with Hub(config) as hub:
        with pytest.raises(HandshakeRefusedError, match="403: Forbidden"):
            await connect(hub, headers=foreign)
        assert asked == []
        with pytest.raises(HandshakeRefusedError, match="401: Unauthorised"):
            await connect(hub)
        client = await connect(hub, headers={"X-User": " alice "})
        assert hub.connections[0].user_id == "alice"
        with pytest.raises(HandshakeRefusedError, match="503: Too many connections") as caught:
            await connect(hub, headers=foreign)
        assert int(caught.value.response.headers["Retry-After"]) > 0
        client.close()
        await connect(hub, headers={"X-User": "bob"})
        assert hub.stats().refused_handshakes == 3
        assert hub.stats().connections == 2


async def test_check_origin_replaces_the_allowed_origins() -> None:
    config = HubConfig(
        allowed_origins=["https://app.example"],
        check_origin=lambda request: request.header("origin") == "https://other.example",
    )
    async with Hub(config) as hub:
        await connect(hub, headers={"Origin": "https://other.example"})
        with pytest.raises(HandshakeRefusedError, match="403"):
            await connect(hub, headers={"Origin": "https://app.example"})


async def test_a_missing_origin_can_be_refused() -> None:
    config = HubConfig(allowed_origins=["https://app.example"], require_origin=True)
    async with Hub(config) as hub:
        await connect(hub, headers={"Origin": "https://app.example"})
        with pytest.raises(HandshakeRefusedError, match="403"):
            await connect(hub)


async def test_a_check_origin_that_raises_refuses(caplog: pytest.LogCaptureFixture) -> None:
    def fail(request: Request) -> bool:
        raise LookupError("no database")

    async with Hub(HubConfig(check_origin=fail)) as hub:
        with pytest.raises(HandshakeRefusedError, match="403"):
            await connect(hub)
        assert hub.stats().callback_errors == 1
    assert "no database" in caplog.text


def raising(request: Request) -> AuthResult:
    raise LookupError("no database")


async def raising_later(request: Request) -> AuthResult:
    raise LookupError("no database")


@pytest.mark.parametrize(
    ("authenticator", "error"),
    [
        (raising, AuthenticatorError),
        (raising_later, AuthenticatorError),
        (lambda _: True, AuthenticatorError),
        (lambda _: None, AuthenticatorError),
        (lambda _: AuthResult(True), AuthError),
        (lambda _: AuthResult(False), AuthError),
        (lambda _: AuthResult(False, error=PermissionError("expired")), PermissionError),
    ],
)
async def test_a_failed_authentication_is_reported_once_and_gives_401(
    authenticator: Any, error: type[Exception]
) -> None:
    told: list[tuple[Request, AuthResult]] = []
    config = HubConfig(
        authenticator=authenticator,
        on_auth_failure=lambda request, result: told.append((request, result)),
    )
    async with Hub(config) as hub:
        with pytest.raises(HandshakeRefusedError, match="401: Unauthorised"):
            await connect(hub, query="token=x", remote_address="192.0.2.7:1")
        assert hub.stats().clients == 0
    ((request, result),) = told
    assert request.remote_address == "192.0.2.7:1"
    assert not result.valid
    assert isinstance(result.error, error)


async def test_the_connection_keeps_its_claims() -> None:
    def authenticate(request: Request) -> AuthResult:
        return AuthResult(True, "alice", {"roles": ["admin"]})

    config = HubConfig(
        authenticator=authenticate,
        channel_authorizer=lambda connection, _: "admin" in (connection.claims or {})["roles"],
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        client.subscribe("secrets")
        await client.sync()
        assert hub.connections[0].subscriptions == ("secrets",)
        assert "alice" in repr(hub.connections[0])


async def test_connections_are_sorted_by_user_and_address() -> None:
    config = HubConfig(
        authenticator=lambda request: AuthResult(True, request.header("x-user") or "")
    )
    async with Hub(config) as hub:
        for user, address in (("bob", "b:2"), ("alice", "c:3"), ("bob", "a:1")):
            await connect(hub, headers={"X-User": user}, remote_address=address)
        assert [(each.user_id, each.remote_address) for each in hub.connections] == [
            ("alice", "c:3"),
            ("bob", "a:1"),
            ("bob", "b:2"),
        ]


async def test_clients_can_connect_during_broadcasts() -> None:
    async with Hub() as hub:

        async def publish() -> None:
            for number in range(50):
                hub.broadcast(Message(type="event", data=number))
                await asyncio.sleep(0)

        clients, _ = await asyncio.gather(
            asyncio.gather(*(connect(hub) for _ in range(50))), publish()
        )
        assert hub.stats().clients == 50
        for client in clients:
            await client.sync()
            numbers = [message.data for message in client.messages]
            assert numbers == list(range(50))[-len(numbers) :]


async def test_max_connections_holds_for_concurrent_handshakes() -> None:
    async def authenticate(request: Request) -> AuthResult:
        await asyncio.sleep(0)
        return AuthResult(True, "alice")

    async with Hub(HubConfig(authenticator=authenticate, max_connections=1)) as hub:
        results = await asyncio.gather(*(connect(hub) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(each, MemoryClient) for each in results) == 1
        assert sum(isinstance(each, HandshakeRefusedError) for each in results) == 4


# The end of a hub.


async def test_concurrent_closes_are_one_close() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        await asyncio.gather(hub.close(1012, "restart"), hub.close(), hub.close())
        assert (client.close_code, client.close_reason) == (1012, "restart")
        with pytest.raises(Exception, match="has been closed"):
            await connect(hub)


async def test_a_stalled_client_does_not_keep_the_hub_open_with_a_stopped_clock() -> None:
    async with Hub(HubConfig(close_timeout=0.05), clock=ManualClock()) as hub:
        client = await connect(hub)
        client.stall()
        hub.broadcast(HELLO)
    assert client.close_code == 1006


async def test_a_shutdown_hook_that_raises_is_logged_and_the_hub_closes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise LookupError("no database")

    async with Hub() as hub:
        client = await connect(hub)
        hub.add_shutdown_hook(fail)
    assert client.close_code == 1001
    assert "no database" in caplog.text


async def test_a_callback_may_close_the_hub() -> None:
    async def shut_down(connection: Connection, message: Message) -> None:
        await hub.close()

    async with Hub(HubConfig(on_message=shut_down)) as hub:
        client = await connect(hub)
        say(client, "x")
        assert await client.wait_closed() == 1001


async def test_sending_to_an_ended_connection_returns_false() -> None:
    async with Hub() as hub:
        client = await connect(hub)
        (connection,) = hub.connections
        assert connection.send(HELLO)
        assert (await client.receive()).data == "hello"
        client.close()
        assert not connection.send(HELLO)


async def test_a_close_that_overflows_the_outbox_has_one_cause() -> None:
    ends: list[tuple[DisconnectCause, int]] = []
    config = HubConfig(
        max_outbox_bytes=10_000,
        max_message_bytes=5_000,
        close_timeout=0.05,
        on_disconnect=lambda _, end: ends.append((end.cause, end.code)),
    )
    async with Hub(config) as hub:
        client = await connect(hub)
        client.stall()
        (connection,) = hub.connections
        # The close delivers the messages that wait, which do not fit.
        for _ in range(4):
            hub.publish_event("news", None)
            hub.send_event("news", "x" * 4_000)
        await connection.close(4000, "bye")
    assert ends == [(DisconnectCause.SLOW_CONSUMER, 1013)]
    assert hub.stats().evictions == 1
