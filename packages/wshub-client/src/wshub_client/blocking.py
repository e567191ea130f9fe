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
from wshub_core import JSON, Message, Position, Presence
from wshub_core.forks import ForkGuard
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

T = TypeVar("T")

Outcome: TypeAlias = "SimpleQueue[asyncio.Task[T] | None]"
"""A queue for the result of a call: its finished task, or None if the client's thread has ended.

Futures, conditions and events use locks. A signal handler that calls `BlockingClient.close` may run
in a thread that holds such a lock, and would wait for its own thread. `SimpleQueue` is reentrant,
so threads wait on such queues only.
"""

_ALIVE_CHECK_SECONDS = 1.0
"""The interval in which a waiting thread checks that the client's thread is alive."""

_CANCEL_SECONDS = 5.0
"""The longest wait for the cancellation of the remaining tasks at the end."""


class BlockingClient:
    """A `ReconnectingClient` with its own event loop, in a thread of its own.

    ::

        with BlockingClient("ws://localhost:8080/ws") as client:
            client.subscribe("process:build-42")
            for message in client:
                print(message.data)

    Every method blocks until it is done, and can be called from any thread. A signal handler may
    call `close`, and may raise an exception while a method blocks; no message is lost by that.
    Callbacks run in the client's thread, and must not call the methods of the client.

    Args:
        url: The address of the hub.
        **options: The keyword arguments of `ReconnectingClient`.

    Raises:
        InvalidConfigError: The address or a setting is not valid.
    """

    def __init__(self, url: str, **options: Unpack[ClientOptions]) -> None:
        self._client = ReconnectingClient(url, **options)
        # The thread makes the loop. So a child that is forked before the start does not share it,
        # and no signal handler interrupts its construction.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_loop: SimpleQueue[None] = SimpleQueue()
        self._guard: ForkGuard | None = None
        self._thread = threading.Thread(target=self._run_loop, name="wshub-client", daemon=True)
        self._starter: int | None = None
        self._stop = asyncio.Event()
        self._is_closing = False
        self._is_over = False
        self._waiting: set[Outcome[Any]] = set()
        self._abandoned: list[_Delivery] = []

    def __enter__(self) -> Self:
        """Start the client, and wait for the first connection.

        Raises:
            ClientError: The client has ended instead, or was entered before.
        """
        self._check_caller()
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
        """The state of the client."""
        return self._client.state

    @property
    def dropped_messages(self) -> int:
        """Number of dropped messages; see `ReconnectingClient.dropped_messages`."""
        return self._client.dropped_messages

    @property
    def duplicate_messages(self) -> int:
        """Number of messages of a history that came twice, and were dropped."""
        return self._client.duplicate_messages

    @property
    def unreadable_messages(self) -> int:
        """Number of parts of WebSocket messages that were no messages, and were skipped."""
        return self._client.unreadable_messages

    @property
    def callback_errors(self) -> int:
        """Number of callbacks that have raised an exception."""
        return self._client.callback_errors

    def subscribe(
        self,
        channel: str,
        *,
        confirm: bool = False,
        last: int | None = None,
        since: int | Position | None = None,
    ) -> None:
        """Subscribe to a channel; see `ReconnectingClient.subscribe`."""
        self._run(lambda: self._client.subscribe(channel, confirm=confirm, last=last, since=since))

    def unsubscribe(self, channel: str) -> None:
        """End a subscription; see `ReconnectingClient.unsubscribe`."""
        self._run(lambda: self._client.unsubscribe(channel))

    def position(self, channel: str) -> Position | None:
        """Return the position in a channel; see `ReconnectingClient.position`."""

        async def find() -> Position | None:
            return self._client.position(channel)

        # The client's thread changes what `find` looks at, for as long as it lives.
        return self._client.position(channel) if self._is_over else self._run(find)

    def send(self, message: Message) -> None:
        """Send a message as it is; see `ReconnectingClient.send`."""
        self._run(lambda: self._client.send(message))

    def publish(self, channel: str, data: JSON = None) -> None:
        """Publish an event to a channel; see `ReconnectingClient.publish`."""
        self._run(lambda: self._client.publish(channel, data))

    def presence(self, channel: str, *, count: bool = False) -> Presence:
        """Ask who is present in a channel; see `ReconnectingClient.presence`."""
        return self._run(lambda: self._client.presence(channel, count=count))

    def receive(self, timeout: float | None = None) -> Message:
        """Wait for the next message, and return it.

        Args:
            timeout: The longest wait, in seconds; None for no limit.

        Raises:
            TimeoutError: No message has come in time.
            ClientClosedError: The client has been closed, and there are no more messages.
            ClientError: The error that has ended the client, when there are no more messages.
        """
        delivery = _Delivery(self._client)
        try:
            self._run(lambda: self._fetch(delivery, timeout))
            assert delivery.message is not None, "fetch has returned"
            # Python calls no signal handler between this line and the caller's next statement, so
            # the message cannot be lost here.
            return delivery.message
        except BaseException:
            # A signal handler may have raised, before or after the message came. It may raise again
            # below, but only when `append` is done. Then the next call puts the message back.
            self._abandoned.append(delivery)
            self._call_soon(self._give_up_abandoned)
            raise

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                yield self.receive()
            except ClientClosedError:
                return

    def close(self) -> None:
        """Close the client, from any thread or signal handler; further calls do nothing."""
        self._check_caller()
        self._is_closing = True
        # A signal handler may run in the thread that is starting the client's thread. The start
        # continues only after the handler, so waiting here would never end. `_is_closing` makes the
        # new thread end by itself.
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
            self._check_caller()
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
            # At its end, the client's thread sets `_is_over` first, and then puts None into all
            # queues. So a call either finds the flag here, or gets the None.
            while not self._is_over:
                try:
                    return outcome.get(timeout=_ALIVE_CHECK_SECONDS)
                except Empty:
                    # A thread whose start was interrupted may have died before its first statement.
                    if not self._thread.is_alive():
                        break
            return None
        finally:
            self._waiting.discard(outcome)

    def _call_soon(self, function: Callable[[], None]) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function)

    def _check_caller(self) -> None:
        if self._guard is not None:
            self._guard.check()
        if threading.current_thread() is self._thread:
            raise ClientError("a callback must not call the blocking client that has called it")

    # The thread.

    def _run_loop(self) -> None:
        loop = self._loop = asyncio.new_event_loop()
        self._has_loop.put(None)
        try:
            # A call of `close` before there was a loop could not stop it.
            if not self._is_closing:
                serving = loop.create_task(self._serve())
                while not serving.done():
                    try:
                        loop.run_until_complete(serving)
                    except (KeyboardInterrupt, SystemExit):
                        # `run_callback` raises these in the loop. The program's main thread is not
                        # here, so they end the callback only.
                        logger.exception("a callback cannot end the program from this thread")
        finally:
            loop.close()
            self._is_over = True
            for outcome in tuple(self._waiting):
                outcome.put(None)

    async def _fetch(self, delivery: "_Delivery", timeout: float | None) -> None:
        self._give_up_abandoned()
        await delivery.fetch(timeout)

    def _give_up_abandoned(self) -> None:
        # The last one first, because each message is put in front of the others.
        while self._abandoned:
            self._abandoned.pop().give_up()

    async def _serve(self) -> None:
        await self._stop.wait()
        await self._client.close()
        # Calls of other threads that still wait get a cancelled task.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_CANCEL_SECONDS)


class _Call(Generic[T]):
    """A call from another thread; its methods run in the client's thread.

    Args:
        work: Returns the coroutine to run.

    Attributes:
        outcome: The queue that gets the task when it is done.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: Outcome[T] = SimpleQueue()
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._is_given_up = False

    def start(self) -> None:
        """Start the work, unless the caller has stopped waiting."""
        if not self._is_given_up:
            self._task = asyncio.get_running_loop().create_task(self._work())
            self._task.add_done_callback(self._finish)

    def give_up(self) -> None:
        """Cancel the work, because the caller has stopped waiting."""
        self._is_given_up = True
        if self._task is not None:
            self._task.cancel()

    def _finish(self, task: "asyncio.Task[T]") -> None:
        if not task.cancelled():
            task.exception()  # asyncio logs an error that an interrupted caller does not retrieve
        self.outcome.put(task)


class _Delivery:
    """A message on its way to a thread that may stop waiting at any moment.

    The methods run in the client's thread.

    Args:
        client: The client that receives the message.

    Attributes:
        message: The message; None before it has come.
    """

    def __init__(self, client: ReconnectingClient) -> None:
        self.message: Message | None = None
        self._client = client
        self._is_given_up = False

    async def fetch(self, timeout: float | None) -> None:
        """Wait for the message.

        Raises:
            TimeoutError: No message has come in time.
        """
        async with asyncio.timeout(timeout):
            message = await self._client.receive()
            if self._is_given_up:
                self._client.put_back(message)
            else:
                self.message = message

    def give_up(self) -> None:
        """Put the message back, now or when it comes."""
        self._is_given_up = True
        if self.message is not None:
            self._client.put_back(self.message)
