"""The application's callbacks: called one after the other, off the path of the connection."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from inspect import isawaitable
from typing import Any, NoReturn, TypeAlias

from wshub_client.errors import ClientError
from wshub_client.inbox import Inbox, InboxOverflow
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")

Call: TypeAlias = Callable[[], object]
"""A callback with its arguments; plain or async."""


class CallbackError(ClientError):
    """A callback has raised its cause; this never reaches the application."""


async def run_call(call: Call) -> object:
    """Call a callback, wait for it if it is async, and return its result.

    ``KeyboardInterrupt`` and ``SystemExit`` also go to whoever runs the event loop, past this task,
    which stays whole in case the loop is run again.

    Raises:
        CallbackError: The callback has raised something, whatever it is.
        CancelledError: This task is being cancelled.
    """
    task = asyncio.current_task()
    assert task is not None, "coroutines of the client run in tasks"
    try:
        result = call()
        if isawaitable(result):
            result = await result
    except BaseException as error:
        # Otherwise the callback has awaited something that was cancelled.
        if isinstance(error, asyncio.CancelledError) and task.cancelling():
            raise
        # Otherwise the callback has raised it. It is thrown into a task whose loop is gone.
        if isinstance(error, GeneratorExit) and not _is_current(task):
            raise
        if isinstance(error, KeyboardInterrupt | SystemExit):
            asyncio.get_running_loop().call_soon(_raise, error)
        raise CallbackError from error
    if task.cancelling():
        raise asyncio.CancelledError  # the callback has swallowed it
    return result


def _is_current(task: "asyncio.Task[Any]") -> bool:
    try:
        return asyncio.current_task() is task
    except RuntimeError:
        return False


def _raise(error: BaseException) -> NoReturn:
    raise error


class Callbacks:
    """Calls callbacks in order, in a task of its own, so that none holds up the connection.

    Args:
        size: How many calls with messages may wait.
        overflow: What happens when there are more.

    Attributes:
        errors: How many callbacks have raised something.
    """

    def __init__(self, size: int, overflow: InboxOverflow) -> None:
        self.errors = 0
        self._calls: Inbox[tuple[str, Call]] = Inbox(size, overflow)
        self._calling: asyncio.Task[None] | None = None

    def lift(self) -> AbstractContextManager[None]:
        """Have `put` not wait, in this block."""
        return self._calls.lift()

    @property
    def dropped(self) -> int:
        """How many calls with messages were dropped."""
        return self._calls.dropped

    async def put(self, name: str, call: Call, is_over: Callable[[], bool]) -> None:
        """Have a message told, when there is room or as the policy says; see `Inbox.put`."""
        self._start()
        await self._calls.put((name, call), is_over)

    def wake(self) -> None:
        """Have whoever waits for room look again."""
        self._calls.wake()

    def put_event(self, name: str, call: Call) -> None:
        """Have an event told."""
        self._start()
        self._calls.put_event((name, call))

    def _start(self) -> None:
        # Not before there is something to tell: a client without callbacks needs no such task.
        if self._calling is None:
            self._calling = asyncio.create_task(self._call_all())

    def close(self) -> None:
        """Take no more messages; what is there is still told."""
        self._calls.close()

    async def finish(self, timeout: float) -> None:
        """Wait until all is told, but not for ever; called from a callback, it does not wait."""
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

    async def _call_all(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "this is one"
        while (named_call := await self._calls.get()) is not None:
            name, call = named_call
            try:
                await run_call(call)
            except CallbackError as error:
                self.errors += 1
                logger.error("%s failed", name, exc_info=error.__cause__, extra={"kind": name})
                if task.cancelling():
                    return
