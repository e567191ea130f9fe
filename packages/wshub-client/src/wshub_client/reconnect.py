"""The reconnect loop: one connection after the other, with a backoff between them."""

import asyncio
import contextlib
from collections.abc import Callable
from enum import Enum

from wshub_client.callbacks import Callbacks
from wshub_client.close_policy import is_planned_restart
from wshub_client.errors import (
    ClientClosedError,
    ClientError,
    ClosedError,
    RefusedError,
    RetriesExhaustedError,
)
from wshub_client.hub_connection import HubConnection
from wshub_client.lifetime import Lifetime
from wshub_client.opening import Opener
from wshub_client.receiving import EarlyPayload, Receiver
from wshub_client.sending import Sender
from wshub_client.settings import RetrySettings
from wshub_client.subscriptions import Subscriptions
from wshub_client.waiting import Signal, TimeSlice
from wshub_core import Backoff, Clock, Message
from wshub_core.logs import get_logger

logger = get_logger("wshub.client")


class ConnectionState(Enum):
    """The state of a client; the numbers are those of go-ws."""

    DISCONNECTED = 0
    """There is no connection and no dial, as before the start, between dials, and at the end."""
    CONNECTING = 1
    """The client dials, or waits for the first answer of the hub."""
    CONNECTED = 2
    """The hub has answered, and has served all subscriptions."""


class ReconnectLoop:
    """Dials, serves the connection until it ends, waits, and dials again.

    Args:
        settings: The backoff, and the number of tolerated failures.
        close_timeout: The longest time for closing a connection, in seconds.
        get_clock: Returns the clock for the backoff.
        opener: Opens connections.
        subscriptions: The table of subscriptions.
        sender: Sends messages on the connection.
        receiver: Gets the messages of the connection.
        callbacks: The application's callbacks.
        lifetime: The lifetime of the client.

    Attributes:
        state: The state of the client.
    """

    __slots__ = (
        "_backoff",
        "_callbacks",
        "_changed",
        "_close_timeout",
        "_get_clock",
        "_lifetime",
        "_main",
        "_max_attempts",
        "_opener",
        "_receiver",
        "_sender",
        "_stable_after",
        "_subscriptions",
        "state",
    )

    def __init__(
        self,
        settings: RetrySettings,
        close_timeout: float,
        get_clock: Callable[[], Clock],
        opener: Opener,
        subscriptions: Subscriptions,
        sender: Sender,
        receiver: Receiver,
        callbacks: Callbacks,
        lifetime: Lifetime,
    ) -> None:
        self.state = ConnectionState.DISCONNECTED
        self._backoff = Backoff(
            settings.initial_backoff, settings.max_backoff, settings.backoff_multiplier
        )
        self._max_attempts = settings.max_attempts
        self._stable_after = settings.stable_after
        self._close_timeout = close_timeout
        self._get_clock = get_clock
        self._opener = opener
        self._subscriptions = subscriptions
        self._sender = sender
        self._receiver = receiver
        self._callbacks = callbacks
        self._lifetime = lifetime
        self._main: asyncio.Task[ClientError] | None = None
        self._changed = Signal()  # sent when the client is connected, and when it has ended

    # The methods of the application's tasks.

    async def start(self) -> None:
        """Start the loop, and wait for the first connection.

        Raises:
            ClientError: The client has ended instead.
        """
        self._start()
        try:
            await self.wait_connected()
        except BaseException:
            await self.close()
            raise

    async def run(self) -> None:
        """Run the loop until the client has ended, or `close` is called.

        Raises:
            ClientError: The error that has ended the client.
        """
        self._lifetime.check_process()
        if not self._lifetime.is_closed:
            main = self._start()
            try:
                await asyncio.wait({main})
            except asyncio.CancelledError:
                await self.close()
                raise
            await self._callbacks.finish(self._close_timeout)
        if self._lifetime.error is not None:
            raise self._lifetime.error

    async def close(self) -> None:
        """End the loop and its connection, and wait for both."""
        self._lifetime.check_process()
        if self._main is None:
            self._finish()
            return
        if not self._lifetime.is_closed:
            # Only the first call cancels the task. A second cancellation would interrupt the
            # closing handshake that the first one has begun.
            self._lifetime.end()
            self._main.cancel()
            # Calls that wait for a message or a connection need not wait for that handshake.
            self._receiver.close_inbox()
            self._changed.send()
        await asyncio.wait({self._main})
        await self._callbacks.finish(self._close_timeout)

    async def wait_connected(self) -> None:
        """Wait until the client is connected.

        Raises:
            ClientError: The client has ended.
        """
        self._lifetime.check_process()
        with self._receiver.read_ahead():
            while not self._lifetime.is_closed:
                if self._sender.is_connected:
                    return
                await self._changed.wait()
        raise self._lifetime.end_error()

    # The start and the end of the loop.

    def _start(self) -> asyncio.Task[ClientError]:
        self._lifetime.check_open()
        if self._main is None:
            self._lifetime.start()
            self._main = asyncio.create_task(self._stay_connected())
            # The task cannot do this itself: it may be cancelled before its first step.
            self._main.add_done_callback(self._note_end)
        return self._main

    def _note_end(self, main: asyncio.Task[ClientError]) -> None:
        if not main.cancelled():
            error = main.exception()
            if error is None:
                self._lifetime.end(main.result())
            else:
                logger.error("the client has failed", exc_info=error)
                failure = ClientError(f"the client has failed: {type(error).__name__}")
                failure.__cause__ = error
                self._lifetime.end(failure)
        self._finish()

    def _finish(self) -> None:
        self._lifetime.end()
        self.state = ConnectionState.DISCONNECTED
        self._subscriptions.end()
        self._sender.drop_queue()
        self._receiver.end()
        self._changed.send()

    # One connection after the other.

    async def _stay_connected(self) -> ClientError:
        """Dial and serve until a terminal error; return this error."""
        dials = 0
        while True:
            dials += 1
            self.state = ConnectionState.CONNECTING
            try:
                connection, early = await self._opener.open()
            except ClientError as error:
                failure: ClientError = error
            else:
                failure = await self._serve(connection, early, dials)
                dials = 0
            # `dials` is 0 after a connection.
            if dials or not is_planned_restart(failure):
                self._backoff.fail()
            terminal = self._find_terminal_error(failure)
            # `_serve` has reported why the connection ended, so the same error is not reported
            # twice. `dials` is 0 in this case.
            if dials or (terminal is not None and terminal is not failure):
                self._callbacks.report(terminal or failure)
            self.state = ConnectionState.DISCONNECTED
            if terminal is not None:
                return terminal
            await self._sleep(self._backoff.delay(getattr(failure, "retry_after", None)))

    def _find_terminal_error(self, failure: ClientError) -> ClientError | None:
        """Return the error that ends the client after a failure; None if the client goes on."""
        if isinstance(failure, RefusedError | ClosedError):
            return failure
        if self._max_attempts is None or self._backoff.failures <= self._max_attempts:
            return None
        exhausted = RetriesExhaustedError(self._max_attempts)
        exhausted.__cause__ = failure
        return exhausted

    async def _serve(
        self, connection: HubConnection, early: list[EarlyPayload], dials: int
    ) -> ClientError:
        """Deliver the messages of a connection until it ends; return the reason.

        Args:
            connection: The connection.
            early: The payloads that have come while it was opened.
            dials: The number of dials since the last connection.
        """
        self.state = ConnectionState.CONNECTED
        clock = self._get_clock()
        stable = clock.call_at(clock.time() + self._stable_after, self._backoff.reset)
        self._callbacks.connected(dials)
        connection.heartbeat.start()
        self._sender.attach(connection)
        self._changed.send()
        # `close` ends this by a cancellation, so no exception of the connection replaces the error.
        failure: ClientError = ClientClosedError()
        try:
            await self._deliver_all(connection, early)
        except ClientError as error:
            failure = error
        finally:
            stable.cancel()
            await self._end_connection(connection, failure)
        return failure

    async def _deliver_all(self, connection: HubConnection, early: list[EarlyPayload]) -> None:
        """Deliver the messages of a connection, until `HubConnection.receive` raises."""
        follow = self._subscriptions.follow
        for payload, items in early:
            await self._receiver.deliver(connection, payload, follow(connection, items))
        early.clear()
        connection.take_at_once(self._deliver_at_once)
        time_slice = TimeSlice()
        while True:
            payload = await connection.receive()
            await time_slice.give_way()
            # There may have been no time for this payload when it came.
            if not connection.offer(payload):
                messages = follow(connection, connection.process_payload(payload))
                await self._receiver.deliver(connection, payload, messages)
            # The loop waits for the next payload with nothing in memory.
            payload, messages = "", iter(())

    def _deliver_at_once(self, message: Message) -> bool:
        """Deliver a message that no task needs to wait for; return False if one must."""
        # The room is checked first, because the position moves behind the message.
        if not self._receiver.has_room or not self._subscriptions.follow_next(message):
            return False
        self._receiver.deliver_at_once(message)
        return True

    async def _end_connection(self, connection: HubConnection, failure: ClientError) -> None:
        """Close a connection, and report its end.

        The application hears of the end also if this is cancelled: ``on_disconnect`` follows every
        ``on_connect`` and ``on_reconnect``.
        """
        is_closing = isinstance(failure, ClientClosedError)
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._callbacks.disconnected)
            if not is_closing:
                at_end.callback(self._callbacks.report, failure)
            try:
                await self._sender.stop_flushing(self._close_timeout if is_closing else None)
            finally:
                self.state = ConnectionState.DISCONNECTED
                self._sender.detach()
                self._subscriptions.detach()
                await connection.close(failure, self._close_timeout)

    async def _sleep(self, seconds: float) -> None:
        clock = self._get_clock()
        awake = asyncio.Event()
        timer = clock.call_at(clock.time() + seconds, awake.set)
        try:
            await awake.wait()
        finally:
            timer.cancel()
