"""The command connection: scripts whose replies somebody waits for."""

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from redis import ResponseError

from wshub_core import BridgeUnavailableError
from wshub_redis.connection import ConnectionLostError, SupervisedConnection
from wshub_redis.redis_py.connections import RedisConnection
from wshub_redis.redis_py.refusals import is_misdirected, is_script_missing
from wshub_redis.redis_py.servers import Server
from wshub_redis.replicas import ReplicaError
from wshub_redis.script_session import ScriptSession
from wshub_redis.scripts import Script
from wshub_redis.stats import Counters
from wshub_redis.timeouts import stall_tolerant_timeout

_BATCH_CALLS = 16
"""Maximum number of calls of one round trip. A slow network has to transfer all replies within the
timeout, and a reply can have 1 MiB."""


class _Call(NamedTuple):
    command: bytes
    reply: Future[Any]


class CommandConnection(SupervisedConnection):
    """A connection that runs scripts, and returns their replies.

    Calls during a round trip are sent together in the next one.

    Args:
        server: The server, which must be a primary.
        timeout: Maximum time for the replies of a round trip, in seconds.
        on_change: Called when ``is_up`` has changed, and after each failure.
        counters: The counters to update.
        scripts: The scripts that will be called.
    """

    def __init__(
        self,
        server: Server,
        timeout: float,
        on_change: Callable[[], None],
        counters: Counters,
        *,
        scripts: Iterable[Script],
    ) -> None:
        super().__init__(server, timeout, on_change, counters)
        self._session = ScriptSession(scripts)
        self._waiting: deque[_Call] = deque()
        self._under_way: deque[_Call] = deque()
        self._work = asyncio.Event()
        self._progress = asyncio.Event()
        self._replica_found = asyncio.Event()

    @property
    def run_id(self) -> bytes:
        """The run id of the server, which is another one after a restart; empty if not known."""
        return self._session.run_id

    async def call(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Run a script, and return its reply, with strings as bytes.

        Args:
            script: One of the scripts of this connection.
            keys: The keys, all in one slot.
            arguments: The other arguments.

        Raises:
            BridgeUnavailableError: The server cannot be reached now, does not reply in time, or
                refuses the call.
        """
        try:
            return await self._send(script, keys, arguments)
        except ResponseError as exc:
            if not is_script_missing(exc):
                raise self._refusal_error(exc) from exc
        self._session.note_missing()
        try:
            return await self._send(script, keys, arguments)
        except ResponseError as exc:
            raise self._refusal_error(exc) from exc

    async def _send(self, script: Script, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        if not self.is_up:
            raise self._lost_error()
        reply: Future[Any] = self._loop.create_future()
        self._waiting.append(_Call(self._session.encode(script, keys, arguments), reply))
        self._work.set()
        return await reply

    def leave_replica(self) -> None:
        """Give the connection up, because its server has become a replica."""
        self._replica_found.set()

    async def close(self) -> None:
        """Close the connection for good; calls that wait fail."""
        await super().close()
        self._fail_calls()

    async def use_connection(self, connection: RedisConnection) -> None:
        """Serve calls until the connection is lost."""
        self._replica_found.clear()
        async with stall_tolerant_timeout(self._timeout):
            await self._session.prepare(connection)
        self.note_up()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(connection))
            group.create_task(self._read(connection))
            group.create_task(self._fail_on_replica())

    def note_disconnect(self) -> None:
        """Fail all calls."""
        self._fail_calls()

    def _fail_calls(self) -> None:
        for call in (*self._under_way, *self._waiting):
            if not call.reply.done():
                call.reply.set_exception(self._lost_error())
        self._under_way.clear()
        self._waiting.clear()

    async def _write(self, connection: RedisConnection) -> None:
        while True:
            while batch := self._take_batch():
                async with stall_tolerant_timeout(self._timeout):
                    await connection.write(batch)
                    while self._under_way:
                        self._progress.clear()
                        await self._progress.wait()
            self._work.clear()
            await self._work.wait()

    def _take_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        while self._waiting and len(batch) < _BATCH_CALLS:
            call = self._waiting.popleft()
            # Callers may have been cancelled.
            if not call.reply.done():
                self._under_way.append(call)
                batch.append(call.command)
        return batch

    async def _read(self, connection: RedisConnection) -> None:
        # This task also reads while no reply is due, so that a closed connection is noticed at
        # once.
        while True:
            refusal = None
            try:
                reply = await connection.read()
            except ResponseError as exc:
                reply, refusal = None, exc
            if not self._under_way:
                raise ConnectionLostError(f"{self._server.address} sent an unexpected reply")
            call = self._under_way.popleft()
            if not call.reply.done():
                if refusal is None:
                    call.reply.set_result(reply)
                else:
                    call.reply.set_exception(refusal)
            if refusal is not None and is_misdirected(refusal):
                raise ConnectionLostError(str(refusal))
            if not self._under_way:
                self._progress.set()

    async def _fail_on_replica(self) -> None:
        await self._replica_found.wait()
        raise ReplicaError(self._server.address)

    def _lost_error(self) -> BridgeUnavailableError:
        return BridgeUnavailableError(
            f"{self._server.address} cannot be reached ({self.reason or 'the connection is lost'})"
        )

    def _refusal_error(self, refusal: ResponseError) -> BridgeUnavailableError:
        return BridgeUnavailableError(
            f"{self._server.address} refuses: {type(refusal).__name__} {refusal}"
        )
