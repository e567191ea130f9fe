"""Fixtures: a hub that serves on a real socket."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from run_limits import pytest_exception_interact as pytest_exception_interact
from support import Serve, Served
from support import fresh_logs as fresh_logs

from wshub_core import Hub, HubConfig


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every async test on the asyncio loop and on uvloop, which the command line prefers."""
    factories = {"asyncio": asyncio.new_event_loop}
    with contextlib.suppress(ImportError):
        import uvloop

        factories["uvloop"] = uvloop.new_event_loop
    return {name: partial(_new_event_loop, factory) for name, factory in factories.items()}


def _new_event_loop(factory: Callable[[], asyncio.AbstractEventLoop]) -> asyncio.AbstractEventLoop:
    """A loop that logs nothing about slow callbacks: what a test finds in the log is not timed."""
    loop = factory()
    loop.slow_callback_duration = math.inf
    return loop


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve a hub with the given settings; check that no connection and no task is left over."""
    async with AsyncExitStack() as stack:
        hubs = []

        async def serve(
            process_request: Any = None, http_app: Any = None, **settings: Any
        ) -> Served:
            hub = await stack.enter_async_context(Hub(HubConfig(**settings)))
            hubs.append(hub)
            server = await stack.enter_async_context(
                hub.serve("127.0.0.1", 0, process_request=process_request, http_app=http_app)
            )
            return Served(hub, server, stack)

        yield serve
    for hub in hubs:
        assert hub.connections == ()
        assert hub.channels == ()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
async def served(serve: Serve) -> Served:
    """A hub with the default settings, served."""
    return await serve()
