"""Calls of the application's functions, which may raise anything and take any time."""

import asyncio
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar

from wshub_core.interrupts import is_end_of_caller
from wshub_core.logs import get_logger
from wshub_core.loop.tasks import Tasks
from wshub_core.protocol.counters import Counters

logger = get_logger("wshub.callbacks")

P = ParamSpec("P")
T = TypeVar("T")


class Callbacks:
    """Calls an application's functions, plain or async.

    No exception of a function reaches the caller, so the caller finishes its work whatever the
    function does. Exceptions are counted and logged. `KeyboardInterrupt` and `SystemExit` also end
    the event loop's run, as they would have done by themselves, but in a turn of their own.

    Args:
        loop: The event loop.
        counters: Where exceptions are counted.
        tasks: Where calls with a time limit run.
    """

    def __init__(self, loop: AbstractEventLoop, counters: Counters, tasks: Tasks) -> None:
        self._loop = loop
        self._counters = counters
        self._tasks = tasks
        self._is_exiting = False

    def call(
        self,
        name: str,
        if_raised: T,
        function: Callable[P, Awaitable[T] | T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T | Coroutine[Any, Any, T]:
        """Call a function.

        Args:
            name: The callback's name, for the log.
            if_raised: The result when the function raises.
            function: The application's function.
            *args: Its arguments.
            **kwargs: Its arguments.

        Returns:
            The result, or for an async function a coroutine of it. The coroutine raises only when
            its own task is cancelled.
        """
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            return self._note_error(name, if_raised, error)
        if isawaitable(result):
            return self._wait(name, if_raised, result)
        return result

    def run(
        self, name: str, callback: Callable[..., Any], *args: object
    ) -> Coroutine[Any, Any, object] | None:
        """Call a function whose result means nothing.

        Returns:
            A coroutine that finishes the call, or None if the call has finished.
        """
        result: object = self.call(name, None, callback, *args)
        return result if isinstance(result, Coroutine) else None

    def spawn(self, name: str, callback: Callable[..., Any], *args: object) -> None:
        """Call a function whose result means nothing; an async one runs in a task of its own."""
        work = self.run(name, callback, *args)
        if work is not None:
            self._tasks.spawn(work)

    def call_plain(
        self, name: str, if_raised: T, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that must not be async; see `call`."""
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            return self._note_error(name, if_raised, error)
        if not isinstance(result, Coroutine):
            return result
        result.close()
        self._counters.callback_errors += 1
        logger.error("%s must be a plain function, not an async one", name, extra={"kind": name})
        return if_raised

    async def call_within(
        self,
        seconds: float,
        context: Context,
        name: str,
        if_raised: T,
        function: Callable[..., Any],
        *args: object,
    ) -> T:
        """Call a function and wait for its result for a limited time.

        A function that does not end in time is cancelled and not waited for: it may ignore that.

        Args:
            seconds: The time limit.
            context: The context of the calling task; an async function runs in it, too.
            name: The callback's name, for the log.
            if_raised: The result when the function raises or takes too long.
            function: The application's function.
            *args: Its arguments.
        """
        answer: Any = self.call(name, if_raised, function, *args)
        if not isinstance(answer, Coroutine):
            return answer  # type: ignore[no-any-return]
        task = self._tasks.spawn(answer, context)
        try:
            await asyncio.wait({task}, timeout=seconds)
        except CancelledError:
            task.cancel()
            raise
        if not task.done():
            logger.warning(
                "%s took longer than %g s and is cancelled", name, seconds, extra={"kind": name}
            )
            task.cancel()
        return task.result() if task.done() and not task.cancelled() else if_raised

    async def _wait(self, name: str, if_raised: T, result: Awaitable[T]) -> T:
        try:
            return await result
        except BaseException as error:
            if is_end_of_caller(error):
                raise
            return self._note_error(name, if_raised, error)

    def _note_error(self, name: str, if_raised: T, error: BaseException) -> T:
        self._counters.callback_errors += 1
        if isinstance(error, KeyboardInterrupt | SystemExit) and not self._is_exiting:
            # Once: a second one would break off the clean-up that the first has begun.
            self._is_exiting = True
            self._loop.call_soon(_raise, error)
        else:
            logger.error("%s failed", name, exc_info=error, extra={"kind": name})
        return if_raised


def _raise(error: BaseException) -> None:
    raise error
