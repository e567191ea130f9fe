"""A forked child cannot use the hub of its parent, and does not harm the parent."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from forking import fork
from support import Served

from wshub_core import ForkedProcessError, Hub, Message
from wshub_core.testing import connect


def in_child(work: Callable[[], object]) -> str:
    """Run a function in a forked child; return the name of the exception that it raises."""
    reading, writing = os.pipe()
    child = fork()
    if child == 0:
        try:
            work()
            name = "nothing"
        except BaseException as error:
            name = type(error).__name__
        os.write(writing, name.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        name = pipe.read()
    os.waitpid(child, 0)
    return name


async def test_a_child_cannot_use_its_parents_hub(served: Served) -> None:
    client = await served.connect()
    await client.subscribe("a")
    hub, server = served.hub, served.server
    (connection,) = hub.connections
    message = Message(type="event", data="x" * 60_000)
    uses: list[Callable[[], object]] = [
        lambda: hub.broadcast(message),
        lambda: hub.publish("a", message),
        lambda: hub.send_event("child"),
        lambda: connection.send(message),
        lambda: asyncio.run(connection.close()),
        lambda: asyncio.run(hub.subscribe(connection, "b")),
        lambda: hub.unsubscribe(connection, "a"),
        lambda: hub.subscribe_nowait(connection, "b"),
        lambda: asyncio.run(hub.close()),
        lambda: asyncio.run(server.close()),
        lambda: asyncio.run(hub.drain()),
        hub.bridge_port.detach,
    ]
    for use in uses:
        assert in_child(use) == ForkedProcessError.__name__
    hub.publish_event("a", "parent")
    assert (await client.receive())["data"] == "parent"
    await client.sync()
    assert hub.channels == ("a",)


async def test_the_end_of_a_child_does_not_remove_the_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "hub")
    async with Hub() as hub, hub.serve(unix=path) as server:
        assert in_child(lambda: asyncio.run(server.close())) == ForkedProcessError.__name__
        _, writer = await asyncio.open_unix_connection(path)
        writer.close()


def test_a_child_can_enter_a_hub_after_the_fork() -> None:
    hub = Hub()

    async def use() -> None:
        async with hub:
            client = await connect(hub)
            hub.send_event("child")
            assert (await client.receive()).data["event"] == "child"

    assert in_child(lambda: asyncio.run(use())) == "nothing"
