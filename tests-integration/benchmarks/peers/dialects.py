"""The protocols above WebSocket that the peers' subscribers speak."""

import json
from collections.abc import Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """A step of the handshake of a protocol: text to send, and the beginning of the answer."""

    text: str | None
    answer: str


class Dialect:
    """JSON objects, as wshub's clients send them. The servers without a protocol use them too."""

    has_handshake = True
    path = "/ws"
    steps: Sequence[Step] = ()
    ping: bytes | None = None
    pong = ""

    def subscribe(self, channel: str) -> str:
        return json.dumps({"type": "subscribe", "channel": channel}, separators=(",", ":"))

    def say(self, channel: str, data: str) -> str:
        """Return a message that the server publishes to the channel."""
        return json.dumps({"type": "say", "channel": channel, "data": data}, separators=(",", ":"))


class Sockets(Dialect):
    """Plain sockets: frames without a handshake."""

    has_handshake = False


class SocketIO(Dialect):
    """Socket.IO over Engine.IO 4, over WebSocket from the first packet on."""

    path = "/socket.io/?EIO=4&transport=websocket"
    steps = (Step(None, "0{"), Step("40", "40{"))
    ping = b"2"
    pong = "3"

    def subscribe(self, channel: str) -> str:
        return "42" + json.dumps(["subscribe", channel])

    def say(self, channel: str, data: str) -> str:
        return "42" + json.dumps(["say", channel, data])


class Centrifuge(Dialect):
    """The JSON protocol of Centrifugo's clients."""

    steps = (Step('{"id":1,"connect":{}}', '{"id":1,"connect"'),)
    ping = b"{}"
    pong = "{}"

    def subscribe(self, channel: str) -> str:
        return json.dumps({"id": 2, "subscribe": {"channel": channel}})

    def say(self, channel: str, data: str) -> str:
        return json.dumps({"id": 3, "publish": {"channel": channel, "data": data}})


DIALECTS: dict[str, Dialect] = {
    "json": Dialect(),
    "sockets": Sockets(),
    "socket.io": SocketIO(),
    "centrifuge": Centrifuge(),
}
