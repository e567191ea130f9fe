"""The client for programs without an event loop: scripts and threads."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, Unpack

from wshub_client.client import ReconnectingClient
from wshub_client.errors import ClientClosedError, ClientError
from wshub_client.reconnect import ConnectionState
from wshub_client.settings import ClientOptions
from wshub_core import JSON, Message
from wshub_core.forks import ForkGuard
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

T = TypeVar("T")

Outcome: TypeAlias = "SimpleQueue[asyncio.Task[T] | None]"
"""What a thread waits for: the end of a task, or None when the client's thread is over.

Threads wait for nothing but such queues, because these need no lock that a thread can hold while a
signal handler runs in it: a handler that calls `BlockingClient.close` would wait for its own thread
then, as it would with futures, conditions and events.
"""

_LOOK_SECONDS = 1.0
"""How often a thread that waits looks whether the client's thread is there."""

_CANCEL_SECONDS = 5.0
"""How long the tasks that are left at the end may take to be cancelled."""


class BlockingClient:
    """A `ReconnectingClient` with an event loop of its own, in a thread of its own.

    ::

        with BlockingClient("ws://localhost:8080/ws") as client:
            client.subscribe("process:build-42")
            for message in client:
                print(message.data)

    Every method blocks until it is done, and can be called from any thread. A signal handler may
    raise an exception out of each of them, which loses no message, and may call `close`. Callbacks
    are called in the client's own thread, and must not call back.

    Args:
        url: The hub's address.
        **options: Those of `ReconnectingClient`.

    Raises:
        InvalidConfigError: The address or a setting cannot work.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self._client = ReconnectingClient(url, **options)
        # The thread makes the loop: a child that is forked before must not share it, and a signal
        # handler cannot interrupt that there.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_loop: SimpleQueue[None] = SimpleQueue()
        self._guard: ForkGuard | None = None
        self._thread = threading.Thread(target=self._run_loop, name="wshub-client", daemon=True)
        self._starter: int | None = None
        self._stop = asyncio.Event()
        self._is_closing = False
        self._is_over = False
        self._waiting: set[Outcome[Any]] = set()

    def __enter__(self) -> Self:
        """Start, and wait until the hub is connected for the first time.

        Raises:
            ClientError: The client has ended instead, or was entered before.
        """
        self._check_process()
        if self._guard is not None:
            raise ClientError("a BlockingClient is entered once: create a new one")
        if self._is_closing:
            raise ClientClosedError
        self._guard = ForkGuard("client")
        try:
            self._starter = threading.get_ident()
            self._thread.start()
            self._starter = None
            self._has_loop.get()
            self._run(lambda: self._client.__aenter__())
        except BaseException:
            self._starter = None
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

    @property
    def dropped_messages(self) -> int:
        """How many messages were dropped; see `ReconnectingClient.dropped_messages`."""
        return self._client.dropped_messages

    @property
    def unreadable_messages(self) -> int:
        """How many parts of what hubs sent are no messages, and were ignored."""
        return self._client.unreadable_messages

    @property
    def callback_errors(self) -> int:
        """How many callbacks have raised something."""
        return self._client.callback_errors

    def subscribe(self, channel: str, *, confirm: bool = False) -> None:
        """Want a channel; see `ReconnectingClient.subscribe`."""
        self._run(lambda: self._client.subscribe(channel, confirm=confirm))

    def unsubscribe(self, channel: str) -> None:
        """Want a channel no more; see `ReconnectingClient.unsubscribe`."""
        self._run(lambda: self._client.unsubscribe(channel))

    def send(self, message: Message) -> None:
        """Send a message as it is; see `ReconnectingClient.send`."""
        self._run(lambda: self._client.send(message))

    def publish(self, channel: str, data: JSON = None) -> None:
        """Publish an event to a channel; see `ReconnectingClient.publish`."""
        self._run(lambda: self._client.publish(channel, data))

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message.

        Args:
            timeout: How long to wait for it, in seconds; None for as long as it takes.

        Raises:
            TimeoutError: None has come in time.
            ClientClosedError: The client has been closed, and there are no more.
            ClientError: What ended the client, when there are no more.
        """
        delivery = _Delivery(self._client)
        try:
            self._run(lambda: delivery.fetch(timeout))
            assert delivery.message is not None, "it was fetched"
            # Between here and the caller's next statement no signal handler is called.
            return delivery.message
        except BaseException:
            # A signal handler may have raised, before, while or after the message came.
            self._call_soon(delivery.give_up)
            raise

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                yield self.receive()
            except ClientClosedError:
                return

    def close(self) -> None:
        """End the client; repeating it is harmless, from whatever thread or signal handler."""
        self._check_process()
        self._check_thread()
        self._is_closing = True
        # A signal handler in a thread that is just starting the client's would wait for ever: the
        # start waits for the handler. It ends the client itself.
        is_starting = self._starter == threading.get_ident()
        if self._thread.ident is None or is_starting or self._is_over:
            return
        self._call_soon(self._stop.set)
        over: Outcome[None] = SimpleQueue()
        self._wait(over)
        self._thread.join()

    def _run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        call = _Call(work)
        try:
            self._check_process()
            self._check_thread()
            if self._is_closing:
                raise ClientClosedError
            if self._loop is None:
                raise ClientError("a BlockingClient is used inside `with`")
            self._call_soon(call.start)
            task = self._wait(call.outcome)
            if task is None or task.cancelled():
                raise ClientClosedError
            return task.result()
        except BaseException:
            self._call_soon(call.give_up)
            raise

    def _wait(self, outcome: "Outcome[T]") -> "asyncio.Task[T] | None":
        self._waiting.add(outcome)
        try:
            # The thread tells all who wait by then that it is over; whoever comes later sees it.
            while not self._is_over:
                try:
                    return outcome.get(timeout=_LOOK_SECONDS)
                except Empty:
                    # A thread whose start was interrupted may have died before it ran anything.
                    if not self._thread.is_alive():
                        break
            return None
        finally:
            self._waiting.discard(outcome)

    def _call_soon(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function)

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    def _check_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise ClientError("a callback must not call the blocking client it is called by")

    # The thread.

    def _run_loop(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        self._has_loop.put(None)
        try:
            # Whoever closes it before there is a loop leaves it at that.
            if not self._is_closing:
                serving = loop.create_task(self._serve())
                while not serving.done():
                    try:
                        loop.run_until_complete(serving)
                    except (KeyboardInterrupt, SystemExit):
                        # A callback that wants to end the program ends nothing but itself here.
                        logger.exception("a callback has raised what is not for it to raise")
        finally:
            loop.close()
            self._is_over = True
            for outcome in tuple(self._waiting):
                outcome.put(None)

    async def _serve(self) -> None:
        await self._stop.wait()
        await self._client.close()
        # Nobody waits for what does not come any more.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_CANCEL_SECONDS)


class _Call(Generic[T]):
    """A call of another thread; the methods run in the client's thread.

    Args:
        work: What is to be done.

    Attributes:
        outcome: The task, when it is done.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Outcome[T] = SimpleQueue()
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._is_given_up = False

    def start(self) -> None:
        """Start the work, unless it has been given up."""
        if not self._is_given_up:
            self._task = asyncio.get_running_loop().create_task(self._work())
            self._task.add_done_callback(self._finish)

    def give_up(self) -> None:
        """Cancel the work, for which nobody waits any more."""
        self._is_given_up = True
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: "asyncio.Task[T]") -> None:
        if not task.cancelled():
            task.exception()  # whoever has called may have been interrupted, and not ask for it
        self.outcome.put(task)


class _Delivery:
    """One message on its way to a thread that may give up waiting for it at any moment.

    All but the constructor runs in the client's thread.

    Args:
        client: The client that receives.

    Attributes:
        message: The message; None as long as there is none.
    """

    def __init__(self, client: ReconnectingClient) -> None:
        self.message: Message | None = None
        self._client = client
        self._is_given_up = False

    async def fetch(self, timeout: float | None) -> None:
        """Wait for the message.

        Raises:
            TimeoutError: None has come in time.
        """
        async with asyncio.timeout(timeout):
            message = await self._client.receive()
            if self._is_given_up:
                self._client.put_back(message)
            else:
                self.message = message

    def give_up(self) -> None:
        """Put the message back, also if it comes later."""
        self._is_given_up = True
        if self.message is not None:
            self._client.put_back(self.message)
