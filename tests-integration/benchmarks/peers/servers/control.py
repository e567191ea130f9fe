"""The part that all Python servers share: the commands from standard input.

A server prints one line of JSON with its port and its versions. Then the server reads commands, one
per line, and answers each command with one line:

`connected`, `subscribed`: the number of connections, and of subscriptions.
`collect`: run the garbage collector.
`watch`, `held`: begin to watch the event loop; print the longest turn since then, in seconds.
`send COUNT BURST PAUSE LIMIT CHANNELS TEXT`: publish COUNT times BURST messages to each channel,
    with a pause of PAUSE seconds after each time. Stop after LIMIT seconds. Print the number of
    times. CHANNELS is the number of channels; 0 stands for the one channel that all share.

The data of a message is a dollar sign, the time in nanoseconds, and TEXT. The subscribers count the
dollar signs.
"""

import argparse
import asyncio
import gc
import importlib.metadata
import json
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
WATCH_INTERVAL = 0.001


class Server(Protocol):
    """One peer: publishes, and counts its connections."""

    def connected(self) -> int: ...

    def subscribed(self) -> int: ...

    def publish(self, channel: str, data: str) -> Awaitable[object] | None: ...


class Subscriptions(Generic[T]):
    """The connections of a server whose library has no channels."""

    def __init__(self) -> None:
        self.connections: set[T] = set()
        self.by_channel: defaultdict[str, set[T]] = defaultdict(set)

    def remove(self, connection: T) -> None:
        self.connections.discard(connection)
        for subscribers in self.by_channel.values():
            subscribers.discard(connection)

    def connected(self) -> int:
        return len(self.connections)

    def subscribed(self) -> int:
        return sum(map(len, self.by_channel.values()))


def encode(channel: str, data: str) -> str:
    """Return the message of a library that has no messages of its own: what wshub sends, too."""
    return json.dumps({"type": "event", "channel": channel, "data": data, "timestamp": time.time()})


def run(main: Callable[[bool], Coroutine[None, None, None]]) -> None:
    """Run a server on the event loop that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio")
    parser.add_argument("--compression", action="store_true")
    arguments = parser.parse_args()
    factory = None
    if arguments.loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(arguments.compression))


async def serve_commands(port: int, server: Server, *distributions: str) -> None:
    """Answer the commands until the end of standard input."""
    loop = asyncio.get_running_loop()
    if type(loop).__module__.startswith("uvloop"):
        distributions += ("uvloop",)
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    versions = {name: importlib.metadata.version(name) for name in distributions}
    answer({"port": port, "versions": {"Python": platform.python_version(), **versions}})
    watch = Watch()
    while line := (await reader.readline()).decode():
        command, _, rest = line.strip().partition(" ")
        match command:
            case "connected":
                answer(server.connected())
            case "subscribed":
                answer(server.subscribed())
            case "collect":
                answer(gc.collect())
            case "watch":
                watch.begin()
                answer(None)
            case "held":
                answer(watch.end())
            case "send":
                answer(await send(server, *rest.split(" ", 5)))
            case _:
                raise ValueError(line)


def answer(value: object) -> None:
    print(json.dumps(value), flush=True)


async def send(
    server: Server, count: str, burst: str, pause: str, limit: str, channels: str, text: str
) -> int:
    names = [f"c{number}" for number in range(int(channels))] or ["news"]
    end = time.monotonic() + float(limit)
    done = 0
    while done < int(count) and time.monotonic() < end:
        for _ in range(int(burst)):
            for name in names:
                result = server.publish(name, f"${time.time_ns()}{text}")
                if result is not None:
                    await result
        await asyncio.sleep(float(pause))
        done += 1
    return done


class Watch:
    """The longest turn of the event loop: the CPU time of this thread between two timers.

    CPU time does not count the turns of other processes.
    """

    def __init__(self) -> None:
        self._last = self._longest = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._longest = 0.0
        self._last = time.thread_time()
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCH_INTERVAL, self._note)

    def _note(self) -> None:
        now = time.thread_time()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        self._wait()

    def end(self) -> float:
        assert self._timer is not None
        self._timer.cancel()
        return self._longest
