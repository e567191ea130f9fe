"""Failures of recovery that users of comparable systems have met, over real sockets."""

from history_support import ask, publish, receive_data
from support import Serve, Served, WireClient

from wshub_core import HistoryLimits

HISTORY = {"log:*": HistoryLimits(messages=5)}


async def come(served: Served, history: dict[str, object]) -> tuple[WireClient, dict[str, object]]:
    """Connect and subscribe; return the client and the data of the answer."""
    client = await served.connect()
    data: dict[str, object] = (await ask(client, "log:a", history))["data"]
    return client, data


async def test_a_client_that_has_never_got_a_message_recovers(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    client, before = await come(served, {"last": 0})
    await client.socket.close()
    publish(served.hub, "log:a", 1, 2)
    client, data = await come(served, {"since": before["after"], "epoch": before["epoch"]})
    assert data["recovered"] is True
    assert await receive_data(client, 2) == [1, 2]


async def test_a_client_that_returns_at_once_and_often_gets_nothing_twice(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    publish(served.hub, "log:a", 0)
    client, data = await come(served, {"since": 0})
    assert await receive_data(client, 1) == [0]
    epoch = data["epoch"]
    for number in range(1, 6):
        await client.socket.close()
        publish(served.hub, "log:a", number)
        # The recovered messages have offsets themselves, so the next recovery goes on behind them.
        client, data = await come(served, {"since": number, "epoch": epoch})
        assert data["recovered"] is True
        assert await receive_data(client, 1) == [number]


async def test_a_client_learns_how_many_messages_have_left_the_history(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    publish(served.hub, "log:a", *range(7))
    client, data = await come(served, {"since": 0})
    assert (data["recovered"], data["reason"], data["missing"]) == (False, "trimmed", 2)
    assert await receive_data(client, 5) == [2, 3, 4, 5, 6]


async def test_an_unknown_position_is_not_taken_for_the_newest_one(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    publish(served.hub, "log:a", 1, 2)
    client, data = await come(served, {"since": 99})
    assert (data["recovered"], data["reason"], data["after"]) == (False, "future_offset", 0)
    assert await receive_data(client, 2) == [1, 2]


async def test_messages_that_are_published_at_any_moment_of_a_recovery_come_once(
    serve: Serve,
) -> None:
    served = await serve(history={"log:*": HistoryLimits()})
    publish(served.hub, "log:a", *range(100))
    for start in range(100, 200, 10):
        client = await served.connect()
        await client.send(type="subscribe", channel="log:a", id=1, history={"since": 0})
        # Some of these are published before the hub reads the frame, some during the replay.
        for number in range(start, start + 10):
            publish(served.hub, "log:a", number)
            await client.send(type="unsubscribe", channel="log:other")  # a turn for the hub
        got = []
        while len(got) < start + 10:
            message = await client.receive()
            if "offset" in message:
                got.append(message["data"])
        assert got == [*range(start + 10)]
