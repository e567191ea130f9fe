"""Tests for exceptions that code around application callbacks must raise again.

Application code may raise any exception. `asyncio.CancelledError` is one of them, for example when
the code awaits a cancelled task. Code that catches all these exceptions must let two kinds pass:
the interrupts of the program, and the cancellation of the catching code itself.
"""

import asyncio


def is_end_of_caller(error: BaseException) -> bool:
    """Return True if an exception ends the calling code from outside.

    This is the case for a cancellation of the current task, and for the closing of a coroutine that
    no task runs.
    """
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None  # The loop has ended, and its coroutines are being closed.
    if isinstance(error, asyncio.CancelledError):
        # `cancelling` is 0 if application code has raised the error by itself.
        return task is None or task.cancelling() > 0
    return isinstance(error, GeneratorExit) and task is None


def is_interrupt(error: BaseException) -> bool:
    """Return True if code that catches all exceptions of a callback must raise this one again."""
    return isinstance(error, KeyboardInterrupt | SystemExit) or is_end_of_caller(error)
