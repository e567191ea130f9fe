"""Calls into the application: what they raise is logged and counted, and goes no further."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from inspect import isawaitable
from typing import Any, ParamSpec, TypeVar

from wshub_core.logs import get_logger
from wshub_core.state.counters import Counters

logger = get_logger("wshub.callbacks")

P = ParamSpec("P")
T = TypeVar("T")


class Callbacks:
    """Calls an application's functions, plain or async.

    Args:
        counters: Where failures are counted.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

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
            if_raised: What counts as the result when the function raises.
            function: The application's function.
            *args: Its arguments.
            **kwargs: Its arguments.

        Returns:
            The result, or for an async function a coroutine of it; neither raises.
        """
        try:
            result = function(*args, **kwargs)
        except Exception:
            return self._note_failure(name, if_raised)
        if isawaitable(result):
            return self._wait(name, if_raised, result)
        return result

    async def _wait(self, name: str, if_raised: T, result: Awaitable[T]) -> T:
        try:
            return await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Nobody has cancelled this call: the function has awaited something that was.
            return self._note_failure(name, if_raised)
        except Exception:
            return self._note_failure(name, if_raised)

    def _note_failure(self, name: str, if_raised: T) -> T:
        self._counters.callback_errors += 1
        logger.exception("%s failed", name)
        return if_raised
