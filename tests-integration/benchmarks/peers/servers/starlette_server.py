"""Starlette on uvicorn: an endpoint, and a loop over `await send_text`."""

from control import Subscriptions, encode, run
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn_serving import serve_application


class Connections(Subscriptions[WebSocket]):
    async def publish(self, channel: str, data: str) -> None:
        message = encode(channel, data)
        for websocket in tuple(self.by_channel[channel]):
            await websocket.send_text(message)


async def main(compression: bool) -> None:
    connections = Connections()

    async def handle(websocket: WebSocket) -> None:
        await websocket.accept()
        connections.connections.add(websocket)
        try:
            while True:
                message = await websocket.receive_json()
                if message["type"] == "subscribe":
                    connections.by_channel[message["channel"]].add(websocket)
                else:
                    await connections.publish(message["channel"], message["data"])
        except WebSocketDisconnect:
            pass
        finally:
            connections.remove(websocket)

    application = Starlette(routes=[WebSocketRoute("/ws", handle)])
    await serve_application(application, connections, compression, "starlette", "websockets")


if __name__ == "__main__":
    run(main)
