"""Messages on their way from a connection to the application."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from wshub_client.callbacks import Callbacks
from wshub_client.drop_reports import DropReports
from wshub_client.hub_connection import Confirmation, HubConnection
from wshub_client.inbox import Inbox
from wshub_client.lifetime import Lifetime
from wshub_client.recovery import Gap
from wshub_client.settings import FlowSettings
from wshub_client.waiting import TimeSlice
from wshub_core import Message


class EarlyPayload(NamedTuple):
    """A payload that has come before the client was connected, and its contents."""

    payload: str | bytes
    items: list[Message | Confirmation]


class Receiver:
    """Passes messages to the callbacks, or to the inbox if no callback takes them.

    Args:
        settings: The bounds of the inbox.
        callbacks: The application's callbacks.
        drops: The reports of dropped messages.
        lifetime: The lifetime of the client.

    Attributes:
        unreadable: Number of parts of payloads that were no messages, and were skipped.
    """

    __slots__ = (
        "_callbacks",
        "_drops",
        "_early_dropped",
        "_inbox",
        "_lifetime",
        "unreadable",
    )

    def __init__(
        self,
        settings: FlowSettings,
        callbacks: Callbacks,
        drops: DropReports,
        lifetime: Lifetime,
    ) -> None:
        self.unreadable = 0
        self._inbox: Inbox[Message] = Inbox(settings.inbox_size, settings.overflow)
        self._callbacks = callbacks
        self._drops = drops
        self._lifetime = lifetime
        self._early_dropped = 0

    @property
    def dropped(self) -> int:
        """Number of dropped messages from the hub."""
        return self._inbox.dropped + self._callbacks.dropped + self._early_dropped

    async def receive(self) -> Message:
        """Wait for the next message in the inbox.

        Raises:
            ClientError: The client has ended, and the inbox is empty.
        """
        self._lifetime.check_process()
        message = await self._inbox.get()
        if message is None:
            raise self._lifetime.end_error()
        return message

    def put_back(self, message: Message) -> None:
        """Make `receive` return a message again, because its receiver was interrupted."""
        self._inbox.put_back(message)

    async def deliver(
        self,
        connection: HubConnection,
        payload: str | bytes,
        items: Iterable[Message | Gap | None],
    ) -> None:
        """Pass on a payload, and the messages in it.

        Args:
            connection: The connection on which they have come.
            payload: The payload as it was read.
            items: The messages, and the gaps before them; None stands for a part that is not for
                the application.
        """
        # Nothing is read while this waits for room, so silence says nothing about the hub.
        connection.heartbeat.note_reading_paused()
        await self._callbacks.put_payload(payload, connection.has_ended)
        time_slice = TimeSlice()
        for item in items:
            await time_slice.give_way()
            if isinstance(item, Gap):
                self._callbacks.report_gap(item)
            elif item is not None and self._callbacks.takes_messages:
                await self._callbacks.put_message(item, connection.has_ended)
            elif item is not None:
                await self._inbox.put(item, connection.has_ended)
        connection.heartbeat.note_reading_resumed()
        self._drops.note_undelivered(self.dropped)

    @property
    def has_room(self) -> bool:
        """True if `deliver_at_once` can be called with a message."""
        if self._callbacks.takes_messages:
            return self._callbacks.has_room
        return self._inbox.has_room

    def deliver_at_once(self, message: Message) -> None:
        """Pass on a message that is a payload of its own, without waiting for room."""
        if self._callbacks.takes_messages:
            self._callbacks.put_message_at_once(message)
        else:
            self._inbox.put_at_once(message)

    def drop_early(self, early: list[EarlyPayload]) -> None:
        """Drop and count the messages that have come on a dial that has failed."""
        # Messages of a history do not count: the position of the client is before them, so that the
        # next connection requests them again.
        self._early_dropped += sum(
            isinstance(item, Message) and not item.epoch for each in early for item in each.items
        )
        self._drops.note_undelivered(self.dropped)

    def find_waiting(self, channel: str) -> Message | None:
        """Return the first message of a channel's history that the application has yet to get."""

        def is_of_channel(message: Message | None) -> bool:
            return message is not None and message.channel == channel and message.epoch != ""

        if self._callbacks.takes_messages:
            return self._callbacks.find_message(is_of_channel)
        return self._inbox.find(is_of_channel)

    def count_unreadable(self) -> None:
        """Count a part of a payload that is no message."""
        self.unreadable += 1

    @contextlib.contextmanager
    def read_ahead(self) -> Iterator[None]:
        """Keep reading in this block, because an answer of the hub may lie behind messages."""
        with self._inbox.read_ahead(), self._callbacks.read_ahead():
            yield

    def wake(self) -> None:
        """Notice that a connection has ended, although messages wait for room."""
        self._inbox.wake()
        self._callbacks.wake()

    def close_inbox(self) -> None:
        """Refuse further messages, and end waiting calls of `receive` when the inbox is empty."""
        self._inbox.close()

    def end(self) -> None:
        """Report the dropped messages of the client, and refuse further ones."""
        self._drops.note_undelivered(self.dropped)
        self._drops.report_now()
        self._inbox.close()
        self._callbacks.close()
