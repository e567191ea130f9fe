"""Recovery over real sockets: requests of every kind, and connections that end at any moment."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from asgi_servers import ASGI_SERVERS, ASGIServer
from history_support import ask, leftovers, publish, receive_data, recovery_of
from raw_client import raw, reset, text
from support import Serve, Served, WireClient, eventually
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode

from wshub_core import Connection, HistoryLimits, Hub, HubConfig, Message, ReservedTypeError
from wshub_core.hub import running_hub

HISTORY = {"log:*": HistoryLimits()}
KIB = "x" * 1_000
SUBSCRIBE = text('{"type":"subscribe","channel":"log:a","id":1,"history":{"since":0}}')


@pytest.fixture
async def with_history(serve: Serve) -> Served:
    return await serve(history=HISTORY)


# Requests.


@pytest.mark.parametrize(
    "history",
    [
        "{}",
        "[1]",
        "true",
        '"last"',
        '{"last":-1}',
        '{"last":1.5}',
        '{"last":true}',
        '{"last":"1"}',
        '{"last":9007199254740992}',
        '{"last":1,"since":1}',
        '{"since":-1}',
        '{"since":1,"epoch":1}',
        '{"epoch":"abc"}',
        '{"since":0,"limit":1}',
        '{"since":1e999}',
    ],
)
async def test_an_invalid_request_is_refused_and_makes_no_subscription(
    with_history: Served, history: str
) -> None:
    client = await with_history.connect()
    frame = '{"type":"subscribe","channel":"log:a","id":7,"history":%s}'
    await client.socket.send(frame % history)
    answer = await client.receive()
    assert (answer["type"], answer["code"], answer["id"]) == ("error", "invalid_history", 7)
    assert answer["channel"] == "log:a"
    assert with_history.hub.channels == ()
    # The connection goes on.
    assert (await ask(client, "log:a", {"last": 1}))["data"]["recovered"] is True


async def test_the_field_history_of_a_frame_without_an_id_is_ignored(with_history: Served) -> None:
    publish(with_history.hub, "log:a", 1)
    client = await with_history.connect()
    await client.send(type="subscribe", channel="log:a", history={"nonsense": True})
    await client.send(type="subscribe", channel="log:b", history={"last": 5})
    await client.sync()
    assert with_history.hub.channels == ("log:a", "log:b")
    publish(with_history.hub, "log:a", 2)
    assert await receive_data(client, 1) == [2]


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_client_learns_nothing_of_a_channel_that_it_may_not_read(
    serve: Serve, is_async: bool
) -> None:
    async def decide_late(connection: Connection, channel: str) -> bool:
        await asyncio.sleep(0.01)
        return channel != "log:secret"

    def decide(connection: Connection, channel: str) -> bool:
        return channel != "log:secret"

    served = await serve(history=HISTORY, channel_authorizer=decide_late if is_async else decide)
    publish(served.hub, "log:secret", "secret")
    publish(served.hub, "log:open", "open")
    client = await served.connect()
    for history in (None, {"last": 5}, {"since": 0}, {"since": 0, "epoch": "00000000"}):
        answer = await ask(client, "log:secret", history)
        assert (answer["type"], answer["code"]) == ("error", "subscription_denied")
        assert set(answer) <= {"type", "channel", "code", "id", "data", "timestamp"}
        assert isinstance(answer["data"], str)
    assert served.hub.channels == ()
    assert (await ask(client, "log:open", {"last": 5}))["data"]["recovered"] is True
    assert await receive_data(client, 1) == ["open"]


async def test_a_request_for_an_invalid_channel_is_refused(with_history: Served) -> None:
    client = await with_history.connect()
    answer = await ask(client, "log:ä", {"last": 1})
    assert (answer["code"], with_history.hub.channels) == ("invalid_channel", ())


async def test_subscribe_unsubscribe_and_subscribe_in_one_packet(with_history: Served) -> None:
    publish(with_history.hub, "log:a", *range(3_000))
    subscribe = '{"type":"subscribe","channel":"log:a","id":%d,"history":{"since":%d}}'
    async with raw(with_history) as client:
        await client.open()
        client.writer.write(
            text(subscribe % (1, 0))
            + text('{"type":"unsubscribe","channel":"log:a","id":2}')
            + text(subscribe % (3, 2_990))
            + text('{"type":"ping","id":4}')
        )
        answers = [json.loads((await client.read_frame())[1]) for _ in range(4)]
        assert [answer["id"] for answer in answers] == [1, 2, 3, 4]
        messages = [json.loads((await client.read_frame())[1]) for _ in range(10)]
        assert [message["data"] for message in messages] == [*range(2_990, 3_000)]
        client.writer.write(text('{"type":"ping","id":5}'))
        assert json.loads((await client.read_frame())[1])["id"] == 5


async def test_the_last_of_many_requests_in_one_packet_counts(with_history: Served) -> None:
    publish(with_history.hub, "log:a", *range(50))
    subscribe = '{"type":"subscribe","channel":"log:a","id":%d,"history":{"last":%d}}'
    async with raw(with_history) as client:
        await client.open()
        client.writer.write(b"".join(text(subscribe % (n, n)) for n in range(1, 31)))
        answers = [json.loads((await client.read_frame())[1]) for _ in range(30)]
        assert [answer["id"] for answer in answers] == [*range(1, 31)]
        messages = [json.loads((await client.read_frame())[1]) for _ in range(30)]
        assert [message["data"] for message in messages] == [*range(20, 50)]
        client.writer.write(text('{"type":"ping","id":99}'))
        assert json.loads((await client.read_frame())[1])["id"] == 99
    await eventually(lambda: leftovers(with_history.hub) == {})


# Order.


async def test_answers_and_pongs_come_before_the_histories_of_all_channels(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    for number in range(15):
        publish(served.hub, f"log:{number}", *([KIB] * 400))
    client = await served.connect()
    for number in range(15):
        await client.send(
            type="subscribe", channel=f"log:{number}", id=number, history={"since": 0}
        )
    await client.send(type="ping", id="last")
    before = 0
    while (message := await client.receive()).get("id") != "last":
        before += len(json.dumps(message))
    # At most one page, beside the answers.
    assert before < 2 * 262_144
    received = {f"log:{number}": 0 for number in range(15)}
    if "offset" in message:
        received[message["channel"]] += 1
    while set(received.values()) != {400}:
        message = await client.receive()
        if "offset" in message:
            received[message["channel"]] += 1
            assert message["offset"] == received[message["channel"]]


async def test_histories_of_several_channels_are_sent_in_turn(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    for name in ("log:a", "log:b"):
        publish(served.hub, name, *([KIB] * 1_500))
    client = await served.connect()
    for name in ("log:a", "log:b"):
        await client.send(type="subscribe", channel=name, id=name, history={"since": 0})
    received = [await client.receive() for _ in range(3_002)]
    order = [message["channel"] for message in received if "offset" in message]
    # The second channel begins long before the end of the first one.
    assert order.index("log:b") < 1_000


async def test_messages_of_other_channels_arrive_beside_a_history_in_order(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    publish(served.hub, "log:a", *([KIB] * 2_000))
    client = await served.connect()
    await client.subscribe("live")
    await ask(client, "log:a", {"since": 0})
    publishing = asyncio.create_task(publish_slowly(served.hub, "live", 200))
    history: list[int] = []
    live: list[int] = []
    while len(history) < 2_000 or len(live) < 200:
        message = await client.receive()
        if message["channel"] == "live":
            live.append(message["data"])
        else:
            history.append(message["offset"])
    await publishing
    assert history == [*range(1, 2_001)]
    assert live == [*range(200)]


async def publish_slowly(hub: Hub, channel: str, count: int) -> None:
    for number in range(count):
        publish(hub, channel, number)
        if number % 5 == 0:
            await asyncio.sleep(0.001)


async def test_a_publish_listener_may_publish_to_the_channel(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    hub = served.hub

    def answer(channel: str, message: Message) -> None:
        if message.data < 100:
            publish(hub, channel, message.data + 100)

    hub.add_publish_listener(answer)
    client = await served.connect()
    await ask(client, "log:a")
    publish(hub, "log:a", *range(5))
    live = await receive_data(client, 10)
    # The listener is called before the delivery, so its message comes first.
    assert sorted(live) == [*range(5), *range(100, 105)]
    page = await hub.history("log:a")
    assert [message.data for message in page.messages] == live


async def test_on_connect_may_publish_and_subscribe_before_the_client_asks(serve: Serve) -> None:
    hubs: list[Hub] = []

    async def greet(connection: Connection) -> None:
        publish(hubs[0], "log:a", "before")
        await hubs[0].subscribe(connection, "log:a")
        publish(hubs[0], "log:a", "greeting")

    served = await serve(history=HISTORY, on_connect=greet)
    hubs.append(served.hub)
    client = await served.connect()
    greeting = await client.receive()
    assert (greeting["data"], greeting["offset"]) == ("greeting", 2)
    answer = await ask(client, "log:a", {"since": 0})
    assert answer["data"]["offset"] == 2
    assert await receive_data(client, 2) == ["before", "greeting"]
    publish(served.hub, "log:a", "live")
    assert await receive_data(client, 1) == ["live"]


async def test_the_application_may_subscribe_the_client_beside_a_replay(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    hub = served.hub
    publish(hub, "log:a", *([KIB] * 2_000))
    client = await served.connect()
    await ask(client, "log:a", {"since": 0})
    (connection,) = hub.connections
    for _ in range(3):
        await hub.subscribe(connection, "log:a")
        hub.subscribe_nowait(connection, "log:a")
        publish(hub, "log:a", "live")
    data = await receive_data(client, 2_003)
    assert data == [KIB] * 2_000 + ["live"] * 3


async def test_a_replay_ends_when_the_application_ends_the_subscription(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    hub = served.hub
    publish(hub, "log:a", *([KIB] * 4_000))
    client = await served.connect()
    await ask(client, "log:a", {"since": 0})
    (connection,) = hub.connections
    hub.unsubscribe(connection, "log:a")
    await eventually(lambda: leftovers(hub) == {})
    await client.send(type="ping", id=9)
    while (await client.receive()).get("id") != 9:
        pass
    await hub.subscribe(connection, "log:a")
    publish(hub, "log:a", "live")
    assert (await client.receive())["data"] == "live"


# Slow clients, and ends.


async def stop_reading(served: Served) -> WireClient:
    """Connect a client that takes few bytes before the hub cannot write any more."""
    return await served.connect(max_queue=1, max_size=None)


async def test_a_slow_client_gets_a_long_history_completely(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    publish(served.hub, "log:a", *([KIB] * 3_500))
    client = await stop_reading(served)
    answer = await ask(client, "log:a", {"since": 0})
    assert answer["data"]["recovered"] is True
    for number in range(50):
        publish(served.hub, "log:a", number)
        await asyncio.sleep(0)
    data = await receive_data(client, 3_550)
    assert data == [KIB] * 3_500 + [*range(50)]


async def test_a_client_is_closed_if_its_history_is_removed_before_it_was_sent(
    serve: Serve,
) -> None:
    limits = HistoryLimits(messages=4_000, bytes=100_000_000)
    served = await serve(history={"log:*": limits})
    publish(served.hub, "log:a", *([KIB * 10] * 4_000))
    client = await stop_reading(served)
    answer = await ask(client, "log:a", {"since": 0})
    assert answer["data"]["recovered"] is True
    publish(served.hub, "log:a", *([KIB] * 4_000))
    offsets: list[int] = []

    async def receive_all() -> None:
        while True:
            offsets.append((await client.receive())["offset"])

    with pytest.raises(ConnectionClosed) as closing:
        await receive_all()
    assert closing.value.rcvd is not None
    assert closing.value.rcvd.code == 1013
    assert offsets == [*range(1, len(offsets) + 1)]
    # The client comes back, and is told.
    client = await served.connect()
    epoch = answer["data"]["epoch"]
    again = await ask(client, "log:a", {"since": offsets[-1], "epoch": epoch})
    assert again["data"]["reason"] == "trimmed"
    assert again["data"]["missing"] == 4_000 - offsets[-1]
    await receive_data(client, 4_000)


@pytest.mark.parametrize("way", ["reset", "close", "hub"])
async def test_nothing_is_left_of_a_replay_whose_connection_ends(serve: Serve, way: str) -> None:
    served = await serve(history=HISTORY)
    hub = served.hub
    for name in ("log:a", "log:b"):
        publish(hub, name, *([KIB] * 3_500))
    async with raw(served) as client:
        await client.open()
        client.writer.write(SUBSCRIBE + SUBSCRIBE.replace(b"log:a", b"log:b"))
        # The client does not read further, so the hub cannot send everything.
        await client.read_frame()
        (connection,) = hub.connections
        assert leftovers(hub) != {}
        if way == "reset":
            reset(client)
        elif way == "close":
            client.writer.write(
                Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)
            )
        else:
            closing = asyncio.create_task(connection.close(4000))
        await eventually(lambda: hub.connections == ())
        await eventually(lambda: leftovers(hub) == {})
    if way == "hub":
        await closing
    await eventually(lambda: running_hub(hub).tasks.running == set())


async def test_a_hub_can_be_closed_in_the_middle_of_replays(serve: Serve) -> None:
    served = await serve(history=HISTORY, close_timeout=0.5)
    hub = served.hub
    publish(hub, "log:a", *([KIB] * 3_500))
    running = running_hub(hub)
    async with AsyncExitStack() as stack:
        for _ in range(5):
            client = await stack.enter_async_context(raw(served))
            await client.open()
            client.writer.write(SUBSCRIBE)
            await client.read_frame()
        assert leftovers(hub) != {}
        await hub.close()
        assert leftovers(running) == {}
        assert running.tasks.running == set()


async def test_nothing_is_left_of_clients_that_subscribe_and_leave_at_once(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    for number in range(40):
        async with raw(served) as client:
            await client.open()
            client.writer.write(SUBSCRIBE)
            if number % 2:
                await client.read_frame()
    await eventually(lambda: served.hub.connections == ())
    await eventually(lambda: leftovers(served.hub) == {})


# Many requests.


async def test_a_flood_of_requests_by_a_client_that_does_not_read_takes_few_resources(
    serve: Serve,
) -> None:
    served = await serve(history=HISTORY)
    hub = served.hub
    publish(hub, "log:a", *([KIB] * 3_500))
    other = await served.connect()
    async with raw(served) as client:
        await client.open()
        client.writer.write(SUBSCRIBE * 20_000)
        most = 0
        for _ in range(50):
            # Another client is served all the time.
            await other.sync()
            most = max(most, len(running_hub(hub).tasks.running))
        # A task for the running request and one that sends pages, whatever the client asks.
        assert most <= 4
        replays = recovery_of(running_hub(hub))._replays
        assert sum(len(each) for each in replays.values()) <= 1
        for connection in hub.connections:
            running = next(
                each for each in running_hub(hub).registry.connections if each is connection
            )
            assert running.outbox.queued_bytes + running.unsent_bytes <= 1_048_576
    await eventually(lambda: len(hub.connections) == 1)
    await eventually(lambda: leftovers(hub) == {})


async def test_one_client_restores_many_channels(serve: Serve) -> None:
    served = await serve(history=HISTORY)
    for number in range(300):
        publish(served.hub, f"log:{number}", *range(3))
    client = await served.connect()
    most = 0
    for number in range(300):
        await client.send(
            type="subscribe", channel=f"log:{number}", id=number, history={"since": 0}
        )
    received: dict[str, list[int]] = {}
    for _ in range(1_200):
        message = await client.receive()
        most = max(most, len(running_hub(served.hub).tasks.running))
        if "offset" in message:
            received.setdefault(message["channel"], []).append(message["data"])
    assert list(received.values()) == [[0, 1, 2]] * 300
    assert most <= 4
    await eventually(lambda: leftovers(served.hub).keys() <= {"unpublished"})


# Bounds, and servers.


async def test_a_history_that_is_larger_than_the_memory_for_histories_is_kept_alone(
    serve: Serve,
) -> None:
    served = await serve(history=HISTORY, max_history_bytes=10_000)
    hub = served.hub
    publish(hub, "log:a", *([KIB] * 100))
    client = await served.connect()
    first = await ask(client, "log:a", {"since": 0})
    assert first["data"]["recovered"] is True
    assert await receive_data(client, 100) == [KIB] * 100
    publish(hub, "log:b", 1)
    assert (await hub.history("log:a")).messages == ()
    answer = await ask(client, "log:a", {"since": 50, "epoch": first["data"]["epoch"]})
    assert answer["data"]["reason"] == "foreign_epoch"


async def test_pages_hold_messages_of_the_maximum_size(serve: Serve) -> None:
    served = await serve(history=HISTORY, max_outbox_bytes=70_000)
    size = 65_000
    publish(served.hub, "log:a", *[str(n) * size for n in range(5)])
    client = await served.connect()
    assert (await ask(client, "log:a", {"since": 0}))["data"]["recovered"] is True
    assert await receive_data(client, 5) == [str(n) * size for n in range(5)]


@pytest.mark.parametrize("server", ASGI_SERVERS.values(), ids=ASGI_SERVERS)
async def test_an_asgi_application_sends_histories(server: ASGIServer) -> None:
    hub = Hub(HubConfig(history=HISTORY))
    async with server(hub.asgi()) as port:
        async with connect(f"ws://127.0.0.1:{port}/", proxy=None, max_size=None) as socket:
            publish(hub, "log:a", *([KIB] * 1_500))
            client = WireClient(socket)
            answer = await ask(client, "log:a", {"since": 500})
            assert answer["data"]["recovered"] is True
            publish(hub, "log:a", "live")
            assert await receive_data(client, 1_001) == [KIB] * 1_000 + ["live"]
            await ask(client, "log:a", {"since": 0})
            socket.transport.abort()
        await eventually(lambda: hub.connections == ())
        await eventually(lambda: leftovers(hub) == {})


async def test_a_notice_is_not_published_by_clients_or_the_application(serve: Serve) -> None:
    served = await serve(history=HISTORY, publish_authorizer=lambda *_: True)
    client = await served.connect()
    await ask(client, "log:a")
    for kind in ("history_cleared", "history_position"):
        await client.send(type=kind, channel="log:a", data={"epoch": "forged"}, id=3)
        answer = await client.receive()
        assert (answer["type"], answer["code"]) == ("error", "not_served")
        with pytest.raises(ReservedTypeError):
            served.hub.publish("log:a", Message(type=kind, data={"epoch": "forged"}))
    publish(served.hub, "log:a", "end")
    assert await receive_data(client, 1) == ["end"]
