"""The output of ``wshub listen``: JSON lines for programs, and a format for people."""

import asyncio
import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable

from wshub_core import Message, MessageType, encode_message


class Printer:
    """Prints messages in a thread.

    A reader of standard output may be slow, and writing to it blocks then. The thread keeps the
    event loop free, so that only the printing waits.

    Args:
        format_message: Returns the line for a message.
    """

    def __init__(self, format_message: Callable[[Message], str]) -> None:
        self._format_message = format_message
        self._encoding = sys.stdout.encoding
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # A daemon thread, because a blocked write must not delay the end of the program.
        threading.Thread(target=self._print_all, daemon=True).start()

    async def print(self, message: Message) -> None:
        """Print a message, and wait until it is written.

        Raises:
            OSError: Standard output cannot be written to; `BrokenPipeError` if it is closed.
        """
        line = f"{self._format_message(message)}\n".encode(self._encoding, "replace")
        printed: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((line, printed))
        await printed

    def _print_all(self) -> None:
        while True:
            line, printed = self._waiting.get()
            error: OSError | None = None
            try:
                # Not through `sys.stdout`: the interpreter flushes its buffer at the end, and would
                # raise again, or block.
                while line:
                    line = line[os.write(1, line) :]
            except OSError as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_note_printed, printed, error)


def _note_printed(printed: asyncio.Future[None], error: OSError | None) -> None:
    if not printed.done():
        if error is None:
            printed.set_result(None)
        else:
            printed.set_exception(error)


def format_json(message: Message) -> str:
    """Return a message as one line of JSON."""
    return encode_message(message).decode()


def format_for_terminal(message: Message) -> str:
    """Return a message for people: its time, its channel and its content."""
    time = message.timestamp.astimezone() if message.timestamp else None
    when = f"{time:%H:%M:%S} " if time else ""
    where = f"{message.channel} " if message.channel else ""
    return f"\x1b[2m{when}{where}\x1b[0m{_format_content(message)}\x1b[0m"


def _format_content(message: Message) -> str:
    match message:
        case Message(type=MessageType.PROCESS_OUTPUT, data=str(line)):
            return line
        case Message(
            type=MessageType.PROCESS_STATUS, data={"status": "exited", "exitCode": int(code)}
        ):
            return f"\x1b[1mexited with {code}"
        case Message(type=MessageType.PROCESS_STATUS, data={"status": status}):
            return f"\x1b[1m{status}"
    return f"\x1b[1m{message.type}\x1b[0m {json.dumps(message.data, ensure_ascii=False)}"
