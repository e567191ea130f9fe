"""picows: a listener for each connection, and a loop over `transport.send`."""

import asyncio
import json

from control import Subscriptions, encode, run, serve_commands
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server


class Connections(Subscriptions[WSTransport]):
    def publish(self, channel: str, data: str) -> None:
        payload = encode(channel, data).encode()
        for transport in self.by_channel[channel]:
            transport.send(WSMsgType.TEXT, payload)


class Listener(WSListener):  # type: ignore[misc, unused-ignore]
    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._connections.connections.add(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            message = json.loads(frame.get_payload_as_utf8_text())
            if message["type"] == "subscribe":
                self._connections.by_channel[message["channel"]].add(transport)
            else:
                self._connections.publish(message["channel"], message["data"])

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._connections.remove(transport)


async def main(compression: bool) -> None:
    if compression:
        raise SystemExit("picows has no compression")
    connections = Connections()
    server: asyncio.Server = await ws_create_server(
        lambda request: Listener(connections), "127.0.0.1", 0, enable_auto_ping=True
    )
    await serve_commands(server.sockets[0].getsockname()[1], connections, "picows")


if __name__ == "__main__":
    run(main)
