"""The presence of one hub: members, announcements, requests of clients, and a store that fails."""

import asyncio
import gc
import json
from collections import deque
from collections.abc import Sequence
from typing import Any

import pytest

from wshub_core import (
    AuthResult,
    Connection,
    HistoryLimits,
    Hub,
    HubConfig,
    InvalidChannelError,
    InvalidConfigError,
    Message,
    NoPresenceError,
    Presence,
    PresenceCount,
    PresenceOutcome,
    PresenceSettings,
    PresenceStore,
    PresenceUnavailableError,
    PresenceUpdate,
    StoredPresence,
)
from wshub_core.connections.connection import ServerConnection
from wshub_core.hub import running_hub
from wshub_core.presence.local import LocalPresence
from wshub_core.presence.sync import RECOVERY_SECONDS, ROUND_SECONDS
from wshub_core.testing import ManualClock, MemoryBridge, MemoryClient, MemoryExchange, connect

ROOM = {"room:*": PresenceSettings()}
ANNOUNCED = {"room:*": PresenceSettings(announce=True, leave_delay=15)}


def make_hub(clock: ManualClock | None = None, **settings: Any) -> Hub:
    settings.setdefault("presence", ROOM)
    settings.setdefault(
        "authenticator",
        lambda request: AuthResult(True, request.query.removeprefix("user=") or "nobody"),
    )
    return Hub(HubConfig(**settings), clock=clock)


async def subscribe(hub: Hub, user: str, channel: str = "room:1") -> MemoryClient:
    client = await connect(hub, query=f"user={user}")
    client.subscribe(channel)
    await client.sync()
    return client


async def ask(client: MemoryClient, **frame: Any) -> Any:
    """Return the answer to a ``presence`` frame, with all fields."""
    payloads: deque[bytes] = deque()
    client.note_payload = payloads.append  # type: ignore[method-assign, assignment]
    client.send(json.dumps({"type": "presence", "id": 1, "channel": "room:1"} | frame).encode())
    async with asyncio.timeout(5):
        while not payloads:  # noqa: ASYNC110 - no event is set
            await asyncio.sleep(0)
    answer = json.loads(payloads.popleft())
    del answer["timestamp"]
    return answer


async def advance(hub: Hub, clock: ManualClock, seconds: float) -> None:
    """Advance the time, and wait until the hub has done the work that was due."""
    presence = running_hub(hub).presence
    assert presence is not None
    clock.advance(seconds)
    for _ in range(2):
        await asyncio.sleep(0)
        while presence.sync._round is not None:  # noqa: ASYNC110 - no event is set
            await asyncio.sleep(0)
        # The end of a round may have made another one due.
        clock.advance(0)


async def users_in(hub: Hub) -> list[str]:
    return sorted(each.user_id for each in (await hub.presence("room:1")).members)


# Settings.


@pytest.mark.parametrize(
    "settings",
    [
        {"presence": {"room:*:x": PresenceSettings()}},
        {"presence": {"room:*": True}},
        {"presence_info": "name"},
        {"presence_authorizer": True},
    ],
)
def test_invalid_settings_are_refused(settings: Any) -> None:
    with pytest.raises(InvalidConfigError):
        HubConfig(**settings)


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "15", True, None])
def test_an_invalid_delay_is_refused(delay: Any) -> None:
    with pytest.raises(InvalidConfigError, match="leave_delay"):
        PresenceSettings(leave_delay=delay)


async def test_a_channel_without_presence_has_no_members() -> None:
    async with make_hub() as hub, Hub() as other:
        for each, channel in ((hub, "news"), (other, "room:1")):
            with pytest.raises(NoPresenceError, match=r"HubConfig\.presence"):
                await each.presence(channel)
            with pytest.raises(NoPresenceError):
                await each.presence_count(channel)
        with pytest.raises(InvalidChannelError):
            await hub.presence("room 1")


# Members.


async def test_subscribers_are_members() -> None:
    async with make_hub() as hub:
        await subscribe(hub, "ada")
        presence = await hub.presence("room:1")
        assert presence.connections == presence.users == 1
        (member,) = presence.members
        assert (member.user_id, member.info) == ("ada", None)
        # The id of the connection in the hub is the part behind the dash.
        assert member.connection_id.endswith(f"-{hub.connections[0].id}")
        assert await hub.presence_count("room:1") == PresenceCount(connections=1, users=1)


async def test_the_application_can_make_members() -> None:
    async with make_hub() as hub:
        await connect(hub, query="user=ada")
        await hub.subscribe(hub.connections[0], "room:1")
        assert await users_in(hub) == ["ada"]
        await hub.subscribe(hub.connections[0], "room:1")
        assert await users_in(hub) == ["ada"]
        hub.unsubscribe(hub.connections[0], "room:1")
        assert await users_in(hub) == []


async def test_a_member_that_is_no_longer_authorized_goes() -> None:
    class Tokens:
        def __call__(self, _: object) -> AuthResult:
            return AuthResult(True, "ada")

        def authenticate_token(self, _: str) -> AuthResult:
            return AuthResult(True, "ada", {"banned": True})

    async with make_hub(
        authenticator=Tokens(), channel_authorizer=lambda connection, _: not connection.claims
    ) as hub:
        client = await subscribe(hub, "ada")
        assert await users_in(hub) == ["ada"]
        client.send(Message(type="authenticate", data="token"))
        await client.sync()
        assert await users_in(hub) == []


async def test_refused_subscribers_are_no_members() -> None:
    async with make_hub(channel_authorizer=lambda *_: False) as hub:
        await subscribe(hub, "ada")
        assert await users_in(hub) == []


@pytest.mark.parametrize(
    ("info", "result"),
    [
        ({"name": "Ada", "none": None}, {"name": "Ada", "none": None}),
        ("x" * 1_022, "x" * 1_022),
        (0, 0),
        (None, None),
    ],
)
async def test_a_member_has_the_info_of_the_application(info: Any, result: Any) -> None:
    async with make_hub(presence_info=lambda *_: info) as hub:
        client = await subscribe(hub, "ada")
        (member,) = (await hub.presence("room:1")).members
        assert member.info == result
        (member,) = (await ask(client))["data"]["members"]
        assert member.get("info") == result
        assert ("info" in member) == (result is not None)
        assert hub.stats().callback_errors == 0


async def describe_async(*_: object) -> str:
    return "too late"


def fail(*_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("presence_info", "why"),
    [
        (fail, "ZeroDivisionError"),
        (describe_async, "must be a plain function"),
        (lambda *_: object(), "JSON has no form for object"),
        (lambda *_: float("nan"), "NaN"),
        (lambda *_: "x" * 1_023, "has 1025 bytes, the limit is 1024"),
        (lambda *_: "\ud800", "surrogate"),
    ],
)
async def test_a_bad_info_is_logged_and_left_out(
    presence_info: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_hub(presence_info=presence_info) as hub:
        client = await subscribe(hub, "ada")
        (member,) = (await hub.presence("room:1")).members
        assert (member.user_id, member.info) == ("ada", None)
        assert hub.stats().callback_errors == 1
        hub.publish_event("room:1", "works")
        assert (await client.receive()).data == "works"
    assert why in caplog.text


async def test_the_info_function_can_end_and_begin_subscriptions() -> None:
    def describe(connection: Connection, channel: str) -> str:
        if connection.user_id == "leaver":
            hub.unsubscribe(connection, channel)
        elif connection.user_id == "returner" and not calls:
            calls.append(channel)
            hub.unsubscribe(connection, channel)
            hub.subscribe_nowait(connection, channel)
        return connection.user_id

    calls: list[str] = []
    async with make_hub(presence_info=describe) as hub:
        for user in ("leaver", "returner", "stayer"):
            await subscribe(hub, user)
        assert await users_in(hub) == ["returner", "stayer"]


async def test_a_user_id_that_is_no_unicode_is_written_with_question_marks() -> None:
    async with make_hub(authenticator=lambda _: AuthResult(True, "ada\ud800")) as hub:
        await subscribe(hub, "")
        assert await users_in(hub) == ["ada?"]


async def test_ids_of_connections_differ_between_hubs() -> None:
    async with make_hub() as here, make_hub() as there:
        ids = set()
        for hub in (here, there):
            await subscribe(hub, "ada")
            ids |= {each.connection_id for each in (await hub.presence("room:1")).members}
        assert len(ids) == 2


async def test_a_hub_keeps_nothing_of_members_that_have_gone() -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED) as hub:
        for number in range(20):
            client = await subscribe(hub, f"user-{number}", f"room:{number}")
            await advance(hub, clock, number % 2)
            client.close()
        await subscribe(hub, "ada", "news")
        presence = running_hub(hub).presence
        assert presence is not None
        store = presence.sync.store
        assert isinstance(store, LocalPresence)
        for _ in range(200):
            await advance(hub, clock, ROUND_SECONDS)
        assert presence.sync._rooms == {}
        assert store._channels == {}
        assert len(presence.sync._agenda) == 0
        assert presence.sync._agenda._heap == []


async def test_nothing_holds_a_connection_that_has_ended() -> None:
    async with make_hub() as hub:
        client = await subscribe(hub, "ada")
        await hub.presence("room:1")
        connection_id = id(hub.connections[0])
        client.close()
        await hub.presence("room:1")
        await asyncio.sleep(0)
        gc.collect()
        held = [each for each in gc.get_objects() if isinstance(each, ServerConnection)]
        assert connection_id not in map(id, held)


# Announcements.


async def test_users_are_announced_when_they_come_and_after_a_delay_when_they_go() -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED, presence_info=lambda *_: "hello") as hub:
        observer = await subscribe(hub, "observer")
        await advance(hub, clock, 0)
        joined = await observer.receive()
        assert (joined.type, joined.channel) == ("join", "room:1")
        assert [each["userId"] for each in joined.data] == ["observer"]
        client = await subscribe(hub, "ada")
        await advance(hub, clock, ROUND_SECONDS)
        (member,) = (await observer.receive()).data
        (expected,) = [e for e in (await hub.presence("room:1")).members if e.user_id == "ada"]
        assert member == {
            "userId": "ada",
            "connectionId": expected.connection_id,
            "info": "hello",
        }
        client.vanish()
        await advance(hub, clock, ROUND_SECONDS)
        await advance(hub, clock, 14.9)
        await observer.sync()
        assert not observer.messages
        assert await users_in(hub) == ["observer"]
        await advance(hub, clock, 0.1)
        left = await observer.receive()
        assert (left.type, left.data) == ("leave", [member])


async def test_a_user_who_returns_in_time_is_not_announced() -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED) as hub:
        observer = await subscribe(hub, "observer")
        for _ in range(3):
            client = await subscribe(hub, "ada")
            await advance(hub, clock, 5)
            client.close()
            await advance(hub, clock, 14.9)
        await subscribe(hub, "ada")
        await advance(hub, clock, 60)
        await observer.sync()
        assert [len(each.data) for each in observer.messages] == [2]
        assert observer.messages[0].type == "join"


async def test_the_last_user_who_goes_is_announced_too() -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED, history={"room:*": HistoryLimits()}) as hub:
        (await subscribe(hub, "ada")).close()
        client = await subscribe(hub, "ada")
        await advance(hub, clock, 0)
        client.close()
        await advance(hub, clock, ROUND_SECONDS)
        await advance(hub, clock, 15)
        page = await hub.history("room:1")
        assert [each.type for each in page.messages] == ["join", "leave"]


async def test_a_user_who_comes_and_goes_between_two_rounds_is_not_announced() -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED, authenticator=None) as hub:
        observer = await subscribe(hub, "")
        await advance(hub, clock, 0)
        await observer.receive()
        for _ in range(50):
            (await subscribe(hub, "")).close()
        await advance(hub, clock, 60)
        await observer.sync()
        assert not observer.messages


async def test_users_who_come_together_share_a_message() -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED, presence_info=lambda *_: "x" * 900) as hub:
        clients = [await connect(hub, query=f"user=user-{number}") for number in range(300)]
        for client in clients:
            client.subscribe("room:1")
        await advance(hub, clock, 0)
        await clients[0].sync()
        messages = list(clients[0].messages)
        # 300 members of a kilobyte fit into five messages of 64 KiB.
        assert [each.type for each in messages] == ["join"] * 5
        users = [member["userId"] for message in messages for member in message.data]
        assert sorted(users) == sorted(f"user-{number}" for number in range(300))


async def test_rounds_are_limited_in_number() -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED) as hub:
        observer = await subscribe(hub, "observer")
        for number in range(100):
            await subscribe(hub, f"user-{number}")
            await advance(hub, clock, ROUND_SECONDS / 10)
        await observer.sync()
        assert len(observer.messages) <= 12


async def test_announcements_are_messages_like_all_others() -> None:
    clock = ManualClock()
    heard: list[tuple[str, str]] = []
    async with make_hub(
        clock, presence=ANNOUNCED, history={"room:*": HistoryLimits()}, on_connect=None
    ) as hub:
        hub.add_publish_listener(lambda channel, message: heard.append((channel, message.type)))
        await subscribe(hub, "ada")
        await advance(hub, clock, 0)
        page = await hub.history("room:1")
        assert [(each.type, each.offset) for each in page.messages] == [("join", 1)]
        assert heard == [("room:1", "join")]


async def test_an_announcement_that_does_not_fit_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED, max_message_bytes=300) as hub:
        observer = await subscribe(hub, "observer")
        await subscribe(hub, "x" * 300)
        await advance(hub, clock, 0)
        await observer.sync()
        assert [each.data[0]["userId"] for each in observer.messages] == ["observer"]
        assert await hub.presence_count("room:1") == PresenceCount(connections=2, users=2)
    assert "a join message on 'room:1' is lost" in caplog.text


# Requests of clients.


async def test_a_subscriber_can_ask_for_the_members() -> None:
    async with make_hub() as hub:
        client = await subscribe(hub, "ada")
        answer = await ask(client, id=0)
        (member,) = answer.pop("data")["members"]
        assert member.keys() == {"userId", "connectionId"}
        assert answer == {"type": "presence", "channel": "room:1", "id": 0}
        assert (await ask(client, data={"count": True}))["data"] == {"connections": 1, "users": 1}
        assert "members" in (await ask(client, data={"count": 1}))["data"]


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"channel": "room:2"}, "presence_denied"),
        ({"channel": "news"}, "no_presence"),
        ({"channel": "room 1"}, "invalid_channel"),
        ({"channel": "x" * 300}, "invalid_channel"),
        ({"channel": "process:"}, "invalid_process_id"),
        ({"channel": ""}, "invalid_channel"),
        ({"channel": 7}, "malformed_frame"),
    ],
)
async def test_a_request_can_be_refused(frame: Any, code: str) -> None:
    async with make_hub() as hub:
        client = await subscribe(hub, "ada")
        answer = await ask(client, **frame)
        assert (answer["type"], answer["code"], answer["id"]) == ("error", code, 1)
        assert len(answer.get("channel", "")) <= 256


async def allow_async(*_: object) -> bool:
    return True


async def deny_async(*_: object) -> bool:
    return False


@pytest.mark.parametrize(
    ("authorizer", "is_allowed"),
    [
        (lambda connection, channel: (connection.user_id, channel) == ("ada", "room:1"), True),
        (lambda *_: False, False),
        (lambda *_: 1, False),
        (fail, False),
        (allow_async, True),
        (deny_async, False),
    ],
)
async def test_the_authorizer_decides_who_may_ask(authorizer: Any, is_allowed: bool) -> None:
    async with make_hub(presence_authorizer=authorizer) as hub:
        await subscribe(hub, "bob")
        answer = await ask(await connect(hub, query="user=ada"))
        assert (answer["type"] == "presence") == is_allowed
        assert (answer.get("code") == "presence_denied") != is_allowed


async def test_an_answer_fits_into_a_message() -> None:
    async with make_hub(max_message_bytes=10_000, presence_info=lambda *_: "x" * 1_000) as hub:
        for number in range(20):
            client = await subscribe(hub, f"user-{number}")
        data = (await ask(client))["data"]
        assert (data["connections"], data["users"], data["truncated"]) == (20, 20, True)
        assert 5 < len(data["members"]) < 10
        # Characters that need six bytes each.
        data = (await ask(client, id="\x01" * 128))["data"]
        assert data["members"]


async def test_an_answer_has_at_most_1000_members() -> None:
    async with make_hub(max_message_bytes=1_000_000) as hub:
        clients = [await connect(hub) for _ in range(1_001)]
        for client in clients:
            client.subscribe("room:1")
        data = (await ask(clients[-1]))["data"]
        assert len(data["members"]) == 1_000
        assert (data["connections"], data["users"], data["truncated"]) == (1_001, 1, True)


async def test_a_frame_without_an_id_goes_to_the_application() -> None:
    received: list[Message] = []
    async with make_hub(on_message=lambda _, message: received.append(message)) as hub:
        client = await subscribe(hub, "ada")
        client.send(Message(type="presence", channel="room:1"))
        await client.sync()
        assert [each.type for each in received] == ["presence"]
        assert not client.messages


async def test_a_hub_without_presence_passes_the_frames_on() -> None:
    received: list[Message] = []
    async with make_hub(presence={}) as hub:
        client = await subscribe(hub, "ada")
        assert (await ask(client))["code"] == "not_served"
    async with make_hub(presence={}, on_message=lambda _, message: received.append(message)) as hub:
        client = await subscribe(hub, "ada")
        client.send(b'{"type":"presence","id":1,"channel":"room:1"}')
        await client.sync()
        assert [each.type for each in received] == ["presence"]


async def test_the_next_frame_waits_for_the_answer() -> None:
    async with make_hub() as hub:
        client = await subscribe(hub, "ada")
        client.send(b'{"type":"presence","id":1,"channel":"room:1"}')
        client.send(b'{"type":"ping","id":2}')
        assert [(await client.receive()).type for _ in range(2)] == ["presence", "pong"]


# Stores.


class SlowStore(LocalPresence):
    """A store that answers when the test allows it, and that can fail."""

    refresh_seconds = 20.0

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.reads = 0
        self.batches: list[Sequence[PresenceUpdate]] = []

    async def update(
        self, hub_id: str, updates: Sequence[PresenceUpdate]
    ) -> Sequence[PresenceOutcome]:
        self.batches.append(updates)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return await super().update(hub_id, updates)

    async def read(self, channel: str, settings: PresenceSettings, limit: int) -> StoredPresence:
        self.reads += 1
        if self.error is not None:
            raise self.error
        stored = await super().read(channel, settings, limit)
        await self.gate.wait()
        return stored


def use_store(hub: Hub, store: PresenceStore) -> None:
    exchange = MemoryExchange()
    hub.bridge_port.attach(MemoryBridge(hub, exchange), presence=store)


async def test_requests_at_the_same_time_share_a_read() -> None:
    async with make_hub() as hub:
        store = SlowStore()
        use_store(hub, store)
        clients = [await subscribe(hub, f"user-{number}") for number in range(50)]
        await hub.presence("room:1", limit=1)
        store.reads = 0
        store.gate.clear()
        reads = [asyncio.create_task(hub.presence("room:1")) for _ in clients]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        # This one must see the member that enters now, so it needs another read.
        await subscribe(hub, "late")
        late = asyncio.create_task(hub.presence("room:1"))
        reads[0].cancel()
        store.gate.set()
        presences = await asyncio.gather(*reads, return_exceptions=True)
        assert isinstance(presences[0], asyncio.CancelledError)
        assert {each.connections for each in presences[1:] if isinstance(each, Presence)} == {50}
        assert (await late).connections == 51
        assert store.reads == 2


async def test_members_are_kept_while_the_store_cannot_be_reached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    async with make_hub(clock, presence=ANNOUNCED) as hub:
        store = SlowStore()
        use_store(hub, store)
        observer = await subscribe(hub, "observer")
        await subscribe(hub, "ada")
        assert await users_in(hub) == ["ada", "observer"]
        store.error = PresenceUnavailableError("the store is away")
        gone = await subscribe(hub, "gone")
        await subscribe(hub, "bob")
        with pytest.raises(PresenceUnavailableError, match="the store is away"):
            await hub.presence("room:1")
        assert (await ask(await subscribe(hub, "asker")))["code"] == "presence_unavailable"
        for _ in range(10):
            await advance(hub, clock, 10)
        gone.close()
        await observer.sync()
        store.error = None
        hub.bridge_port.resync_presence()
        store.batches.clear()
        await advance(hub, clock, RECOVERY_SECONDS / 2)
        with pytest.raises(PresenceUnavailableError, match="after an outage"):
            await hub.presence("room:1")
        assert not store.batches
        await advance(hub, clock, RECOVERY_SECONDS / 2)
        assert await users_in(hub) == ["ada", "asker", "bob", "observer"]
        await observer.sync()
        joined = [each["userId"] for m in observer.messages for each in m.data]
        assert sorted(joined) == ["ada", "asker", "bob", "observer"]
        hub.bridge_port.detach()
    assert caplog.text.count("other hubs do not learn who is present: the store is away") == 1
    assert "other hubs learn who is present again" in caplog.text


async def test_a_store_is_tried_again_without_a_hint() -> None:
    clock = ManualClock()
    async with make_hub(clock) as hub:
        store = SlowStore()
        store.error = PresenceUnavailableError("the store is away")
        use_store(hub, store)
        await subscribe(hub, "ada")
        await advance(hub, clock, 0)
        store.error = None
        await advance(hub, clock, 10)
        assert (await store.read("room:1", PresenceSettings(), 10)).connections == 1
        hub.bridge_port.detach()


async def test_a_store_with_a_fault_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with make_hub() as hub:
        store = SlowStore()
        use_store(hub, store)
        store.error = ZeroDivisionError("in the store")
        client = await subscribe(hub, "ada")
        with pytest.raises(PresenceUnavailableError):
            await hub.presence("room:1")
        assert (await ask(client))["code"] == "presence_unavailable"
        hub.bridge_port.detach()
    assert "ZeroDivisionError: in the store" in caplog.text


async def test_members_are_refreshed() -> None:
    clock = ManualClock()
    async with make_hub(clock) as hub:
        store = SlowStore()
        use_store(hub, store)
        await subscribe(hub, "ada")
        await subscribe(hub, "ada", "room:2")
        await advance(hub, clock, ROUND_SECONDS)
        for _ in range(5):
            store.batches.clear()
            for _ in range(200):
                await advance(hub, clock, 0.1)
            channels = {update.channel for batch in store.batches for update in batch}
            assert channels == {"room:1", "room:2"}
            assert len(store.batches) <= 4
        hub.bridge_port.detach()


async def test_many_members_that_leave_at_once_cost_few_calls() -> None:
    clock = ManualClock()
    async with make_hub(clock) as hub:
        store = SlowStore()
        use_store(hub, store)
        clients = [await connect(hub) for _ in range(1_500)]
        for number, client in enumerate(clients):
            client.subscribe("room:1")
            client.subscribe(f"room:{number % 300}")
        await advance(hub, clock, ROUND_SECONDS)
        assert len(store.batches) <= 10
        store.batches.clear()
        for client in clients:
            client.close()
        assert not store.batches
        await advance(hub, clock, ROUND_SECONDS)
        assert len(store.batches) <= 10
        assert (await store.read("room:1", PresenceSettings(), 0)).connections == 0
        hub.bridge_port.detach()


async def test_a_member_that_leaves_while_its_entry_is_under_way_goes() -> None:
    clock = ManualClock()
    async with make_hub(clock) as hub:
        store = SlowStore()
        use_store(hub, store)
        store.gate.clear()
        client = await subscribe(hub, "ada")
        clock.advance(0)
        await asyncio.sleep(0)
        assert len(store.batches) == 1
        client.close()
        store.gate.set()
        await advance(hub, clock, ROUND_SECONDS)
        assert (await store.read("room:1", PresenceSettings(), 0)).connections == 0
        hub.bridge_port.detach()


async def test_a_hub_closes_although_its_store_does_not_answer() -> None:
    store = SlowStore()
    async with make_hub(close_timeout=0.1) as hub:
        use_store(hub, store)
        await subscribe(hub, "ada")
        store.gate.clear()
        read = asyncio.create_task(hub.presence("room:1"))
        await asyncio.sleep(0)
        await hub.close()
        with pytest.raises(PresenceUnavailableError):
            await read


async def test_a_store_with_an_invalid_member_is_not_passed_on() -> None:
    class Forged(LocalPresence):
        async def read(
            self, channel: str, settings: PresenceSettings, limit: int
        ) -> StoredPresence:
            return StoredPresence(1, 1, [b'{"userId":7}'])

    async with make_hub() as hub:
        use_store(hub, Forged(lambda: 0.0))
        client = await subscribe(hub, "ada")
        with pytest.raises(PresenceUnavailableError, match="invalid member"):
            await hub.presence("room:1")
        assert (await ask(client))["code"] == "presence_unavailable"
        hub.bridge_port.detach()
