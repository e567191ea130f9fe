"""Real ASGI servers on the event loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import hypercorn.asyncio
import uvicorn

ASGIServer = Callable[[Any], AbstractAsyncContextManager[int]]
"""A context manager that serves an application and yields the port."""


@asynccontextmanager
async def uvicorn_server(app: Any) -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="on"))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def hypercorn_server(app: Any) -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]
    config = hypercorn.Config()
    # The server closes the descriptor, so the socket must give it up.
    config.bind = [f"fd://{listening.detach()}"]
    config.errorlog = None
    config.graceful_timeout = 1
    stop = asyncio.Event()

    async def wait_for_stop() -> None:
        await stop.wait()

    serving = asyncio.create_task(
        hypercorn.asyncio.serve(app, config, shutdown_trigger=wait_for_stop)
    )
    await asyncio.sleep(0.01)
    try:
        yield port
    finally:
        stop.set()
        await serving


ASGI_SERVERS: dict[str, ASGIServer] = {"uvicorn": uvicorn_server, "hypercorn": hypercorn_server}
