"""Recovery from the history of a channel: positions, gaps, and requests for missing messages."""

from typing import Any

from client_contract.interface import QUICK, ClientUnderTest, Event
from client_contract.observing import (
    eventually,
    failure_of,
    holds,
    messages_of,
    named,
    names,
    wait_event,
)
from client_contract.servers import Peer, run_hub, run_script
from wshub_core import HistoryLimits, Message

EPOCH = "aaaaaaaa"
OTHER_EPOCH = "bbbbbbbb"


class RecoveryContract:
    """Recovery from the history of a channel: positions, gaps, and requests for what is missing."""

    async def test_history_frames_carry_the_request_of_the_application(
        self, client: ClientUnderTest
    ) -> None:
        async with run_script(serve_ids) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            await client.subscribe_confirmed("b", last=100)
            await client.subscribe_confirmed("c", since=0)
            await client.subscribe_confirmed("d", since=41)
            await client.subscribe_confirmed("e", since=(EPOCH, 41))
            frames = [each for each in server.peers[0].frames if each["type"] == "subscribe"]
            assert [each.get("history", "absent") for each in frames] == [
                "absent",
                {"last": 100},
                {"since": 0},
                {"since": 41},
                {"since": 41, "epoch": EPOCH},
            ]
            for wrong in ({"last": -1}, {"since": -1}, {"last": 1, "since": 1}, {"since": 2**53}):
                await failure_of(client.subscribe_confirmed("f", **wrong))

    async def test_position_follows_the_answer_and_the_messages(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(answer(frame, offset=41, first=1, after=41))
            await next_frame(peer, "go on")
            await peer.send(stored(42), stored(43), {"type": "event", "channel": "a", "data": "x"})
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            assert await client.position("a") is None
            await client.subscribe_confirmed("a")
            await wait_position(client, (EPOCH, 41))
            await client.send({"type": "go on"})
            assert await messages_of(client, 3) == [42, 43, "x"]
            await wait_position(client, (EPOCH, 43))
            assert await client.position("b") is None

    async def test_recovery_asks_for_the_messages_behind_the_position(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            if peer.number == 1:
                assert frame["history"] == {"last": 10}
                recovered = answer(frame, offset=1, first=1, after=0, recovered=True)
                await peer.send(recovered, stored(1), stored(2))
                await next_frame(peer, "go away")
                return
            assert frame["history"] == {"since": 2, "epoch": EPOCH}
            recovered = answer(frame, offset=4, first=1, after=2, recovered=True)
            await peer.send(recovered, stored(3), stored(4), stored(5))
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a", last=10)
            await messages_of(client, 2)
            await client.send({"type": "go away"})
            assert await messages_of(client, 5) == [1, 2, 3, 4, 5]
            assert names(await client.events()) == [
                *("connect", "message", "message", "error", "disconnect"),
                *("reconnect", "message", "message", "message"),
            ]

    async def test_recovery_repeats_the_request_of_the_application_without_a_position(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            assert frame["history"] == {"last": 5}
            if peer.number == 1:
                return
            await peer.send(answer(frame, offset=9, first=1, after=4, recovered=True), stored(5))
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a", last=5)
            assert await messages_of(client, 1) == [5]
            assert len(server.peers) == 2

    async def test_recovery_with_a_hub(self, client: ClientUnderTest) -> None:
        async with run_hub(history={"a": HistoryLimits()}) as running:
            for number in range(1, 6):
                running.hub.publish("a", Message(type="event", data=number))
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a", last=2)
            assert await messages_of(client, 2) == [4, 5]
            await running.drop()
            for number in range(6, 206):
                running.hub.publish("a", Message(type="event", data=number))
            await wait_event(client, "reconnect")
            running.hub.publish("a", Message(type="event", data=206))
            assert await messages_of(client, 203) == list(range(4, 207))
            assert named(await client.events(), "gap") == []

    async def test_gap_is_reported_before_the_messages_that_follow(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            if peer.number == 1:
                await peer.send(answer(frame, offset=1, first=1, after=1), stored(2))
            elif peer.number == 2:
                lost = {"recovered": False, "reason": "trimmed", "missing": 7}
                await peer.send(answer(frame, offset=10, first=10, after=9, **lost), stored(10))
            else:
                lost = {"recovered": False, "reason": "foreign_epoch"}
                fields = {"epoch": OTHER_EPOCH, "offset": 1, "first": 1, "after": 0}
                await peer.send(answer(frame, **fields, **lost), stored(1, OTHER_EPOCH))
            await next_frame(peer, "go away")

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            for count in (1, 2, 3):
                await messages_of(client, count)
                await client.send({"type": "go away"})
                await wait_event(client, "reconnect", count)
            assert without_connections(await client.events())[:5] == [
                message(2),
                {"event": "gap", "channel": "a", "reason": "trimmed", "missing": 7},
                message(10),
                {"event": "gap", "channel": "a", "reason": "foreign_epoch", "missing": None},
                message(1),
            ]

    async def test_gap_in_the_answer_to_the_first_request_is_reported(
        self, client: ClientUnderTest
    ) -> None:
        async with run_hub(history={"a": HistoryLimits(messages=2)}) as running:
            for number in range(1, 6):
                running.hub.publish("a", Message(type="event", data=number))
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a", since=0)
            assert await messages_of(client, 2) == [4, 5]
            assert without_connections(await client.events())[0] == {
                **{"event": "gap", "channel": "a", "reason": "trimmed", "missing": 3}
            }

    async def test_gap_after_a_restart_of_the_hub_is_reported(
        self, client: ClientUnderTest
    ) -> None:
        history = {"a": HistoryLimits()}
        async with run_hub(history=history) as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a")
            running.hub.publish("a", Message(type="event", data="before"))
            await messages_of(client, 1)
        await wait_event(client, "disconnect")
        port = int(running.url.split(":")[2].removesuffix("/ws"))
        async with run_hub(port, history=history) as running:
            # The client may be connected again before this message, or after it.
            running.hub.publish("a", Message(type="event", data="after"))
            assert await messages_of(client, 2) == ["before", "after"]
            [gap] = named(await client.events(), "gap")
            assert holds(gap, channel="a", reason="foreign_epoch", missing=None)

    async def test_gap_while_the_history_is_unavailable_is_closed_later(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            unavailable = {"recovered": False, "reason": "unavailable"}
            await peer.send(confirm(frame, unavailable))
            await peer.send({"type": "event", "channel": "a", "data": "live"}, stored(45))
            frame = await next_subscribe(peer)
            assert frame["history"] == {"since": 41, "epoch": EPOCH}
            recovered = answer(frame, offset=45, first=1, after=41, recovered=True)
            await peer.send(recovered, *map(stored, range(42, 46)))
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a", since=(EPOCH, 41))
            assert await messages_of(client, 5) == ["live", 42, 43, 44, 45]
            [gap] = named(await client.events(), "gap")
            assert holds(gap, channel="a", reason="unavailable", missing=None)
            assert await client.position("a") == (EPOCH, 45)

    async def test_jumps_of_offsets_make_the_client_ask_again(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(
                answer(frame, offset=0, first=1, after=0), stored(1), stored(4), stored(5)
            )
            frame = await next_subscribe(peer)
            assert frame["history"] == {"since": 1, "epoch": EPOCH}
            await peer.send(
                stored(6),
                {"type": "event", "channel": "a", "data": "without"},
                answer(frame, offset=6, first=1, after=1, recovered=True),
                *map(stored, range(2, 8)),
            )
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            assert await messages_of(client, 8) == [1, "without", 2, 3, 4, 5, 6, 7]
            frames = [each for each in server.peers[0].frames if each["type"] == "subscribe"]
            assert len(frames) == 2
            assert set(names(await client.events())) == {"connect", "message"}

    async def test_jumps_to_another_epoch_make_the_client_ask_again(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(answer(frame, offset=5, first=1, after=5), stored(6, OTHER_EPOCH))
            frame = await next_subscribe(peer)
            assert frame["history"] == {"since": 5, "epoch": EPOCH}
            fields = {"epoch": OTHER_EPOCH, "offset": 6, "first": 5, "after": 4}
            lost = {"recovered": False, "reason": "foreign_epoch"}
            messages = [stored(5, OTHER_EPOCH), stored(6, OTHER_EPOCH)]
            await peer.send(answer(frame, **fields, **lost), *messages)
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            await messages_of(client, 2)
            assert without_connections(await client.events()) == [
                {"event": "gap", "channel": "a", "reason": "foreign_epoch", "missing": None},
                message(5),
                message(6),
            ]
            assert await client.position("a") == (OTHER_EPOCH, 6)

    async def test_jumps_that_stay_are_gaps(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(answer(frame, offset=0, first=1, after=0), stored(1), stored(4))
            frame = await next_subscribe(peer)
            recovered = answer(frame, offset=4, first=1, after=1, recovered=True)
            await peer.send(recovered, stored(4), stored(5))
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            await messages_of(client, 3)
            assert without_connections(await client.events()) == [
                message(1),
                {"event": "gap", "channel": "a", "reason": "skipped", "missing": 2},
                message(4),
                message(5),
            ]
            # The hub has served every frame before this message, and none asks a third time.
            await client.send({"type": "ping"})
            await messages_of(client, 4)
            frames = [each for each in server.peers[0].frames if each["type"] == "subscribe"]
            assert len(frames) == 2

    async def test_jumps_whose_request_is_refused_end_the_subscription(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(answer(frame, offset=0, first=1, after=0), stored(1), stored(3))
            frame = await next_subscribe(peer)
            refusal = {"id": frame["id"], "code": "subscription_denied", "data": "no"}
            await peer.send({"type": "error", "channel": "a", **refusal})
            # The hub has refused the request, and has not ended the subscription.
            assert (await next_frame(peer, "unsubscribe"))["channel"] == "a"
            await next_frame(peer, "go away")

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            [error] = await wait_event(client, "error")
            assert holds(
                error, name="SubscriptionRefusedError", channel="a", code="subscription_denied"
            )
            assert await client.position("a") is None
            await client.send({"type": "go away"})
            await wait_event(client, "reconnect")
            assert [each["data"] for each in named(await client.events(), "message")] == [1]

    async def test_duplicates_are_not_delivered(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            offsets = [41, 42, 42, 41, 43, 1, 44]
            await peer.send(answer(frame, offset=41, first=1, after=41), *map(stored, offsets))
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            assert await messages_of(client, 3) == [42, 43, 44]
            assert set(names(await client.events())) == {"connect", "message"}

    async def test_no_history_is_reported_once(self, client: ClientUnderTest) -> None:
        async with run_hub() as running:
            await client.start(running.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a", last=10)
            await client.subscribe_confirmed("b")
            await running.drop()
            await wait_event(client, "reconnect")
            running.hub.publish("a", Message(type="event", data=1))
            assert await messages_of(client, 1) == [1]
            gaps = named(await client.events(), "gap")
            assert gaps == [
                {"event": "gap", "channel": "a", "reason": "no_history", "missing": None}
            ]
            assert await client.position("a") is None

    async def test_no_history_after_a_history_is_reported(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            if peer.number == 1:
                await peer.send(answer(frame, offset=5, first=1, after=5), stored(6))
                await next_frame(peer, "go away")
            elif peer.number == 2:
                await peer.send(confirm(frame), {"type": "event", "channel": "a", "data": "live"})
                await next_frame(peer, "go away")
            else:
                assert "history" not in frame
                await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            for count in (1, 2):
                await messages_of(client, count)
                await client.send({"type": "go away"})
                await wait_event(client, "reconnect", count)
            assert without_connections(await client.events()) == [
                message(6),
                {"event": "gap", "channel": "a", "reason": "no_history", "missing": None},
                message("live"),
            ]
            assert await client.position("a") is None

    async def test_no_history_of_a_hub_that_answers_no_ids_is_reported(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            while True:
                frame = await peer.read()
                if frame["type"] == "ping":
                    await peer.send({"type": "pong"})

        async with run_script(script, plain=True) as server:
            await client.start(server.url, plain=True, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe_confirmed("a", since=0)
            await client.subscribe_confirmed("b")
            [gap] = await wait_event(client, "gap")
            assert holds(gap, channel="a", reason="no_history", missing=None)

    async def test_notices_of_a_cleared_history_move_the_position(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(
                answer(frame, offset=5, first=1, after=5),
                notice("history_cleared", epoch=OTHER_EPOCH, offset=5),
                stored(6, OTHER_EPOCH),
                notice("history_cleared", epoch="cccccccc"),
                stored(1, "cccccccc"),
            )
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            await wait_event(client, "message", 4)
            messages = [(each["type"], each["data"]) for each in (await client.events())[1:]]
            assert messages == [
                ("history_cleared", {"epoch": OTHER_EPOCH, "offset": 5}),
                ("event", 6),
                ("history_cleared", {"epoch": "cccccccc"}),
                ("event", 1),
            ]
            assert await client.position("a") == ("cccccccc", 1)

    async def test_notices_of_a_newer_position_make_the_client_ask_again(
        self, client: ClientUnderTest
    ) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(
                answer(frame, offset=5, first=1, after=5),
                notice("history_position", epoch=EPOCH, offset=5),
                notice("history_position", epoch=EPOCH, offset=6),
            )
            frame = await next_subscribe(peer)
            assert frame["history"] == {"since": 5, "epoch": EPOCH}
            await peer.send(
                answer(frame, offset=6, first=1, after=5, recovered=True),
                stored(6),
                notice("history_position", epoch=OTHER_EPOCH, offset=0),
            )
            frame = await next_subscribe(peer)
            assert frame["history"] == {"since": 6, "epoch": EPOCH}
            fields = {"epoch": OTHER_EPOCH, "offset": 0, "first": 1, "after": 0}
            lost = {"recovered": False, "reason": "foreign_epoch"}
            await peer.send(answer(frame, **fields, **lost), stored(1, OTHER_EPOCH))
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            await wait_event(client, "message", 5)
            events = without_connections(await client.events())
            assert [each.get("type", each["event"]) for each in events] == [
                *("history_position", "history_position", "event"),
                *("history_position", "gap", "event"),
            ]
            assert [each["data"] for each in named(events, "message")[2::2]] == [6, 1]
            [gap] = named(events, "gap")
            assert holds(gap, channel="a", reason="foreign_epoch", missing=None)

    async def test_unsubscribe_forgets_the_position(self, client: ClientUnderTest) -> None:
        async def script(peer: Peer) -> None:
            frame = await next_subscribe(peer)
            await peer.send(answer(frame, offset=5, first=1, after=5), stored(6))
            frame = await next_subscribe(peer)
            assert "history" not in frame
            # Without a position, these are ordinary messages.
            await peer.send(stored(7), stored(9))
            await peer.send(answer(frame, offset=20, first=1, after=20), stored(21))
            await serve_ids(peer)

        async with run_script(script) as server:
            await client.start(server.url, **QUICK)
            await wait_event(client, "connect")
            await client.subscribe("a")
            assert await messages_of(client, 1) == [6]
            await client.unsubscribe("a")
            assert await client.position("a") is None
            await client.subscribe("a")
            assert await messages_of(client, 4) == [6, 7, 9, 21]
            assert set(names(await client.events())) == {"connect", "message"}


# Helpers for the scripts. These servers answer ids, as hubs with history do.


async def next_frame(peer: Peer, kind: str) -> dict[str, Any]:
    """Answer frames until one of a type comes; return this one, without an answer."""
    while True:
        frame = await peer.read()
        if frame["type"] == kind:
            return frame
        if frame["type"] == "ping":
            await peer.send({"type": "pong", **({"id": frame["id"]} if "id" in frame else {})})
        elif frame["type"] == "subscribe":
            await peer.send(confirm(frame))


async def next_subscribe(peer: Peer) -> dict[str, Any]:
    return await next_frame(peer, "subscribe")


async def serve_ids(peer: Peer) -> None:
    """Answer all frames until the connection ends, as a hub without history does."""
    await next_frame(peer, "nothing")


def confirm(frame: dict[str, Any], data: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the answer to a subscribe frame, with the data if there are any."""
    answered = {"type": "subscribed", "channel": frame["channel"], "id": frame["id"]}
    return answered if data is None else {**answered, "data": data}


def answer(frame: dict[str, Any], **data: Any) -> dict[str, Any]:
    """Return the answer to a subscribe frame of a channel with history."""
    return confirm(frame, {"epoch": EPOCH, **data})


def stored(offset: int, epoch: str = EPOCH) -> dict[str, Any]:
    """Return a message of the history of channel ``a``; its data is its offset."""
    return {"type": "event", "channel": "a", "data": offset, "epoch": epoch, "offset": offset}


def notice(kind: str, **position: object) -> dict[str, Any]:
    """Return the message in which a hub tells the position of channel ``a``."""
    return {"type": kind, "channel": "a", "data": position}


# Helpers for the events of the client.


def message(data: object) -> Event:
    return {"event": "message", "type": "event", "channel": "a", "data": data}


def without_connections(events: list[Event]) -> list[Event]:
    return [each for each in events if each["event"] in ("message", "gap")]


async def wait_position(client: ClientUnderTest, position: tuple[str, int]) -> None:
    await eventually(lambda: client.position("a"), lambda now: now == position)
