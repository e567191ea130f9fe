"""A process whose output goes through a client to a hub."""

import asyncio
import sys

import pytest
from client_servers import QUICK

from wshub_client import ProcessPublisher, ReconnectingClient
from wshub_core import Hub, HubConfig, Message, run_process

pytestmark = pytest.mark.usefixtures("leave_nothing_behind")


async def test_the_lines_of_a_process_stay_in_order_through_lost_connections() -> None:
    heard: list[Message] = []
    heard_by_then: set[int] = set()
    code = "import time\nfor n in range(3000): print(n, flush=True); time.sleep(0.0003)"
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        hub.add_publish_listener(lambda _, message: heard.append(message))
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with (
            ReconnectingClient(url, **QUICK) as client,
            ProcessPublisher(client) as publisher,
            asyncio.timeout(30),
        ):
            running = asyncio.create_task(run_process(publisher, "x", sys.executable, "-c", code))
            while not running.done():
                await asyncio.sleep(0.05)
                heard_by_then.add(len(heard))
                for connection in hub.connections:
                    cutting = asyncio.create_task(connection.close(1012))
                    await asyncio.wait({cutting}, timeout=1)
            assert await running == 0
    lines = [int(message.data) for message in heard if message.type == "process_output"]
    assert lines == sorted(set(lines))
    # Lines have come on several connections. Their number depends on the speed of the machine.
    assert len(heard_by_then) > 2
    assert heard[-1].data == {"exitCode": 0, "status": "exited"}


@pytest.mark.parametrize("length", range(65_380, 65_500, 10))
async def test_a_line_of_any_length_is_published_completely(length: int) -> None:
    heard: list[str] = []
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        hub.add_publish_listener(lambda _, message: heard.append(message.data))
        url = f"ws://127.0.0.1:{server.port}/ws"
        async with ReconnectingClient(url) as client, ProcessPublisher(client) as publisher:
            code = f"print('x' * {length})"
            assert await run_process(publisher, "x", sys.executable, "-c", code) == 0
    assert sum(len(line) for line in heard if isinstance(line, str)) == length
