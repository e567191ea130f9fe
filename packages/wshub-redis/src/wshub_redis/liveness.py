"""The test that a subscribed connection still delivers messages."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from wshub_redis.connection import ConnectionLostError
from wshub_redis.timeouts import stall_tolerant_timeout


class LivenessProbe:
    """Tests a connection on which no message has arrived for a while.

    A silent connection may be idle, half open, or healthy and without its subscriptions. The test
    sends a ``PING``, and publishes a probe message to a channel that the connection is subscribed
    to. The connection is lost if no ``PONG`` arrives, or if the probe is published and no message
    arrives.

    Args:
        address: The address of the server, for errors.
        interval: Time in seconds without a message after which the connection is tested.
        timeout: Maximum time for the test, in seconds.
        send_ping: Requests that a ``PING`` is sent on the connection.
        publish_probe: Publishes the probe message; returns whether the server has it.
    """

    def __init__(
        self,
        address: str,
        *,
        interval: float,
        timeout: float,
        send_ping: Callable[[], None],
        publish_probe: Callable[[], Awaitable[bool]],
    ) -> None:
        self._address = address
        self._interval = interval
        self._timeout = timeout
        self._send_ping = send_ping
        self._publish_probe = publish_probe
        self._messages = 0
        self._pongs = 0
        self._is_testing = False
        self._progress = asyncio.Event()

    def note_message(self) -> None:
        """Record the arrival of any message."""
        self._messages += 1
        if self._is_testing:
            self._progress.set()

    def note_pong(self) -> None:
        """Record a reply that proves that the server responds."""
        self._pongs += 1
        if self._is_testing:
            self._progress.set()

    async def run(self) -> NoReturn:
        """Test the connection whenever it is silent.

        Raises:
            ConnectionLostError: A test has failed.
        """
        while True:
            messages = self._messages
            await asyncio.sleep(self._interval)
            if self._messages == messages:
                await self._test()

    async def _test(self) -> None:
        messages, pongs = self._messages, self._pongs
        self._is_testing = True
        self._send_ping()
        is_published = False
        try:
            async with stall_tolerant_timeout(self._timeout):
                is_published = await self._publish_probe()
                # Any message passes the test. If the probe could not be published, a PONG does.
                while self._messages == messages and (is_published or self._pongs == pongs):
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            if self._pongs == pongs:
                raise ConnectionLostError(f"{self._address} does not respond") from None
            # Without a published probe the test says nothing: the sender has the trouble then.
            if is_published:
                raise ConnectionLostError(
                    f"{self._address} does not pass on published messages"
                ) from None
        finally:
            self._is_testing = False
