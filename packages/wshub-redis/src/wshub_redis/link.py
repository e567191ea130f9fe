"""A link to a server: one connection that is opened anew whenever it is lost."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from redis.asyncio.connection import AbstractConnection

from wshub_core import Backoff
from wshub_core.logs import get_logger
from wshub_redis.counters import Counters
from wshub_redis.server import CONNECTION_ERRORS, Server

logger = get_logger("wshub.redis")

_INITIAL_BACKOFF = 0.1
_MAX_BACKOFF = 5.0
_CANCEL_SECONDS = 0.2
_STABLE_SECONDS = 10.0
"""After how long a connection counts as one that holds."""


class LinkLostError(ConnectionError):
    """A connection is open and of no use."""


class Link:
    """Keeps one connection to a server; what is done with it, a subclass says.

    It never gives up: after each failure it waits for a random time, longer each time up to five
    seconds, and tries again.

    Args:
        server: Where to connect.
        timeout: How long the server may take over an answer, in seconds.
        on_change: Called when ``is_up`` has changed, and after each failure.
        counters: Where is counted.

    Attributes:
        is_up: Whether the connection is there and does its work.
        error: Why it is not up, if it is not; None before the first try.
        reason: The same as a text; empty if it is up.
    """

    def __init__(
        self, server: Server, timeout: float, on_change: Callable[[], None], counters: Counters
    ) -> None:
        self.is_up = False
        self.error: Exception | None = None
        self._up_since = 0.0
        self._up = asyncio.Event()
        self._server = server
        self._timeout = timeout
        self._on_change = on_change
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._first_try: asyncio.Future[None] = self._loop.create_future()

    @property
    def reason(self) -> str:  # noqa: D102
        if self.is_up:
            return ""
        if self.error is None:
            return "not connected yet"
        return str(self.error) or type(self.error).__name__

    def start(self) -> None:
        """Connect whenever that is possible."""
        self._task = self._loop.create_task(self._run())

    async def open(self) -> None:
        """Start, and wait for the first try.

        Raises:
            RedisError: The server refuses us.
            OSError: It cannot be reached, or does not answer in time.
        """
        self.start()
        await self._first_try

    async def close(self) -> None:
        """End the connection; it is not opened again."""
        self._is_closing = True
        if self._task is not None:
            await end_task(self._task)
        self.is_up = False
        self._first_try.cancel()

    async def wait_up(self) -> float:
        """Wait until the link is up; return since when it is, by the event loop's clock."""
        await self._up.wait()
        return self._up_since

    async def serve(self, connection: AbstractConnection) -> None:
        """Use a connection, call `note_up` when it does its work, and raise when it is lost."""
        raise NotImplementedError

    def note_lost(self) -> None:
        """Note that there is no connection; called after each failure."""
        raise NotImplementedError

    def note_up(self) -> None:
        """Note that the connection does its work."""
        self.is_up = True
        self.error = None
        self._up_since = self._loop.time()
        self._up.set()
        if not self._first_try.done():
            self._first_try.set_result(None)
        self._on_change()

    async def _run(self) -> None:
        backoff = Backoff(_INITIAL_BACKOFF, _MAX_BACKOFF, 2.0)
        # A group of tasks that fails while it is cancelled reports the failure alone.
        while not self._is_closing:
            started = self._loop.time()
            failure = await self._connect_and_serve()
            # Not where it was caught: what a callback raises has nothing to do with it.
            self._note_failure(failure)
            if self._loop.time() - started > _STABLE_SECONDS:
                backoff.reset()
            backoff.fail()
            if not self._is_closing:
                await asyncio.sleep(backoff.delay())

    async def _connect_and_serve(self) -> Exception:
        """Use a connection for as long as it lasts; return why it did not last longer."""
        try:
            connection = await self._server.connect(self._timeout)
            try:
                await self.serve(connection)
            except BaseExceptionGroup as group:
                # Which one of the tasks found out first does not matter.
                raise next(_leaves(group)) from None
            finally:
                # The other side may be gone, and is not waited for.
                with contextlib.suppress(*CONNECTION_ERRORS):
                    await connection.disconnect(nowait=True)
        except CONNECTION_ERRORS as exc:
            return exc
        except Exception as exc:
            # A bug of ours; deaf for good would be worse than noisy.
            logger.exception("the link to %s failed", self._server.address)
            return exc
        return LinkLostError("it was not used any more")

    def _note_failure(self, exc: Exception) -> None:
        was_up, self.is_up = self.is_up, False
        self._counters.reconnects += was_up
        self.error = exc
        if isinstance(exc, TimeoutError) and not str(exc):
            why = f"{self._server.address} did not answer within {self._timeout:g} s"
            self.error = LinkLostError(why)
        self._up.clear()
        if not self._first_try.done():
            self._first_try.set_exception(self.error)
            self._first_try.exception()  # whether anybody waits for it or not
        self.note_lost()
        # Also when it was not up: the reason may be another one now.
        self._on_change()


async def end_task(task: asyncio.Task[None]) -> None:
    """Cancel a task, and wait until it has ended.

    Once is not always enough: what is awaited deep below may take the cancellation for its own
    timeout, or a failure of the same moment may hide it.
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
