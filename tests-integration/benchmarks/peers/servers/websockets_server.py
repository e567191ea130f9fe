"""`websockets`: its asyncio server, and `broadcast`."""

import json

from control import Subscriptions, encode, run, serve_commands
from websockets.asyncio.server import ServerConnection, broadcast, serve


class Connections(Subscriptions[ServerConnection]):
    def publish(self, channel: str, data: str) -> None:
        broadcast(self.by_channel[channel], encode(channel, data))


async def serve_peer(connections: Connections, compression: bool) -> None:
    async def handle(connection: ServerConnection) -> None:
        connections.connections.add(connection)
        try:
            async for frame in connection:
                message = json.loads(frame)
                if message["type"] == "subscribe":
                    connections.by_channel[message["channel"]].add(connection)
                else:
                    connections.publish(message["channel"], message["data"])
        finally:
            connections.remove(connection)

    method = "deflate" if compression else None
    async with serve(handle, "127.0.0.1", 0, compression=method) as server:
        port = server.sockets[0].getsockname()[1]
        await serve_commands(port, connections, "websockets")


async def main(compression: bool) -> None:
    await serve_peer(Connections(), compression)


if __name__ == "__main__":
    run(main)
