"""A process's output, published through a client: what `wshub_core.run_process` needs of a hub."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from wshub_client.callbacks import CallbackError, run_callback
from wshub_client.client import ReconnectingClient
from wshub_client.errors import LostError, NotConnectedError
from wshub_core import (
    Message,
    MessageType,
    WSHubError,
    process_output_message,
    process_status_message,
)
from wshub_core.forks import ForkGuard
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

_MOST_WAITING = 1_000
"""How many lines may wait to be sent before no more are read from the process."""


_LAST_SECONDS = 5.0

_CLOSER_SECONDS = 10.0
"""How long the end of a process may take: SIGKILL comes after five seconds."""


class ProcessPublisher:
    """Publishes what a process prints to a hub elsewhere.

    ::

        async with ReconnectingClient(url) as client, ProcessPublisher(client) as publisher:
            await run_process(publisher, "build-42", "make", "-j4")

    While the connection is away, lines wait, and so does the process once enough of them do. What
    was on its way when a connection was lost may be missing; everything else arrives, in order.
    When nothing can be published any more, because the hub does not allow it or the client has
    ended, the process is ended too.

    Leaving the block waits until all is sent, and for five seconds at most when it is left with an
    exception.

    Args:
        client: A client that the hub lets publish to the process's channel.
    """

    def __init__(self, client: ReconnectingClient) -> None:
        self._client = client
        self._waiting: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._error: WSHubError | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_leaving = False
        self._closers: list[Callable[[], Awaitable[None]]] = []
        self._guard = ForkGuard("publisher")

    async def __aenter__(self) -> Self:
        self._guard = ForkGuard("publisher")
        self._sending = asyncio.create_task(self._send_all())
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Wait until all is sent.

        Raises:
            ClientError: It could not be sent.
        """
        self._guard.check()
        assert self._sending is not None, "it was entered"
        self._is_leaving = True
        self._changed.set()
        try:
            async with asyncio.timeout(None if exc is None else _LAST_SECONDS):
                await self._sending
        except TimeoutError:
            # The task is cancelled, and the exception is what matters.
            logger.warning("messages of processes that were not sent: %d", len(self._waiting))
        # It is what has ended the process, too.
        if self._error is not None and exc is not self._error:
            raise self._error

    def send_process_output(self, process_id: str, line: str, *, overwrites: bool = False) -> None:
        """Have a line published.

        Args:
            process_id: The process.
            line: The line without its end.
            overwrites: Whether it takes the place of the line before it.

        Raises:
            MessageTooLargeError: It does not fit into a message.
            ClientError: Something before it could not be published.
        """
        self._add(process_output_message(process_id, line, overwrites=overwrites))

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        """Have a status published.

        Raises:
            ClientError: Something before it could not be published.
        """
        self._add(process_status_message(process_id, status, exit_code))

    async def drain(self) -> None:
        """Wait until there is room for more.

        Raises:
            ClientError: Something could not be published.
        """
        self._guard.check()
        while len(self._waiting) >= _MOST_WAITING and self._error is None:
            await self._wait_for_change()
        if self._error is not None:
            raise self._error

    def add_closer(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Have a function awaited when nothing can be published any more."""
        self._closers.append(closer)

    def remove_closer(self, closer: Callable[[], Awaitable[None]]) -> None:
        """Take back `add_closer`."""
        self._closers.remove(closer)

    def _add(self, message: Message) -> None:
        self._guard.check()
        if self._error is not None:
            raise self._error
        self._client.check_size(message)
        self._waiting.append(message)
        self._changed.set()

    async def _send_all(self) -> None:
        try:
            while self._waiting or not self._is_leaving:
                if self._waiting:
                    await self._send(self._waiting[0])
                    self._waiting.popleft()
                    self._changed.set()
                else:
                    await self._wait_for_change()
        except WSHubError as error:
            self._error = error
            self._changed.set()
            # A process that nobody can follow is ended, also if it says nothing.
            closing = [asyncio.create_task(_call_closer(closer)) for closer in self._closers]
            if closing:
                _, late = await asyncio.wait(closing, timeout=_CLOSER_SECONDS)
                for task in late:
                    task.cancel()

    async def _send(self, message: Message) -> None:
        """Send a message, when that is possible."""
        while True:
            await self._client.wait_connected()
            try:
                if message.type == MessageType.PROCESS_STATUS:
                    # It matters that these arrive, and the first tells whether any may.
                    await self._client.publish_message(message)
                else:
                    await self._client.send(message)
            except (NotConnectedError, LostError):
                continue
            return

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def _call_closer(closer: Callable[[], Awaitable[None]]) -> None:
    try:
        await run_callback(closer)
    except CallbackError as error:
        logger.error("a closer failed", exc_info=error.__cause__)
