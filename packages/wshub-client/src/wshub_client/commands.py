"""The commands ``wshub listen``, ``wshub send`` and ``wshub run --to``."""

import argparse
import asyncio
import contextlib
import json
import os
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from wshub_client.client import ReconnectingClient
from wshub_client.errors import (
    ClientClosedError,
    ClientError,
    ClosedError,
    DialError,
    PublishRefusedError,
    RefusedError,
    RetriesExhaustedError,
    SubscriptionRefusedError,
)
from wshub_client.exit_codes import fetch_exit_codes
from wshub_client.publisher import ProcessPublisher
from wshub_core import Message, MessageType, encode_message, run_process

EXIT_CODES = """\
exit status: 0 done; 1 another error; 2 wrong usage; 3 the hub does not let us in; 4 the hub cannot
be reached; 5 the hub does not allow this channel; 130 ended by Ctrl-C. A token is read from the
environment variable WSHUB_TOKEN."""

_NO_HUB_STATUSES = {200, 404, 426}
"""The HTTP statuses of servers that have no hub at the path that was asked for."""


class _NoHubError(ClientError):
    """A server answers, and has no hub at this path."""


_EXIT_STATUS: dict[type[ClientError], int] = {
    _NoHubError: 4,
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
            _connect(url, on_message=_ignore) as client,
            ProcessPublisher(client) as publisher,
        ):
            return await run_process(publisher, process_id, *command)
    except ClientError as error:
        return _fail(error)


async def _listen(arguments: argparse.Namespace) -> int:
    show = _Printer(_describe if sys.stdout.isatty() else _encode)
    tasks: list[asyncio.Task[Any]] = []
    try:
        async with _connect(
            arguments.url,
            max_attempts=arguments.max_attempts,
            on_reconnect=lambda _: _note("connected again"),
        ) as client:
            # Beside reading, because there may be much to read on the first of them.
            subscribing = asyncio.create_task(_subscribe_all(client, arguments.channel))
            tasks.append(subscribing)
            messages: AsyncIterator[Message] = client
            if arguments.exit_with_process:
                ended = _EndedBefore(arguments.url, arguments.channel, subscribing)
                tasks.append(ended.finding)
                messages = ended.read(client)
            async for message in messages:
                await show(message)
                if arguments.exit_with_process and _is_exit(message):
                    return _exit_status(message.data["exitCode"])
            if arguments.exit_with_process and ended.exit_code is not None:
                return _exit_status(ended.exit_code)
            await subscribing
    except ClientError as error:
        return _fail(error)
    except BrokenPipeError:
        pass  # nobody reads any more, which is a way to end
    finally:
        for task in tasks:
            task.cancel()
        # What has ended one of them has ended the client, and is told for that.
        await asyncio.gather(*tasks, return_exceptions=True)
    return 0


class _EndedBefore:
    """Finds out whether a process had ended before its channel was subscribed to.

    Args:
        url: The hub's address.
        channels: The channels.
        subscribing: Done when they are subscribed to.

    Attributes:
        finding: Done when the hub's server has been asked.
        exit_code: The exit code of the first process that had ended; None if there is none.
    """

    def __init__(self, url: str, channels: list[str], subscribing: "asyncio.Task[None]") -> None:
        self.exit_code: int | None = None
        self._url = url
        self._channels = channels
        self._subscribing = subscribing
        self.finding = asyncio.create_task(self._find())

    async def _find(self) -> dict[str, int]:
        await asyncio.wait({self._subscribing})
        return await fetch_exit_codes(self._url, _token())

    async def read(self, client: ReconnectingClient) -> AsyncIterator[Message]:
        """Yield messages until the client is closed, or there is an exit code.

        Messages that have come go first, because their status is newer than the server's list.
        """
        heard: set[str] = set()
        while True:
            receiving = asyncio.create_task(client.receive())
            await asyncio.sleep(0)
            await asyncio.wait({receiving, self.finding}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done() and self._take_exit_code(heard):
                receiving.cancel()
                return
            try:
                message = await receiving
            except ClientClosedError:
                return
            if message.type == MessageType.PROCESS_STATUS:
                heard.add(message.channel)
            yield message

    def _take_exit_code(self, heard: set[str]) -> bool:
        exit_codes = self.finding.result()
        for channel in self._channels:
            if channel in exit_codes and channel not in heard:
                self.exit_code = exit_codes[channel]
                _note(f"{channel} has ended already, with {self.exit_code}")
                return True
        return False


@asynccontextmanager
async def _connect(url: str, **options: Any) -> AsyncIterator[ReconnectingClient]:
    """Connect to a hub, and stop at once if the server has none at this path.

    Raises:
        ClientError: The client has ended.
    """
    no_hub: _NoHubError | None = None
    has_connected = False

    def note_connected() -> None:
        nonlocal has_connected
        has_connected = True

    async def complain(error: Exception) -> None:
        nonlocal no_hub
        failure = error.__cause__ if isinstance(error, RetriesExhaustedError) else error
        is_no_hub = isinstance(failure, DialError) and failure.status in _NO_HUB_STATUSES
        if is_no_hub and not has_connected:
            no_hub = _NoHubError(f"{failure}; is the path right? `wshub serve` has its hub at /ws")
            await client.close()
        elif type(error) not in _EXIT_STATUS:  # what ends the client is told at the end
            _note(str(error))

    client = ReconnectingClient(
        url, token=_token(), on_connect=note_connected, on_error=complain, **options
    )
    try:
        async with client:
            yield client
    except (ClientClosedError, RetriesExhaustedError):
        if no_hub is not None:
            raise no_hub from None
        raise


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
        async with _connect(arguments.url, max_attempts=0, on_message=_ignore) as client:
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


def _note(text: str) -> None:
    print(f"wshub: {text}", file=sys.stderr, flush=True)


def _fail(error: ClientError) -> int:
    hint = ""
    if isinstance(error, RetriesExhaustedError):
        hint = f": {error.__cause__}"
    elif isinstance(error, PublishRefusedError) and error.code == "not_served":
        hint = " (`wshub serve --allow-publish` runs a hub that lets clients publish)"
    _note(f"{error}{hint}")
    return _EXIT_STATUS.get(type(error), 1)
