"""Helpers of the tests of histories."""

from typing import Any

from support import WireClient

from wshub_core import Hub, Message, MessageType
from wshub_core.connections.recovery import Recovery
from wshub_core.connections.running_hub import RunningHub
from wshub_core.history.local import LocalHistory
from wshub_core.hub import running_hub


def publish(hub: Hub, channel: str, *data: Any) -> None:
    """Publish one event for each item."""
    for item in data:
        hub.publish(channel, Message(type=MessageType.EVENT, data=item))


def recovery_of(running: RunningHub) -> Recovery:
    return running._commands._subscribe_commands._recovery


def leftovers(hub: Hub | RunningHub) -> dict[str, Any]:
    """Return what is kept for connections and subscriptions that have ended."""
    running = running_hub(hub) if isinstance(hub, Hub) else hub
    recovery, form = recovery_of(running), running.histories.form
    kept: dict[str, Any] = {
        "replays": recovery._replays,
        "sending": recovery._sending,
        "drained": running.lifecycle.delivery._drained,
        "paused": running.registry._paused,
    }
    if isinstance(form, LocalHistory):
        kept["unpublished"] = form._unpublished
    elif running.histories.shared is not None:
        kept["replicas"] = running.histories.shared._replicas
    return {name: each for name, each in kept.items() if each}


async def ask(client: WireClient, channel: str, history: Any = None, *, frame_id: int = 1) -> Any:
    """Subscribe with an ``id``; return the next message that has an ``id``."""
    frame = {"type": "subscribe", "channel": channel, "id": frame_id}
    await client.send(**frame, **({} if history is None else {"history": history}))
    while "id" not in (message := await client.receive()):
        pass
    return message


async def receive_data(client: WireClient, count: int) -> list[Any]:
    """Return the data of the next messages, whose offsets follow one another."""
    messages = [await client.receive() for _ in range(count)]
    offsets = [message["offset"] for message in messages]
    assert offsets == [*range(offsets[0], offsets[0] + count)]
    return [message["data"] for message in messages]
