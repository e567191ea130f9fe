"""The futures of callers that wait for a subscription."""

from asyncio import Future, get_running_loop
from functools import partial


class SubscriptionWaiters:
    """A future for each channel whose subscription somebody waits for."""

    def __init__(self) -> None:
        self._futures: dict[bytes, Future[None]] = {}

    def wait(self, channel: bytes) -> Future[None]:
        """Return the future of a channel."""
        if channel not in self._futures:
            self._futures[channel] = get_running_loop().create_future()
        return self._futures[channel]

    def wake(self, channel: bytes) -> None:
        """Complete the future of a channel, if there is one."""
        _complete(self._futures.pop(channel, None))

    def wake_all(self) -> None:
        """Complete all futures."""
        for channel in tuple(self._futures):
            self.wake(channel)

    def take(self, channel: bytes) -> Future[None] | None:
        """Remove and return the future of a channel, which the caller completes."""
        return self._futures.pop(channel, None)


def chain(waiter: Future[None], after: Future[None] | None) -> None:
    """Complete a future when another one is done; at once if there is no other."""
    if after is None:
        _complete(waiter)
    else:
        after.add_done_callback(partial(_complete_after, waiter))


def _complete(waiter: Future[None] | None) -> None:
    # The caller may have cancelled the future.
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _complete_after(waiter: Future[None], _: Future[None]) -> None:
    _complete(waiter)
