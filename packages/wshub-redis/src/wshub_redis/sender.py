"""The sending side of a bridge: publishes what waits, one round trip after the other."""

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from wshub_core import BridgeUnavailableError
from wshub_redis.counters import Counters
from wshub_redis.link import Link, LinkLostError, logger
from wshub_redis.patience import patient_timeout
from wshub_redis.publish_queue import Outgoing, PublishQueue
from wshub_redis.server import ReplicaError, Server, is_replica

_BATCH_BYTES = 65_536
"""How many bytes go out in one round trip. A slow line has to take them within the timeout."""

_EXPIRY_SECONDS = 0.1
"""How often it is looked whether messages have waited too long."""

_QUIET_SECONDS = 10.0
"""How long nothing more is said about losses while others get through."""

_HELLO = b"*1\r\n$5\r\nHELLO\r\n"
"""Asks for the server's role; see `wshub_redis.server.is_replica`."""

Confirmation: TypeAlias = Future[None] | None
"""Who waits for the server to have a message; None for nobody."""


class Sender(Link):
    """Publishes messages in order, each at least as often as it takes to have it confirmed.

    What is published while a round trip is under way goes out together with the next. When the
    connection is lost, what was not confirmed waits for the next one, for ``replay_seconds`` at
    most; hubs drop what comes to them a second time.

    Args:
        server: Where to publish.
        timeout: How long the server may take over an answer, in seconds.
        on_change: Called when ``is_up`` has changed.
        counters: Where is counted.
        command: ``PUBLISH`` or ``SPUBLISH``.
        replay_seconds: How long messages wait for a connection; 0 for not at all.
        max_queue_bytes: The most bytes of messages that wait or are not confirmed.
        settle: Awaited before what waited for a connection is sent.
        role_interval: After how many seconds the server is asked again whether it is a replica.
        on_replica: Called when it has become one.

    Attributes:
        refused: How many messages the server has refused.
    """

    def __init__(
        self,
        server: Server,
        timeout: float,
        on_change: Callable[[], None],
        counters: Counters,
        *,
        command: str,
        replay_seconds: float,
        max_queue_bytes: int,
        settle: Callable[[], Awaitable[None]],
        role_interval: float,
        on_replica: Callable[[], None],
    ) -> None:
        super().__init__(server, timeout, on_change, counters)
        self.refused = 0
        self._lost_in_a_row = 0
        self._quiet_until = 0.0
        self._head = b"*3\r\n$%d\r\n%b\r\n" % (len(command), command.encode())
        self._replay_seconds = replay_seconds
        self._max_queue_bytes = max_queue_bytes
        self._settle = settle
        self._role_interval = role_interval
        self._on_replica = on_replica
        self._queue: PublishQueue[Confirmation] = PublishQueue(max_queue_bytes)
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None

    def send(
        self,
        channel: bytes,
        envelope: bytes,
        confirmation: Confirmation = None,
        *,
        is_probe: bool = False,
    ) -> None:
        """Queue a message; what cannot be queued is lost, and counted.

        Args:
            channel: The channel on Redis.
            envelope: The message in its envelope.
            confirmation: Is done once the server has the message, and gets a
                `BridgeUnavailableError` if it will not.
            is_probe: Whether it is no message and does not count.
        """
        command = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            self._head,
            len(channel),
            channel,
            len(envelope),
            envelope,
        )
        item = Outgoing(channel, command, self._loop.time(), confirmation, is_probe)
        if not self.is_up and self._replay_seconds <= 0:
            self._lose(item, f"{self._server.address} cannot be reached ({self.reason})")
        elif not self._queue.push(item):
            self._lose(item, f"{self._max_queue_bytes} bytes are waiting to be sent already")
        elif self.is_up:
            self._work.set()
        else:
            self._schedule_expiry()

    def give_away(self) -> list[Outgoing[Confirmation]]:
        """Return all that is not confirmed, for a sender that takes the place of this one."""
        self._queue.take_back()
        return self._queue.drop(float("inf"))

    def take_over(self, item: Outgoing[Confirmation]) -> None:
        """Queue what another sender has given away."""
        if not self._queue.push(item):
            self._lose(item, f"{self._max_queue_bytes} bytes are waiting to be sent already")
        self._work.set()

    async def drain(self) -> None:
        """Wait while more than half of what may wait does, and there is a connection."""
        while self.is_up and self._queue.size > self._max_queue_bytes // 2:
            await self._wait_progress()

    async def flush(self) -> None:
        """Wait until all is confirmed, while there is a connection."""
        while self.is_up and len(self._queue):
            await self._wait_progress()

    async def close(self) -> None:
        """End the connection; what still waits is lost."""
        await super().close()
        self._queue.take_back()
        self._lose_waiting(float("inf"), "it was closed before they could be sent")
        self._report_lost()
        self._progress.set()
        if self._expiry is not None:
            self._expiry.cancel()

    async def serve(self, connection: AbstractConnection) -> None:
        """Send what comes, until the connection is lost."""
        # Other hubs were cut off too, maybe, and would miss what is sent to them now.
        if self._queue.has_waiting:
            await self._settle()
        self.note_up()
        self._report_lost()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(connection))
            group.create_task(self._read(connection))
            group.create_task(self._watch_role())

    def note_lost(self) -> None:
        """Have what is not confirmed wait for the next connection, or lose it."""
        self._queue.take_back()
        if self._replay_seconds > 0:
            self._schedule_expiry()
        else:
            self._lose_waiting(float("inf"), f"the connection was lost ({self.reason})")
        self._progress.set()

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            while self._queue.has_waiting:
                commands = self._queue.take(_BATCH_BYTES)
                # The timeout is for a server that has stopped, and counts for the whole batch.
                async with patient_timeout(self._timeout):
                    await connection.send_packed_command(commands, check_health=False)
                    while self._queue.has_in_flight:
                        await self._wait_progress()
            self._work.clear()
            await self._work.wait()

    async def _read(self, connection: AbstractConnection) -> None:
        # Also while there is nothing to read, so that the end is noticed when it comes.
        while True:
            try:
                reply = await connection.read_response(
                    disable_decoding=True, disconnect_on_error=False
                )
                refusal = None
            except ResponseError as exc:
                reply, refusal = None, exc
            if not self._queue.has_in_flight:
                raise LinkLostError(f"{self._server.address} answers what nobody has asked")
            item = self._queue.settle()
            if is_replica(reply):
                self._on_replica()
                raise ReplicaError(self._server.address)
            if refusal is None:
                self._confirm(item)
            else:
                self._refuse(item, refusal)
            if not self._queue.has_in_flight:
                self._progress.set()

    async def _watch_role(self) -> None:
        # A server that becomes a replica keeps its connections, and goes on taking messages.
        while True:
            await asyncio.sleep(self._role_interval)
            self._queue.push(Outgoing(b"", _HELLO, self._loop.time(), None, is_probe=True))
            self._work.set()

    def _confirm(self, item: Outgoing[Confirmation]) -> None:
        if self._lost_in_a_row and self._loop.time() > self._quiet_until:
            self._report_lost()
        self._counters.published += not item.is_probe
        if item.confirmation is not None and not item.confirmation.done():
            item.confirmation.set_result(None)

    def _refuse(self, item: Outgoing[Confirmation], refusal: ResponseError) -> None:
        self.refused += 1
        item.was_sent = False  # it is known not to have been published
        why = f"{self._server.address} refuses to publish: {type(refusal).__name__} {refusal}"
        self._lose(item, why)

    def _lose(self, item: Outgoing[Confirmation], why: str) -> None:
        if not item.is_probe:
            self._counters.lost += 1
            self._lost_in_a_row += 1
            # The first is worth a look; a flood of them is not.
            if self._lost_in_a_row == 1:
                logger.warning("messages for other hubs are lost: %s", why)
                self._quiet_until = self._loop.time() + _QUIET_SECONDS
        if item.confirmation is not None and not item.confirmation.done():
            item.confirmation.set_exception(
                BridgeUnavailableError(
                    f"not confirmed by Redis: {why}", may_have_arrived=item.was_sent
                )
            )

    def _report_lost(self) -> None:
        if self._lost_in_a_row:
            logger.warning("messages for other hubs that were lost: %d", self._lost_in_a_row)
            self._lost_in_a_row = 0

    def _lose_waiting(self, before: float, why: str) -> None:
        for item in self._queue.drop(before):
            self._lose(item, why)

    def _schedule_expiry(self) -> None:
        oldest = self._queue.oldest
        if self._expiry is None and oldest is not None:
            # Many at once: they come by the thousand.
            due = max(oldest + self._replay_seconds, self._loop.time() + _EXPIRY_SECONDS)
            self._expiry = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        if not self.is_up:
            why = f"no connection for {self._replay_seconds:g} s ({self.reason})"
            self._lose_waiting(self._loop.time() - self._replay_seconds, why)
            self._schedule_expiry()

    async def _wait_progress(self) -> None:
        self._progress.clear()
        await self._progress.wait()
