"""A server whose sockets always wait for their turn, as in a storm of thousands of clients."""

import asyncio

import pytest
from raw_client import HANDSHAKE, RawClient, raw, reset, text
from support import Serve, eventually, present, read_to_end

from wshub_core import Connection, Disconnect, DisconnectCause, Message
from wshub_core.transports import reading


@pytest.fixture(autouse=True)
def no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no time for processing bytes at once."""
    monkeypatch.setattr(reading, "TURN_SECONDS", 0.0)


async def test_many_clients_come_send_and_leave_at_once(serve: Serve) -> None:
    received: list[str] = []
    ends: list[DisconnectCause] = []

    def on_message(connection: Connection, message: Message) -> None:
        received.append(message.data)

    def on_disconnect(connection: Connection, disconnect: Disconnect) -> None:
        ends.append(disconnect.cause)

    served = await serve(on_message=on_message, on_disconnect=on_disconnect)
    streams = [await asyncio.open_connection("127.0.0.1", served.server.port) for _ in range(40)]
    for number, (_, writer) in enumerate(streams):
        writer.write(HANDSHAKE + text(f'{{"type":"x","data":"{number}"}}'))
    await eventually(lambda: present(served.hub)[0] == 40)
    for number, (reader, writer) in enumerate(streams):
        writer.write(text(f'{{"type":"x","data":"last {number}"}}'))
        if number % 2:
            reset(RawClient(reader, writer))
        else:
            writer.close()
    await eventually(lambda: len(ends) == 40)
    assert {*ends} == {DisconnectCause.LOST}
    assert present(served.hub) == (0, 0, 0)
    assert {str(number) for number in range(40)} <= {*received}
    assert {f"last {number}" for number in range(0, 40, 2)} <= {*received}


async def test_a_client_may_end_its_side_right_behind_the_request(serve: Serve) -> None:
    served = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    writer.write(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
    writer.write_eof()
    assert (await read_to_end(reader)).startswith(b"HTTP/1.1 426 ")
    writer.close()


async def test_a_client_that_leaves_before_its_turn_is_no_connection(serve: Serve) -> None:
    served = await serve()
    for _ in range(10):
        async with raw(served) as client:
            client.writer.write(HANDSHAKE)
            reset(client)
    await eventually(lambda: served.sockets == ())
    await eventually(lambda: present(served.hub) == (0, 0, 0))


async def test_a_request_may_come_in_parts(serve: Serve) -> None:
    served = await serve()
    async with raw(served) as client:
        for start in range(0, len(HANDSHAKE), 7):
            client.writer.write(HANDSHAKE[start : start + 7])
            for _ in range(4):
                await asyncio.sleep(0)
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
