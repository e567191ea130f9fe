"""A client on a raw socket, which can violate the protocol."""

import asyncio
import base64
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from socket import SO_LINGER, SOL_SOCKET

from support import PATIENCE_SECONDS, Served, read_to_end
from websockets.frames import Close, Frame, Opcode

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    + base64.b64encode(os.urandom(16))
    + b"\r\n\r\n"
)


def text(payload: str | bytes, fin: bool = True) -> bytes:
    data = payload.encode() if isinstance(payload, str) else payload
    return Frame(Opcode.TEXT, data, fin).serialize(mask=True)


def continuation(payload: bytes, fin: bool) -> bytes:
    return Frame(Opcode.CONT, payload, fin).serialize(mask=True)


def reset(client: "RawClient") -> None:
    """Close a socket with a TCP reset."""
    socket = client.writer.get_extra_info("socket")
    socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()


PING = text('{"type":"ping"}')
SUBSCRIBE = text('{"type":"subscribe","channel":"a"}')


class RawClient:
    """A TCP connection that reads and writes single frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def open(self, *headers: bytes) -> bytes:
        """Perform the handshake with further header lines; return the head of the response."""
        self.writer.write(b"\r\n".join((HANDSHAKE[:-4], *headers, b"", b"")))
        head = await self.read_head()
        assert head.startswith(b"HTTP/1.1 101 ")
        return head

    async def read_head(self) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def read_frame(self) -> tuple[int, bytes]:
        """Read one frame with a payload below 64 KiB; return its opcode and payload."""
        head, payload = await self.read_any_frame()
        return head & 0x0F, payload

    async def read_any_frame(self) -> tuple[int, bytes]:
        """Read one frame as above; return its first byte, with all bits, and its payload.

        Pings are left out: the hub spreads the first ones over the heartbeat interval, so one may
        come at any time.
        """
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                head, length = await self.reader.readexactly(2)
                if length == 126:
                    (length,) = struct.unpack("!H", await self.reader.readexactly(2))
                payload = await self.reader.readexactly(length)
                if head & 0x0F != Opcode.PING:
                    return head, payload

    async def read_close(self) -> Close:
        opcode, payload = await self.read_frame()
        assert opcode == Opcode.CLOSE
        assert await read_to_end(self.reader) == b"", "nothing may follow a close frame"
        return Close.parse(payload)

    async def expect_pong(self) -> None:
        opcode, payload = await self.read_frame()
        assert opcode == Opcode.TEXT
        assert b'"type":"pong"' in payload


@asynccontextmanager
async def raw(served: Served) -> AsyncIterator[RawClient]:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])
