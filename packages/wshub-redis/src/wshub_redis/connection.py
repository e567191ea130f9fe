"""A supervised connection: one connection to Redis that is reopened whenever it is lost."""

import asyncio
import contextlib
import math
from collections.abc import Callable, Iterator

from wshub_core import Backoff
from wshub_core.logs import get_logger
from wshub_redis.redis_py.connections import CONNECTION_ERRORS, RedisConnection
from wshub_redis.redis_py.servers import Server
from wshub_redis.stats import Counters

logger = get_logger("wshub.redis")

_INITIAL_BACKOFF = 0.1
"""Longest wait after the first failure, in seconds."""

_MAX_BACKOFF = 5.0
"""Longest wait after any number of failures, in seconds."""

_CANCEL_SECONDS = 0.2
"""Time between two cancellations of the same task, in seconds."""

_SHORT_OUTAGE_SECONDS = 1.0
"""Age of an outage in seconds up to which a call waits for its end."""

_STABLE_SECONDS = 10.0
"""Time in seconds after which a connection counts as stable, and the backoff begins again."""


class ConnectionLostError(ConnectionError):
    """An open connection cannot be used any more."""


class SupervisedConnection:
    """The base of the sender and the listener: it opens a connection, again and again.

    After each failure it waits for a random time, which grows up to five seconds, and tries again
    until `close`. A subclass defines `use_connection` and `note_disconnect`.

    Args:
        server: The server to connect to.
        timeout: Maximum time for a reply of the server, in seconds.
        on_change: Called when ``is_up`` has changed, and after each failure.
        counters: The counters to update.

    Attributes:
        is_up: Whether the connection is open and ready for its purpose.
        error: The last failure; None while ``is_up``, and before the first attempt has failed.
        reason: The text of ``error``; empty while ``is_up``.
    """

    def __init__(
        self, server: Server, timeout: float, on_change: Callable[[], None], counters: Counters
    ) -> None:
        self.is_up = False
        self.error: Exception | None = None
        self._up_since = 0.0
        self._down_since = -math.inf
        self._up = asyncio.Event()
        self._server = server
        self._timeout = timeout
        self._on_change = on_change
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._first_attempt: asyncio.Future[None] = self._loop.create_future()

    @property
    def reason(self) -> str:  # noqa: D102
        if self.is_up:
            return ""
        if self.error is None:
            return "not connected yet"
        return str(self.error) or type(self.error).__name__

    def start(self) -> None:
        """Start to connect, without waiting."""
        self._task = self._loop.create_task(self._run())

    async def open(self) -> None:
        """Start to connect, and wait for the first attempt.

        Raises:
            RedisError: The server refuses the connection.
            OSError: The server cannot be reached, or does not reply in time.
        """
        self.start()
        await self._first_attempt

    async def close(self) -> None:
        """Close the connection for good."""
        self._is_closing = True
        if self._task is not None:
            await cancel_task(self._task)
        self.is_up = False
        # Ends a call of `open` that still waits.
        self._first_attempt.cancel()

    async def wait_up(self) -> float:
        """Wait until the connection is up, and return since when, by the event loop's clock."""
        await self._up.wait()
        return self._up_since

    async def wait_reconnected(self) -> None:
        """Wait for the end of an outage that has just begun, at most until it is a second old."""
        seconds = self._down_since + _SHORT_OUTAGE_SECONDS - self._loop.time()
        if seconds > 0 and not self._is_closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._up.wait()

    async def use_connection(self, connection: RedisConnection) -> None:
        """Use an open connection until it is lost, and raise the failure.

        An implementation calls `note_up` when the connection is ready for its purpose.
        """
        raise NotImplementedError

    def note_disconnect(self) -> None:
        """Update the state that depends on a connection; called after each failure."""
        raise NotImplementedError

    def note_up(self) -> None:
        """Record that the connection is ready for its purpose."""
        self.is_up = True
        self.error = None
        self._up_since = self._loop.time()
        self._up.set()
        if not self._first_attempt.done():
            self._first_attempt.set_result(None)
        self._on_change()

    async def _run(self) -> None:
        backoff = Backoff(_INITIAL_BACKOFF, _MAX_BACKOFF, 2.0)
        # A TaskGroup that fails while it is cancelled raises only the failure. The flag ends the
        # loop in that case.
        while not self._is_closing:
            self._clear_cancellations()
            started = self._loop.time()
            failure = await self._connect_and_use()
            # Outside of the `except` block, so that the traceback of an exception in a callback
            # does not show this failure as its context.
            self._note_failure(failure)
            # A connection that is lost soon after it was opened counts as a failure, so that a
            # server that closes every connection is not flooded.
            if self._loop.time() - started > _STABLE_SECONDS:
                backoff.reset()
            backoff.fail()
            if not self._is_closing:
                await asyncio.sleep(backoff.delay())

    def _clear_cancellations(self) -> None:
        """Take back the cancellations that a TaskGroup has left behind.

        A TaskGroup cancels the task around it when one of its tasks fails, and does not always take
        that back (up to Python 3.12). In such a task, timeouts of Python up to 3.11.2 raise
        `asyncio.CancelledError` instead of `TimeoutError`, which would end the attempts.
        """
        if self._task is not None:
            while self._task.cancelling():
                self._task.uncancel()

    async def _connect_and_use(self) -> Exception:
        """Use one connection for as long as it lasts, and return the failure that ended it."""
        try:
            connection = await self._server.connect(self._timeout)
            try:
                await self.use_connection(connection)
            except BaseExceptionGroup as group:
                # Several tasks use the connection. Any of their failures explains the loss.
                raise next(_leaves(group)) from None
            finally:
                with contextlib.suppress(*CONNECTION_ERRORS):
                    await connection.close()
        except CONNECTION_ERRORS as exc:
            return exc
        except Exception as exc:
            # A fault of this package. Without a further attempt the bridge would stay down.
            logger.exception("the connection to %s failed", self._server.address)
            return exc
        return ConnectionLostError("the connection was given up")

    def _note_failure(self, exc: Exception) -> None:
        # An attempt that did not come up is no reconnect.
        was_up, self.is_up = self.is_up, False
        if was_up:
            self._down_since = self._loop.time()
        self._counters.reconnects += was_up
        self.error = exc
        if isinstance(exc, TimeoutError) and not str(exc):
            why = f"{self._server.address} did not answer within {self._timeout:g} s"
            self.error = ConnectionLostError(why)
        self._up.clear()
        if not self._first_attempt.done():
            self._first_attempt.set_exception(self.error)
            # Reading the exception marks it as handled: after `start` no task awaits the future.
            self._first_attempt.exception()
        self.note_disconnect()
        # Also if the connection was down before, because the reason may have changed.
        self._on_change()


async def cancel_task(task: asyncio.Task[None]) -> None:
    """Cancel a task repeatedly until it has ended.

    A single cancellation can get lost: a timeout in a library can take it for its own, or a
    failure at the same moment can replace it.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_CANCEL_SECONDS)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for exc in group.exceptions:
        if isinstance(exc, BaseExceptionGroup):
            yield from _leaves(exc)
        else:
            yield exc
