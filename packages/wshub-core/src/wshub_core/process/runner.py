"""The process runner: streams what a command prints into a hub, as it comes."""

import asyncio
import codecs
import contextlib
import os
import re
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import islice
from typing import NamedTuple, Protocol, cast

from wshub_core.values.channels import validate_process_id
from wshub_core.values.errors import (
    HubClosedError,
    MessageTooLargeError,
    ProcessStartError,
    WSHubError,
)

_LONGEST_REST = 65_536
"""How many characters without a line end are kept before they are sent as a line."""

_LINE_END = re.compile(r"(\r\n|\n|\r)")

_PAUSE_SECONDS = 0.5
"""How long a line without an end is held back, in which its end may come."""

_LINES_PER_TURN = 100
"""How many lines are published before others get a turn on the event loop: about 0.5 ms of work."""

_CHUNKS_AHEAD = 4
"""How many reads of a pipe may wait to be published before it is read no more."""

_TERMINATE_SECONDS = 5.0
"""How long a process may take to end after SIGTERM, before SIGKILL."""

_MOST_LATE_BYTES = 2_097_152
"""How many bytes are still read after the exit while the hub is behind: what two pipes can hold."""

_DRAIN_SECONDS = 1.0
"""How long output is still read after the exit, in case a child of the process keeps the pipe."""


class ProcessPublisher(Protocol):
    """What the runner needs of a hub."""

    def send_process_output(self, process_id: str, line: str, *, overwrites: bool = False) -> None:
        """Publish one line; raises `MessageTooLargeError` for one that is too long."""

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        """Publish a status."""

    async def drain(self) -> None:
        """Wait until more can be published."""

    def add_shutdown_hook(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Have a function awaited when the hub begins to close."""

    def remove_shutdown_hook(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Take that back."""


async def run_process(
    hub: ProcessPublisher,
    process_id: str,
    program: str,
    *args: str,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    r"""Run a command and publish what it prints to the channel ``process:<process_id>``.

    First comes the status ``running``, then each line of stdout and stderr as it comes, last the
    status ``exited`` with the exit code. A line ends with ``\n``, ``\r\n`` or ``\r`` and is sent
    without it, as soon as its end has come. A line that follows a lone ``\r`` overwrites the line
    before it, as a progress display means it. A line whose end has not come after half a second of
    silence, such as a prompt, is sent as it is, and overwritten by the whole line. A last line
    without an end is sent too. A line that is too long for a message is sent in pieces. Bytes that
    are not UTF-8 become U+FFFD. The command gets no input. It runs in a process group of its own,
    which needs a POSIX system.

    When the command exits but a child of it keeps its output open, reading goes on for at most one
    second, or for as long as the hub is behind with what was printed before. When this call is
    cancelled or the hub is closed, the command and the children in its process group get SIGTERM,
    and SIGKILL after five seconds; the status is then sent all the same.

    Args:
        hub: Where to publish.
        process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
        program: The program, found on ``PATH`` unless it has a slash.
        *args: Its arguments.
        cwd: The directory to run it in; this process's own if None.
        env: Its whole environment; this process's own if None.

    Returns:
        The exit code; negative for the number of the signal that ended it.

    Raises:
        InvalidProcessIDError: The process id is not allowed.
        ProcessStartError: The command cannot be started; nothing was published.
        HubClosedError: The hub was closed; the command has been ended.
        WSHubError: Publishing failed; the command has been ended.
    """
    validate_process_id(process_id)
    if any("\0" in word for word in (program, *args)):
        raise ProcessStartError(f"cannot start {program!r}: an argument holds a NUL character")
    try:
        transport, output = await asyncio.get_running_loop().subprocess_exec(
            _Output,
            program,
            *args,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            # A group of its own, so that its children can be ended with it, and so that Ctrl-C in
            # the terminal reaches it only through us.
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        # Names the directory if that is what is missing.
        is_directory_missing = cwd is not None and not os.path.isdir(cwd)  # noqa: ASYNC240
        missing = str(cwd) if is_directory_missing else program
        raise ProcessStartError(f"cannot start {program!r}: {missing!r} not found") from exc
    except OSError as exc:
        raise ProcessStartError(f"cannot start {program!r}: {exc.strerror}") from exc
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    is_hub_closing = is_ending = False
    ended = asyncio.Event()

    async def end() -> None:
        nonlocal is_hub_closing, is_ending
        # A second cancellation would cut short the time that the process has to end.
        if not is_ending:
            is_hub_closing = is_ending = True
            task.cancel()
        await ended.wait()

    hub.add_shutdown_hook(end)
    try:
        hub.send_process_status(process_id, "running")
        await _publish_lines(hub, process_id, output)
        exit_code = await output.exit_code
        hub.send_process_status(process_id, "exited", exit_code)
    except BaseException:
        is_ending = True
        exit_code = await _terminate(transport.get_pid(), output)
        # After a failed publish there may be nobody to tell.
        with contextlib.suppress(WSHubError):
            hub.send_process_status(process_id, "exited", exit_code)
        if is_hub_closing and task.uncancel() == 0:
            raise HubClosedError from None
        raise
    finally:
        with contextlib.suppress(PermissionError):
            transport.close()
        hub.remove_shutdown_hook(end)
        ended.set()
    return exit_code


class _Output(asyncio.SubprocessProtocol):
    """What a process prints on both pipes, in the order in which it is read, until it is over."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.exit_code: asyncio.Future[int] = self._loop.create_future()
        self._transport: asyncio.SubprocessTransport
        self._chunks: deque[tuple[int, bytes]] = deque()
        self._open_pipes = {1, 2}
        self._is_drained = False
        self._late_bytes = 0
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._chunks.append((fd, data))
        if self.exit_code.done():
            self._late_bytes += len(data)
        if len(self._chunks) >= _CHUNKS_AHEAD:
            self._pipe(fd).pause_reading()
        self._changed.set()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open_pipes.discard(fd)
        self._changed.set()

    def process_exited(self) -> None:
        exit_code = self._transport.get_returncode()
        assert exit_code is not None, "the process has exited"
        self.exit_code.set_result(exit_code)
        self._loop.call_later(_DRAIN_SECONDS, self._end_drain)
        self._changed.set()

    def _end_drain(self) -> None:
        if self._chunks and self._late_bytes <= _MOST_LATE_BYTES:
            # The hub is behind, and what the process has printed may still be in the pipes.
            self._loop.call_later(_DRAIN_SECONDS, self._end_drain)
            return
        self._is_drained = True
        for fd in self._open_pipes:
            self._pipe(fd).pause_reading()
        self._changed.set()

    async def chunks(self) -> AsyncIterator[tuple[int, bytes] | None]:
        """Yield each read, the pipe (1 or 2) and its bytes, and None after each longer pause."""
        while True:
            while self._chunks:
                yield self._chunks.popleft()
                if not self._is_drained:
                    for fd in self._open_pipes:
                        self._pipe(fd).resume_reading()
            if self.exit_code.done() and (self._is_drained or not self._open_pipes):
                return
            self._changed.clear()
            try:
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                yield None
                await self._changed.wait()

    def _pipe(self, fd: int) -> asyncio.ReadTransport:
        return cast("asyncio.ReadTransport", self._transport.get_pipe_transport(fd))


async def _publish_lines(hub: ProcessPublisher, process_id: str, output: _Output) -> None:
    """Publish each line as soon as it is complete, and a part of one when nothing follows it."""
    cursor = _Cursor()
    pipes = {1: _Lines(cursor), 2: _Lines(cursor)}
    async for chunk in output.chunks():
        if chunk is None:
            lines = [line for pipe in pipes.values() for line in pipe.flush()]
        else:
            lines = pipes[chunk[0]].feed(chunk[1])
        rest = iter(lines)
        while turn := list(islice(rest, _LINES_PER_TURN)):
            for line in turn:
                _publish_in_pieces(hub, process_id, line)
            await hub.drain()
    for pipe in pipes.values():
        for line in pipe.end():
            _publish_in_pieces(hub, process_id, line)


class _Line(NamedTuple):
    """A line of output.

    Attributes:
        text: The line without its end.
        overwrites: Whether it takes the place of the line before it.
    """

    text: str
    overwrites: bool


class _Cursor:
    """Where a terminal would write next, for both pipes of a process.

    Attributes:
        overwriters: The pipes whose next line takes the place of the last one.
    """

    def __init__(self) -> None:
        self.overwriters: tuple[object, ...] = ()


class _Lines:
    """Cuts one pipe's bytes into lines.

    Args:
        cursor: Is shared by the pipes of one process.
    """

    def __init__(self, cursor: _Cursor) -> None:
        # It holds back a character that is cut in two between reads.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._cursor = cursor
        self._rest: list[str] = []
        self._rest_length = 0
        self._shown = ""
        self._has_returned = False

    def feed(self, data: bytes) -> list[_Line]:
        """Return the lines that these bytes complete."""
        return self._cut(self._decoder.decode(data))

    def flush(self) -> list[_Line]:
        """Return a line that has no end yet, unless it was returned before."""
        rest = "".join(self._rest)
        self._rest = [rest]
        if not rest or rest == self._shown:
            return []
        line = self._advance(rest, (self,))
        self._shown = rest
        return [line]

    def end(self) -> list[_Line]:
        """Return what was held back: a last line without an end, if there is one."""
        return self._cut(self._decoder.decode(b"", final=True)) + self.flush()

    def _cut(self, text: str) -> list[_Line]:
        if self._has_returned and text:
            if text.startswith("\n"):
                # The line was returned at its carriage return, which did not stand alone.
                text = text[1:]
                self._cursor.overwriters = ()
            self._has_returned = False
        # A line that comes in small pieces is not searched again for each of them.
        first, *pieces = _LINE_END.split(text)
        self._rest.append(first)
        self._rest_length += len(first)
        lines: list[_Line] = []
        # Ends and texts take turns.
        for end, piece in zip(pieces[::2], pieces[1::2], strict=True):
            lines += self._complete("".join(self._rest), end)
            self._rest = [piece]
            self._rest_length = len(piece)
        if pieces:
            self._has_returned = pieces[-2] == "\r" and not self._rest_length
        if self._rest_length >= _LONGEST_REST:
            # A line that does not end must not fill the memory.
            rest = "".join(self._rest)
            while len(rest) >= _LONGEST_REST:
                lines += self._complete(rest[:_LONGEST_REST], "\n")
                rest = rest[_LONGEST_REST:]
            self._rest = [rest]
            self._rest_length = len(rest)
        return lines

    def _complete(self, text: str, end: str) -> list[_Line]:
        overwriters = _BOTH_PIPES if end == "\r" else ()
        if text and text == self._shown and self in self._cursor.overwriters:
            # It was returned before its end came, and nothing has been written since.
            self._cursor.overwriters = overwriters
            lines = []
        else:
            lines = [self._advance(text, overwriters)]
        self._shown = ""
        return lines

    def _advance(self, text: str, overwriters: "tuple[object, ...]") -> _Line:
        before, self._cursor.overwriters = self._cursor.overwriters, overwriters
        return _Line(text, before is _BOTH_PIPES or self in before)


_BOTH_PIPES: tuple[object, ...] = ("both",)
"""Overwriters after a carriage return."""


def _publish_in_pieces(hub: ProcessPublisher, process_id: str, line: _Line) -> None:
    """Publish a line, halved as often as it takes to fit into messages."""
    text = line.text
    try:
        hub.send_process_output(process_id, text, overwrites=line.overwrites)
    except MessageTooLargeError:
        if len(text) < 2:
            raise
        middle = len(text) // 2
        _publish_in_pieces(hub, process_id, _Line(text[:middle], line.overwrites))
        _publish_in_pieces(hub, process_id, _Line(text[middle:], False))


async def _terminate(pid: int, output: _Output) -> int:
    """End a process and the children in its group; return the exit code."""
    _signal_group(pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(asyncio.shield(output.exit_code), _TERMINATE_SECONDS)
    except TimeoutError:
        pass
    finally:
        # Also for children that have outlived the process, and for a second cancellation.
        _signal_group(pid, signal.SIGKILL)
    return await output.exit_code


def _signal_group(pid: int, signal_number: signal.Signals) -> None:
    # It may be gone, or have become another user's.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal_number)
