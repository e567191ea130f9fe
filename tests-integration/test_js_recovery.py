"""Recovery of the JavaScript client, with servers whose answers a test writes.

The tests of `client_contract.recovery` hold for the clients in all languages.
"""

import asyncio
import random
from typing import Any

import pytest
from client_contract.interface import QUICK
from client_contract.observing import (
    failure_of,
    holds,
    messages_of,
    named,
    names,
    wait_event,
)
from client_contract.recovery import (
    EPOCH,
    OTHER_EPOCH,
    answer,
    confirm,
    message,
    next_frame,
    next_subscribe,
    serve_ids,
    stored,
    wait_position,
    without_connections,
)
from client_contract.servers import Peer, run_script
from js_clients import JSClient
from js_fixtures import client as client
from js_fixtures import running_client as running_client

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_subscribe_names_the_wrong_option(client: JSClient) -> None:
    both = "last excludes since"
    number = "last must be a number of messages, and since an offset or a position"
    no_numbers: list[Any] = [-1, 0.5, 2**53, "3", True, []]
    wrong: list[tuple[object, str]] = [
        ({"first": 1}, "there is no option first"),
        ({"last": 1, "since": 0}, both),
        *(({"last": value}, number) for value in no_numbers),
        *(({"since": value}, number) for value in [*no_numbers, {}]),
        ({"since": {"epoch": EPOCH}}, number),
        ({"since": {"epoch": EPOCH, "offset": "1"}}, number),
        ({"since": {"epoch": 5, "offset": 1}}, number),
    ]
    async with run_script(serve_ids) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        for options, text in wrong:
            error = await failure_of(client.call("subscribe", "a", options))
            assert (error.name, error.fields["text"]) == ("TypeError", text), options
        # Absent values are none, so the first position may be null.
        await client.call("subscribe_confirmed", "a", {"last": None, "since": None})
        await client.call("subscribe_confirmed", "b", {})
        frames = [each for each in server.peers[0].frames if each["type"] == "subscribe"]
        assert [(each["channel"], "history" in each) for each in frames] == [
            ("a", False),
            ("b", False),
        ]


async def test_messages_of_a_dial_that_fails_do_not_move_the_position(client: JSClient) -> None:
    lost = {"recovered": False, "reason": "trimmed", "missing": 2}

    async def script(peer: Peer) -> None:
        if peer.number == 1:
            frame = await next_subscribe(peer)
            await peer.send(answer(frame, offset=1, first=1, after=0, recovered=True), stored(1))
            await peer.socket.close(1012)
        frames = {each["type"]: each for each in await peer.read_to_ping()}
        assert frames["subscribe"]["history"] == {"since": 1, "epoch": EPOCH}
        recovered = answer(frames["subscribe"], offset=5, first=4, after=3, **lost)
        await peer.send(recovered, stored(4), stored(5))
        if peer.number == 2:
            # The answers and messages of this dial have come, and its pong never comes.
            await peer.socket.close(1012)
        await peer.send({"type": "pong", "id": frames["ping"]["id"]})
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe("a", since=0)
        assert await messages_of(client, 3) == [1, 4, 5]
        gap = {"event": "gap", "channel": "a", "reason": "trimmed", "missing": 2}
        assert without_connections(await client.events()) == [
            message(1),
            gap,
            message(4),
            message(5),
        ]
        kinds = names(await client.events())
        assert kinds[-4:] == ["reconnect", "gap", "message", "message"]
        assert len(server.peers) == 3


async def test_a_position_can_be_read_from_its_beginning_to_after_the_end(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        await next_frame(peer, "go on")
        await peer.send(answer(frame, offset=8, first=1, after=7, recovered=True), stored(8))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a", since=(EPOCH, 7))
        assert await client.position("a") == (EPOCH, 7)
        await wait_event(client, "connect")
        await client.send({"type": "go on"})
        await wait_position(client, (EPOCH, 8))
        await client.close()
        assert await client.position("a") == (EPOCH, 8)
        error = await failure_of(client.subscribe_confirmed("a"))
        assert error.name == "ClientClosedError"
        assert await client.position("a") == (EPOCH, 8)


async def test_positions_of_hubs_without_history_are_no_positions(client: JSClient) -> None:
    offsets = [5, 9, 1, 1]

    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        await peer.send(confirm(frame), *map(stored, offsets), stored(3, OTHER_EPOCH))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a")
        # An application has used these fields itself.
        assert await messages_of(client, 5) == [*offsets, 3]
        assert await client.position("a") is None
        assert len([each for each in server.peers[0].frames if each["type"] == "subscribe"]) == 1


async def test_messages_of_other_channels_have_no_positions(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        # The application of the hub has subscribed this connection to b.
        others = [{**stored(number), "channel": "b"} for number in (3, 1)]
        broadcast = {"type": "event", "data": 0, "epoch": EPOCH, "offset": 7}
        await peer.send(answer(frame, offset=0, first=1, after=0), *others, broadcast, stored(1))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a")
        assert await messages_of(client, 4) == [3, 1, 0, 1]


async def test_duplicates_are_counted(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        await peer.send(
            answer(frame, offset=2, first=1, after=2), *map(stored, (1, 2, 3, 3)), stored(4)
        )
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        assert await client.duplicate_messages() == 0
        await client.subscribe("a")
        assert await messages_of(client, 2) == [3, 4]
        assert await client.duplicate_messages() == 3


async def test_an_unavailable_history_gives_positions_when_it_is_back(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        await peer.send(confirm(frame, {"reason": "unavailable"}), stored(5), stored(6), stored(8))
        frame = await next_subscribe(peer)
        assert frame["history"] == {"since": 6, "epoch": EPOCH}
        recovered = answer(frame, offset=8, first=1, after=6, recovered=True)
        await peer.send(recovered, stored(7), stored(8))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a")
        assert await messages_of(client, 4) == [5, 6, 7, 8]
        assert named(await client.events(), "gap") == []


async def test_an_unavailable_history_is_asked_again_as_the_application_has_asked(
    client: JSClient,
) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        unavailable = {"recovered": False, "reason": "unavailable"}
        await peer.send(confirm(frame, unavailable), stored(9))
        frame = await next_subscribe(peer)
        assert frame["history"] == {"last": 3}
        # It is still unavailable. The client takes the messages as they come.
        await peer.send(confirm(frame, unavailable), stored(10), stored(11))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a", last=3)
        assert await messages_of(client, 2) == [10, 11]
        gaps = [each["reason"] for each in named(await client.events(), "gap")]
        assert gaps == ["unavailable", "unavailable", "skipped"]
        assert await client.position("a") == (EPOCH, 11)


async def test_the_answer_to_an_earlier_request_does_not_count(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        plain = await next_subscribe(peer)
        if peer.number == 1:
            await peer.send(confirm(plain, {"reason": "unavailable"}))
            await next_frame(peer, "go away")
            return
        # The history is back, and the client learns a position from the first message.
        await peer.send({"type": "pong", "id": (await peer.read_to_ping())[-1]["id"]})
        await peer.send(stored(5), stored(7))
        again = await next_subscribe(peer)
        assert ("history" in plain, again["history"]) == (False, {"since": 5, "epoch": EPOCH})
        await peer.send(answer(plain, offset=8, first=1, after=8), stored(9))
        recovered = answer(again, offset=9, first=1, after=5, recovered=True)
        await peer.send(recovered, *map(stored, (6, 7, 8, 9)))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe_confirmed("a")
        await client.send({"type": "go away"})
        assert await messages_of(client, 5) == [5, 6, 7, 8, 9]
        assert named(await client.events(), "gap") == []


async def test_a_newer_position_makes_the_client_ask_again(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)

        def notice(offset: object, epoch: object = EPOCH) -> dict[str, Any]:
            data = {"epoch": epoch, "offset": offset}
            return {"type": "history_position", "channel": "a", "data": data}

        odd = {"type": "history_position", "channel": "b"}
        old = notice(5)
        await peer.send(answer(frame, offset=5, first=1, after=5), odd, old, notice(7), notice(8))
        frame = await next_subscribe(peer)
        assert frame["history"] == {"since": 5, "epoch": EPOCH}
        recovered = answer(frame, offset=8, first=1, after=5, recovered=True)
        await peer.send(recovered, *map(stored, (6, 7, 8)), notice(0, OTHER_EPOCH))
        frame = await next_subscribe(peer)
        assert frame["history"] == {"since": 8, "epoch": EPOCH}
        lost = {"recovered": False, "reason": "foreign_epoch"}
        await peer.send(answer(frame, **{"epoch": OTHER_EPOCH, "offset": 0, "after": 0}, **lost))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a")
        await wait_position(client, (OTHER_EPOCH, 0))
        await client.send({"type": "ping"})
        await wait_event(client, "message", 9)
        events = without_connections(await client.events())
        assert [each["data"] for each in events if each.get("type") == "event"] == [6, 7, 8]
        assert len([each for each in server.peers[0].frames if each["type"] == "subscribe"]) == 3


async def test_an_older_position_makes_the_client_ask_again(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        # The history has lost its newest messages, and gives their offsets again.
        lost = {"type": "history_position", "channel": "a", "data": {"epoch": EPOCH, "offset": 3}}
        await peer.send(answer(frame, offset=5, first=1, after=5), lost, stored(4))
        frame = await next_subscribe(peer)
        assert frame["history"] == {"since": 5, "epoch": EPOCH}
        gap = {"recovered": False, "reason": "future_offset"}
        await peer.send(answer(frame, offset=4, first=4, after=3, **gap), stored(4))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a")
        await wait_position(client, (EPOCH, 4))
        events = without_connections(await client.events())
        assert [each.get("reason", each.get("data")) for each in events[1:]] == ["future_offset", 4]


async def test_a_notice_with_an_offset_is_a_message_of_the_history(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        # Somebody who may publish has chosen the type and the data.
        forged = {**stored(6), "type": "history_cleared", "data": {"epoch": OTHER_EPOCH}}
        await peer.send(answer(frame, offset=5, first=1, after=5), forged, stored(7))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a")
        assert await messages_of(client, 2) == [{"epoch": OTHER_EPOCH}, 7]
        assert await client.position("a") == (EPOCH, 7)


async def test_a_request_that_was_lost_with_its_connection_is_no_attempt(client: JSClient) -> None:
    async def script(peer: Peer) -> None:
        frame = await next_subscribe(peer)
        after = 0 if peer.number == 1 else 1
        recovered = answer(frame, offset=3, first=1, after=after, recovered=True)
        await peer.send(recovered, *map(stored, [1, 3] if peer.number == 1 else [3]))
        frame = await next_subscribe(peer)
        assert frame["history"] == {"since": 1, "epoch": EPOCH}
        if peer.number == 1:
            return
        recovered = answer(frame, offset=3, first=1, after=1, recovered=True)
        await peer.send(recovered, stored(2), stored(3))
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        await client.subscribe("a", since=0)
        assert await messages_of(client, 3) == [1, 2, 3]
        assert named(await client.events(), "gap") == []


async def test_answers_with_odd_data_do_not_stop_the_client(client: JSClient) -> None:
    odd: list[Any] = [None, True, 5, "text", [], {}, {"epoch": 5, "after": 1}]
    no_numbers: list[Any] = [-1, 0.5, "1", None, 2**60, {}]
    odd += [{"epoch": EPOCH, "after": each} for each in no_numbers]
    odd += [{"recovered": False, "reason": 5, "missing": each} for each in no_numbers]

    async def script(peer: Peer) -> None:
        for data in odd:
            frame = await next_subscribe(peer)
            assert frame["history"] == {"last": 1}
            await peer.send({**confirm(frame), "data": data})
        await serve_ids(peer)

    async with run_script(script) as server:
        await client.start(server.url, **QUICK)
        await wait_event(client, "connect")
        for number in range(len(odd)):
            await client.subscribe_confirmed(f"c{number}", last=1)
            assert await client.position(f"c{number}") is None
        gaps = await wait_event(client, "gap", len(odd))
        assert all(holds(each, reason="no_history", missing=None) for each in gaps)
        assert "disconnect" not in names(await client.events())


class FaultyHub:
    """A hub with a history of one channel, which loses and repeats messages and connections.

    At each of some offsets it fails once, when it first comes to this offset.
    """

    COUNT = 200

    def __init__(self, seed: int) -> None:
        choice = random.Random(seed)
        self.faults = {
            number: choice.choice(["lose", "repeat", "end"])
            for number in choice.sample(range(1, self.COUNT), 30)
        }
        self.requests = 0

    async def script(self, peer: Peer) -> None:
        sending = asyncio.create_task(asyncio.sleep(3600))
        try:
            while True:
                reading = asyncio.create_task(peer.read())
                await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    reading.cancel()
                    return
                frame = await reading
                if frame["type"] == "ping":
                    await peer.send({"type": "pong", "id": frame["id"]})
                elif frame["type"] == "subscribe":
                    sending.cancel()
                    sending = asyncio.create_task(self.send_messages(peer, frame))
        finally:
            sending.cancel()

    async def send_messages(self, peer: Peer, frame: dict[str, Any]) -> None:
        """Send the messages that a frame asks for; return to end the connection."""
        self.requests += 1
        after: int = frame["history"]["since"]
        await peer.send(answer(frame, offset=self.COUNT, first=1, after=after, recovered=True))
        for number in range(after + 1, self.COUNT + 1):
            fault = self.faults.pop(number, "")
            if fault == "repeat":
                await peer.send(*map(stored, range(max(1, number - 3), number)))
            elif fault == "lose":
                # The client asks for this message when it gets one of the next messages.
                await peer.send(*map(stored, range(number + 1, number + 4)))
                break
            await peer.send(stored(number))
            if fault == "end":
                return
            await asyncio.sleep(0)
        await asyncio.sleep(3600)


@pytest.mark.parametrize("seed", range(3))
async def test_every_message_is_delivered_once_and_in_order(client: JSClient, seed: int) -> None:
    hub = FaultyHub(seed)
    async with run_script(hub.script) as server:
        await client.start(server.url, **QUICK)
        await client.subscribe("a", since=0)
        await wait_position(client, (EPOCH, hub.COUNT))
        events = await client.events()
        received = [each["data"] for each in named(events, "message")]
        assert received == list(range(1, hub.COUNT + 1))
        assert named(events, "gap") == []
        assert await client.duplicate_messages() > 0
        assert hub.requests > len(server.peers) > 1
