"""The exceptions that pass through code which guards itself against an application's.

Application code may raise anything, `asyncio.CancelledError` included: it does so when it awaits
something that was cancelled. Only what really ends the program or the guarding code goes further.
"""

import asyncio


def is_end_of_caller(error: BaseException) -> bool:
    """Tell whether the calling code is ended from outside, and not by the exception's raiser.

    That is a cancellation of the current task, and the closing of a coroutine that no task runs.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None  # The loop has ended and its coroutines are closed.
    if isinstance(error, asyncio.CancelledError):
        return task is None or task.cancelling() > 0
    return isinstance(error, GeneratorExit) and task is None


def is_interrupt(error: BaseException) -> bool:
    """Tell whether an exception has to be raised again by code that guards itself."""
    return isinstance(error, KeyboardInterrupt | SystemExit) or is_end_of_caller(error)
