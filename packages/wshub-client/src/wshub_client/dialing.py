"""One dial: from the address to an open WebSocket, or to an error that says what to do."""

import logging
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
)
from websockets.proxy import get_proxy, parse_proxy
from websockets.typing import Origin
from websockets.uri import parse_uri

from wshub_client.connecting import connect_tcp
from wshub_client.errors import DialError, RefusedError
from wshub_client.verdicts import is_final_status, read_retry_after
from wshub_core import InvalidConfigError
from wshub_core.logs import get_logger
from wshub_core.values.origins import is_loopback_host

Proxy: TypeAlias = str | Literal[True] | None
"""The proxy of a client: its address, True for that of the environment, None for none."""

_MOST_FRAMES_READ_AHEAD = 2
"""How many frames may wait to be read; each may be as large as ``max_message_bytes``."""

# At debug level `websockets` writes headers to its log, tokens included. Whoever wants that sets
# the level of this logger, and not by accident that of the root.
_wire_logger = get_logger("wshub.client.wire")
_wire_logger.setLevel(logging.WARNING)


def check_url(url: str) -> None:
    """Check the address of a hub.

    Raises:
        InvalidConfigError: It is no ``ws://`` or ``wss://`` address with a host.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("ws", "wss") and not parts.fragment
        parse_uri(url)
        (parts.hostname or "").encode("idna")
    except (ValueError, InvalidURI):
        is_valid = False
    if not is_valid:
        raise InvalidConfigError(
            f"{describe(url)!r} is no address of a hub: use ws://host:port/path, or wss://"
        )


def check_proxy(proxy: Proxy) -> None:
    """Check the address of a proxy.

    Raises:
        InvalidConfigError: It cannot be one; the text does not show a password.
    """
    if isinstance(proxy, str):
        try:
            parse_proxy(proxy)
        except (InvalidProxy, ValueError):
            raise InvalidConfigError(
                f"{describe(proxy)!r} is no address of a proxy: use http://host:port, https:// or "
                "socks5://"
            ) from None


def describe(url: str) -> str:
    """Return an address without what may be secret in it: user, password and query."""
    scheme, slashes, rest = url.partition("//")
    # Whatever is before an @ may be a password, wherever it stands.
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}".split("?", 1)[0]


def check_header(name: str, value: str) -> None:
    """Check what is to become a header of the handshake.

    Raises:
        InvalidConfigError: It cannot be one (RFC 9110 section 5.5); the text does not show it.
    """
    if not value.isascii() or not value.isprintable():
        raise InvalidConfigError(
            f"the header {name} must be printable ASCII; is there a line end in it?"
        )


class HubSocket(ClientConnection):
    """A WebSocket that tells when bytes come, also if a message takes long to be complete.

    Attributes:
        on_data: Called whenever bytes have come.
    """

    on_data: Callable[[], None] | None = None

    def data_received(self, data: bytes) -> None:
        """Take bytes of the connection."""
        if self.on_data is not None:
            self.on_data()
        super().data_received(data)


class _Connect(connect):
    """Dials once and follows no redirects, which could lead a token to anybody."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def dial(
    url: str,
    headers: Mapping[str, str],
    *,
    origin: str | None,
    tls: ssl.SSLContext | None,
    proxy: Proxy,
    max_message_bytes: int,
    close_timeout: float,
) -> HubSocket:
    """Open a WebSocket.

    Raises:
        RefusedError: The server has refused, and would refuse again.
        DialError: The dial has failed in another way.
    """
    # The library tells "none" from "the usual one".
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    try:
        proxy = _choose_proxy(url, proxy)
        if proxy is None:
            target = parse_uri(url)
            options["sock"] = await connect_tcp(target.host, target.port)
        connection = await _Connect(
            url,
            additional_headers=headers,
            origin=None if origin is None else Origin(origin),
            compression=None,
            proxy=proxy,
            max_size=max_message_bytes,
            max_queue=_MOST_FRAMES_READ_AHEAD,
            close_timeout=close_timeout,
            # The timeout and the heartbeat are the client's own.
            open_timeout=None,
            ping_interval=None,
            logger=_wire_logger,
            create_connection=HubSocket,
            **options,
        )
    except InvalidStatus as error:
        raise _explain_status(url, error) from error
    except (InvalidHandshake, ConnectionClosed, AssertionError) as error:
        # websockets 17.4 fails an assertion when a server answers before it was asked.
        why = str(error) or "it answered before it was asked"
        raise DialError(f"{describe(url)} is no WebSocket server: {why}") from error
    except InvalidProxy as error:
        # The library's text shows the whole address, which may have a password in it.
        text = f"cannot connect to {describe(url)}: proxy {describe(error.proxy)}: {error.msg}"
        raise DialError(text) from None
    except ssl.SSLError as error:
        raise DialError(f"cannot connect to {describe(url)}: TLS: {error}") from error
    except Exception as error:
        # Whatever the library raises, no server can end the client by that.
        why = str(error) or type(error).__name__
        raise DialError(f"cannot connect to {describe(url)}: {why}") from error
    assert isinstance(connection, HubSocket), "it was asked for"
    return connection


def _choose_proxy(url: str, proxy: Proxy) -> str | None:
    """Return the proxy for an address; that of the environment is never one for this machine."""
    if proxy is not True:
        return proxy
    if is_loopback_host(urlsplit(url).netloc.rpartition("@")[2]):
        return None
    found = get_proxy(parse_uri(url))
    if found is not None:
        try:
            parse_proxy(found)
        except ValueError:
            raise InvalidProxy(found, "its port is no number") from None
    return found


def _explain_status(url: str, error: InvalidStatus) -> DialError | RefusedError:
    response = error.response
    body = bytes(response.body or b"")[:200].decode(errors="replace").strip()
    text = body.splitlines()[0] if body else response.reason_phrase
    if 300 <= response.status_code < 400:
        location = describe(_first(response.headers, "Location") or "nowhere")
        text = f"the server redirects to {location}; use that address if you trust it"
    if is_final_status(response.status_code, response.headers):
        return RefusedError(response.status_code, text)
    return DialError(
        f"{describe(url)} answered {response.status_code} {text}".rstrip(),
        read_retry_after(_first(response.headers, "Retry-After") or ""),
        response.status_code,
    )


def _first(headers: Headers, name: str) -> str | None:
    return next(iter(headers.get_all(name)), None)
