"""Messages that are delivered as soon as they come, against the way with a task."""

import asyncio
import copy
import json
from typing import Any

import pytest
from client_servers import (
    QUICK,
    Log,
    accept_upgrade,
    event,
    run,
    tcp_server,
    websocket_server,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support import eventually
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from wshub_client import ClientError, Gap, ReconnectingClient
from wshub_client.dialing import dial
from wshub_client.recovery import Recovery
from wshub_client.settings import DialSettings
from wshub_client.waiting import Signal
from wshub_core import Message, MessageType, Position

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


# The position in a history.


messages = st.one_of(
    st.builds(
        Message,
        type=st.just("event"),
        channel=st.just("a"),
        epoch=st.sampled_from(["", "e1", "e1", "e2"]),
        offset=st.integers(0, 4),
    ),
    st.builds(
        Message,
        type=st.sampled_from([MessageType.HISTORY_CLEARED, MessageType.HISTORY_POSITION]),
        channel=st.just("a"),
        data=st.fixed_dictionaries(
            {"epoch": st.sampled_from(["e1", "e2"]), "offset": st.integers(0, 4)}
        ),
    ),
)
answers = st.fixed_dictionaries(
    {"epoch": st.sampled_from(["e1", "e2"]), "after": st.integers(0, 3)},
    optional={"reason": st.just("no_history"), "recovered": st.booleans()},
)
starts = st.sampled_from([{}, {"last": 2}, {"since": 1}, {"since": Position("e1", 1)}])


def state_of(recovery: Recovery) -> list[object]:
    return [getattr(recovery, name) for name in Recovery.__slots__]


@settings(max_examples=500)
@given(starts, st.lists(st.one_of(messages, answers, st.none()), max_size=12))
def test_a_message_that_is_taken_at_once_has_the_effect_of_any_other(
    start: dict[str, Any], steps: list[Any]
) -> None:
    recovery = Recovery("a", **start)
    for step in steps:
        if step is None:
            recovery.lose_connection()
        elif isinstance(step, dict):
            recovery.take_answer(step)
        else:
            quick = copy.copy(recovery)
            is_taken = quick.take_next(step)
            before = state_of(recovery)
            outcome = list(recovery.take(step))
            if is_taken:
                assert outcome == [step]
                assert state_of(quick) == state_of(recovery)
            else:
                assert state_of(quick) == before


def test_the_next_message_of_a_history_is_taken_at_once() -> None:
    recovery = Recovery("a", since=0)
    assert not recovery.take_next(Message(type="event", channel="a", epoch="e", offset=1))
    recovery.take_answer({"epoch": "e", "after": 0})
    for offset in (1, 2):
        assert recovery.take_next(Message(type="event", channel="a", epoch="e", offset=offset))
    assert recovery.position == Position("e", 2)


# Frames, in any pieces, to any kind of application.


@st.composite
def payloads(draw: st.DrawFn) -> tuple[bytes, Any]:
    """Return the frames of a payload, and the data of the messages in it."""
    lines = draw(
        st.lists(
            st.one_of(
                st.integers(0, 99).map(event),
                st.just(json.dumps({"type": "event", "data": "é"}, ensure_ascii=False)),
                st.sampled_from(["", " ", "junk", '{"type":"pong"}', '{"type":"published"}']),
            ),
            max_size=3,
        )
    )
    text = "\n".join(lines).encode()
    opcode = draw(st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    frames = b""
    for number, part in enumerate(parts):
        kind = Opcode.CONT if number else opcode
        frames += Frame(kind, part, fin=number == len(parts) - 1).serialize(mask=False)
        if draw(st.booleans()):
            frames += Frame(Opcode.PING, b"?").serialize(mask=False)
    return frames, [json.loads(line)["data"] for line in lines if '"data"' in line]


@settings(max_examples=40)
@given(
    st.lists(payloads(), max_size=12),
    st.integers(1, 400),
    st.sampled_from(["iterate", "on_message", "on_raw"]),
    st.integers(1, 8),
)
async def test_payloads_arrive_in_order_in_whatever_pieces_they_come(
    sent: list[tuple[bytes, Any]], piece: int, use: str, inbox_size: int
) -> None:
    stream = b"".join(frames for frames, _ in sent)
    expected = [data for _, datas in sent for data in datas]
    received: list[Any] = []
    # A client that waits for its connection drops the oldest messages of a full inbox.
    is_connected = asyncio.Event()

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept_upgrade(await reader.readuntil(b"\r\n\r\n")))
        await is_connected.wait()
        for start in range(0, len(stream), piece):
            writer.write(stream[start : start + piece])
            await asyncio.sleep(0)
        writer.write(Frame(Opcode.TEXT, event("end").encode()).serialize(mask=False))
        await reader.read()

    def note(message: Message) -> None:
        if message.type == "event":
            received.append(message.data)

    options: dict[str, Any] = {"inbox_size": inbox_size, "close_timeout": 0.05}
    if use != "iterate":
        options["on_message"] = note
    raw: list[str | bytes] = []
    if use == "on_raw":
        options["on_raw"] = raw.append
    async with (
        asyncio.timeout(20),
        tcp_server(send) as url,
        ReconnectingClient(url, **options) as client,
    ):
        is_connected.set()
        while use == "iterate" and "end" not in received:
            note(await client.receive())
        await eventually(lambda: "end" in received)
    assert received == [*expected, "end"]
    if use == "on_raw":
        assert len(raw) == len(sent) + 2


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(accept_upgrade(await reader.readuntil(b"\r\n\r\n")))
    await reader.read(1)
    frames = (
        Frame(Opcode.TEXT, event(number).encode()).serialize(mask=False) for number in range(20_000)
    )
    writer.write(b"".join(frames))
    await reader.read()


async def test_a_flood_is_in_order() -> None:
    received: list[Any] = []

    def note(message: Message) -> None:
        received.append(message.data)

    async with (
        asyncio.timeout(20),
        tcp_server(flood) as url,
        ReconnectingClient(url, close_timeout=0.05, inbox_size=3_000, on_message=note),
    ):
        await eventually(lambda: len(received) == 20_000)
    assert received == list(range(20_000))


async def test_a_flood_in_one_read_is_not_processed_without_a_break() -> None:
    taken: list[str | bytes] = []

    def take(payload: str | bytes) -> bool:
        taken.append(payload)
        return True

    async with asyncio.timeout(20), tcp_server(flood) as url:
        settings = DialSettings(url, None, {}, None, None, None, 1.0, 0.05, 1_000_000)
        socket = await dial(settings, {})
        assert await socket.receive() == '{"type":"pong"}'
        socket.take_at_once = take
        receiving = asyncio.create_task(socket.receive())
        await asyncio.sleep(0)
        await socket.send("go")
        # `receive` returns what was not taken at once.
        assert isinstance(await receiving, str)
        await socket.close()
    assert len(taken) < 10_000


# Faults.


@pytest.mark.parametrize("parts", [[b"\xff"], [b'{"type":"', b"\xe9", b'"}']])
async def test_text_that_is_no_utf_8_ends_the_connection(parts: list[bytes]) -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept_upgrade(await reader.readuntil(b"\r\n\r\n")))
        for number, part in enumerate(parts):
            opcode = Opcode.CONT if number else Opcode.TEXT
            writer.write(Frame(opcode, part, fin=part is parts[-1]).serialize(mask=False))
        # Nothing behind the fault counts.
        writer.write(Frame(Opcode.TEXT, event(1).encode()).serialize(mask=False))
        await reader.read()

    log = Log()
    async with tcp_server(send) as url:
        client = ReconnectingClient(url, close_timeout=0.1, max_attempts=0, **log.callbacks())
        await run(client)
    assert log.entries[:3] == ["connect", "LostError", "disconnect"]
    assert 1 not in log.entries
    assert "at position" in str(log.errors[0])


@pytest.mark.parametrize("fault", [Opcode.PONG, Opcode.CONT])
async def test_a_hub_that_breaks_the_protocol_and_goes_on_sending_loses_the_client(
    fault: Opcode,
) -> None:
    async def go_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(accept_upgrade(await reader.readuntil(b"\r\n\r\n")))
        await reader.read(100)  # the ping of a client that is about to be connected
        writer.write(Frame(fault, b"x" * 20, fin=fault is not Opcode.PONG).serialize(mask=False))
        while not writer.is_closing():
            writer.write(b"\x00" * 10)
            await writer.drain()
            await asyncio.sleep(0.01)

    log = Log()
    async with asyncio.timeout(10), tcp_server(go_on) as url:
        options: dict[str, Any] = {"heartbeat_interval": 0.2, "pong_timeout": 0.2}
        client = ReconnectingClient(
            url, close_timeout=0.1, max_attempts=0, on_error=log.note_error, **options
        )
        await run(client)
    assert log.entries[0] == "LostError"


async def test_a_fault_of_the_client_itself_ends_it_with_an_error() -> None:
    async def send(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"pong"}')
        await socket.send(event(1))
        await socket.wait_closed()

    class Unlikely(Exception):
        pass

    class FailingTable(dict[str, Any]):
        def get(self, *_: object) -> Any:
            raise Unlikely

    async with websocket_server(send) as url:
        client = ReconnectingClient(url, **QUICK)
        client._subscriptions._table = FailingTable()
        error = await run(client)
    assert isinstance(error, ClientError)
    assert isinstance(error.__cause__, Unlikely)


# Parts.


async def test_a_cancelled_wait_for_a_signal_ends_no_other_wait() -> None:
    signal = Signal()
    first, second = (asyncio.create_task(signal.wait()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    assert first.cancelled()
    assert not second.done()
    signal.send()
    await second
    # A signal wakes the present waits only.
    third = asyncio.create_task(signal.wait())
    await asyncio.sleep(0)
    assert not third.done()
    signal.send()
    await third


def test_a_gap_is_never_taken_at_once() -> None:
    recovery = Recovery("a", since=0)
    recovery.take_answer({"epoch": "e", "after": 0})
    message = Message(type="event", channel="a", epoch="e", offset=3)
    assert not recovery.take_next(message)
    assert not any(isinstance(item, Gap) for item in recovery.take(message))
