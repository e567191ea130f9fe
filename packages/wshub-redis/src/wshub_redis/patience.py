"""A timeout that does not blame the server for a standstill of this process."""

import asyncio
from asyncio import TimerHandle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PARTS = 5
"""Into how many parts a timeout is divided; a standstill counts as one of them, at most."""


@asynccontextmanager
async def patient_timeout(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` in the block when it takes too long.

    A process that was stopped, or whose event loop was blocked, finds its timers due while the
    answers still wait in the kernel's buffer. Therefore the time is counted in parts: each begins
    when the one before it has ended, however late that was. One more part than the timeout has is
    granted, so that after a standstill in the last one there is time to read.

    Args:
        seconds: How long the block may take.
    """
    loop = asyncio.get_running_loop()
    timer: TimerHandle

    def begin_part(left: int) -> None:
        nonlocal timer
        if left:
            timer = loop.call_later(seconds / _PARTS, begin_part, left - 1)
        else:
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        begin_part(_PARTS + 1)
        try:
            yield
        finally:
            timer.cancel()
