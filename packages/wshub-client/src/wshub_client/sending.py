"""The way of the application's messages and requests to the hub: sent, published, or queued."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

import msgspec

from wshub_client.drop_reports import DropReports
from wshub_client.errors import ClientError, NotConnectedError, PresenceRefusedError
from wshub_client.hub_connection import HubConnection
from wshub_client.lifetime import Lifetime
from wshub_client.requests import OnOutcome
from wshub_client.send_queue import QueuedMessage, SendQueue
from wshub_client.settings import FlowSettings
from wshub_client.waiting import make_outcome, set_outcome
from wshub_core import (
    JSON,
    Clock,
    Message,
    MessageDecodeError,
    MessageEncodeError,
    MessageTooLargeError,
    MessageType,
    Presence,
    decode_message,
    encode_message,
    validate_channel,
)

_STAMP_BYTES = 64
"""The bytes that hub and client add to a published message: a timestamp and an id."""


class Sender:
    """Sends the application's messages and requests.

    Args:
        settings: The bounds of the messages.
        drops: The reports of dropped messages.
        lifetime: The lifetime of the client.
        read_ahead: Returns a block in which the client keeps reading; see `Receiver.read_ahead`.
        get_clock: Returns the clock for the age of queued messages.
    """

    __slots__ = (
        "_connection",
        "_drops",
        "_flushing",
        "_get_clock",
        "_lifetime",
        "_max_send_bytes",
        "_queue",
        "_read_ahead",
    )

    def __init__(
        self,
        settings: FlowSettings,
        drops: DropReports,
        lifetime: Lifetime,
        read_ahead: Callable[[], AbstractContextManager[None]],
        get_clock: Callable[[], Clock],
    ) -> None:
        self._max_send_bytes = settings.max_send_bytes
        self._queue = None if settings.queue is None else SendQueue(settings.queue)
        self._drops = drops
        self._lifetime = lifetime
        self._read_ahead = read_ahead
        self._get_clock = get_clock
        self._connection: HubConnection | None = None
        self._flushing: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """True if a message can be sent now."""
        return self._usable_connection() is not None

    async def send(self, message: Message) -> None:
        """Send a message, or queue it.

        Raises:
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The encoded message exceeds ``max_send_bytes``.
            NotConnectedError: There is neither a connection nor a queue.
            ClientClosedError: The client has ended.
        """
        self._lifetime.check_process()
        text = self._encode(message)
        self._lifetime.check_open()
        connection = self._usable_connection()
        # While older messages wait, newer ones join them, which keeps the order.
        if self._queue is not None and (connection is None or len(self._queue)):
            now = self._get_clock().time()
            self._drops.add_unsent(self._queue.expire(now))
            self._drops.add_unsent(self._queue.add(QueuedMessage(message, text, now)))
        elif connection is None:
            raise NotConnectedError
        elif message.type == MessageType.PING:
            # A ping that is noted and not sent would get the pong of the next ping.
            await connection.run_to_end(connection.send_message(message, text))
        else:
            await connection.send_message(message, text)

    async def publish(self, message: Message) -> None:
        """Ask the hub to publish a message, and wait for the answer.

        Raises:
            ClientError: The message could not be published; see `ReconnectingClient.publish`.
        """
        self._lifetime.check_process()
        validate_channel(message.channel)
        self.check_size(message)
        await self._request(lambda connection, on_outcome: connection.publish(message, on_outcome))

    async def ask_presence(self, channel: str, *, count: bool) -> Presence:
        """Ask the hub who is present in a channel, and wait for the answer.

        Raises:
            ClientError: There is no answer; see `ReconnectingClient.presence`.
        """
        self._lifetime.check_process()
        validate_channel(channel)
        data = await self._request(
            lambda connection, on_outcome: connection.ask_presence(
                channel, count=count, on_outcome=on_outcome
            )
        )
        try:
            return msgspec.convert(data, Presence)
        except msgspec.ValidationError as error:
            text = f"the answer of the hub is not valid: {error}"
            raise PresenceRefusedError(channel, "", text) from error

    def check_size(self, message: Message) -> None:
        """Check that a message can be published.

        Raises:
            MessageEncodeError: The message cannot be written as JSON.
            MessageTooLargeError: The message, with the stamp, exceeds ``max_send_bytes``.
        """
        self._lifetime.check_process()
        self._encode(message, _STAMP_BYTES)

    def attach(self, connection: HubConnection) -> None:
        """Send on a connection from now on, the queued messages first."""
        self._connection = connection
        if self._queue is not None:
            self._flushing = asyncio.create_task(self._flush(connection, self._queue))

    async def stop_flushing(self, timeout: float | None) -> None:
        """Stop sending queued messages.

        Args:
            timeout: How long to wait until all are sent, in seconds; None for no wait.
        """
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            try:
                if timeout is not None:
                    await asyncio.wait({flushing}, timeout=timeout)
            finally:
                flushing.cancel()

    def detach(self) -> None:
        """Forget the connection, which has ended."""
        self._connection = None

    def drop_queue(self) -> None:
        """Count the queued messages as dropped, because the client has ended."""
        if self._queue is not None:
            self._drops.add_unsent(len(self._queue))

    async def _request(
        self, send: Callable[[HubConnection, OnOutcome], Coroutine[Any, Any, None]]
    ) -> JSON:
        """Send a request on the connection, and wait for the data of its answer."""
        self._lifetime.check_open()
        connection = self._usable_connection()
        if connection is None:
            raise NotConnectedError
        outcome = make_outcome()
        answer: JSON = None

        def take(error: ClientError | None, data: JSON) -> None:
            nonlocal answer
            answer = data
            set_outcome(outcome, error)

        await connection.run_to_end(send(connection, take))
        with self._read_ahead():
            await outcome
        return answer

    def _usable_connection(self) -> HubConnection | None:
        connection = self._connection
        return None if connection is None or connection.has_ended() else connection

    def _encode(self, message: Message, reserved_bytes: int = 0) -> str:
        payload = encode_message(message)
        try:
            # JSON can be written that hubs cannot read: a channel that is no text, for example, or
            # data that is nested too deeply.
            decode_message(payload)
        except MessageDecodeError as error:
            raise MessageEncodeError(f"the result is {error}") from error
        size = len(payload) + reserved_bytes
        if size > self._max_send_bytes:
            raise MessageTooLargeError(size, self._max_send_bytes)
        return payload.decode()

    async def _flush(self, connection: HubConnection, queue: SendQueue) -> None:
        """Send the queued messages in order."""
        self._drops.add_unsent(queue.expire(self._get_clock().time()))
        while len(queue):
            queued = queue.take()
            try:
                await connection.send_message(queued.message, queued.text)
            except NotConnectedError:
                queue.put_back(queued)
                return
            except BaseException:
                queue.put_back(queued)
                raise
