"""The native transport of a client that has negotiated permessage-deflate (RFC 7692)."""

import asyncio
import socket
import zlib
from collections.abc import Sequence

from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from wshub_core.protocol.deflate import inflate
from wshub_core.protocol.prepared import PreparedMessage
from wshub_core.transports.deflate import CompressedFrame, Deflate
from wshub_core.transports.native import NativeTransport
from wshub_core.transports.sockets import ServerSockets
from wshub_core.values.closing import CloseCode


class CompressedTransport(NativeTransport):
    """A WebSocket with compression: it shares compressed frames, and decompresses messages.

    A message is decompressed when it is complete, so an unfinished one takes no more memory than
    without compression.

    Args:
        deflate: The compression of the server.
        sockets: The sockets of the server.
        transport: asyncio's transport of the socket.
        plain_socket: The socket itself; None for TLS.
    """

    chunk_bytes = 256
    """A smaller chunk, because compressed bytes stand for up to 1,032 times as many: 264 KB."""

    __slots__ = ("_deflate", "_is_compressed")

    def __init__(
        self,
        deflate: Deflate,
        sockets: ServerSockets,
        transport: asyncio.Transport,
        plain_socket: socket.socket | None,
    ) -> None:
        super().__init__(sockets, transport, plain_socket)
        self._deflate = deflate
        # True between the first frame of a compressed message and its end.
        self._is_compressed = False

    def send(self, messages: Sequence[PreparedMessage]) -> int:
        """Write messages with one call; see `Transport.send`."""
        return super().send(self._deflate.compress(messages))

    @property
    def _protocol(self) -> ServerProtocol:
        if self._made_protocol is None:
            self._made_protocol = self._sockets.make_protocol(OPEN)
            self._made_protocol.extensions = self._deflate.extensions
            # `websockets` counts the bytes before they are decompressed. A message that cannot be
            # compressed becomes larger: by 13.5 % in the worst settings of zlib, and by 5 bytes for
            # each fragment.
            size = self._sockets.max_message_bytes
            self._made_protocol.max_message_size = size + size // 7 + 1_024
        return self._made_protocol

    def _receive_frame(self, frame: Frame) -> bool:
        self._is_compressed = self._is_compressed or isinstance(frame, CompressedFrame)
        return super()._receive_frame(frame)

    def _receive_message(self, payload: bytes | bytearray | memoryview, is_text: bool) -> bool:
        max_bytes = self._sockets.max_message_bytes
        if self._is_compressed:
            self._is_compressed = False
            assert not isinstance(payload, memoryview), "received payloads are never views"
            try:
                payload = inflate(payload, max_bytes)
            except zlib.error:
                return self._fail(CloseCode.INVALID_DATA, "invalid compressed data")
        if len(payload) > max_bytes:
            reason = f"message exceeds the limit of {max_bytes} bytes"
            return self._fail(CloseCode.MESSAGE_TOO_BIG, reason)
        return super()._receive_message(payload, is_text)
