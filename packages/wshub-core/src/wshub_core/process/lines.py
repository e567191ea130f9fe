"""The lines of a process's output, cut from the bytes of its two pipes."""

import codecs
import re
from typing import NamedTuple

_MAX_REST_LENGTH = 65_536
"""Number of characters without a line end that are kept before they become a line."""

_LINE_END = re.compile(r"(\r\n|\n|\r)")


class Line(NamedTuple):
    """A line of output.

    Attributes:
        text: The line without its end.
        overwrites: Whether the line replaces the line before it.
    """

    text: str
    overwrites: bool


class Cursor:
    """The position of a terminal's cursor, shared by both pipes of a process.

    Attributes:
        overwriters: The pipes whose next line replaces the last line.
    """

    def __init__(self) -> None:
        self.overwriters: tuple[object, ...] = ()


_BOTH_PIPES: tuple[object, ...] = ("both",)
"""The overwriters after a carriage return, which moves the cursor for both pipes."""


class Lines:
    """Cuts the bytes of one pipe into lines.

    Args:
        cursor: The cursor that the pipes of one process share.
    """

    def __init__(self, cursor: Cursor) -> None:
        # The decoder keeps a character that is cut in two between reads.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cursor = cursor
        # The text since the last line end, in the pieces in which it was read.
        self._rest: list[str] = []
        self._rest_length = 0
        # The incomplete line that `flush` has returned, or an empty text.
        self._shown = ""
        # Whether the text so far ends with a carriage return, which may be the first half of
        # ``\r\n``.
        self._ends_with_return = False

    def feed(self, data: bytes) -> list[Line]:
        """Return the lines that these bytes complete."""
        return self._cut(self._decoder.decode(data))

    def flush(self) -> list[Line]:
        """Return the line that has no end yet, unless it was returned before."""
        rest = "".join(self._rest)
        self._rest = [rest]
        if not rest or rest == self._shown:
            return []
        # The end of this line may still come; the whole line then overwrites the part.
        line = self._advance(rest, (self,))
        self._shown = rest
        return [line]

    def end(self) -> list[Line]:
        """Return the last line, if it has no end."""
        return self._cut(self._decoder.decode(b"", final=True)) + self.flush()

    def _cut(self, text: str) -> list[Line]:
        if self._ends_with_return and text:
            if text.startswith("\n"):
                # A read has cut ``\r\n``. The line was returned at the carriage return, as if it
                # were a lone one; the next line must not overwrite it.
                text = text[1:]
                self._cursor.overwriters = ()
            self._ends_with_return = False
        # Only the new text is searched: a line in one-byte reads would otherwise take quadratic
        # time.
        first, *pieces = _LINE_END.split(text)
        self._rest.append(first)
        self._rest_length += len(first)
        lines: list[Line] = []
        # The split alternates between line ends and texts.
        for end, piece in zip(pieces[::2], pieces[1::2], strict=True):
            lines += self._complete("".join(self._rest), end)
            self._rest = [piece]
            self._rest_length = len(piece)
        if pieces:
            self._ends_with_return = pieces[-2] == "\r" and not self._rest_length
        if self._rest_length >= _MAX_REST_LENGTH:
            # A line without an end must not fill the memory.
            rest = "".join(self._rest)
            while len(rest) >= _MAX_REST_LENGTH:
                lines += self._complete(rest[:_MAX_REST_LENGTH], "\n")
                rest = rest[_MAX_REST_LENGTH:]
            self._rest = [rest]
            self._rest_length = len(rest)
        return lines

    def _complete(self, text: str, end: str) -> list[Line]:
        overwriters = _BOTH_PIPES if end == "\r" else ()
        if text and text == self._shown and self in self._cursor.overwriters:
            # `flush` has returned this line already, and no other line came since.
            self._cursor.overwriters = overwriters
            lines = []
        else:
            lines = [self._advance(text, overwriters)]
        self._shown = ""
        return lines

    def _advance(self, text: str, overwriters: tuple[object, ...]) -> Line:
        before, self._cursor.overwriters = self._cursor.overwriters, overwriters
        return Line(text, before is _BOTH_PIPES or self in before)
