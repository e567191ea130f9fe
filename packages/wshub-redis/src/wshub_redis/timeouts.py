"""A timeout that tolerates a stall of this process."""

import asyncio
from asyncio import TimerHandle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_PARTS = 5
"""Number of parts of a timeout; a stall uses up at most one part."""


@asynccontextmanager
async def stall_tolerant_timeout(seconds: float) -> AsyncIterator[None]:
    """Raise `TimeoutError` in the block if the block takes too long.

    A process can be suspended, and its event loop can be blocked. Afterwards its timers are due at
    once, while the server's replies still wait unread in the kernel's buffer. An ordinary timeout
    would blame the server.

    Therefore the timeout is a chain of short timers. Each timer starts when the timer before it
    has fired, however late that was. The chain has one more timer than the timeout has parts, so
    that the process has time to read after a stall in the last part.

    Args:
        seconds: The timeout.
    """
    loop = asyncio.get_running_loop()
    timer: TimerHandle

    def start_part(remaining: int) -> None:
        nonlocal timer
        if remaining:
            timer = loop.call_later(seconds / _PARTS, start_part, remaining - 1)
        else:
            # A deadline in the past: the block is cancelled in the next turn of the loop.
            timeout.reschedule(loop.time())

    async with asyncio.timeout(None) as timeout:
        start_part(_PARTS + 1)
        try:
            yield
        finally:
            timer.cancel()
