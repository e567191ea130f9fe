"""The client for programs without an event loop: scripts and threads."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Any, Self, TypeVar

from wshub_client.client import ConnectionState, ReconnectingClient
from wshub_client.errors import ClientClosedError, ClientError
from wshub_core import JSON, Message
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

T = TypeVar("T")


class BlockingClient:
    """A `ReconnectingClient` with an event loop of its own, in a thread of its own.

    ::

        with BlockingClient("ws://localhost:8080/ws") as client:
            client.subscribe("process:build-42")
            for message in client:
                print(message.data)

    Every method blocks until it is done, and can be called from any thread. Callbacks are called in
    the client's own thread, and must not call back.

    Args:
        url: The hub's address.
        **options: Those of `ReconnectingClient`.

    Raises:
        InvalidConfigError: The address or a setting cannot work.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._client = ReconnectingClient(url, **options)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, daemon=True)
        self._closing = threading.Lock()

    def __enter__(self) -> Self:
        """Start, and wait until the hub is connected for the first time.

        Raises:
            ClientError: The client has ended instead.
        """
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def state(self) -> ConnectionState:
        """How the client stands."""
        return self._client.state

    def subscribe(self, channel: str, *, confirm: bool = False) -> None:
        """Want a channel; see `ReconnectingClient.subscribe`."""
        self._run(self._client.subscribe(channel, confirm=confirm))

    def unsubscribe(self, channel: str) -> None:
        """Want a channel no more; see `ReconnectingClient.unsubscribe`."""
        self._run(self._client.unsubscribe(channel))

    def send(self, message: Message) -> None:
        """Send a message as it is; see `ReconnectingClient.send`."""
        self._run(self._client.send(message))

    def publish(self, channel: str, data: JSON = None) -> None:
        """Publish an event to a channel; see `ReconnectingClient.publish`."""
        self._run(self._client.publish(channel, data))

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message.

        Args:
            timeout: How long to wait for it, in seconds; None for as long as it takes.

        Raises:
            TimeoutError: None has come in time.
            ClientClosedError: The client has been closed, and there are no more.
            ClientError: What ended the client, when there are no more.
        """
        return self._run(self._receive(timeout))

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                yield self.receive()
            except ClientClosedError:
                return

    def close(self) -> None:
        """End the client; repeating it is harmless, from whatever thread."""
        self._check_thread()
        with self._closing:
            if self._loop.is_closed():
                return
            if self._thread.is_alive():
                asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result()
                asyncio.run_coroutine_threadsafe(self._cancel_others(), self._loop).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            self._loop.close()

    async def _receive(self, timeout: float | None) -> Message:
        async with asyncio.timeout(timeout):
            return await self._client.receive()

    async def _cancel_others(self) -> None:
        """Have nobody wait for what does not come any more."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            self._check_thread()
            if self._loop.is_closed():
                raise ClientClosedError
            if not self._thread.is_alive():
                raise ClientError("a BlockingClient is used inside `with`")
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except (ClientError, RuntimeError) as error:
            work.close()
            raise (error if isinstance(error, ClientError) else ClientClosedError()) from None
        try:
            return future.result()
        except CancelledError:
            raise ClientClosedError from None

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise ClientError("a callback must not call the blocking client it is called by")

    def _run_loop(self) -> None:
        while True:
            try:
                self._loop.run_forever()
            except BaseException:
                # A callback that wants to end the program ends nothing but itself here.
                logger.exception("a callback has raised what is not for it to raise")
            else:
                return
