"""Subscriptions: validate, authorize, add, confirm. Every way to subscribe leads through here."""

import contextlib
from asyncio import Future, Task, gather
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from inspect import isawaitable
from typing import Any, TypeAlias

from wshub_core.bridge.relay import Relay
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.presence import ChannelPresence
from wshub_core.history.histories import Histories
from wshub_core.loop.callbacks import Callbacks
from wshub_core.loop.tasks import Tasks
from wshub_core.protocol.registry import Registry
from wshub_core.values.channels import is_between_hubs, validate_channel
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import SubscriptionDeniedError, SubscriptionLimitError

Bridged: TypeAlias = Future[None] | None
"""A future that is done when messages of other hubs arrive on the channel; None if they arrive
already, or without a bridge."""

OnConfirmed: TypeAlias = Callable[[], Coroutine[Any, Any, None] | None]
"""A callback that runs once, when the messages of all hubs arrive for a subscription. It may return
a coroutine that finishes it."""


class Subscriptions:
    """Subscribes connections to channels, for client frames and for the application alike.

    Args:
        config: The hub's settings.
        registry: The hub's connections and their subscriptions.
        relay: Subscribes the bridge to channels.
        histories: The histories of the hub.
        presence: Gets each new subscription; None for a hub without presence.
        callbacks: Calls of the application's callbacks.
        tasks: The tasks that the hub waits for when it closes.
    """

    def __init__(
        self,
        config: HubConfig,
        registry: Registry[ServerConnection],
        relay: Relay,
        histories: Histories,
        presence: ChannelPresence | None,
        callbacks: Callbacks,
        tasks: Tasks,
    ) -> None:
        self._config = config
        self._registry = registry
        self._relay = relay
        self._histories = histories
        self._callbacks = callbacks
        self._tasks = tasks
        self._presence = presence
        # Tasks of `subscribe_nowait` that wait for an asynchronous authorizer.
        self._deciding: dict[ServerConnection, dict[str, Task[Any]]] = {}
        # Confirmations that wait for a bridge. A later request of the same connection and channel
        # replaces an earlier one, so a client cannot pile them up.
        self._unconfirmed: dict[str, dict[ServerConnection, OnConfirmed]] = {}

    def subscribe(
        self, connection: ServerConnection, channel: str
    ) -> Bridged | Coroutine[Any, Any, Bridged]:
        """Validate the channel, ask the authorizer, and add the subscription.

        Returns:
            A future for the messages of other hubs, or None; see `Bridged`. With an asynchronous
            authorizer, a coroutine that returns the same and raises the same errors.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The channel is a process's, and the id is not allowed.
            SubscriptionDeniedError: The authorizer did not return True.
            SubscriptionLimitError: The connection has ``max_subscriptions`` already.
        """
        # The connection may have ended while the frame waited in the queue.
        if connection not in self._registry:
            return None
        validate_channel(channel)
        is_allowed = self._authorize(connection, channel)
        if isinstance(is_allowed, Coroutine):
            return self._add_when_allowed(connection, channel, is_allowed)
        return self._add(connection, channel, is_allowed)

    async def subscribe_and_wait(self, connection: ServerConnection, channel: str) -> None:
        """Subscribe, and wait for at most a second for the bridge; see `Hub.subscribe`."""
        bridged = self.subscribe(connection, channel)
        if isinstance(bridged, Coroutine):
            bridged = await bridged
        await self._relay.wait_bridged(bridged)

    async def subscribe_all_and_wait(
        self, connections: Collection[ServerConnection], channel: str
    ) -> None:
        """Subscribe the connections of a user; see `Hub.subscribe_user`."""
        # At the same time: each of them may wait for the bridge, and for its authorizer.
        results = await gather(
            *(self.subscribe_and_wait(each, channel) for each in connections),
            return_exceptions=True,
        )
        for error in results:
            if error is not None:
                raise error

    def subscribe_nowait(self, connection: ServerConnection, channel: str) -> None:
        """Start to subscribe; see `Hub.subscribe_nowait`."""
        if connection not in self._registry:
            return
        validate_channel(channel)
        # One authorizer call at a time for each channel: a publish listener may call this method
        # for every message.
        deciding = self._deciding.get(connection, {})
        if channel in deciding:
            return
        with contextlib.suppress(SubscriptionDeniedError, SubscriptionLimitError):
            adding = self.subscribe(connection, channel)
            if isinstance(adding, Coroutine):
                task = self._tasks.spawn(self._finish_nowait(connection, channel, adding))
                # The authorizer may have ended the connection when it was called.
                if connection in self._registry:
                    self._deciding.setdefault(connection, deciding)[channel] = task

    def unsubscribe(self, connection: ServerConnection, channel: str) -> bool:
        """End a subscription, if there is one; return whether there was one."""
        return self._registry.unsubscribe(connection, channel)

    async def reauthorize(self, connection: ServerConnection) -> AsyncIterator[str]:
        """Ask the authorizer again for every channel; yield the channels that it has ended."""
        for channel in connection.subscriptions:
            is_allowed = self._authorize(connection, channel)
            if isawaitable(is_allowed):
                is_allowed = await is_allowed
            if is_allowed is not True:
                self._registry.unsubscribe(connection, channel)
                yield channel

    async def confirm(
        self,
        connection: ServerConnection,
        channel: str,
        bridged: Bridged,
        on_confirmed: OnConfirmed | None,
    ) -> None:
        """Call ``on_confirmed`` when messages of all hubs arrive, even if that takes an outage.

        An outage of the bridge must not stop the frames of the connection, so this method does not
        wait for the bridge for more than one second. The callback may run later. Meanwhile the
        connection receives live messages.
        """
        is_bridged = await self._relay.wait_bridged(bridged)
        if on_confirmed is None:
            return
        if is_bridged:
            work = on_confirmed()
            if work is not None:
                await work
        elif bridged is not None:
            self._registry.resume(connection, channel)
            self._confirm_later(channel, bridged, {connection: on_confirmed})

    def cancel_pending(self, connection: ServerConnection) -> None:
        """Cancel the pending confirmations and authorizations of a connection that leaves.

        Call it before the registry forgets the subscriptions of the connection.
        """
        if self._unconfirmed:
            for channel in connection.subscriptions:
                self._unconfirmed.get(channel, {}).pop(connection, None)
        for task in tuple(self._deciding.pop(connection, {}).values()):
            task.cancel()

    def _authorize(self, connection: ServerConnection, channel: str) -> bool | Awaitable[bool]:
        if is_between_hubs(channel):
            return False
        authorizer = self._config.channel_authorizer
        if authorizer is None:
            return True
        return self._callbacks.call("channel_authorizer", False, authorizer, connection, channel)

    def _add(self, connection: ServerConnection, channel: str, is_allowed: object) -> Bridged:
        # Only True allows. Other truthy values do not, such as a coroutine that was not awaited.
        if is_allowed is not True:
            raise SubscriptionDeniedError(channel)
        # The connection may have ended while the authorizer ran.
        if connection not in self._registry:
            return None
        if self._registry.subscribe(connection, channel) and self._presence is not None:
            self._presence.enter(connection, channel)
        self._histories.note_subscribed(channel)
        return self._relay.ensure_subscribed(channel)

    async def _add_when_allowed(
        self, connection: ServerConnection, channel: str, is_allowed: Awaitable[bool]
    ) -> Bridged:
        return self._add(connection, channel, await is_allowed)

    async def _finish_nowait(
        self, connection: ServerConnection, channel: str, adding: Awaitable[Bridged]
    ) -> None:
        try:
            with contextlib.suppress(SubscriptionDeniedError, SubscriptionLimitError):
                await adding
        finally:
            self._deciding.get(connection, {}).pop(channel, None)

    def _confirm_later(
        self, channel: str, bridged: Future[None], waiting: dict[ServerConnection, OnConfirmed]
    ) -> None:
        if channel not in self._unconfirmed:
            self._unconfirmed[channel] = {}
            bridged.add_done_callback(lambda _: self._confirm_now(channel))
        self._unconfirmed[channel] |= waiting

    def _confirm_now(self, channel: str) -> None:
        waiting = {
            connection: on_confirmed
            for connection, on_confirmed in self._unconfirmed.pop(channel).items()
            # The client may have unsubscribed meanwhile.
            if channel in connection.subscriptions
        }
        # The bridge may have lost its connection again; then the confirmation waits again.
        bridged = self._relay.ensure_subscribed(channel) if waiting else None
        if bridged is not None:
            self._confirm_later(channel, bridged, waiting)
            return
        for on_confirmed in waiting.values():
            work = on_confirmed()
            if work is not None:
                self._tasks.spawn(work)
