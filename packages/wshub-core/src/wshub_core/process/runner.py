"""The process runner: runs a command and publishes its output line by line."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Protocol

from wshub_core.process.lines import Cursor, Line, Lines
from wshub_core.process.output import Output
from wshub_core.values.channels import validate_process_id
from wshub_core.values.errors import (
    HubClosedError,
    MessageTooLargeError,
    ProcessStartError,
    WSHubError,
)

_LINES_PER_TURN = 100
"""Number of lines that are published before other tasks get a turn: about 0.5 ms of work."""

_TERMINATE_SECONDS = 5.0
"""Seconds between SIGTERM and SIGKILL."""


class ProcessPublisher(Protocol):
    """The parts of a hub, or of a publisher, that the runner uses."""

    def send_process_output(self, process_id: str, line: str, *, overwrites: bool = False) -> None:
        """Publish one line; raise `MessageTooLargeError` if it is too long."""

    def send_process_status(self, process_id: str, status: str, exit_code: int = 0) -> None:
        """Publish a status."""

    async def drain(self) -> None:
        """Wait until the hub or publisher can take more messages."""

    def add_shutdown_hook(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Add a function that is awaited when the hub begins to close."""

    def remove_shutdown_hook(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Remove a function that `add_shutdown_hook` has added."""


async def run_process(
    hub: ProcessPublisher,
    process_id: str,
    program: str,
    *args: str,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> int:
    r"""Run a command and publish its output to the channel ``process:<process_id>``.

    The status ``running`` comes first, then each line of stdout and stderr as soon as it is
    complete, and last the status ``exited`` with the exit code.

    A line ends with ``\n``, ``\r\n`` or ``\r`` and is sent without its end. A line that follows a
    lone ``\r`` overwrites the line before it, as progress displays intend. A line whose end does
    not come within half a second, such as a prompt, is sent as it is and later overwritten by the
    whole line. A last line without an end is sent too. A line that is too long for one message is
    sent in pieces. Bytes that are not UTF-8 become U+FFFD.

    The command gets no input. It runs in a process group of its own, which needs a POSIX system.

    If a child of the command keeps the output open after the exit, reading continues for at most
    one second, or for as long as the hub is behind. If this call is cancelled or the hub is closed,
    the process group gets SIGTERM, and SIGKILL after five seconds; the status is still sent.

    Args:
        hub: The hub to publish to.
        process_id: 1 to 128 characters of ``A-Za-z0-9_.-``.
        program: The program, found on ``PATH`` unless it contains a slash.
        *args: The arguments of the program.
        cwd: Working directory of the program; that of this process if None.
        env: Whole environment of the program; that of this process if None.

    Returns:
        The exit code; the negative number of the signal that ended the command.

    Raises:
        InvalidProcessIDError: The process id is not allowed.
        ProcessStartError: The command cannot be started; nothing was published.
        HubClosedError: The hub was closed; the command has been ended.
        WSHubError: Publishing failed; the command has been ended.
    """
    validate_process_id(process_id)
    transport, output = await _start(program, args, cwd, env)
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    is_hub_closing = is_ending = False
    ended = asyncio.Event()

    async def end() -> None:
        nonlocal is_hub_closing, is_ending
        # A cancellation during `_terminate` would shorten the time between SIGTERM and SIGKILL.
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
        # Publishing may be the reason for this end, so it may fail again.
        with contextlib.suppress(WSHubError):
            hub.send_process_status(process_id, "exited", exit_code)
        # If only the shutdown hook has cancelled this task, the caller gets the reason instead.
        if is_hub_closing and task.uncancel() == 0:
            raise HubClosedError from None
        raise
    finally:
        # `close` kills a process that still runs, which the system may forbid.
        with contextlib.suppress(PermissionError):
            transport.close()
        hub.remove_shutdown_hook(end)
        ended.set()
    return exit_code


async def _start(
    program: str,
    args: tuple[str, ...],
    cwd: str | os.PathLike[str] | None,
    env: Mapping[str, str] | None,
) -> tuple[asyncio.SubprocessTransport, Output]:
    if any("\0" in word for word in (program, *args)):
        raise ProcessStartError(f"cannot start {program!r}: an argument holds a NUL character")
    try:
        return await asyncio.get_running_loop().subprocess_exec(
            Output,
            program,
            *args,
            cwd=cwd,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            # A process group, so that children can be ended too, and so that Ctrl-C in the terminal
            # does not end the command before `_terminate`.
            start_new_session=True,
        )
    except FileNotFoundError as exc:
        # The same error stands for a missing program and for a missing directory.
        is_directory_missing = cwd is not None and not os.path.isdir(cwd)  # noqa: ASYNC240
        missing = str(cwd) if is_directory_missing else program
        raise ProcessStartError(f"cannot start {program!r}: {missing!r} not found") from exc
    except OSError as exc:
        raise ProcessStartError(f"cannot start {program!r}: {exc.strerror}") from exc


async def _publish_lines(hub: ProcessPublisher, process_id: str, output: Output) -> None:
    """Publish each line when it is complete, and an incomplete line after a pause."""
    cursor = Cursor()
    pipes = {1: Lines(cursor), 2: Lines(cursor)}
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


def _publish_in_pieces(hub: ProcessPublisher, process_id: str, line: Line) -> None:
    """Publish a line, and halve it until each piece fits into a message."""
    text = line.text
    try:
        hub.send_process_output(process_id, text, overwrites=line.overwrites)
    except MessageTooLargeError:
        if len(text) < 2:
            raise
        middle = len(text) // 2
        _publish_in_pieces(hub, process_id, Line(text[:middle], line.overwrites))
        _publish_in_pieces(hub, process_id, Line(text[middle:], False))


async def _terminate(pid: int, output: Output) -> int:
    """End a process and the children in its group; return the exit code."""
    _signal_group(pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(asyncio.shield(output.exit_code), _TERMINATE_SECONDS)
    except TimeoutError:
        pass
    finally:
        # For children that have outlived the process too, and after a second cancellation.
        _signal_group(pid, signal.SIGKILL)
    return await output.exit_code


def _signal_group(pid: int, signal_number: signal.Signals) -> None:
    # The group may be gone, or its number may belong to another user.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal_number)
