"""The methods of a hub about connections: the part of `Hub` that selects them one by one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.running_hub import RunningHub
from wshub_core.connections.watching import FrameListener, Watch
from wshub_core.values.closing import CloseCode, validate_close
from wshub_core.values.connection import Connection
from wshub_core.values.messages import Message


class HubConnections:
    """The base of `Hub` with the methods about single connections and users.

    A subclass defines `_get_running`.
    """

    _running: RunningHub | None

    def _get_running(self) -> RunningHub:
        """Return the running hub, or raise an error."""
        raise NotImplementedError

    @property
    def connections(self) -> tuple[Connection, ...]:
        """Current connections, sorted by user id, remote address and id."""
        if self._running is None:
            return ()
        connections = self._running.registry.connections
        return tuple(
            sorted(connections, key=lambda each: (each.user_id, each.remote_address, each.id))
        )

    @property
    def connection_set(self) -> frozenset[Connection]:
        """Current connections, in no order; cheap also for thousands of connections."""
        return frozenset() if self._running is None else self._running.registry.connections

    @contextmanager
    def watch_frames(
        self, matches: Callable[[Connection], bool], listener: FrameListener
    ) -> Iterator[None]:
        """Show the frames of some connections to a function, inside of ``with``.

        A watch is for admin views and for debugging. It costs time for each frame of the hub.

        Args:
            matches: Returns whether a connection is watched, also for connections that come later.
            listener: Gets the connection, ``"in"`` or ``"out"``, and the payload of each frame, on
                the event loop of the hub. An exception of
                either function is logged and counted.
        """
        running = self._get_running()
        call = running.callbacks.call_plain
        watch = Watch(
            lambda connection: call("watch_frames", False, matches, connection),
            lambda *frame: call("watch_frames", None, listener, *frame),
        )
        try:
            running.start_watch(watch)
            yield
        finally:
            running.stop_watch(watch)

    async def subscribe(self, connection: Connection, channel: str) -> None:
        """Subscribe a connection to a channel, under the same rules as for its own frames.

        Subscribing again changes nothing; neither does subscribing a connection that has ended.
        With a bridge, this method returns when messages of other hubs arrive too. If the bridge is
        not up, or needs longer than a second, the method returns earlier, and those messages arrive
        as soon as the bridge delivers them.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The channel is a process's, and the id is not allowed.
            SubscriptionDeniedError: The channel authorizer did not allow it, or failed.
            SubscriptionLimitError: The connection has ``max_subscriptions`` already.
        """
        subscriptions = self._get_running().subscriptions
        await subscriptions.subscribe_and_wait(cast("ServerConnection", connection), channel)

    def subscribe_nowait(self, connection: Connection, channel: str) -> None:
        """Start to subscribe a connection to a channel, without waiting for the result.

        Without a channel authorizer, or with a plain one, the subscription is decided when this
        method returns. An async authorizer decides later, and is called once at a time for the same
        connection and channel. A refusal is not reported. Call it on the hub's event loop.

        Raises:
            InvalidChannelError: The channel name is not allowed.
            InvalidProcessIDError: The channel is a process's, and the id is not allowed.
            TypeError: The channel is not a `str`.
        """
        subscriptions = self._get_running().subscriptions
        subscriptions.subscribe_nowait(cast("ServerConnection", connection), channel)

    def unsubscribe(self, connection: Connection, channel: str) -> None:
        """End a connection's subscription to a channel, if there is one."""
        subscriptions = self._get_running().subscriptions
        subscriptions.unsubscribe(cast("ServerConnection", connection), channel)

    # Users. Operations reach the connections of a user on all hubs. The numbers that the methods
    # return are those of this hub, because the others are not asked.

    def connections_of(self, user_id: str) -> tuple[Connection, ...]:
        """Return the connections of a user on this hub, by age.

        The call is fast, however many connections the hub has. Connections without a user are in
        `connections` only.
        """
        if self._running is None:
            return ()
        return tuple(sorted(self._running.users.find(user_id), key=lambda each: each.id))

    def send_to_user(self, user_id: str, message: Message) -> int:
        """Queue a message for every connection of a user, on all hubs.

        The bridge passes the message to the other hubs as it passes a published message. Call this
        method on the hub's event loop.

        Args:
            user_id: The user id from the authenticator.
            message: The message. The hub sets its timestamp.

        Returns:
            The number of connections on this hub.

        Raises:
            WSHubError: As `broadcast` does.
            TypeError: The message is not a `Message`.
        """
        return self._get_running().user_operations.send(user_id, message)

    async def subscribe_user(self, user_id: str, channel: str) -> int:
        """Subscribe every connection of a user to a channel, on all hubs, as `subscribe` does.

        Later connections of the user are not subscribed. The method does not wait for the other
        hubs, and it does not report their refusals.

        Returns:
            The number of connections on this hub.

        Raises:
            WSHubError: As `subscribe` does. The other connections of the user are subscribed.
        """
        return await self._get_running().user_operations.subscribe(user_id, channel)

    def unsubscribe_user(self, user_id: str, channel: str) -> int:
        """End the subscriptions of a user to a channel, on all hubs.

        Returns:
            The number of subscriptions that have ended on this hub.
        """
        return self._get_running().user_operations.unsubscribe(user_id, channel)

    def disconnect_user(
        self, user_id: str, code: int = CloseCode.POLICY_VIOLATION, reason: str = ""
    ) -> int:
        """Close every connection of a user, on all hubs, without waiting for their ends.

        The connections first receive their queued messages. From this call on, they receive no new
        ones, and their frames are ignored.

        Args:
            user_id: The user id from the authenticator.
            code: A close code. With 1008, the clients of wshub do not connect again. With 1000 they
                do, as with most other codes.
            reason: A text for the clients, at most 123 bytes of UTF-8.

        Returns:
            The number of connections on this hub.

        Raises:
            InvalidCloseError: The code or the reason must not be sent.
        """
        return self._get_running().user_operations.disconnect(user_id, code, reason)

    def disconnect(
        self, connection_id: int, code: int = CloseCode.POLICY_VIOLATION, reason: str = ""
    ) -> bool:
        """Close one connection, as `disconnect_user` does.

        Args:
            connection_id: The id of the connection.
            code: A close code.
            reason: A text for the client, at most 123 bytes of UTF-8.

        Returns:
            False if this hub has no such connection.

        Raises:
            InvalidCloseError: The code or the reason must not be sent.
        """
        validate_close(code, reason)
        running = self._get_running()
        # An index by id would take memory for every connection, and this call is rare.
        for connection in running.registry.connections:
            if connection.id == connection_id:
                running.close_connection(connection, code, reason)
                return True
        return False
