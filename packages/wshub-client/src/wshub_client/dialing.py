"""One dial: from the address to an open WebSocket, or to an error that says what to do."""

import logging
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.typing import Origin
from websockets.uri import parse_uri

from wshub_client.errors import DialError, RefusedError
from wshub_client.verdicts import is_final_status, read_retry_after
from wshub_core import InvalidConfigError
from wshub_core.logs import get_logger

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
    max_message_bytes: int,
    close_timeout: float,
) -> ClientConnection:
    """Open a WebSocket.

    Raises:
        RefusedError: The server has refused, and would refuse again.
        DialError: The dial has failed in another way.
    """
    # The library tells "none" from "the usual one".
    options: dict[str, Any] = {} if tls is None else {"ssl": tls}
    try:
        return await _Connect(
            url,
            additional_headers=headers,
            origin=None if origin is None else Origin(origin),
            compression=None,
            max_size=max_message_bytes,
            close_timeout=close_timeout,
            # The timeout and the heartbeat are the client's own.
            open_timeout=None,
            ping_interval=None,
            logger=_wire_logger,
            **options,
        )
    except InvalidStatus as error:
        raise _explain_status(url, error) from error
    except InvalidHandshake as error:
        raise DialError(f"{describe(url)} is no WebSocket server: {error}") from error
    except ssl.SSLError as error:
        raise DialError(f"cannot connect to {describe(url)}: TLS: {error}") from error
    except (OSError, EOFError) as error:
        why = str(error) or type(error).__name__
        raise DialError(f"cannot connect to {describe(url)}: {why}") from error
    except (WebSocketException, ValueError, ImportError) as error:
        # Such as a proxy of the environment that nothing here can speak to.
        raise DialError(f"cannot connect to {describe(url)}: {error}") from error


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
    )


def _first(headers: Headers, name: str) -> str | None:
    return next(iter(headers.get_all(name)), None)
