"""A forked child cannot use the client of its parent, and its attempts do no harm."""

import subprocess
import sys

import pytest

PRELUDE = """
import asyncio, os, sys
from wshub_client import BlockingClient, ProcessPublisher, ReconnectingClient
from wshub_core import ForkedProcessError, Hub, HubConfig, Message

def fork(work):
    '''Run something in a child; return its exit status.'''
    pid = os.fork()
    if pid == 0:
        status = 9
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

ASYNC = """
CALLS = {
    "send": lambda: client.send(Message(type="ping")),
    "publish": lambda: client.publish("a", 1),
    "subscribe": lambda: client.subscribe("b"),
    "confirm": lambda: client.subscribe("b", confirm=True),
    "unsubscribe": lambda: client.unsubscribe("a"),
    "receive": lambda: client.receive(),
    "iterate": lambda: client.__anext__(),
    "wait": lambda: client.wait_connected(),
    "run": lambda: client.run(),
    "close": lambda: client.close(),
    "exit": lambda: client.__aexit__(None, None, None),
    "drain": lambda: publisher.drain(),
    "leave": lambda: publisher.__aexit__(None, None, None),
}

def try_all():
    for name, call in CALLS.items():
        try:
            coroutine = call()
            coroutine.send(None)
        except ForkedProcessError:
            continue
        print(name, "did not raise", flush=True)
        return 1
    try:
        publisher.send_process_output("x", "line")
    except ForkedProcessError:
        return 0
    return 2

async def main():
    global client, publisher
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        async with ReconnectingClient(f"ws://127.0.0.1:{server.port}/ws") as client:
            async with ProcessPublisher(client) as publisher:
                await client.subscribe("a", confirm=True)
                status = fork(try_all)
                await client.publish("a", 1)
                assert (await client.receive()).data == 1
                assert client.channels == hub.channels == ("a",)
                assert hub.stats().connections == 1
    print(status)

asyncio.run(main())
"""

BLOCKING = """
import threading
ready, state = threading.Event(), {}

async def serve():
    config = HubConfig(publish_authorizer=lambda *_: True)
    async with Hub(config) as hub, hub.serve("127.0.0.1", 0) as server:
        state.update(port=server.port, end=asyncio.Event(), loop=asyncio.get_running_loop())
        ready.set()
        await state["end"].wait()

thread = threading.Thread(target=lambda: asyncio.run(serve()))
thread.start()
ready.wait()
url = f"ws://127.0.0.1:{state['port']}/ws"

CALLS = {
    "send": lambda: client.send(Message(type="ping")),
    "publish": lambda: client.publish("a", 1),
    "subscribe": lambda: client.subscribe("b"),
    "unsubscribe": lambda: client.unsubscribe("a"),
    "receive": lambda: client.receive(timeout=1),
    "iterate": lambda: next(iter(client)),
    "enter": lambda: client.__enter__(),
    "close": lambda: client.close(),
    "exit": lambda: client.__exit__(None, None, None),
}

def try_all():
    for name, call in CALLS.items():
        try:
            call()
        except ForkedProcessError:
            continue
        print(name, "did not raise", flush=True)
        return 1
    return 0

def use():
    with unstarted:
        unstarted.publish("a", "child")
    return 0

unstarted = BlockingClient(url)
with BlockingClient(url) as client:
    client.subscribe("a", confirm=True)
    status = fork(try_all)
    client.publish("a", 1)
    assert client.receive(timeout=5).data == 1
    # One that was made before and is started after the fork is the child's own.
    assert fork(use) == 0
    assert client.receive(timeout=5).data == "child"
    with unstarted:
        unstarted.publish("a", "parent")
    assert client.receive(timeout=5).data == "parent"
state["loop"].call_soon_threadsafe(state["end"].set)
thread.join()
print(status)
"""


@pytest.mark.parametrize("script", [ASYNC, BLOCKING], ids=["async", "blocking"])
def test_every_call_raises_in_the_child_and_the_parent_goes_on(script: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script], capture_output=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout.decode()) == (0, "0\n"), done.stderr.decode()
