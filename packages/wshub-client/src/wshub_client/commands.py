"""The commands ``wshub listen``, ``wshub send`` and ``wshub run --to``."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
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
from wshub_client.printing import Printer, format_for_terminal, format_json
from wshub_client.publisher import ProcessPublisher
from wshub_core import Message, MessageType, run_process

EXIT_CODES = """\
exit status: 0 done; 1 another error; 2 wrong usage; 3 the hub refuses this client; 4 the hub cannot
be reached; 5 the hub refuses this channel; 130 ended by Ctrl-C. The token is read from the
environment variable WSHUB_TOKEN."""

_NO_HUB_STATUSES = {200, 404, 426}
"""The HTTP statuses of servers that have no hub at the requested path."""


class _NoHubError(ClientError):
    """A server responds, but has no hub at this path."""


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
        commands: The object that ``ArgumentParser.add_subparsers`` has returned.
    """
    listen = commands.add_parser(
        "listen", help="print the messages of a hub's channels", epilog=EXIT_CODES
    )
    listen.add_argument("url", help="the address of the hub, such as ws://localhost:8080/ws")
    listen.add_argument("channel", nargs="*", help="channels; broadcasts are always printed")
    history = listen.add_mutually_exclusive_group()
    history.add_argument(
        "--last",
        type=_natural,
        metavar="N",
        help="begin with the last N messages of each channel, if the hub keeps a history of it",
    )
    history.add_argument(
        "--since",
        type=_natural,
        metavar="OFFSET",
        help="begin with the messages behind this offset",
    )
    history.add_argument(
        "--from-start",
        action="store_const",
        const=0,
        dest="since",
        help="begin with all messages that the hub has kept",
    )
    listen.add_argument(
        "--exit-with-process",
        action="store_true",
        help="end with the exit status of the first process that exits",
    )
    listen.add_argument(
        "--max-attempts",
        type=_natural,
        metavar="N",
        help="end after more than N failures in a row (default: never)",
    )
    listen.set_defaults(run=_listen)

    send = commands.add_parser(
        "send", help="publish an event to a channel, if the hub allows it", epilog=EXIT_CODES
    )
    send.add_argument("url", help="the address of the hub")
    send.add_argument("channel", help="the channel")
    send.add_argument("data", help="JSON; everything else is sent as text")
    send.set_defaults(run=_send)


async def run_to(url: str, process_id: str, command: list[str]) -> int:
    """Run a command, stream its output to a remote hub, and return its exit code."""
    try:
        async with (
            _connect(url, on_message=_ignore) as client,
            ProcessPublisher(client) as publisher,
        ):
            return await run_process(publisher, process_id, *command)
    except ClientError as error:
        return _fail(error)


async def _listen(arguments: argparse.Namespace) -> int:
    printer = Printer(format_for_terminal if sys.stdout.isatty() else format_json)
    tasks: list[asyncio.Task[Any]] = []
    try:
        async with _connect(
            arguments.url,
            max_attempts=arguments.max_attempts,
            on_reconnect=lambda _: _note("connected again"),
            on_gap=lambda gap: _note(str(gap)),
        ) as client:
            # In a task of its own, because the messages of the first channel have to be read while
            # the confirmations of the other channels are awaited.
            subscribing = asyncio.create_task(_subscribe_all(client, arguments))
            tasks.append(subscribing)
            messages: AsyncIterator[Message] = client
            if arguments.exit_with_process:
                earlier = _EarlierExit(arguments.url, arguments.channel, subscribing)
                tasks.append(earlier.finding)
                messages = earlier.read(client)
            async for message in messages:
                await printer.print(message)
                if arguments.exit_with_process and _is_exit(message):
                    return _exit_status(message.data["exitCode"])
            if arguments.exit_with_process and earlier.exit_code is not None:
                return _exit_status(earlier.exit_code)
            await subscribing
    except ClientError as error:
        return _fail(error)
    except BrokenPipeError:
        pass  # the reader of the pipe has ended, as `head` does
    finally:
        for task in tasks:
            task.cancel()
        # An error in one of the tasks has ended the client, which raises it above.
        await asyncio.gather(*tasks, return_exceptions=True)
    return 0


class _EarlierExit:
    """The exit of a process before its channel was subscribed to.

    The status message of such a process is gone. The channel list of the hub's server may still
    have the exit code.

    Args:
        url: The address of the hub.
        channels: The channels.
        subscribing: The task that subscribes to them.

    Attributes:
        finding: The task that asks the server, when the channels are subscribed to.
        exit_code: The exit code of the first process that has ended; None if there is none.
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
        """Yield messages until the client is closed, or an exit code is found.

        All messages that have come are yielded first, because the status in a message is newer than
        the list of the server.
        """
        heard: set[str] = set()
        while True:
            receiving = asyncio.create_task(client.receive())
            await asyncio.sleep(0)  # the task takes a message that is there
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
                _note(f"{channel} has ended already, with exit code {self.exit_code}")
                return True
        return False


@asynccontextmanager
async def _connect(url: str, **options: Any) -> AsyncIterator[ReconnectingClient]:
    """Connect to a hub, and end at once if the server has no hub at this path.

    Raises:
        ClientError: The client has ended.
    """
    no_hub: _NoHubError | None = None
    has_connected = False

    def note_connected() -> None:
        nonlocal has_connected
        has_connected = True

    async def print_error(error: Exception) -> None:
        nonlocal no_hub
        failure = error.__cause__ if isinstance(error, RetriesExhaustedError) else error
        is_no_hub = isinstance(failure, DialError) and failure.status in _NO_HUB_STATUSES
        if is_no_hub and not has_connected:
            no_hub = _NoHubError(f"{failure}; is the path right? `wshub serve` has its hub at /ws")
            await client.close()
        elif type(error) not in _EXIT_STATUS:  # `_fail` prints the errors that end the client
            _note(str(error))

    client = ReconnectingClient(
        url, token=_token(), on_connect=note_connected, on_error=print_error, **options
    )
    try:
        async with client:
            yield client
    except (ClientClosedError, RetriesExhaustedError):
        if no_hub is not None:
            raise no_hub from None
        raise


async def _subscribe_all(client: ReconnectingClient, arguments: argparse.Namespace) -> None:
    try:
        for channel in arguments.channel:
            await client.subscribe(
                channel, confirm=True, last=arguments.last, since=arguments.since
            )
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
    # Not an argument, because every user of the machine can see the arguments of a process.
    return os.environ.get("WSHUB_TOKEN")


def _is_exit(message: Message) -> bool:
    match message:
        case Message(type=MessageType.PROCESS_STATUS, data={"status": "exited", "exitCode": int()}):
            return True
    return False


def _exit_status(exit_code: int) -> int:
    """Return the exit status for an exit code: 128 + N for signal N, and never 0 for a failure."""
    if exit_code < 0:
        return 128 - exit_code
    return exit_code % 256 or min(exit_code, 1)


def _ignore(message: Message) -> None:
    """Ignore a message."""


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
