"""The responses of the admin view: JSON and lines of JSON."""

import asyncio
from typing import Any

import msgspec

from wshub_core.admin.traffic import Traffic
from wshub_core.transports.asgi_messages import Receive, Send, send_response
from wshub_core.values.http import Response

_KEEPALIVE_SECONDS = 15.0
"""Seconds without a frame after which an empty line is sent, so that proxies keep a stream open."""


async def send_json(send: Send, value: Any, headers: dict[str, str]) -> None:
    """Send a value as JSON."""
    response = Response(200, msgspec.json.encode(value), headers, "application/json")
    await send_response(send, "http", response)


async def stream_traffic(
    traffic: Traffic, receive: Receive, send: Send, headers: dict[str, str]
) -> None:
    """Send the frames of a trace as lines of JSON, until the client has gone or the trace ends."""
    writing = asyncio.create_task(_write(traffic, send, headers))
    reading = asyncio.create_task(_wait_gone(receive))
    ending = asyncio.create_task(traffic.wait_ended())
    tasks = {writing, reading, ending}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await send({"type": "http.response.body"})


async def _write(traffic: Traffic, send: Send, headers: dict[str, str]) -> None:
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    pairs.append((b"content-type", b"application/x-ndjson"))
    await send({"type": "http.response.start", "status": 200, "headers": pairs})
    # The beginning shows the client that the trace runs.
    await send({"type": "http.response.body", "body": b"\n", "more_body": True})
    while True:
        frames = await traffic.read(_KEEPALIVE_SECONDS)
        lines = b"".join(msgspec.json.encode(frame) + b"\n" for frame in frames) or b"\n"
        await send({"type": "http.response.body", "body": lines, "more_body": True})


async def _wait_gone(receive: Receive) -> None:
    while (await receive())["type"] == "http.request":
        pass
