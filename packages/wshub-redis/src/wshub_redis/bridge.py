"""The Redis bridge: it connects a hub to the other hubs of its fleet."""

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from wshub_core import (
    BROADCAST,
    BridgeAttachedError,
    BridgeState,
    BridgeStats,
    BridgeUnavailableError,
    Hub,
    HubClosedError,
    InvalidConfigError,
    Message,
)
from wshub_core.forks import ForkGuard
from wshub_redis.bridge_publisher import BridgePublisher
from wshub_redis.bridge_state import NOT_RUNNING, StateReporter
from wshub_redis.connection import logger
from wshub_redis.envelope import OVERHEAD_BYTES, EnvelopeWriter
from wshub_redis.errors import connect_error
from wshub_redis.history_calls import HistoryCalls
from wshub_redis.presence_store import PRESENCE_SCRIPTS, RedisPresenceStore
from wshub_redis.receiver import Receiver
from wshub_redis.redis_channels import RedisChannels
from wshub_redis.redis_py.connections import CONNECTION_ERRORS
from wshub_redis.redis_py.servers import find_home, find_server
from wshub_redis.redis_py.validation import check_sharded
from wshub_redis.router import ClusterRouter, ShardRouter, SingleShard
from wshub_redis.scripts import Script
from wshub_redis.settings import ConnectionSettings
from wshub_redis.shard import Shard
from wshub_redis.shared_history import HISTORY_SCRIPTS, SharedHistory
from wshub_redis.stats import Counters
from wshub_redis.timeouts import stall_tolerant_timeout


@dataclass(frozen=True, slots=True)
class _Run:
    """The parts of a bridge that exist from its start to its stop."""

    router: ShardRouter
    publisher: BridgePublisher
    history: SharedHistory
    guard: ForkGuard


class RedisBridge:
    """A bridge that connects a hub to all hubs with the same Redis and prefix, also of go-ws.

    ::

        async with Hub() as hub, RedisBridge(hub, "redis://localhost:6379") as bridge:
            hub.publish("process:build-42", message)           # reaches the clients of every hub
            await bridge.publish("process:build-42", message)  # waits until Redis has it, or raises

    During an outage of Redis, each hub goes on serving its own clients. The bridge reconnects by
    itself. Only the awaitable methods wait for Redis. A started bridge belongs to its process: a
    forked child needs a hub and a bridge of its own.

    Args:
        hub: A hub that has been entered.
        redis: The URL of a server (``redis://``, ``rediss://`` for TLS, ``unix://``), or an
            asyncio client of redis-py: a ``Redis``, also from ``Sentinel.master_for``, or a
            ``RedisCluster``. The bridge opens connections of its own with the client's settings.
        prefix: The name of the fleet: hubs with different prefixes do not reach each other.
        sharded: Whether to use sharded publishing, which spreads the channels over the nodes of a
            cluster. It needs a ``RedisCluster``, and all hubs must use the same value. Hubs of
            go-ws cannot use it.
        require_redis: Whether `start` raises if Redis cannot be used. If false, the bridge starts
            in the state ``down`` in that case, and connects later.
        timeout: Maximum time for a reply of Redis, in seconds.
        probe_interval: Time in seconds without a message after which the bridge checks that
            messages arrive.
        replay_seconds: Maximum time for which messages wait for a lost connection, in seconds; 0
            to drop them at once. Messages that waited arrive late, in order and once, at the hubs
            that listen again by then. After an outage of both directions, the bridge waits half a
            second longer, so that other hubs can reconnect.
        max_queue_bytes: Maximum size of the messages that wait, in bytes. Messages above it are
            lost, and counted.
        on_state_change: A plain or async function, called with the bridge when its ``state`` has
            changed, and when a new ``reason`` follows while the state is not ``up``. It is also
            called at the end of a start without Redis, but not for an ordinary start or stop.
        **options: With a URL, more settings for redis-py's connections, such as ``username``,
            ``password`` or ``ssl_ca_certs``.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
        InvalidConfigError: The URL or another setting has an invalid value.
    """

    overhead_bytes = OVERHEAD_BYTES

    def __init__(
        self,
        hub: Hub,
        redis: str | Redis | RedisCluster = "redis://localhost:6379",
        *,
        prefix: str = "ws",
        sharded: bool = False,
        require_redis: bool = True,
        timeout: float = 5.0,
        probe_interval: float = 30.0,
        replay_seconds: float = 5.0,
        max_queue_bytes: int = 8_388_608,
        on_state_change: "Callable[[RedisBridge], Awaitable[object] | object] | None" = None,
        **options: Any,
    ) -> None:
        if not isinstance(hub, Hub):
            raise InvalidConfigError("give a bridge its hub first, then the URL of redis")
        check_sharded(sharded, redis)
        self._port = hub.bridge_port
        self._redis = redis
        self._channels = RedisChannels(prefix, is_sharded=sharded)
        self._server = find_server(redis, options)
        self._settings = ConnectionSettings(
            timeout=timeout,
            probe_interval=probe_interval,
            replay_seconds=replay_seconds,
            max_queue_bytes=max_queue_bytes,
            is_sharded=sharded,
        )
        self._require_redis = require_redis
        self._on_state_change = on_state_change
        self._envelopes = EnvelopeWriter()
        self._counters = Counters()
        self._receiver = Receiver(
            self._port, self._channels, self._envelopes, replay_seconds, self._counters
        )
        self._state = StateReporter(self._server.address, self._spawn_callback)
        self._run: _Run | None = None
        self._is_attached = False
        self._wants_all = False
        self._stopping = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def source_id(self) -> str:
        """The id of this bridge on Redis, 32 hexadecimal digits."""
        return self._envelopes.source_id

    @property
    def state(self) -> BridgeState:
        """The current state of the connections to Redis."""
        return self._state.state

    @property
    def reason(self) -> str:
        """The error of Redis or the network why the state is not ``up``; empty if it is."""
        return self._state.reason

    def stats(self) -> BridgeStats:
        """Return the totals since the bridge was created, and the state of its queues."""
        shards = () if self._run is None else tuple(self._run.router.shards)
        return self._counters.snapshot(shard.sender.queue for shard in shards)

    # Start and stop.

    async def start(self) -> None:
        """Connect, and attach the bridge to its hub; messages arrive when this returns.

        With ``require_redis=False`` it returns after the first attempt to connect, even if that
        has failed.

        Raises:
            BridgeAttachedError: The hub has a bridge already, possibly this one.
            BridgeUnavailableError: Redis cannot be reached, or refuses the connection.
            ForkedProcessError: The bridge was started in a parent of this process.
        """
        self._check_process()
        if self._run is not None:
            raise BridgeAttachedError
        if self._server.db:
            logger.warning(
                "database %d does not separate fleets: published messages reach every database. "
                "Use another prefix for each fleet",
                self._server.db,
            )
        router = self._make_router()
        publisher = BridgePublisher(self._channels, self._envelopes, router)
        calls = HistoryCalls(self._channels, is_sharded=self._settings.is_sharded)
        history = SharedHistory(self._channels, calls, self._envelopes, router)
        self._run = _Run(router, publisher, history, ForkGuard("bridge"))
        try:
            # The connections are opened before the bridge is attached, so that `start` can raise
            # without an effect on the hub.
            try:
                await router.open()
            except CONNECTION_ERRORS:
                if self._require_redis:
                    raise
            self._port.attach(
                self,
                history=history if self._port.has_history else None,
                presence=RedisPresenceStore(
                    self._channels, router, is_sharded=self._settings.is_sharded
                ),
            )
            self._is_attached = True
            self._state.start_reporting()
            await self._wait_subscribed(router)
        except CONNECTION_ERRORS as exc:
            await self.stop()
            raise connect_error(self._server.address, exc) from exc
        except BaseException:
            await self.stop()
            raise

    async def _wait_subscribed(self, router: ShardRouter) -> None:
        """Wait for the channels that clients have subscribed to while the connections opened."""
        names = self._wanted_names()
        pending = (router.shard_for(name).listener.subscribe(name) for name in names)
        waiters = list(filter(None, pending))
        if waiters and self.state == BridgeState.UP:
            await asyncio.wait(waiters, timeout=self._settings.timeout)

    async def stop(self) -> None:
        """Send queued messages, within ``timeout``, and detach the bridge; the hub goes on alone.

        A second call does nothing.

        Raises:
            ForkedProcessError: The bridge was started in a parent of this process.
        """
        self._check_process()
        # A second call waits for the first one.
        async with self._stopping:
            run = self._run
            if run is None:
                return
            try:
                if self._is_attached:
                    await self._withdraw_presence()
                    # The hub is detached first: from then on the queues only become shorter.
                    self._is_attached = False
                    self._state.stop_reporting()
                    self._port.detach()
                    await run.publisher.flush(self._settings.timeout)
            finally:
                await run.router.close()
                self._run = None
                # When a bridge is attached again, the hub repeats its request for all channels.
                self._wants_all = False
                self._state.reset()

    async def _withdraw_presence(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with stall_tolerant_timeout(self._settings.timeout):
                await self._port.withdraw_presence()

    def _make_router(self) -> ShardRouter:
        make_shard = partial(
            Shard,
            settings=self._settings,
            channels=self._channels,
            source_id=self.source_id,
            on_message=self._receiver.receive,
            on_change=self._update_state,
            counters=self._counters,
        )
        scripts: tuple[Script, ...] = ()
        if self._port.has_history:
            scripts += HISTORY_SCRIPTS
            make_shard = partial(
                make_shard,
                on_unstored=self._receiver.deliver_unstored,
                on_resynced=self._receiver.resync,
            )
        if self._port.has_presence:
            scripts += PRESENCE_SCRIPTS
            make_shard = partial(make_shard, on_commands_up=self._receiver.resync_presence)
        if scripts:
            is_sharded = self._settings.is_sharded
            home = None if is_sharded else find_home(self._redis, self._channels.home)
            make_shard = partial(make_shard, scripts=scripts, home=home)
        if not self._settings.is_sharded:
            return SingleShard(make_shard, self._server, self._wanted_names)
        assert isinstance(self._redis, RedisCluster), "the constructor checks this"
        timeout = self._settings.timeout
        return ClusterRouter(
            make_shard, self._redis, timeout, self._wanted_names, self._update_state
        )

    def _wanted_names(self) -> list[bytes]:
        """Return the Redis channels that this hub needs."""
        names = map(self._channels.to_redis, self._port.bridged_channels)
        all_channels = [self._channels.all_channels] if self._wants_all else []
        return [self._channels.broadcast, *names, *all_channels]

    # Publishing with confirmation.

    async def publish(self, channel: str, message: Message) -> None:
        """Publish to a channel, as `wshub_core.Hub.publish` does, and wait until Redis has it.

        This hub's own clients receive the message even if Redis does not.

        Raises:
            BridgeUnavailableError: Redis has not confirmed the message within ``timeout``, or
                cannot be reached within ``replay_seconds``.
            ForkedProcessError: The bridge was started in a parent of this process.
            WSHubError: As `wshub_core.Hub.publish` raises; no client receives the message.
        """
        self._check_process()
        payload = self._port.publish_local(channel, message)
        limits = self._port.history_limits(channel)
        if limits is not None and self._is_attached:
            await self._running().history.publish(channel, payload, limits)
        else:
            await self._publish(channel, payload)

    async def broadcast(self, message: Message) -> None:
        """Broadcast, as `wshub_core.Hub.broadcast` does, and wait until Redis has it.

        Raises:
            BridgeUnavailableError: As `publish` raises.
            ForkedProcessError: As `publish` raises.
            WSHubError: As `wshub_core.Hub.broadcast` raises; no client receives the message.
        """
        self._check_process()
        await self._publish(BROADCAST, self._port.broadcast_local(message))

    async def _publish(self, channel: str, payload: bytes) -> None:
        if not self._is_attached:
            raise BridgeUnavailableError(f"{NOT_RUNNING}: use it inside `async with`")
        await self._running().publisher.publish(channel, payload)

    # Methods for the hub; documented on wshub_core.Bridge.

    def forward(self, channel: str, payload: bytes) -> None:  # noqa: D102
        self._running().publisher.forward(channel, payload)

    def subscribe(self, channel: str) -> Future[None] | None:  # noqa: D102
        name = self._channels.to_redis(channel)
        return self._running().router.shard_for(name).listener.subscribe(name)

    def subscribe_all(self) -> Future[None] | None:  # noqa: D102
        if self._settings.is_sharded:
            logger.warning(
                "sharded publishing has no subscription to all channels: "
                "only messages on channels with subscribers on this hub arrive"
            )
            return None
        self._wants_all = True
        name = self._channels.all_channels
        return self._running().router.shard_for(name).listener.subscribe_all()

    def unsubscribe(self, channel: str) -> None:  # noqa: D102
        name = self._channels.to_redis(channel)
        self._running().router.shard_for(name).listener.unsubscribe(name)

    async def drain(self) -> None:  # noqa: D102
        self._check_process()
        if self._run is not None:
            await self._run.publisher.drain()

    def _running(self) -> _Run:
        self._check_process()
        assert self._run is not None, "the hub calls the bridge only while it is attached"
        return self._run

    def _check_process(self) -> None:
        if self._run is not None:
            self._run.guard.check()

    # State.

    def _update_state(self) -> None:
        # Also called in a forked child whose event loop goes on. `_running` raises there, so that
        # the child reports no state.
        shards = self._running().router.shards
        self._state.update(each for shard in shards for each in shard.essential)

    def _spawn_callback(self) -> None:
        if self._on_state_change is not None:
            # The hub may close before its bridge is stopped.
            with contextlib.suppress(HubClosedError):
                self._port.spawn_callback("on_state_change", self._on_state_change, self)
