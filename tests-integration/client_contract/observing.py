"""Helpers that wait for events of a client, and look at them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from client_contract.interface import ClientUnderTest, Event, FailedError

T = TypeVar("T")

_TIMEOUT_SECONDS = 10.0
"""The longest wait for something that must happen."""


async def eventually(ask: Callable[[], Awaitable[T]], holds: Callable[[T], object]) -> T:
    """Ask repeatedly until the answer meets a condition; return this answer."""
    answer = await ask()
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            while not holds(answer):
                await asyncio.sleep(0.005)
                answer = await ask()
    except TimeoutError:
        raise AssertionError(f"still: {answer}") from None
    return answer


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""

    async def ask() -> object:
        return condition()

    await eventually(ask, bool)


async def wait_state(client: ClientUnderTest, state: str) -> None:
    await eventually(client.state, lambda now: now == state)


async def wait_event(client: ClientUnderTest, name: str, count: int = 1) -> list[Event]:
    """Wait for a number of events with a name; return all events with this name."""
    events = await eventually(client.events, lambda events: len(named(events, name)) >= count)
    return named(events, name)


async def messages_of(client: ClientUnderTest, count: int) -> list[object]:
    """Wait for a number of messages; return the data of all messages."""
    return [each["data"] for each in await wait_event(client, "message", count)]


async def failure_of(call: Awaitable[None]) -> FailedError:
    try:
        await call
    except FailedError as error:
        return error
    raise AssertionError("the call has not failed")


def named(events: list[Event], name: str) -> list[Event]:
    return [each for each in events if each["event"] == name]


def names(events: list[Event]) -> list[str]:
    return [each["event"] for each in events]


def holds(event: Event, **fields: object) -> bool:
    return {name: event.get(name) for name in fields} == fields
