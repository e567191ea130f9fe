"""Calls of the application's callbacks, which may raise any exception and take any time."""

import asyncio
from asyncio import AbstractEventLoop, CancelledError
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from inspect import isawaitable
from time import perf_counter
from typing import Any, ParamSpec, TypeVar
from weakref import finalize

from wshub_core.interrupts import is_end_of_caller
from wshub_core.logs import get_logger
from wshub_core.loop.tasks import Tasks
from wshub_core.protocol.counters import Counters

logger = get_logger("wshub.callbacks")

P = ParamSpec("P")
T = TypeVar("T")


class Callbacks:
    """Calls an application's callbacks, plain or async.

    Exceptions are counted, and calls and their times once they are asked for. An exception is
    logged, and never reaches the caller, so the caller always finishes its own work.
    `KeyboardInterrupt` and `SystemExit` end the run of the event loop, as they would without wshub,
    but they are raised in a separate call of the event loop.

    Args:
        loop: The event loop.
        counters: The counters of the hub, which count calls, their times and exceptions.
        tasks: The tasks of the hub, which run calls with a time limit.
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
            if_raised: The result when the function raises an exception.
            function: The application's function.
            *args: The function's positional arguments.
            **kwargs: The function's keyword arguments.

        Returns:
            The result, or for an async function a coroutine that returns the result. The coroutine
            raises an exception only when its own task is cancelled.
        """
        started = self._start_time()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._note_end(name, started)
            return self._note_error(name, if_raised, error)
        if isawaitable(result):
            return self._finish(name, if_raised, result, started)
        self._note_end(name, started)
        return result

    def run(
        self, name: str, callback: Callable[..., Any], *args: object
    ) -> Coroutine[Any, Any, object] | None:
        """Call a function and ignore its result.

        Returns:
            A coroutine that finishes the call, or None if the call has finished.
        """
        # No call of a method: this is the way of each message to `on_message`.
        started = perf_counter() if self._counters.is_timing else None
        try:
            result = callback(*args)
        except BaseException as error:
            self._note_end(name, started)
            return self._note_error(name, None, error)
        # None is the usual result, and `isawaitable` is slow.
        if result is None or not isawaitable(result):
            if started is not None:
                self._note_end(name, started)
            return None
        return self._finish(name, None, result, started)

    def spawn(self, name: str, callback: Callable[..., Any], *args: object) -> None:
        """Call a function and ignore its result; finish an async function in a new task."""
        work = self.run(name, callback, *args)
        if work is not None:
            self._tasks.spawn(work)

    def call_plain(
        self, name: str, if_raised: T, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that must not be async; see `call`.

        An async function counts as an error, because its caller cannot wait.
        """
        started = self._start_time()
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            self._note_end(name, started)
            return self._note_error(name, if_raised, error)
        self._note_end(name, started)
        if not isinstance(result, Coroutine):
            return result
        # Python would warn about a coroutine that is neither awaited nor closed.
        result.close()
        self._counters.callbacks[name].errors += 1
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

        An async function that exceeds the limit is cancelled. Nothing waits for its end, because it
        may ignore the cancellation.

        Args:
            seconds: The time limit.
            context: The context of the calling task, in which an async function runs too.
            name: The callback's name, for the log.
            if_raised: The result when the function raises an exception or takes too long.
            function: The application's function.
            *args: The function's arguments.
        """
        result: Any = self.call(name, if_raised, function, *args)
        if not isinstance(result, Coroutine):
            return result  # type: ignore[no-any-return]
        task = self._tasks.spawn(result, context)
        try:
            # Unlike `asyncio.wait_for`, this does not wait for the end of a cancelled task.
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

    def _finish(
        self, name: str, if_raised: T, result: Awaitable[T], started: float | None
    ) -> Coroutine[Any, Any, T]:
        """Return a coroutine that waits for a result."""
        waiting = self._wait(name, if_raised, result, started)
        if isinstance(result, Coroutine):
            # A task that is cancelled before its first step drops its coroutine. Python would then
            # warn that the coroutine of the application was never awaited.
            finalize(waiting, result.close).atexit = False
        return waiting

    async def _wait(
        self, name: str, if_raised: T, result: Awaitable[T], started: float | None
    ) -> T:
        try:
            return await result
        except BaseException as error:
            # A cancellation of this task comes from the hub. Any other `CancelledError` was raised
            # by the callback.
            if is_end_of_caller(error):
                raise
            return self._note_error(name, if_raised, error)
        finally:
            self._note_end(name, started)

    def _start_time(self) -> float | None:
        return perf_counter() if self._counters.is_timing else None

    def _note_end(self, name: str, started: float | None) -> None:
        if started is not None:
            counters = self._counters.callbacks[name]
            counters.calls += 1
            counters.seconds += perf_counter() - started

    def _note_error(self, name: str, if_raised: T, error: BaseException) -> T:
        self._counters.callbacks[name].errors += 1
        if isinstance(error, KeyboardInterrupt | SystemExit) and not self._is_exiting:
            # Only once: a second exception would interrupt the cleanup that the first has started.
            # It is raised in a separate call, so that the caller first finishes its work.
            self._is_exiting = True
            self._loop.call_soon(_raise, error)
        else:
            logger.error("%s failed", name, exc_info=error, extra={"kind": name})
        return if_raised


def _raise(error: BaseException) -> None:
    raise error
