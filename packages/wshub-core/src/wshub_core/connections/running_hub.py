"""The running hub: the parts of a hub that has been entered, and their wiring."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from typing import Any

from wshub_core.bridge.relay import Relay
from wshub_core.connections.admission import Admission
from wshub_core.connections.answers import Answers
from wshub_core.connections.commands import Commands
from wshub_core.connections.connection import ServerConnection
from wshub_core.connections.drain import Drain
from wshub_core.connections.fleet_operations import FleetOperations
from wshub_core.connections.inbound import Work
from wshub_core.connections.lifecycle import Lifecycle
from wshub_core.connections.presence import ChannelPresence
from wshub_core.connections.presence_commands import PresenceCommands
from wshub_core.connections.publishing import Publishing, PublishListener
from wshub_core.connections.recovery import Recovery
from wshub_core.connections.subscribe_commands import SubscribeCommands
from wshub_core.connections.subscriptions import Subscriptions
from wshub_core.connections.transport import Transport
from wshub_core.connections.watching import Watch, Watches
from wshub_core.forks import ForkGuard
from wshub_core.history.histories import Histories
from wshub_core.loop.callbacks import Callbacks
from wshub_core.loop.clock import Clock
from wshub_core.loop.shutdown import Shutdown, ShutdownHook
from wshub_core.loop.tasks import Tasks
from wshub_core.loop.turns import Turns
from wshub_core.protocol.counters import Counters
from wshub_core.protocol.registry import Registry
from wshub_core.protocol.user_index import UserIndex
from wshub_core.values.auth import AuthResult
from wshub_core.values.channel_patterns import ChannelPatterns
from wshub_core.values.channels import FLEET_CHANNEL
from wshub_core.values.closing import DisconnectCause
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import HubClosedError
from wshub_core.values.history import HistoryLimits
from wshub_core.values.measurements import CallbackStats, Distribution, Measurements
from wshub_core.values.messages import Message
from wshub_core.values.stats import HubStats

_RECOVERIES_PER_TURN = 25
"""Number of clients that go on with their recovery in one turn of the event loop: about 2 ms."""


class RunningHub:
    """The parts of a hub on its event loop, for transports, `Hub` and `BridgePort`.

    This class creates the parts and passes calls on. The rules are in the parts. The constructor
    is long, because it wires the parts in one place.

    Args:
        config: The hub's settings.
        history_patterns: The sizes of the histories; patterns may be added.
        loop: The event loop.
        clock: The clock of all timeouts and of the heartbeat.
        listeners: Called with every message of a channel; the list may grow.
        hooks: Called when the hub begins to close; the list may change.

    Attributes:
        config: The hub's settings.
        clock: The clock of all timeouts and of the heartbeat.
        registry: The connections and their subscriptions.
        users: The connections of each user.
        tasks: The tasks that the hub waits for when it closes.
        callbacks: Calls of the application's callbacks.
        relay: Forwards messages to the bridge.
        histories: The histories of channels.
        admission: Accepts or refuses requests.
        presence: The members of channels; None if no channel has presence.
        subscriptions: Subscribes connections to channels.
        lifecycle: Adds, ends and removes connections.
        drain: Closes the connections spread over a window.
        publishing: Publishes and delivers messages.
        fleet_operations: Acts on the connections of users, on all hubs.
    """

    def __init__(
        self,
        config: HubConfig,
        history_patterns: ChannelPatterns[HistoryLimits],
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        listeners: Sequence[PublishListener],
        hooks: Sequence[ShutdownHook],
    ) -> None:
        self.config = config
        self.clock = clock
        self._loop = loop
        self._guard = ForkGuard("hub")
        self._counters = Counters()
        # Each part gets the parts that it uses. The lambdas name parts that are created later.
        self.registry: Registry[ServerConnection] = Registry(
            config.max_subscriptions,
            lambda channel: self.relay.note_empty(channel),
            # Without presence, the end of a subscription costs nothing more.
            self._leave_presence if config.presence else None,
        )
        self.users: UserIndex[ServerConnection] = UserIndex()
        self.tasks = Tasks(loop)
        self._watches = Watches()
        self.callbacks = Callbacks(loop, self._counters, self.tasks)
        self.relay = Relay(
            clock,
            self.registry,
            lambda channel: self.histories.form.forget(channel, is_bridged=self.relay.has_bridge),
            own_channels=(FLEET_CHANNEL,),
        )
        self.admission = Admission(
            config, self.callbacks, self._counters, lambda: self.lifecycle.connection_count
        )
        self.presence = self._make_presence() if config.presence else None
        self.histories = self._make_histories(history_patterns)
        self.subscriptions = Subscriptions(
            config,
            self.registry,
            self.relay,
            self.histories,
            self.presence,
            self.callbacks,
            self.tasks,
        )
        self.lifecycle = self._make_lifecycle()
        self.drain = Drain(clock, self.registry, self.admission, self.lifecycle)
        self.publishing = self._make_publishing(listeners)
        self.fleet_operations = self._make_fleet_operations()
        self._commands = self._make_commands()
        # Documented on ConnectionOwner. No method in between: it is called for each frame.
        self.serve_frame = self._commands.serve
        self._shutdown = Shutdown(
            hooks, self.callbacks, self.tasks, config.close_timeout, self._close_connections
        )

    def _make_lifecycle(self) -> Lifecycle:
        return Lifecycle(
            self.config,
            self._loop,
            self.clock,
            self._counters,
            self.registry,
            self.users,
            self.subscriptions,
            self.callbacks,
            self.tasks,
            self._watches,
        )

    def _make_publishing(self, listeners: Sequence[PublishListener]) -> Publishing:
        return Publishing(
            self.config,
            self._loop,
            self.registry,
            self.lifecycle.delivery,
            self.relay,
            self.histories,
            self.callbacks,
            self._counters,
            listeners,
        )

    def _make_fleet_operations(self) -> FleetOperations:
        return FleetOperations(
            self.clock.time,
            self.config.max_message_bytes,
            self.users,
            self.relay,
            self.subscriptions,
            self.publishing,
            self.close_connection,
        )

    def _make_commands(self) -> Commands:
        answers = Answers(self.publishing)
        recovery = Recovery(
            self._counters,
            self.registry,
            self.histories,
            self.lifecycle.delivery,
            self.publishing,
            self.tasks,
            Turns(self._loop, _RECOVERIES_PER_TURN),
            self.lifecycle.close,
            self.config.max_outbox_bytes,
        )
        presence_commands = None
        if self.presence is not None:
            presence_commands = PresenceCommands(
                self.config, self.registry, self.callbacks, self.presence, answers
            )
        return Commands(
            self.config,
            self._counters,
            self.registry,
            self.callbacks,
            self.admission,
            self.lifecycle.auth_expiry,
            self.subscriptions,
            SubscribeCommands(self.subscriptions, self.histories, recovery, answers),
            self.publishing,
            answers,
            presence_commands,
        )

    def _make_histories(self, patterns: ChannelPatterns[HistoryLimits]) -> Histories:
        return Histories(
            self.config,
            patterns,
            self.clock,
            lambda *message: self.publishing.deliver_positioned(*message),
            lambda *position: self.publishing.notify_position(*position),
            self.tasks,
            self.registry.subscriber_count,
        )

    def _make_presence(self) -> ChannelPresence:
        return ChannelPresence(
            self.config,
            self.clock,
            self.registry,
            self.callbacks,
            self.tasks,
            lambda channel, message: self.publishing.publish(channel, message),
        )

    def _leave_presence(self, connection: ServerConnection, channel: str) -> None:
        assert self.presence is not None, "a hub without presence does not pass this method on"
        self.presence.leave(connection, channel)

    @property
    def is_over(self) -> bool:
        """True if the hub takes no connections and messages any more."""
        return self._shutdown.is_over or self._loop.is_closed()

    def check_process(self) -> None:
        """Raise an error in a forked child.

        Raises:
            ForkedProcessError: The hub belongs to the parent process.
        """
        self._guard.check()

    def check(self) -> None:
        """Raise an error if the hub takes no messages here.

        Raises:
            HubClosedError: The hub is over.
            ForkedProcessError: The hub belongs to the parent process.
        """
        if self._shutdown.is_over or self._loop.is_closed():
            raise HubClosedError
        self._guard.check()

    def connect(
        self,
        transport: Transport,
        remote_address: str,
        identity: AuthResult,
        context: Context | None = None,
    ) -> ServerConnection:
        """Add the connection of a transport; see `Lifecycle.connect`."""
        return self.lifecycle.connect(self, transport, remote_address, identity, context)

    async def close(self, code: int, reason: str) -> None:
        """Run the shutdown hooks, then close all connections; see `Hub.close`."""
        await self._shutdown.run(code, reason)

    async def _close_connections(self, code: int, reason: str) -> None:
        # Admission first, so that no connection is added while the others are closed.
        self.admission.close()
        self.drain.stop()
        self.histories.cancel()
        await self.lifecycle.close_all(code, reason)
        if self.presence is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.config.close_timeout):
                    await self.presence.sync.close()

    def deliver(self, channel: str, payload: bytes) -> None:
        """Deliver a message of another hub; see `BridgePort.deliver`."""
        if channel == FLEET_CHANNEL:
            self.fleet_operations.take(payload)
        else:
            self.publishing.deliver(channel, payload)

    def stats(self) -> HubStats:
        """Return the current numbers and the running totals."""
        registry, counters = self.registry, self._counters
        return HubStats(
            clients=len(registry),
            channels=registry.channel_count,
            subscribers=registry.subscription_count,
            connections=counters.connections,
            refused_handshakes=counters.refusals.total(),
            messages=counters.messages,
            deliveries=counters.deliveries,
            delivered_bytes=counters.bytes - counters.saved_bytes,
            dropped_messages=counters.drops,
            evictions=counters.evictions.total(),
            ignored_frames=counters.ignored_frames,
            callback_errors=counters.callback_errors,
        )

    def measure(self) -> Measurements:
        """Return the numbers for monitoring; see `Hub.measure`."""
        counters, fan_outs = self._counters, self._counters.fan_outs
        counters.is_timing = True
        streams = self.histories.form.streams
        # Collectors may call this in another thread: everything is copied in one step, and nothing
        # is written but the flag.
        callbacks = {
            name: CallbackStats(each.calls, each.errors, each.seconds)
            for name, each in tuple(counters.callbacks.items())
        }
        return Measurements(
            stats=self.stats(),
            received_messages=counters.received_messages,
            received_bytes=counters.received_bytes,
            outbox_bytes=sum(
                each.outbox.queued_bytes + each.outbox.unsent_bytes
                for each in self.registry.copy_connections()
            ),
            refusals=dict(counters.refusals),
            disconnects={str(cause): n for cause, n in counters.disconnects.copy().items()},
            evictions={str(cause): n for cause, n in counters.evictions.copy().items()},
            callbacks=callbacks,
            fan_outs=Distribution(fan_outs.bounds, tuple(fan_outs.counts), fan_outs.sum),
            histories=len(streams),
            history_bytes=streams.memory,
            recoveries=dict(counters.recoveries),
            members=0 if self.presence is None else self.presence.sync.member_count,
            bridge_state=self.relay.bridge_state,
            bridge=self.relay.stats(),
        )

    def start_watch(self, watch: Watch) -> None:
        """Start a watch; see `Hub.watch_frames`."""
        self._watches.start(watch, self.registry.connections)
        self.serve_frame = self._serve_watched

    def stop_watch(self, watch: Watch) -> None:
        """Stop a watch."""
        self._watches.stop(watch, self.registry.connections)
        if not self._watches.is_active:
            self.serve_frame = self._commands.serve

    def _serve_watched(self, connection: ServerConnection, payload: bytes | bytearray) -> Work:
        self._watches.show(connection, "in", bytes(payload))
        return self._commands.serve(connection, payload)

    def count_saved_bytes(self, count: int) -> None:
        """Count the bytes by which compression has made a delivery smaller."""
        self._counters.saved_bytes += count

    # The methods that connections call; documented on ConnectionOwner.

    def subscriptions_of(self, connection: ServerConnection) -> tuple[str, ...]:  # noqa: D102
        return self.registry.channels_of(connection)

    def send(self, connection: ServerConnection, message: Message) -> bool:  # noqa: D102
        self.check_process()
        return self.publishing.send(connection, message)

    def close_connection(  # noqa: D102
        self, connection: ServerConnection, code: int, reason: str
    ) -> None:
        self.check_process()
        self.lifecycle.close(connection, DisconnectCause.SERVER_CLOSED, code, reason)

    def spawn(  # noqa: D102
        self, work: Coroutine[Any, Any, object], context: Context | None = None
    ) -> asyncio.Task[Any]:
        return self.tasks.spawn(work, context)

    def call_soon(self, callback: Callable[[], object]) -> None:  # noqa: D102
        self._loop.call_soon(callback)

    def start_callback_timeout(self, connection: ServerConnection) -> None:  # noqa: D102
        self.lifecycle.start_callback_timeout(connection)
