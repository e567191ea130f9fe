"""wshub: `hub.publish` to a channel. A client's message is published by `on_message`."""

from typing import Any

from control import run, serve_commands

import wshub_core
from wshub_core import Connection, Hub, HubConfig, Message


class Peer:
    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def connected(self) -> int:
        return self._hub.stats().clients

    def subscribed(self) -> int:
        return self._hub.stats().subscribers

    def publish(self, channel: str, data: str) -> None:
        self._hub.publish(channel, Message(type="event", data=data))


def compression_options() -> dict[str, Any]:
    """Return the settings for compression. The benchmark also runs with versions without it."""
    settings = getattr(wshub_core, "Compression", None)
    if settings is None:
        raise SystemExit("this version of wshub has no compression")
    return {"compression": settings()}


async def main(compression: bool) -> None:
    def publish_again(_: Connection, message: Message) -> None:
        assert message.channel is not None
        hub.publish(message.channel, Message(type="event", data=message.data))

    options = compression_options() if compression else {}
    hub = Hub(HubConfig(on_message=publish_again, **options))
    async with hub, hub.serve("127.0.0.1", 0) as server:
        await serve_commands(server.port, Peer(hub), "wshub-core", "websockets", "msgspec")


if __name__ == "__main__":
    run(main)
