"""The Python client under test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Self

import msgspec
from client_contract import Event, FailedError

from wshub_client import ClientError, QueueLimits, ReconnectingClient
from wshub_core import Message, Position, WSHubError

FIELDS = ("status", "reason", "channel", "code", "count")


def describe(error: Exception) -> dict[str, Any]:
    fields = {name: getattr(error, name) for name in FIELDS if hasattr(error, name)}
    return {"name": type(error).__name__, "text": str(error), **fields}


class PythonClient:
    """A `ClientUnderTest` in this process."""

    def __init__(self) -> None:
        self._client: ReconnectingClient | None = None
        self._running: asyncio.Task[None] | None = None
        self._events: list[Event] = []

    @classmethod
    @asynccontextmanager
    async def run(cls) -> AsyncIterator[Self]:
        yield cls()

    @property
    def client(self) -> ReconnectingClient:
        assert self._client is not None, "start comes first"
        return self._client

    async def start(
        self,
        url: str,
        *,
        tokens: list[str | None] | None = None,
        faulty: bool = False,
        **options: Any,
    ) -> None:
        await self.close()
        events: list[Event] = []
        self._events = events

        def note(event: dict[str, Any]) -> None:
            events.append(event)
            if faulty:
                raise LookupError("faulty")

        if tokens is not None:
            remaining = list(tokens)

            async def next_token() -> str:
                token = remaining.pop(0) if len(remaining) > 1 else remaining[0]
                if token is None:
                    raise LookupError("no token")
                return token

            options["token"] = next_token
        if options.get("queue") is not None:
            options["queue"] = QueueLimits(**options["queue"])
        options.pop("plain", None)
        self._client = ReconnectingClient(
            url,
            on_connect=lambda: note({"event": "connect"}),
            on_reconnect=lambda dials: note({"event": "reconnect", "attempts": dials}),
            on_disconnect=lambda: note({"event": "disconnect"}),
            on_error=lambda error: note({"event": "error", **describe(error)}),
            on_gap=lambda gap: note(
                {
                    "event": "gap",
                    "channel": gap.channel,
                    "reason": gap.reason,
                    "missing": gap.missing,
                }
            ),
            on_message=lambda message: note(
                {
                    "event": "message",
                    "type": message.type,
                    "channel": message.channel,
                    "data": message.data,
                }
            ),
            **options,
        )
        self._running = asyncio.create_task(self._run(self._client, events))

    async def _run(self, client: ReconnectingClient, events: list[Event]) -> None:
        try:
            await client.run()
        except ClientError as error:
            events.append({"event": "end", **describe(error)})
        else:
            events.append({"event": "end", "name": None})

    async def subscribe(
        self, channel: str, *, last: int | None = None, since: int | tuple[str, int] | None = None
    ) -> None:
        await self.client.subscribe(channel, last=last, since=_make_since(since))

    async def subscribe_confirmed(
        self, channel: str, *, last: int | None = None, since: int | tuple[str, int] | None = None
    ) -> None:
        await _raise_failed(
            self.client.subscribe(channel, confirm=True, last=last, since=_make_since(since))
        )

    async def position(self, channel: str) -> tuple[str, int] | None:
        return self.client.position(channel)

    async def unsubscribe(self, channel: str) -> None:
        await self.client.unsubscribe(channel)

    async def publish(self, channel: str, data: object) -> None:
        await _raise_failed(self.client.publish(channel, data))

    async def send(self, message: dict[str, object]) -> None:
        await _raise_failed(self.client.send(msgspec.convert(message, Message)))

    async def close(self) -> None:
        if self._client is not None and self._running is not None:
            await self._client.close()
            await self._running

    async def state(self) -> str:
        return self.client.state.name.lower()

    async def events(self) -> list[Event]:
        return list(self._events)


def _make_since(since: int | tuple[str, int] | None) -> int | Position | None:
    return Position(*since) if isinstance(since, tuple) else since


async def _raise_failed(call: Awaitable[None]) -> None:
    try:
        await call
    except WSHubError as error:
        description = describe(error)
        raise FailedError(description.pop("name"), **description) from error
