"""The floor: ready frames, written to plain sockets, without a handshake and a parser."""

import asyncio
import json
from typing import cast

from control import Subscriptions, encode, run, serve_commands


def frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes([0x81, size]) + payload
    return bytes([0x81, 126]) + size.to_bytes(2, "big") + payload


class Connections(Subscriptions[asyncio.Transport]):
    def publish(self, channel: str, data: str) -> None:
        ready = frame(encode(channel, data).encode())
        for transport in self.by_channel[channel]:
            transport.write(ready)


class Connection(asyncio.Protocol):
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop have the methods, and are no subclasses.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.connections.add(self._transport)

    def data_received(self, data: bytes) -> None:
        # The mask of the subscribers' frames is zero, and each frame arrives in one piece.
        payload = data[data.index(b"{") :]
        if payload.startswith(b'{"type":"say"'):
            self._transport.write(frame(payload))
        else:
            self._connections.by_channel[json.loads(payload)["channel"]].add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.remove(self._transport)


async def main(compression: bool) -> None:
    if compression:
        raise SystemExit("plain sockets have no compression")
    connections = Connections()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(connections), "127.0.0.1", 0, backlog=1024
    )
    await serve_commands(server.sockets[0].getsockname()[1], connections)


if __name__ == "__main__":
    run(main)
