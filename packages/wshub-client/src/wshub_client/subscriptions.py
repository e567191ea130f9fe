"""The table of subscriptions, which survives reconnects."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial

from wshub_client.errors import ClientError, NotConnectedError, SubscriptionRefusedError
from wshub_client.hub_connection import Confirmation, HubConnection
from wshub_client.lifetime import Lifetime
from wshub_client.recovery import Gap, Recovery, Step
from wshub_client.requests import UnclearRefusalError
from wshub_client.waiting import make_outcome, set_outcome
from wshub_core import JSON, Message, Position, validate_channel


class Subscriptions:
    """The channels that the application has subscribed to.

    Each new connection requests every channel of the table, from its position on.

    Args:
        lifetime: The lifetime of the client.
        report: Passes the error of a refused subscription to the application.
        read_ahead: Returns a block in which the client keeps reading; see `Receiver.read_ahead`.
        find_waiting: Returns the first message of a channel that the application has yet to get.

    Attributes:
        duplicates: Number of messages that came twice, and were dropped.
    """

    __slots__ = (
        "_connection",
        "_find_waiting",
        "_lifetime",
        "_read_ahead",
        "_report",
        "_table",
        "duplicates",
    )

    def __init__(
        self,
        lifetime: Lifetime,
        report: Callable[[ClientError], None],
        read_ahead: Callable[[], AbstractContextManager[None]],
        find_waiting: Callable[[str], Message | None],
    ) -> None:
        self.duplicates = 0
        self._lifetime = lifetime
        self._report = report
        self._read_ahead = read_ahead
        self._find_waiting = find_waiting
        self._table: dict[str, _Subscription] = {}
        self._connection: HubConnection | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels, sorted."""
        return tuple(sorted(self._table))

    def position(self, channel: str) -> Position | None:
        """Return the position behind the last message that the application has got."""
        subscription = self._table.get(channel)
        position = None if subscription is None else subscription.recovery.position
        if position is not None:
            waiting = self._find_waiting(channel)
            if waiting is not None:
                return Position(waiting.epoch, waiting.offset - 1)
        return position

    async def subscribe(
        self, channel: str, *, confirm: bool, last: int | None, since: int | Position | None
    ) -> None:
        """Add a channel, and request it if there is a connection.

        Args:
            channel: The channel.
            confirm: Whether to wait for the confirmation of the hub, across reconnects.
            last: The number of messages of the history to begin with.
            since: The offset, or the position, behind which the messages begin.

        Raises:
            InvalidChannelError: The name is not valid.
            InvalidHistoryRequestError: ``last`` or ``since`` is invalid, or both are given.
            SubscriptionRefusedError: With ``confirm``: the hub refuses the subscription.
            ClientError: The client has been closed or has ended.
        """
        validate_channel(channel)
        recovery = Recovery(channel, last=last, since=since)
        self._lifetime.check_open()
        subscription = self._table.get(channel)
        is_new = subscription is None
        if subscription is None:
            subscription = self._table[channel] = _Subscription(channel, recovery)
        # The waiter is added before the request is sent, because the answer may come at once.
        outcome = make_outcome() if confirm and not subscription.is_confirmed else None
        if outcome is not None:
            subscription.waiters.add(outcome)
        try:
            if is_new and self._connection is not None:
                connection = self._connection
                await connection.run_to_end(self._request(connection, subscription))
            if outcome is not None:
                with self._read_ahead():
                    await outcome
        finally:
            if outcome is not None:
                subscription.waiters.discard(outcome)

    async def unsubscribe(self, channel: str) -> None:
        """Remove a channel, and tell the hub if there is a connection."""
        self._lifetime.check_process()
        subscription = self._table.pop(channel, None)
        if subscription is None:
            return
        subscription.end_waiting(
            SubscriptionRefusedError(channel, "unsubscribed", "unsubscribed meanwhile")
        )
        if self._connection is not None:
            await self._end_at_hub(self._connection, channel)

    def attach(self, connection: HubConnection) -> None:
        """Send the requests for new subscriptions on a connection from now on."""
        self._connection = connection

    def detach(self) -> None:
        """Forget the connection, and all confirmations with it."""
        self._connection = None
        for subscription in self._table.values():
            subscription.is_confirmed = False
            subscription.recovery.lose_connection()

    async def restore(self, connection: HubConnection, on_served: Callable[[], None]) -> None:
        """Request all subscriptions, and send one ping behind them.

        Args:
            connection: A new connection.
            on_served: Called when the hub has served the requests.
        """
        with contextlib.suppress(NotConnectedError):  # the reader gets the reason
            async with connection.request_lock:
                if self._table:
                    await connection.probe()
                for subscription in tuple(self._table.values()):
                    # An earlier step may have let the application unsubscribe meanwhile.
                    if self._is_current(subscription):
                        await self._send_request(connection, subscription)
                await connection.ping(on_served)

    def follow(
        self, connection: HubConnection, items: Iterable[Message | Confirmation | None]
    ) -> Iterator[Message | Gap | None]:
        """Move the positions, and yield the messages for the application and the gaps.

        A position moves when the iterator goes on behind the message, so that the next connection
        requests a message that could not be passed on again.

        Args:
            connection: The connection of the messages.
            items: The messages and the confirmations in their order; None stands for a part that is
                not for the application, and is yielded, too.
        """
        for item in items:
            if item is None:
                yield None
            elif not isinstance(item, Message):
                yield item()
            elif (subscription := self._table.get(item.channel)) is None:
                yield item
            else:
                step = yield from subscription.recovery.take(item)
                if step is Step.DUPLICATE:
                    self.duplicates += 1
                elif step is Step.JUMP:
                    connection.spawn(self._request(connection, subscription))

    def follow_next(self, message: Message) -> bool:
        """Move the position behind a message at once, if nothing else follows from the message.

        Returns:
            Whether the application gets the message. If not, nothing has changed, and `follow` must
            process the message.
        """
        subscription = self._table.get(message.channel)
        return subscription is None or subscription.recovery.take_next(message)

    def end(self) -> None:
        """End all waiting calls of `subscribe`, because the client has ended."""
        for subscription in self._table.values():
            subscription.end_waiting(self._lifetime.end_error())

    async def _end_at_hub(self, connection: HubConnection, channel: str) -> None:
        with contextlib.suppress(NotConnectedError):
            await connection.unsubscribe(channel)

    async def _request(self, connection: HubConnection, subscription: "_Subscription") -> None:
        with contextlib.suppress(NotConnectedError):  # the next connection restores it
            async with connection.request_lock:
                if self._is_current(subscription):
                    await self._send_request(connection, subscription)
                    await connection.ping()

    async def _send_request(self, connection: HubConnection, subscription: "_Subscription") -> None:
        on_outcome = partial(self._take_outcome, connection, subscription)
        history = subscription.recovery.make_request()
        await connection.subscribe(subscription.channel, history, on_outcome)

    def _take_outcome(
        self,
        connection: HubConnection,
        subscription: "_Subscription",
        error: ClientError | None,
        data: JSON,
    ) -> None:
        # The application may have unsubscribed and subscribed again meanwhile. The answer belongs
        # to the earlier subscription then.
        if not self._is_current(subscription):
            return
        if error is None:
            connection.add_confirmation(partial(self._confirm, subscription, data))
        elif isinstance(error, UnclearRefusalError):
            connection.spawn(self._request(connection, subscription))
        elif isinstance(error, SubscriptionRefusedError):
            del self._table[subscription.channel]
            subscription.end_waiting(error)
            self._report(error)
            if subscription.is_confirmed:
                # The hub has refused to send messages again, and still sends new ones.
                connection.spawn(self._end_at_hub(connection, subscription.channel))
        # Every other error is the end of the connection, and the next one restores this channel.

    def _confirm(self, subscription: "_Subscription", data: JSON) -> Gap | None:
        if not self._is_current(subscription):
            return None
        gap = subscription.recovery.take_answer(data)
        subscription.is_confirmed = True
        subscription.end_waiting(None)
        return gap

    def _is_current(self, subscription: "_Subscription") -> bool:
        return self._table.get(subscription.channel) is subscription


class _Subscription:
    """One entry of the table.

    Attributes:
        channel: The channel.
        recovery: The position in the history of the channel.
        is_confirmed: Whether the hub has confirmed the subscription on the present connection.
        waiters: The futures of those calls of `subscribe` that wait for the confirmation.
    """

    __slots__ = ("channel", "is_confirmed", "recovery", "waiters")

    def __init__(self, channel: str, recovery: Recovery) -> None:
        self.channel = channel
        self.recovery = recovery
        self.is_confirmed = False
        self.waiters: set[asyncio.Future[None]] = set()

    def end_waiting(self, error: ClientError | None) -> None:
        """End all waiting calls, with an error or with the confirmation."""
        for outcome in self.waiters:
            set_outcome(outcome, error)
