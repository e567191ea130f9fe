"""python-socketio on uvicorn: a room for each channel, and `emit` to a room."""

import time
from typing import Any

import socketio
from control import run
from uvicorn_serving import serve_application


class Rooms:
    def __init__(self, server: socketio.AsyncServer) -> None:
        self._server = server
        self.sids: set[str] = set()
        self.subscriptions = 0

    def connected(self) -> int:
        return len(self.sids)

    def subscribed(self) -> int:
        return self.subscriptions

    async def publish(self, channel: str, data: str) -> None:
        message = {"type": "event", "channel": channel, "data": data, "timestamp": time.time()}
        await self._server.emit("message", message, room=channel)


async def main(compression: bool) -> None:
    server = socketio.AsyncServer(async_mode="asgi")
    rooms = Rooms(server)

    async def connect(sid: str, environ: dict[str, Any]) -> None:
        rooms.sids.add(sid)

    async def disconnect(sid: str, reason: str) -> None:
        rooms.sids.discard(sid)

    async def subscribe(sid: str, channel: str) -> None:
        await server.enter_room(sid, channel)
        rooms.subscriptions += 1

    async def say(sid: str, channel: str, data: str) -> None:
        await rooms.publish(channel, data)

    for handler in (connect, disconnect, subscribe, say):
        server.on(handler.__name__, handler)
    application = socketio.ASGIApp(server)
    await serve_application(
        application, rooms, compression, "python-socketio", "python-engineio", "websockets"
    )


if __name__ == "__main__":
    run(main)
