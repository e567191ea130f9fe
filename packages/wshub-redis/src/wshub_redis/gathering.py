"""The short wait in which messages gather for the next round trip."""

import asyncio

_GATHER_SECONDS = 0.001
"""Maximum time in seconds for which messages gather."""


class Gathering:
    """A wait that anybody can end, or keep from beginning."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def allow(self) -> None:
        """Let the next call of `wait` wait."""
        self._ended.clear()

    def end(self) -> None:
        """End the wait; without one, the next call of `wait` returns at once."""
        self._ended.set()

    async def wait(self) -> None:
        """Wait until `end` is called, or for the maximum time."""
        if self._ended.is_set():
            return
        timer = self._loop.call_later(_GATHER_SECONDS, self._ended.set)
        try:
            await self._ended.wait()
        finally:
            timer.cancel()
