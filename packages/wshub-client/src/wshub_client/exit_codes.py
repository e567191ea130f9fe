"""Exit codes of processes that have ended, from the channel list of a hub's server.

The live page serves this list at ``/channels``.
"""

import asyncio
import contextlib
import threading
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from wshub_client.addresses import is_loopback_url

T = TypeVar("T")

_TIMEOUT_SECONDS = 5.0

_MOST_BYTES = 4_194_304


class _Channel(msgspec.Struct, rename="camel"):
    channel: str
    status: str | None = None
    exit_code: int | None = None


class _Channels(msgspec.Struct):
    channels: list[_Channel]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A handler that follows no redirects, because they could lead the token to a stranger."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


async def fetch_exit_codes(url: str, token: str | None) -> dict[str, int]:
    """Ask a hub's server for the exit codes of the processes that have ended.

    Args:
        url: The address of the hub.
        token: The token of the client.

    Returns:
        The exit codes by channel; an empty dictionary if the server has no such list.
    """
    try:
        listed = await _run_in_thread(lambda: _fetch(url, token))
    except (OSError, HTTPException, ValueError, msgspec.MsgspecError):
        return {}
    return {
        each.channel: each.exit_code
        for each in listed
        if each.status == "exited" and each.exit_code is not None
    }


def _fetch(url: str, token: str | None) -> list[_Channel]:
    hub = urlsplit(url)
    host = hub.netloc.rpartition("@")[2]
    address = f"{'https' if hub.scheme == 'wss' else 'http'}://{host}/channels"
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if is_loopback_url(url):
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    request = urllib.request.Request(address, headers=headers)
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
        return msgspec.json.decode(response.read(_MOST_BYTES), type=_Channels).channels


async def _run_in_thread(work: Callable[[], T]) -> T:
    """Run a blocking function in a daemon thread, so that it does not delay the program's end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def set_outcome(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(set_outcome, result, error)

    threading.Thread(target=run, daemon=True).start()
    return await future
