"""The application's callbacks, which are called in order and do not delay the connection."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from inspect import isawaitable
from typing import Any, NamedTuple, NoReturn, TypeAlias

from wshub_client.errors import ClientError
from wshub_client.inbox import Inbox, InboxOverflow
from wshub_client.recovery import Gap
from wshub_client.settings import Handlers
from wshub_core import Message
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

Call: TypeAlias = Callable[[], object]
"""A plain or async callback with its arguments."""


class CallbackError(ClientError):
    """A callback has raised an exception, which is the cause; applications never get this error."""


async def run_callback(call: Call) -> object:
    """Call a callback, await its result if it is awaitable, and return the result.

    ``KeyboardInterrupt`` and ``SystemExit`` are also raised in the event loop, past this task. The
    task stays intact, because the loop may be run again.

    Raises:
        CallbackError: The callback has raised an exception of any kind.
        CancelledError: This task is being cancelled.
    """
    task = asyncio.current_task()
    assert task is not None, "coroutines of the client run in tasks"
    try:
        result = call()
        if isawaitable(result):
            result = await result
    except BaseException as error:
        # Only a cancellation of this task passes. A CancelledError without one comes from another
        # task or future, which the callback has awaited.
        if isinstance(error, asyncio.CancelledError) and task.cancelling():
            raise
        # Python throws GeneratorExit into a task whose loop is gone. Such a task is not current;
        # if it is, the callback has raised the exception itself.
        if isinstance(error, GeneratorExit) and not _is_current(task):
            raise
        if isinstance(error, KeyboardInterrupt | SystemExit):
            asyncio.get_running_loop().call_soon(_raise, error)
        raise CallbackError from error
    if task.cancelling():
        raise asyncio.CancelledError  # the callback has suppressed the cancellation
    return result


def _is_current(task: "asyncio.Task[Any]") -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def _raise(error: BaseException) -> NoReturn:
    raise error


class _NamedCall(NamedTuple):
    """A call of a callback, with the message that it passes on, if there is one."""

    name: str
    call: Call
    message: Message | None = None


class Callbacks:
    """Calls the application's callbacks one after the other, in a task of its own.

    Args:
        handlers: The callbacks.
        size: The number of calls with messages that may wait.
        overflow: The policy for further calls with messages.

    Attributes:
        errors: Number of callbacks that have raised an exception.
        takes_messages: Whether a callback takes messages, so that the inbox need not keep them.
    """

    __slots__ = (
        "_calling",
        "_calls",
        "_handlers",
        "_has_connected",
        "errors",
        "takes_messages",
    )

    def __init__(self, handlers: Handlers, size: int, overflow: InboxOverflow) -> None:
        self.errors = 0
        self.takes_messages = handlers.on_message is not None or handlers.on_raw is not None
        self._handlers = handlers
        self._calls: Inbox[_NamedCall] = Inbox(size, overflow)
        self._calling: asyncio.Task[None] | None = None
        self._has_connected = False

    @property
    def dropped(self) -> int:
        """Number of dropped calls with messages."""
        return self._calls.dropped

    def connected(self, dials: int) -> None:
        """Call ``on_connect`` the first time, and ``on_reconnect`` from then on.

        Args:
            dials: The number of dials since the last connection.
        """
        if self._has_connected:
            self._put_event("on_reconnect", self._handlers.on_reconnect, dials)
        else:
            self._put_event("on_connect", self._handlers.on_connect)
        self._has_connected = True

    def disconnected(self) -> None:
        """Call ``on_disconnect``."""
        self._put_event("on_disconnect", self._handlers.on_disconnect)

    def report(self, error: ClientError) -> None:
        """Log an error, and call ``on_error`` with it."""
        # Each class of error has its own share of the log, so that the failed dials of a flapping
        # server do not push out the other errors.
        logger.info("%s", error, extra={"kind": type(error).__name__})
        self._put_event("on_error", self._handlers.on_error, error)

    def report_gap(self, gap: Gap) -> None:
        """Log a gap, and call ``on_gap`` with it, before the calls for later messages."""
        logger.info("%s", gap, extra={"kind": "Gap"})
        self._put_event("on_gap", self._handlers.on_gap, gap)

    async def put_payload(self, payload: str | bytes, is_over: Callable[[], bool]) -> None:
        """Call ``on_raw``; wait for room like `Inbox.put`."""
        if self._handlers.on_raw is not None:
            call = _NamedCall("on_raw", partial(self._handlers.on_raw, payload))
            await self._put(call, is_over)

    async def put_message(self, message: Message, is_over: Callable[[], bool]) -> None:
        """Call ``on_message``; wait for room like `Inbox.put`."""
        if self._handlers.on_message is not None:
            call = _NamedCall("on_message", partial(self._handlers.on_message, message), message)
            await self._put(call, is_over)

    @property
    def has_room(self) -> bool:
        """True if `put_message_at_once` can be called."""
        # `on_raw` needs the payload, which the caller does not have.
        return self._handlers.on_raw is None and self._calls.has_room

    def put_message_at_once(self, message: Message) -> None:
        """Call ``on_message``, like `put_message`, without waiting for room."""
        assert self._handlers.on_message is not None, "without on_raw, it takes the messages"
        self._start()
        call = partial(self._handlers.on_message, message)
        self._calls.put_at_once(_NamedCall("on_message", call, message))

    def find_message(self, matches: Callable[[Message | None], bool]) -> Message | None:
        """Return the first message that matches a condition and waits for ``on_message``."""
        waiting = self._calls.find(lambda call: matches(call.message))
        return None if waiting is None else waiting.message

    def read_ahead(self) -> AbstractContextManager[None]:
        """Give calls with messages more room; see `Inbox.read_ahead`."""
        return self._calls.read_ahead()

    def wake(self) -> None:
        """Make waiting calls of the ``put`` methods check their conditions again."""
        self._calls.wake()

    def close(self) -> None:
        """Refuse further messages; the callbacks for earlier ones are still called."""
        self._calls.close()

    async def finish(self, timeout: float) -> None:
        """Wait until all callbacks were called, and cancel the one that takes too long.

        Do not wait when a callback calls this, because it would wait for itself.

        Args:
            timeout: The longest wait, in seconds; a callback that is cancelled gets as much again.
        """
        if self._calling is None or self._calling is asyncio.current_task():
            return
        await asyncio.wait({self._calling}, timeout=timeout)
        if not self._calling.done() and not self._calling.cancelling():
            before = self.dropped
            self._calls.drop_all()
            logger.error(
                "a callback takes too long and is cancelled; messages dropped: %d",
                self.dropped - before,
            )
            self._calling.cancel()
            await asyncio.wait({self._calling}, timeout=timeout)

    async def _put(self, call: _NamedCall, is_over: Callable[[], bool]) -> None:
        self._start()
        await self._calls.put(call, is_over)

    def _put_event(self, name: str, handler: Callable[..., object] | None, *args: object) -> None:
        if handler is not None:
            self._start()
            self._calls.put_event(_NamedCall(name, partial(handler, *args)))

    def _start(self) -> None:
        # Not earlier, because a client without callbacks needs no such task.
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_all())

    async def _call_all(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "this is a task"
        while (named_call := await self._calls.get()) is not None:
            name = named_call.name
            try:
                await run_callback(named_call.call)
            except CallbackError as error:
                self.errors += 1
                logger.error("%s failed", name, exc_info=error.__cause__, extra={"kind": name})
                # The callback has turned the cancellation by `finish` into another exception.
                if task.cancelling():
                    return
