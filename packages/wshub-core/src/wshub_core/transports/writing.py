"""Writing to sockets: frames of messages, and the bytes that the `websockets` protocol prepares."""

import asyncio

from websockets.protocol import SEND_EOF
from websockets.server import ServerProtocol


def write(transport: asyncio.Transport, data: bytes) -> None:
    """Write bytes to a socket; ignore a socket that is being closed."""
    # asyncio would log a warning for writes to a socket that the peer has reset.
    if not transport.is_closing():
        transport.write(data)


def write_prepared(transport: asyncio.Transport, protocol: ServerProtocol) -> None:
    """Write the responses, pongs and close frames that the protocol has prepared."""
    data_to_send = protocol.data_to_send()
    if data_to_send:
        # One write for all: a flood of pings causes as many pongs.
        write(transport, b"".join(data_to_send))
        # An empty item stands for the end of the stream, and is always the last one.
        if data_to_send[-1] == SEND_EOF:
            end_writing(transport)


def end_writing(transport: asyncio.Transport) -> None:
    """Send the end of the stream, or close a TLS connection, which has no half-closed state."""
    if transport.can_write_eof():
        try:
            transport.write_eof()
        except OSError:  # the peer has reset the connection
            transport.abort()
    else:
        transport.close()
