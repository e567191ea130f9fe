"""aiohttp: a handler with `WebSocketResponse`, and a loop over `await send_str`."""

import json

from aiohttp import WSMsgType, web
from control import Subscriptions, encode, run, serve_commands


class Connections(Subscriptions[web.WebSocketResponse]):
    async def publish(self, channel: str, data: str) -> None:
        message = encode(channel, data)
        for response in tuple(self.by_channel[channel]):
            await response.send_str(message)


async def main(compression: bool) -> None:
    connections = Connections()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(heartbeat=30, compress=compression)
        await response.prepare(request)
        connections.connections.add(response)
        try:
            async for frame in response:
                if frame.type == WSMsgType.TEXT:
                    message = json.loads(frame.data)
                    if message["type"] == "subscribe":
                        connections.by_channel[message["channel"]].add(response)
                    else:
                        await connections.publish(message["channel"], message["data"])
        finally:
            connections.remove(response)
        return response

    application = web.Application()
    application.router.add_get("/ws", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    await serve_commands(runner.addresses[0][1], connections, "aiohttp")
    await runner.cleanup()


if __name__ == "__main__":
    run(main)
