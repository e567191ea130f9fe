"""The publisher of a process's output to a remote hub.

It has the methods that `wshub_core.run_process` needs of a hub.
"""

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

_MAX_WAITING = 1_000
"""The number of lines that may wait to be sent before the process has to wait."""

_LAST_SECONDS = 5.0
"""The longest wait for the last lines when the block is left with an exception."""

_HOOK_SECONDS = 10.0
"""The longest wait for the end of processes. They get SIGTERM, and SIGKILL 5 seconds later."""


class ProcessPublisher:
    """Publishes the output of processes to a remote hub.

    ::

        async with ReconnectingClient(url) as client, ProcessPublisher(client) as publisher:
            await run_process(publisher, "build-42", "make", "-j4")

    While there is no connection, lines wait. When 1,000 lines wait, the process waits, too. Lines
    that are on their way when a connection is lost may be missing; all others arrive, in order.
    When nothing can be published any more, because the hub refuses it or the client has ended, the
    process is ended.

    Leaving the block waits until all messages are sent; for at most 5 seconds if the block is left
    with an exception.

    Args:
        client: A client that may publish to the channel of the process.
    """

    def __init__(self, client: ReconnectingClient) -> None:
        self._client = client
        self._waiting: deque[Message] = deque()
        self._changed = asyncio.Event()
        self._error: WSHubError | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_leaving = False
        self._hooks: list[Callable[[], Awaitable[None]]] = []
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
        """Wait until all messages are sent.

        Raises:
            ClientError: A message could not be published.
        """
        self._guard.check()
        assert self._sending is not None, "the block was entered"
        self._is_leaving = True
        self._changed.set()
        try:
            async with asyncio.timeout(None if exc is None else _LAST_SECONDS):
                await self._sending
        except TimeoutError:
            # The timeout has cancelled the task. The exception of the block is more important.
            logger.warning("messages of processes were not sent: %d", len(self._waiting))
        # `run_process` may have raised this error already, in the block.
        if self._error is not None and exc is not self._error:
            raise self._error

    def send_process_output(self, process_id: str, line: str, *, overwrites: bool = False) -> None:
        """Publish a line of output.

        Args:
            process_id: The id of the process.
            line: The line, without its line end.
            overwrites: Whether the line replaces the line before it.

        Raises:
            MessageTooLargeError: The line does not fit into a message.
            ClientError: An earlier message could not be published.
        """
        self._add(process_output_message(process_id, line, overwrites=overwrites))

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        """Publish a status.

        Raises:
            ClientError: An earlier message could not be published.
        """
        self._add(process_status_message(process_id, status, exit_code))

    async def drain(self) -> None:
        """Wait until there is room for further messages.

        Raises:
            ClientError: A message could not be published.
        """
        self._guard.check()
        while len(self._waiting) >= _MAX_WAITING and self._error is None:
            await self._wait_for_change()
        if self._error is not None:
            raise self._error

    def add_shutdown_hook(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Add a function that is awaited when nothing can be published any more."""
        self._hooks.append(hook)

    def remove_shutdown_hook(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Remove a function that `add_shutdown_hook` has added."""
        self._hooks.remove(hook)

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
            # A process that prints nothing does not notice the error, so the hooks end it.
            closing = [asyncio.create_task(_run_hook(hook)) for hook in self._hooks]
            if closing:
                _, late = await asyncio.wait(closing, timeout=_HOOK_SECONDS)
                for task in late:
                    task.cancel()

    async def _send(self, message: Message) -> None:
        """Send a message, across reconnects if necessary."""
        while True:
            await self._client.wait_connected()
            try:
                if message.type == MessageType.PROCESS_STATUS:
                    # The hub confirms a status. The first one shows whether the client may publish
                    # at all; the last one must arrive. Lines are sent without confirmation.
                    await self._client.publish_message(message)
                else:
                    await self._client.send(message)
            except (NotConnectedError, LostError):
                continue
            return

    async def _wait_for_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


async def _run_hook(hook: Callable[[], Awaitable[None]]) -> None:
    try:
        await run_callback(hook)
    except CallbackError as error:
        logger.error("a shutdown hook failed", exc_info=error.__cause__)
