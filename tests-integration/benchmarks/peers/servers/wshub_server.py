"""wshub: `hub.publish` to a channel. A client's message is published by `on_message`."""

from typing import Any

from control import run, serve_commands

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


async def main(compression: bool) -> None:
    options: dict[str, Any] = {"compression": True} if compression else {}

    def publish_again(_: Connection, message: Message) -> None:
        assert message.channel is not None
        hub.publish(message.channel, Message(type="event", data=message.data))

    try:
        hub = Hub(HubConfig(on_message=publish_again, **options))
    except TypeError:
        raise SystemExit("this version of wshub has no compression") from None
    async with hub, hub.serve("127.0.0.1", 0) as server:
        await serve_commands(server.port, Peer(hub), "wshub-core", "websockets", "msgspec")


if __name__ == "__main__":
    run(main)
