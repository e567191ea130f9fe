"""A bridge for the broker in ``line_broker.py``: the example of "Write a bridge"."""

import asyncio
import contextlib
import secrets
from asyncio import Future, StreamWriter
from itertools import count
from typing import Self

from wshub_core import BROADCAST, Backoff, BridgeState, Hub, WSHubError

EVERYONE = "@everyone"  # the broker's channel for broadcasts; hub channels contain no "@"
EVERYTHING = "*"  # the broker's name for all channels
MAX_BUFFER_BYTES = 1_048_576
WAIT_SECONDS = 5.0


class LineBridge:
    """A bridge between a hub and the other hubs on the same broker."""

    overhead_bytes = 17  # the source id and a space

    def __init__(self, hub: Hub, host: str, port: int) -> None:
        self.state = BridgeState.DOWN
        self._port = hub.bridge_port
        self._address = host, port
        self._source = secrets.token_hex(8).encode()
        self._writer: StreamWriter | None = None
        self._is_closing = False
        self._backoff = Backoff(0.1, 5.0, 2.0)
        # A future is done when the broker has confirmed the last request for its channel.
        self._confirmed: dict[str, Future[None]] = {}
        self._last_request: dict[str, int] = {}
        self._request_ids = count(1)

    async def __aenter__(self) -> Self:
        self._port.attach(self)
        self._task = asyncio.create_task(self._run())
        self.subscribe(BROADCAST)
        try:
            # Without the broker, the bridge starts in the state DOWN.
            await asyncio.wait(self._confirmed.values(), timeout=WAIT_SECONDS)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._port.detach()
        self._is_closing = True
        if self._writer:
            self._writer.write_eof()  # the broker reads to the end, and closes the connection
            await asyncio.wait([self._task], timeout=WAIT_SECONDS)
        self._task.cancel()
        await asyncio.wait([self._task])
        for future in self._confirmed.values():
            complete(future)

    def forward(self, channel: str, payload: bytes) -> None:
        """Send a message; without a connection, or with a full buffer, the message is lost."""
        if self._writer and self._writer.transport.get_write_buffer_size() < MAX_BUFFER_BYTES:
            name = EVERYONE if channel == BROADCAST else channel
            self._writer.write(b"PUB %b %b %b\n" % (name.encode(), self._source, payload))

    def subscribe(self, channel: str) -> Future[None] | None:
        """Subscribe to a channel, unless the bridge has done so."""
        name = EVERYONE if channel == BROADCAST else channel
        if name not in self._confirmed:
            self._request(name)
        return None if self._confirmed[name].done() else self._confirmed[name]

    def subscribe_all(self) -> Future[None] | None:
        """Subscribe to all channels; the broker sends each message once."""
        return self.subscribe(EVERYTHING)

    def unsubscribe(self, channel: str) -> None:
        """Unsubscribe from a channel."""
        if channel in self._confirmed:
            complete(self._confirmed.pop(channel))
            del self._last_request[channel]
            if self._writer:
                self._writer.write(f"UNSUB {channel}\n".encode())

    async def drain(self) -> None:
        """Wait while the buffer of the connection is full."""
        if self._writer:
            with contextlib.suppress(OSError):
                await self._writer.drain()

    async def _run(self) -> None:
        while not self._is_closing:
            # ValueError: a line is longer than the limit.
            with contextlib.suppress(OSError, ValueError):
                await self._use_connection()
            if not self._is_closing:
                self._backoff.fail()
                await asyncio.sleep(self._backoff.delay())

    async def _use_connection(self) -> None:
        reader, self._writer = await asyncio.open_connection(*self._address, limit=2**20)
        self._request(*self._confirmed)
        try:
            async for line in reader:
                # A malformed line, or a message that the hub rejects, is dropped.
                with contextlib.suppress(ValueError, WSHubError):
                    self._take(line.rstrip(b"\n"))
        finally:
            self._writer.close()
            self._writer = None
            self.state = BridgeState.DOWN
            # From now on no channel is confirmed; the next connection sends the requests.
            self._request(*self._confirmed)

    def _request(self, *names: str) -> None:
        for name in names:
            if name not in self._confirmed or self._confirmed[name].done():
                self._confirmed[name] = asyncio.get_running_loop().create_future()
            self._last_request[name] = next(self._request_ids)
            if self._writer:
                self._writer.write(f"SUB {name} {self._last_request[name]}\n".encode())

    def _take(self, line: bytes) -> None:
        verb, encoded_name, rest = line.split(b" ", 2)
        name = encoded_name.decode()
        if verb == b"OK":
            # An older request may be confirmed after the channel was left and wanted again.
            if name in self._confirmed and int(rest) == self._last_request[name]:
                complete(self._confirmed[name])
                self.state = BridgeState.UP
                self._backoff.reset()
            return
        source, payload = rest.split(b" ", 1)
        if source != self._source:  # the hub has delivered its own messages already
            self._port.deliver(BROADCAST if name == EVERYONE else name, payload)


def complete(future: Future[None]) -> None:
    """Complete a future, unless its owner has cancelled it."""
    if not future.done():
        future.set_result(None)
