"""A client of event streams that follows the parsing rules of HTML, on a plain socket."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from support import PATIENCE_SECONDS


class Event:
    """An event as an EventSource would dispatch it."""

    def __init__(self, name: str, data: str, last_id: str) -> None:
        self.name = name
        self.data = data
        self.last_id = last_id

    @property
    def message(self) -> Any:
        return json.loads(self.data)


class Stream:
    """A response and its events."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.comments: list[str] = []
        self.retry: int | None = None
        self.last_id = ""
        self._text = ""
        self._is_chunked = False

    async def read_head(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        self.status = int(line.split(" ")[1])
        self.headers = {
            name.lower(): value for name, _, value in (each.partition(": ") for each in lines)
        }
        self._is_chunked = self.headers.get("transfer-encoding") == "chunked"

    async def read_part(self) -> bytes:
        """Return a part of the body; empty at its end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            if "content-length" in self.headers:
                return await self.reader.read(65_536)
            if not self._is_chunked:
                return await self.reader.read(65_536)
            size = int(await self.reader.readline(), 16)
            part = await self.reader.readexactly(size)
            await self.reader.readline()
            return part

    async def read_body(self) -> str:
        """Return a whole body that has a length, or ends."""
        body = b""
        length = int(self.headers.get("content-length", "-1"))
        while len(body) != length and (part := await self.read_part()):
            body += part
        return body.decode()

    async def next(self) -> Event | None:
        """Return the next event; None at the end of the stream."""
        while True:
            while "\n\n" in self._text:
                block, self._text = self._text.split("\n\n", 1)
                if (event := self._dispatch(block)) is not None:
                    return event
            part = await self.read_part()
            if not part:
                return None
            # The hub writes line feeds. Another line end could only come from a message.
            self._text += part.decode().replace("\r", "\n")

    def _dispatch(self, block: str) -> Event | None:
        name, data = "message", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    self.comments.append(value)
                case "event":
                    name = value
                case "data":
                    data.append(value)
                case "id":
                    self.last_id = value
                case "retry":
                    self.retry = int(value)
        return Event(name, "\n".join(data), self.last_id) if data else None

    async def messages(self, count: int) -> list[Any]:
        """Return the next messages."""
        found: list[Any] = []
        for _ in range(count):
            event = await self.next()
            assert event is not None, f"the stream has ended after {found}"
            found.append(event.message)
        return found

    async def data(self, count: int) -> list[Any]:
        """Return the data of the next messages of the application."""
        found: list[Any] = []
        while len(found) < count:
            (message,) = await self.messages(1)
            if message["type"] != "subscribed":
                found.append(message["data"])
        return found


@asynccontextmanager
async def open_stream(
    port: int,
    *channels: str,
    path: str = "/sse",
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
) -> AsyncIterator[Stream]:
    """Ask for a stream, and read the head of the response."""
    pairs = [*(("channel", channel) for channel in channels), *(query or {}).items()]
    lines = [f"{method} {path}?{urlencode(pairs)} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))
        stream = Stream(reader, writer)
        await stream.read_head()
        yield stream
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
