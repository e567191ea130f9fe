"""The bridge: joins a hub to others through Redis."""

import asyncio
import contextlib
from asyncio import Future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis, RedisCluster

from wshub_core import (
    BridgeAttachedError,
    BridgeState,
    BridgeUnavailableError,
    Hub,
    HubClosedError,
    HubNotStartedError,
    InvalidConfigError,
    Message,
    MessageTooLargeError,
    WSHubError,
)
from wshub_core.forks import ForkGuard
from wshub_core.logs import get_logger
from wshub_redis.counters import Counters
from wshub_redis.envelope import OVERHEAD_BYTES, EnvelopeWriter, LastIDs, decode_envelope
from wshub_redis.lane import Lane
from wshub_redis.lanes import Lanes, OneLane, ShardLanes
from wshub_redis.names import Names
from wshub_redis.patience import patient_timeout
from wshub_redis.server import CONNECTION_ERRORS, Server, find_server, require_cluster
from wshub_redis.settings import LinkSettings

logger = get_logger("wshub.redis")

_DUPLICATE_SECONDS = 60.0
"""How long after a message, besides ``replay_seconds``, the same one is taken for a duplicate."""

_NOT_RUNNING = "the bridge is not running"

_MAX_REASONS = 16
"""How many reasons are told in one outage, should the server give another one each time."""

_SHOWN_NAME_BYTES = 100
"""How much of a channel's name is logged: with a pattern, strangers choose it."""


@dataclass(frozen=True, slots=True)
class BridgeStats:
    """What a bridge has done since it was made.

    Attributes:
        published: Messages that Redis has confirmed.
        lost: Messages of this hub that Redis has not confirmed and will not get any more. Some of
            them may have arrived: those that were on their way when a connection was lost.
        received: Messages of other hubs that were delivered here.
        duplicates: Messages that came a second time, and were dropped.
        junk: Messages that came and were dropped: no message of a hub, too large for this hub's
            clients, nested too deeply, or on a channel with an invalid name.
        reconnects: How often a connection had to be opened anew.
    """

    published: int
    lost: int
    received: int
    duplicates: int
    junk: int
    reconnects: int


class RedisBridge:
    """Joins a hub to all others that use the same Redis and prefix, of go-ws too.

    ::

        async with Hub() as hub, RedisBridge(hub, "redis://localhost:6379") as bridge:
            hub.publish("process:build-42", message)           # reaches the clients of every hub
            await bridge.publish("process:build-42", message)  # the same, and confirms or raises

    When Redis is gone, every hub goes on with its own clients, and the bridge comes back by
    itself. Nothing waits for Redis but what says so. A bridge that was started belongs to its
    process: a forked child needs a hub and a bridge of its own.

    Args:
        hub: A hub that has been entered.
        redis: The URL of a server (``redis://``, ``rediss://`` for TLS, ``unix://``), or a client
            of redis-py: ``Redis``, also one from ``Sentinel.master_for``, or ``RedisCluster``. Of
            a client only the settings are used, for connections of the bridge's own.
        prefix: What tells this fleet of hubs from others on the same Redis.
        sharded: Whether to use sharded publishing, which spreads over the nodes of a cluster;
            needs a ``RedisCluster``, and all hubs have to agree. Hubs of go-ws cannot.
        require_redis: Whether `start` raises if Redis cannot be reached or refuses us. If not, the
            bridge is attached all the same, with the state ``down``, and connects when it can.
        timeout: How long Redis may take over an answer, in seconds.
        probe_interval: After how many seconds without a message it is checked that messages
            arrive.
        replay_seconds: How long messages wait for a connection that was lost; 0 for not at all.
            They arrive late, in order and once, at the hubs that listen again by then, for which
            half a second is left after an outage of both directions.
        max_queue_bytes: The most bytes of messages that wait; what goes beyond is lost and
            counted.
        on_state_change: Called with the bridge when its ``state`` has changed, or while it is not
            ``up`` the ``reason``, each reason once; also at the end of a start that finds Redis
            away, but not for an ordinary start and stop. A plain or an async function.
        **options: With a URL, more for redis-py's connections, such as ``username``,
            ``password`` or ``ssl_ca_certs``.

    Raises:
        InvalidPrefixError: The prefix is not allowed.
        InvalidConfigError: The URL or another setting has a value that cannot work.
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
            raise InvalidConfigError("a bridge is given its hub first, then the URL of redis")
        require_cluster(sharded, isinstance(redis, RedisCluster))
        self._hub = hub
        self._redis = redis
        self._names = Names(prefix)
        self._server = find_server(redis, options)
        self._settings = LinkSettings(
            timeout=timeout,
            probe_interval=probe_interval,
            replay_seconds=replay_seconds,
            max_queue_bytes=max_queue_bytes,
            is_sharded=sharded,
        )
        self._require_redis = require_redis
        self._on_state_change = on_state_change
        self._envelopes = EnvelopeWriter()
        self._lanes: Lanes | None = None
        self._last_ids = LastIDs(_DUPLICATE_SECONDS + replay_seconds)
        self._counters = Counters()
        self._state = BridgeState.DOWN
        self._reason = _NOT_RUNNING
        self._told_reasons: set[str] = set()
        self._guard: ForkGuard | None = None
        self._is_started = False
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
        """What other hubs know this one by, 32 hexadecimal digits."""
        return self._envelopes.source_id

    @property
    def state(self) -> BridgeState:
        """How well the bridge works now."""
        return self._state

    @property
    def reason(self) -> str:
        """Why the state is not ``up``, as Redis or the network says it; empty if it is up."""
        return self._reason

    def stats(self) -> BridgeStats:
        """Return what the bridge has done since it was made."""
        counters = self._counters
        return BridgeStats(
            published=counters.published,
            lost=counters.lost,
            received=counters.received,
            duplicates=counters.duplicates,
            junk=counters.junk,
            reconnects=counters.reconnects,
        )

    async def start(self) -> None:
        """Connect, and attach the bridge to its hub; messages arrive when this returns.

        With ``require_redis=False`` it returns after the first try, whatever comes of it.

        Raises:
            BridgeAttachedError: The hub has a bridge already, this one perhaps.
            BridgeUnavailableError: Redis cannot be reached, or refuses us.
            ForkedProcessError: The bridge was started in a parent of this process.
        """
        self._check_process()
        if self._lanes is not None:
            raise BridgeAttachedError
        if self._server.db:
            logger.warning(
                "database %d isolates nothing: published messages reach every database. "
                "To tell fleets apart use another prefix",
                self._server.db,
            )
        self._guard = ForkGuard("bridge")
        self._lanes = lanes = self._make_lanes()
        try:
            try:
                await lanes.open()
            except CONNECTION_ERRORS:
                if self._require_redis:
                    raise
            self._hub.bridge_port.attach(self)
            self._is_started = True
            if self._state != BridgeState.UP:
                self._tell_state()
            # Who came while the lanes were opened.
            carried = (lanes.lane_of(n).listener.subscribe(n) for n in self._wanted_names())
            waiters = list(filter(None, carried))
            if waiters and self._state == BridgeState.UP:
                await asyncio.wait(waiters, timeout=self._settings.timeout)
        except CONNECTION_ERRORS as exc:
            await self.stop()
            raise BridgeUnavailableError(
                f"redis at {self._server.address} does not serve us: {exc or type(exc).__name__}"
            ) from exc
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Send what waits, within ``timeout``, and detach the bridge; the hub goes on alone.

        Stopping again is harmless.

        Raises:
            ForkedProcessError: The bridge was started in a parent of this process.
        """
        self._check_process()
        async with self._stopping:
            lanes = self._lanes
            if lanes is None:
                return
            try:
                if self._is_started:
                    self._is_started = False
                    self._hub.bridge_port.detach()
                    await self._flush(lanes)
            finally:
                await lanes.close()
                self._lanes = self._guard = None
                self._wants_all = False
                self._state, self._reason = BridgeState.DOWN, _NOT_RUNNING
                self._told_reasons.clear()

    async def _flush(self, lanes: Lanes) -> None:
        with contextlib.suppress(TimeoutError):
            async with patient_timeout(self._settings.timeout):
                await asyncio.gather(*(lane.sender.flush() for lane in lanes.all))

    # Publishing that says what happened.

    async def publish(self, channel: str, message: Message) -> None:
        """Publish to a channel, as `wshub_core.Hub.publish` does, and wait until Redis has it.

        Clients of this hub get it in any case.

        Raises:
            BridgeUnavailableError: Redis has not confirmed it, within ``timeout`` or, if it cannot
                be reached, within ``replay_seconds``.
            ForkedProcessError: The bridge was started in a parent of this process.
            WSHubError: As `wshub_core.Hub.publish` does; then nobody gets it.
        """
        self._check_process()
        payload = self._hub.bridge_port.publish(channel, message)
        await self._send(channel, payload)

    async def broadcast(self, message: Message) -> None:
        """Broadcast, as `wshub_core.Hub.broadcast` does, and wait until Redis has it.

        Raises:
            BridgeUnavailableError: As `publish` does.
            ForkedProcessError: As `publish` does.
            WSHubError: As `wshub_core.Hub.broadcast` does; then nobody gets it.
        """
        self._check_process()
        payload = self._hub.bridge_port.broadcast(message)
        await self._send("", payload)

    async def _send(self, channel: str, payload: bytes) -> None:
        if not self._is_started:
            raise BridgeUnavailableError(f"{_NOT_RUNNING}: use it inside `async with`")
        confirmation: Future[None] = asyncio.get_running_loop().create_future()
        name = self._names.channel(channel)
        self._lane_of(name).sender.send(name, self._envelopes.write(payload), confirmation)
        await confirmation

    # What the hub asks for; documented on wshub_core.Bridge.

    def forward(self, channel: str, payload: bytes) -> None:  # noqa: D102
        name = self._names.channel(channel)
        self._lane_of(name).sender.send(name, self._envelopes.write(payload))

    def subscribe(self, channel: str) -> Future[None] | None:  # noqa: D102
        name = self._names.channel(channel)
        return self._lane_of(name).listener.subscribe(name)

    def subscribe_all(self) -> Future[None] | None:  # noqa: D102
        if self._settings.is_sharded:
            logger.warning(
                "sharded publishing has no subscription to all channels: "
                "only channels that have subscribers on this hub are heard"
            )
            return None
        self._wants_all = True
        return self._lane_of(self._names.all_channels).listener.subscribe_all()

    def unsubscribe(self, channel: str) -> None:  # noqa: D102
        name = self._names.channel(channel)
        self._lane_of(name).listener.unsubscribe(name)

    async def drain(self) -> None:  # noqa: D102
        self._check_process()
        for lane in () if self._lanes is None else tuple(self._lanes.all):
            await lane.sender.drain()

    # What the lanes ask for.

    def _make_lanes(self) -> Lanes:
        if self._settings.is_sharded:
            assert isinstance(self._redis, RedisCluster), "was checked at the beginning"
            timeout = self._settings.timeout
            return ShardLanes(
                self._make_lane, self._redis, timeout, self._wanted_names, self._note_change
            )
        return OneLane(self._make_lane, self._server)

    def _make_lane(self, server: Server, tag: str) -> Lane:
        return Lane(
            server,
            self._settings,
            probe_channel=self._names.probe(self.source_id, tag),
            names=self._names,
            wanted=self._wanted_on,
            on_message=self._receive,
            on_change=self._note_change,
            counters=self._counters,
        )

    def _check_process(self) -> None:
        if self._guard is not None:
            self._guard.check()

    def _lane_of(self, name: bytes) -> Lane:
        self._check_process()
        assert self._lanes is not None, "the hub asks only while the bridge is attached"
        return self._lanes.lane_of(name)

    def _wanted_names(self) -> list[bytes]:
        names = [
            self._names.broadcast,
            *map(self._names.channel, self._hub.bridge_port.bridged_channels),
        ]
        return [*names, self._names.all_channels] if self._wants_all else names

    def _wanted_on(self, lane: Lane) -> list[bytes]:
        return [name for name in self._wanted_names() if self._lane_of(name) is lane]

    def _receive(self, name: bytes, data: bytes) -> None:
        limit = self._hub.config.max_message_bytes
        try:
            channel = self._names.parse(name)
            envelope = decode_envelope(data)
            if envelope.source_id == self.source_id:
                return
            if len(data) > limit:
                raise MessageTooLargeError(len(data), limit)
            if not self._last_ids.is_new(envelope.source_id, name, envelope.id, monotonic()):
                self._counters.duplicates += 1
                return
            self._hub.bridge_port.deliver(channel, bytes(envelope.message))
        except (HubClosedError, HubNotStartedError):
            pass
        except WSHubError as exc:
            self._counters.junk += 1
            shown = name[:_SHOWN_NAME_BYTES].decode(errors="replace")
            logger.warning("dropped a message on the Redis channel %r: %s", shown, exc)
        else:
            self._counters.received += 1

    def _note_change(self) -> None:
        self._check_process()
        assert self._lanes is not None, "lanes are closed before they are forgotten"
        links = [each for lane in self._lanes.all for each in (lane.sender, lane.listener)]
        broken = [each for each in links if not each.is_up]
        if not broken:
            state, reason = BridgeState.UP, ""
            self._told_reasons.clear()
        else:
            state = BridgeState.DOWN if len(broken) == len(links) else BridgeState.DEGRADED
            reason = broken[0].reason
        is_news = self._is_new_reason(reason) or state != self._state
        self._state, self._reason = state, reason
        if self._is_started and is_news:
            self._tell_state()

    def _tell_state(self) -> None:
        # Also that it is over: whoever reads the first wants to read the last.
        why = f": {self._reason}" if self._reason else ""
        logger.warning(
            "the bridge to %s is %s%s",
            self._server.address,
            self._state,
            why,
            extra={"kind": self._state},
        )
        if self._on_state_change is not None:
            with contextlib.suppress(HubClosedError):
                self._hub.bridge_port.spawn_callback("on_state_change", self._on_state_change, self)

    def _is_new_reason(self, reason: str) -> bool:
        """Note a reason; return whether it has not been told in this outage."""
        if not reason or reason in self._told_reasons or len(self._told_reasons) == _MAX_REASONS:
            return False
        self._told_reasons.add(reason)
        return True
