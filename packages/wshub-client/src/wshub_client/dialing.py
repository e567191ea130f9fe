"""One dial: the way from an address to an open WebSocket, or to an error that names the cause."""

import logging
import ssl
from collections.abc import Mapping
from typing import Any

from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
)
from websockets.proxy import get_proxy, parse_proxy
from websockets.typing import Origin
from websockets.uri import parse_uri

from wshub_client.addresses import Proxy, is_loopback_url, redact_url
from wshub_client.close_policy import is_terminal_status, parse_retry_after
from wshub_client.errors import DialError, RefusedError
from wshub_client.happy_eyeballs import connect_tcp
from wshub_client.hub_socket import HubSocket
from wshub_client.settings import DialSettings
from wshub_core.logs import get_logger

# At level DEBUG, `websockets` logs all headers, tokens included. This logger has a level of its
# own, so that a root logger at DEBUG does not turn that on by accident.
_wire_logger = get_logger("wshub.client.wire")
_wire_logger.setLevel(logging.WARNING)


class _Connect(connect):
    """A dial that follows no redirects, because they could lead the token to a stranger."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def dial(settings: DialSettings, headers: Mapping[str, str]) -> HubSocket:
    """Open a WebSocket.

    Args:
        settings: The address of the hub, and the settings of the dial.
        headers: The headers of the handshake.

    Raises:
        RefusedError: The server has refused the handshake, and would refuse the next one.
        DialError: The dial has failed for another reason.
    """
    url = settings.url
    # In `websockets`, `ssl=None` means no TLS; an absent `ssl` means the default context.
    options: dict[str, Any] = {} if settings.ssl is None else {"ssl": settings.ssl}
    try:
        proxy = _choose_proxy(url, settings.proxy)
        if proxy is None:
            target = parse_uri(url)
            options["sock"] = await connect_tcp(target.host, target.port)
        connection = await _Connect(
            url,
            additional_headers=headers,
            origin=None if settings.origin is None else Origin(settings.origin),
            compression=None,
            proxy=proxy,
            max_size=settings.max_message_bytes,
            close_timeout=settings.close_timeout,
            # The client has an open timeout and a heartbeat of its own.
            open_timeout=None,
            ping_interval=None,
            logger=_wire_logger,
            create_connection=HubSocket,
            **options,
        )
    except InvalidStatus as error:
        raise _explain_status(url, error) from error
    except (InvalidHandshake, ConnectionClosed, AssertionError) as error:
        # websockets 17.4 fails an assertion when a server responds before it has a request.
        why = str(error) or "it answered before it was asked"
        raise DialError(f"{redact_url(url)} is no WebSocket server: {why}") from error
    except InvalidProxy as error:
        # The text of `websockets` shows the whole address, which may contain a password.
        text = f"cannot connect to {redact_url(url)}: proxy {redact_url(error.proxy)}: {error.msg}"
        raise DialError(text) from None
    except ssl.SSLError as error:
        raise DialError(f"cannot connect to {redact_url(url)}: TLS: {error}") from error
    except Exception as error:
        # The client tries again after every other exception, so that no response of a server can
        # end the client by an exception that is not expected here.
        why = str(error) or type(error).__name__
        raise DialError(f"cannot connect to {redact_url(url)}: {why}") from error
    assert isinstance(connection, HubSocket), "create_connection makes one"
    connection.forget_handshake()
    return connection


def _choose_proxy(url: str, proxy: Proxy) -> str | None:
    """Return the proxy for an address; a proxy of the environment is not used for this machine."""
    if proxy is not True:
        return proxy
    if is_loopback_url(url):
        return None
    found = get_proxy(parse_uri(url))
    if found is not None:
        try:
            parse_proxy(found)
        except ValueError:
            raise InvalidProxy(found, "its port is no number") from None
    return found


def _explain_status(url: str, error: InvalidStatus) -> DialError | RefusedError:
    """Return the error for a response that does not open the WebSocket."""
    response = error.response
    body = bytes(response.body or b"")[:200].decode(errors="replace").strip()
    text = body.splitlines()[0] if body else response.reason_phrase
    if 300 <= response.status_code < 400:
        location = redact_url(_first(response.headers, "Location") or "nowhere")
        text = f"the server redirects to {location}; use that address if you trust it"
    if is_terminal_status(response.status_code, response.headers):
        return RefusedError(response.status_code, text)
    return DialError(
        f"{redact_url(url)} answered {response.status_code} {text}".rstrip(),
        parse_retry_after(_first(response.headers, "Retry-After") or ""),
        response.status_code,
    )


def _first(headers: Headers, name: str) -> str | None:
    # A server may send a header twice, and `headers[name]` raises then.
    return next(iter(headers.get_all(name)), None)
