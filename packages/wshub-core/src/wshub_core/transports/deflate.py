"""The extension permessage-deflate (RFC 7692): its negotiation, and the compressed frames."""

from collections.abc import Callable, Sequence

from websockets.exceptions import NegotiationError
from websockets.extensions import Extension, ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.typing import ExtensionName, ExtensionParameter

from wshub_core.protocol.deflate import WINDOW_BITS
from wshub_core.protocol.prepared import PreparedMessage, PreparedPage
from wshub_core.values.compression import Compression

_NAME = ExtensionName("permessage-deflate")

_NO_CONTEXT_TAKEOVER: list[ExtensionParameter] = [
    ("server_no_context_takeover", None),
    ("client_no_context_takeover", None),
]

_ACCEPTED_VALUES: dict[str, set[str | None]] = {
    "server_no_context_takeover": {None},
    "client_no_context_takeover": {None},
    # All connections share the compressed frames, so their window is the same for all.
    "server_max_window_bits": {str(bits) for bits in range(WINDOW_BITS, 16)},
    # A smaller window of the client makes no difference: messages of any window are decompressed.
    "client_max_window_bits": {None, *(str(bits) for bits in range(8, 16))},
}
"""The parameters of offers, with the values that can be accepted (RFC 7692 section 7.1)."""


class CompressedFrame(Frame):
    """The first frame of a compressed message."""


class _MessageMarks(Extension):
    """The extension for the parser of `websockets`: it marks compressed messages.

    The extension of `websockets` decompresses each frame in the parser, and keeps the state of zlib
    until the end of the message. This one has no state, so all connections share it.
    """

    name = _NAME

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        # The parser refuses the bit RSV1, and thus every frame that keeps it here. The bit stands
        # only at the first frame of a message (RFC 7692 section 6).
        if frame.rsv1 and frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            return CompressedFrame(
                frame.opcode, frame.data, frame.fin, rsv2=frame.rsv2, rsv3=frame.rsv3
            )
        return frame

    def encode(self, frame: Frame) -> Frame:
        # Control frames only, which are never compressed.
        return frame


class Deflate(ServerExtensionFactory):
    """The compression of one server; it negotiates the extension for `websockets`.

    Args:
        compression: The settings.
        count_saved_bytes: Called for each delivery with the bytes that were saved.

    Attributes:
        extensions: The extensions of a connection with compression, for the parser.
    """

    name = _NAME

    def __init__(
        self, compression: Compression, count_saved_bytes: Callable[[int], object]
    ) -> None:
        self.extensions: list[Extension] = [_MessageMarks()]
        self._min_bytes = compression.min_bytes
        self._count_saved_bytes = count_saved_bytes
        # Argument and result of the last call of `compress`, and the bytes that it has saved.
        self._messages: Sequence[PreparedMessage] = ()
        self._compressed: Sequence[PreparedMessage] = ()
        self._saved_bytes = 0

    def process_request_params(
        self, params: Sequence[ExtensionParameter], accepted_extensions: Sequence[Extension]
    ) -> tuple[list[ExtensionParameter], Extension]:
        """Accept or decline an offer (RFC 7692 section 7.1).

        Raises:
            NegotiationError: The offer is declined.
        """
        names = [name for name, _ in params]
        if (
            accepted_extensions
            or len(set(names)) < len(names)
            or not all(value in _ACCEPTED_VALUES.get(name, ()) for name, value in params)
        ):
            raise NegotiationError("the offer cannot be accepted")
        answer = _NO_CONTEXT_TAKEOVER
        if "server_max_window_bits" in names:
            answer = [*answer, ("server_max_window_bits", str(WINDOW_BITS))]
        return answer, self.extensions[0]

    def compress(self, messages: Sequence[PreparedMessage]) -> Sequence[PreparedMessage]:
        """Return a page with the frames of messages for connections with compression.

        The frame of each message is compressed once, for all connections together. The result of
        the last call is kept; see `ServerSockets.join_frames`.
        """
        if messages is not self._messages and messages != self._messages:
            self._messages = messages
            page = PreparedPage([message.compressed_frame(self._min_bytes) for message in messages])
            self._compressed = (page,)
            self._saved_bytes = sum(message.size for message in messages) - page.size
        self._count_saved_bytes(self._saved_bytes)
        return self._compressed
