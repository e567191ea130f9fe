"""The commands ``wshub listen``, ``wshub send`` and ``wshub run --to``."""

import argparse
import asyncio
import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any

from wshub_client.client import ReconnectingClient
from wshub_client.errors import (
    ClientError,
    ClosedError,
    PublishRefusedError,
    RefusedError,
    RetriesExhaustedError,
    SubscriptionRefusedError,
)
from wshub_client.publisher import ProcessPublisher
from wshub_core import Message, MessageType, encode_message, run_process

EXIT_CODES = """\
exit status: 0 done; 1 another error; 2 wrong usage; 3 the hub does not let us in; 4 the hub cannot
be reached; 5 the hub does not allow this channel; 130 ended by Ctrl-C. A token is read from the
environment variable WSHUB_TOKEN."""

_EXIT_STATUS: dict[type[ClientError], int] = {
    RefusedError: 3,
    ClosedError: 3,
    RetriesExhaustedError: 4,
    SubscriptionRefusedError: 5,
    PublishRefusedError: 5,
}


def add_commands(commands: Any) -> None:
    """Add the client's commands to those of the ``wshub`` command.

    Args:
        commands: What ``ArgumentParser.add_subparsers`` returned.
    """
    listen = commands.add_parser(
        "listen", help="print the messages of a hub's channels", epilog=EXIT_CODES
    )
    listen.add_argument("url", help="the hub's address, such as ws://localhost:8080/ws")
    listen.add_argument("channel", nargs="*", help="channels; broadcasts come anyway")
    listen.add_argument(
        "--exit-with-process",
        action="store_true",
        help="end with the exit status of the first process that exits",
    )
    listen.add_argument(
        "--max-attempts",
        type=_natural,
        metavar="N",
        help="give up after more than N failures in a row (never)",
    )
    listen.set_defaults(run=_listen)

    send = commands.add_parser(
        "send", help="publish an event to a channel of a hub that allows it", epilog=EXIT_CODES
    )
    send.add_argument("url", help="the hub's address")
    send.add_argument("channel", help="the channel")
    send.add_argument("data", help="JSON, or else a text")
    send.set_defaults(run=_send)


async def run_to(url: str, process_id: str, command: list[str]) -> int:
    """Run a command and stream what it prints to a hub elsewhere; return its exit code."""
    try:
        async with (
            ReconnectingClient(
                url, token=_token(), on_error=_complain, on_message=_ignore
            ) as client,
            ProcessPublisher(client) as publisher,
        ):
            return await run_process(publisher, process_id, *command)
    except ClientError as error:
        return _fail(error)


async def _listen(arguments: argparse.Namespace) -> int:
    show = _Printer(_describe if sys.stdout.isatty() else _encode)
    subscribing: asyncio.Task[None] | None = None
    try:
        async with ReconnectingClient(
            arguments.url,
            token=_token(),
            max_attempts=arguments.max_attempts,
            on_error=_complain,
            on_reconnect=lambda _: _note("connected again"),
        ) as client:
            # Beside reading, because there may be much to read on the first of them.
            subscribing = asyncio.create_task(_subscribe_all(client, arguments.channel))
            async for message in client:
                await show(message)
                if arguments.exit_with_process and _is_exit(message):
                    return _exit_status(message.data["exitCode"])
            await subscribing
    except ClientError as error:
        return _fail(error)
    except BrokenPipeError:
        pass  # nobody reads any more, which is a way to end
    finally:
        if subscribing is not None:
            subscribing.cancel()
            # What has ended it has ended the client, and is told for that.
            await asyncio.gather(subscribing, return_exceptions=True)
    return 0


async def _subscribe_all(client: ReconnectingClient, channels: list[str]) -> None:
    try:
        for channel in channels:
            await client.subscribe(channel, confirm=True)
    except BaseException:
        await client.close()
        raise


async def _send(arguments: argparse.Namespace) -> int:
    try:
        data = json.loads(arguments.data)
    except (ValueError, RecursionError):
        data = arguments.data
    try:
        async with ReconnectingClient(
            arguments.url, token=_token(), max_attempts=0, on_message=_ignore
        ) as client:
            await client.publish(arguments.channel, data)
    except ClientError as error:
        return _fail(error)
    return 0


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _token() -> str | None:
    # Not an argument, because those are for everybody on the machine to see.
    return os.environ.get("WSHUB_TOKEN")


def _is_exit(message: Message) -> bool:
    match message:
        case Message(type=MessageType.PROCESS_STATUS, data={"status": "exited", "exitCode": int()}):
            return True
    return False


def _exit_status(exit_code: int) -> int:
    """Return an exit status that says the same: signals as shells do, and no failure as 0."""
    if exit_code < 0:
        return 128 - exit_code
    return exit_code % 256 or min(exit_code, 1)


class _Printer:
    """Prints messages in a thread, so that who does not read holds up nothing but the messages.

    Args:
        describe: Makes the line of a message.
    """

    def __init__(self, describe: Callable[[Message], str]) -> None:
        self._describe = describe
        self._encoding = sys.stdout.encoding
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # Nobody waits for it at the end.
        threading.Thread(target=self._print_all, daemon=True).start()

    async def __call__(self, message: Message) -> None:
        line = f"{self._describe(message)}\n".encode(self._encoding, "replace")
        printed: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((line, printed))
        await printed

    def _print_all(self) -> None:
        while True:
            line, printed = self._waiting.get()
            error: OSError | None = None
            try:
                # Not through a buffer, which the interpreter would want to flush at the end.
                while line:
                    line = line[os.write(1, line) :]
            except OSError as failure:
                error = failure
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(_settle, printed, error)


def _settle(printed: asyncio.Future[None], error: OSError | None) -> None:
    if not printed.done():
        if error is None:
            printed.set_result(None)
        else:
            printed.set_exception(error)


def _encode(message: Message) -> str:
    return encode_message(message).decode()


def _describe(message: Message) -> str:
    """Return a message for people: when, where, what."""
    time = message.timestamp.astimezone() if message.timestamp else None
    when = f"{time:%H:%M:%S} " if time else ""
    where = f"{message.channel} " if message.channel else ""
    return f"\x1b[2m{when}{where}\x1b[0m{_describe_content(message)}\x1b[0m"


def _describe_content(message: Message) -> str:
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


def _ignore(message: Message) -> None:
    """Take a message and do nothing with it."""


def _complain(error: Exception) -> None:
    # What ends the client is told at the end.
    if type(error) not in _EXIT_STATUS:
        _note(str(error))


def _note(text: str) -> None:
    print(f"wshub: {text}", file=sys.stderr, flush=True)


def _fail(error: ClientError) -> int:
    cause = f": {error.__cause__}" if isinstance(error, RetriesExhaustedError) else ""
    _note(f"{error}{cause}")
    return _EXIT_STATUS.get(type(error), 1)
