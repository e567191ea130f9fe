"""Serve an ASGI application with uvicorn, beside the commands."""

import asyncio
import socket
from typing import Any

import uvicorn
from control import Server, serve_commands


async def serve_application(
    application: Any, server: Server, compression: bool, *distributions: str
) -> None:
    config = uvicorn.Config(
        application,
        lifespan="off",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=compression,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=config.backlog) as listener:
        edge = uvicorn.Server(config)
        serving = asyncio.create_task(edge.serve(sockets=[listener]))
        await serve_commands(listener.getsockname()[1], server, "uvicorn", *distributions)
        edge.should_exit = edge.force_exit = True
        await serving
