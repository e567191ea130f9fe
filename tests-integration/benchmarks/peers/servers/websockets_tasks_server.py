"""`websockets`: its asyncio server, and a task that awaits `send` for each connection."""

import asyncio
import contextlib

from control import encode, run
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets_server import Connections, serve_peer


class TaskConnections(Connections):
    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()

    def publish(self, channel: str, data: str) -> None:
        message = encode(channel, data)
        for connection in self.by_channel[channel]:
            task = asyncio.create_task(send(connection, message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def send(connection: ServerConnection, message: str) -> None:
    with contextlib.suppress(ConnectionClosed):
        await connection.send(message)


async def main(compression: bool) -> None:
    await serve_peer(TaskConnections(), compression)


if __name__ == "__main__":
    run(main)
