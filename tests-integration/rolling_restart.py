"""A rolling restart of two hubs behind nginx, with clients that count what they get."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deployment import HubProcess, run_hubs, run_nginx

from wshub_client import ConnectionState, ReconnectingClient
from wshub_core import HistoryLimits, Message
from wshub_redis import AsyncRedisPublisher

CHANNEL = "process:build"
_DIALS_AT_ONCE = 50


class Follower:
    """A client that follows a channel with history.

    Attributes:
        client: The client.
        offset: The offset of the last message; 0 before the first one.
        faults: Descriptions of messages that were missing, doubled or out of order.
        reconnected_at: The times of the reconnects, in seconds.
    """

    def __init__(self, url: str) -> None:
        self.offset = 0
        self.faults: list[str] = []
        self.reconnected_at: list[float] = []
        self.client = ReconnectingClient(
            url,
            proxy=None,
            max_attempts=20,
            open_timeout=30.0,
            on_message=self._note_message,
            on_gap=lambda gap: self.faults.append(str(gap)),
            on_reconnect=lambda _: self.reconnected_at.append(time.monotonic()),
        )

    async def start(self) -> None:
        """Connect, and subscribe."""
        self._running = asyncio.create_task(self.client.run())
        await self.client.wait_connected()
        await self.client.subscribe(CHANNEL)

    @property
    def is_connected(self) -> bool:
        """True while the client is connected."""
        return self.client.state is ConnectionState.CONNECTED

    def has_reached(self, offset: int) -> bool:
        """Return whether the client has a message, or has noticed a fault."""
        return self.offset >= offset or bool(self.faults)

    async def close(self) -> None:
        """Close the client."""
        await self.client.close()
        await self._running

    def _note_message(self, message: Message) -> None:
        if message.channel != CHANNEL or message.offset is None:
            return
        if self.offset and message.offset != self.offset + 1:
            self.faults.append(f"{message.offset} came after {self.offset}")
        self.offset = message.offset


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a rolling restart.

    Attributes:
        published: The number of messages.
        faults: The faults that the clients have noticed.
        statuses: The exit statuses of the hubs.
        drains: The times of the reconnects after each drain, in seconds since its beginning.
    """

    published: int
    faults: list[str]
    statuses: list[int]
    drains: list[list[float]] = field(default_factory=list)

    def histograms(self) -> list[Counter[int]]:
        """Return the number of reconnects in each second of each drain."""
        return [Counter(int(at) for at in drain) for drain in self.drains]


async def restart_hubs(
    redis_url: str, directory: Path, clients: int, window: float, pause: float
) -> Report:
    """Restart two hubs one after the other while clients follow a channel.

    Args:
        redis_url: The server that joins the hubs.
        directory: An empty directory for nginx.
        clients: The number of clients.
        window: The window of each drain, in seconds.
        pause: Time between two messages, in seconds.
    """
    options = ("--redis", redis_url, "--drain-window", str(window))
    history = {"process:*": HistoryLimits()}
    async with (
        run_hubs(*options) as hubs,
        run_nginx(hubs, directory) as port,
        AsyncRedisPublisher(redis_url, history=history) as publisher,
    ):
        followers = [Follower(f"ws://127.0.0.1:{port}/ws") for _ in range(clients)]
        try:
            await _connect_all(followers)
            ended = asyncio.Event()
            publishing = asyncio.create_task(_publish(publisher, pause, ended))
            began, statuses = await _restart_each(hubs, followers)
            ended.set()
            published = await publishing
            async with asyncio.timeout(120):
                for follower in followers:
                    await _until(partial(follower.has_reached, published))
        finally:
            await asyncio.gather(*(follower.close() for follower in followers))
    times = [at for follower in followers for at in follower.reconnected_at]
    ends = [*began[1:], float("inf")]
    return Report(
        published=published,
        faults=[fault for follower in followers for fault in follower.faults],
        statuses=statuses,
        drains=[
            [at - begin for at in times if begin <= at < end]
            for begin, end in zip(began, ends, strict=True)
        ],
    )


async def _connect_all(followers: list[Follower]) -> None:
    places = asyncio.Semaphore(_DIALS_AT_ONCE)

    async def connect(follower: Follower) -> None:
        async with places:
            await follower.start()

    await asyncio.gather(*map(connect, followers))


async def _publish(publisher: AsyncRedisPublisher, pause: float, ended: asyncio.Event) -> int:
    count = 0
    while not ended.is_set():
        count += 1
        await publisher.send_process_output("build", f"line {count}")
        await asyncio.sleep(pause)
    return count


async def _restart_each(
    hubs: list[HubProcess], followers: list[Follower]
) -> tuple[list[float], list[int]]:
    """Restart the hubs; return the beginnings of the drains, and the exit statuses."""
    began, statuses = [], []
    for hub in hubs:
        began.append(time.monotonic())
        statuses.append(await hub.terminate())
        await hub.start()
        await _until(lambda: all(follower.is_connected for follower in followers))
        await asyncio.sleep(2)
    return began, statuses


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - a client reports no event to wait for
        await asyncio.sleep(0.05)
