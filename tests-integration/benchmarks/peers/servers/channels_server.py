"""Django Channels on uvicorn: a consumer, the layer in memory, and `group_send`."""

import json
from typing import Any

import django
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from control import Subscriptions, encode, run
from django.conf import settings
from django.urls import path
from uvicorn_serving import serve_application


class Groups(Subscriptions[Any]):
    async def publish(self, channel: str, data: str) -> None:
        event = {"type": "event", "text": encode(channel, data)}
        await get_channel_layer().group_send(channel, event)


groups = Groups()


class Consumer(AsyncWebsocketConsumer):  # type: ignore[misc, unused-ignore]
    async def connect(self) -> None:
        await self.accept()
        groups.connections.add(self)

    async def disconnect(self, code: int) -> None:
        groups.remove(self)

    async def receive(self, text_data: str) -> None:
        message = json.loads(text_data)
        channel = message["channel"]
        if message["type"] == "subscribe":
            await self.channel_layer.group_add(channel, self.channel_name)
            groups.by_channel[channel].add(self)
        else:
            await groups.publish(channel, message["data"])

    async def event(self, event: dict[str, str]) -> None:
        await self.send(text_data=event["text"])


async def main(compression: bool) -> None:
    layer = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.configure(CHANNEL_LAYERS={"default": layer}, SECRET_KEY="benchmark")
    django.setup()
    urls = URLRouter([path("ws", Consumer.as_asgi())])
    application = ProtocolTypeRouter({"websocket": urls})
    await serve_application(application, groups, compression, "channels", "django", "websockets")


if __name__ == "__main__":
    run(main)
