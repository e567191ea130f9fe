"""The head of a plain HTTP request: its limits, and rules that `h11` leaves to its caller."""

import re

import h11

_MAX_BYTES = 65_536
"""Largest request line with headers, in bytes."""

_MAX_HEADERS = 128
"""Largest number of lines of headers, as in `websockets`. `h11` parses a head in one step, which
takes some microseconds for each header."""

_END = re.compile(rb"\n\r?\n")
"""The end of a head, with the line ends that `h11` accepts."""

_NOT_IMPLEMENTED = 501


def find_head_end(data: bytes | bytearray) -> int | None:
    """Return the index behind the head of a request; None if its end has not arrived.

    Args:
        data: The bytes of the client from the first line of the request on.

    Raises:
        h11.RemoteProtocolError: The head is too large.
    """
    end = _END.search(data)
    size = len(data) if end is None else end.end()
    # The request line and the empty line are no headers.
    if size > _MAX_BYTES or data.count(b"\n", 0, size) > _MAX_HEADERS + 2:
        raise h11.RemoteProtocolError("the headers are too large", error_status_hint=431)
    return None if end is None else size


def is_chunked(request: h11.Request) -> bool:
    """Return whether the body of a request comes in chunks.

    Raises:
        h11.RemoteProtocolError: The length of the body is ambiguous, or the method is CONNECT.
    """
    if request.method == b"CONNECT":
        # Its target is no path, and a response of status 200 would begin a tunnel.
        raise h11.RemoteProtocolError("this is no proxy", error_status_hint=_NOT_IMPLEMENTED)
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" not in names:
        return False
    # A proxy that goes by the other length sees another request behind this one (RFC 9112 section
    # 6.1, "request smuggling").
    if b"content-length" in names:
        raise h11.RemoteProtocolError("Transfer-Encoding excludes Content-Length")
    if request.http_version == b"1.0":
        raise h11.RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding")
    return True
