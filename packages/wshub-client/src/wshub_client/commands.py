"""The commands ``wshub listen``, ``wshub send`` and ``wshub run --to``."""

import argparse
import json
import os
import sys
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
        type=int,
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
            ReconnectingClient(url, token=_token(), on_error=_complain) as client,
            ProcessPublisher(client) as publisher,
        ):
            return await run_process(publisher, process_id, *command)
    except ClientError as error:
        return _fail(error)


async def _listen(arguments: argparse.Namespace) -> int:
    show = _Terminal() if sys.stdout.isatty() else _show_json
    try:
        async with ReconnectingClient(
            arguments.url,
            token=_token(),
            max_attempts=arguments.max_attempts,
            on_error=_complain,
            on_reconnect=lambda _: _note("connected again"),
        ) as client:
            for channel in arguments.channel:
                await client.subscribe(channel, confirm=True)
            async for message in client:
                show(message)
                if arguments.exit_with_process and _is_exit(message):
                    exit_code: int = message.data["exitCode"]
                    # A signal is reported as shells do.
                    return exit_code if exit_code >= 0 else 128 - exit_code
    except ClientError as error:
        return _fail(error)
    except BrokenPipeError:
        # Nothing is to be flushed at the end, where it would be complained about.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


async def _send(arguments: argparse.Namespace) -> int:
    try:
        data = json.loads(arguments.data)
    except ValueError:
        data = arguments.data
    try:
        async with ReconnectingClient(arguments.url, token=_token(), max_attempts=0) as client:
            await client.publish(arguments.channel, data)
    except ClientError as error:
        return _fail(error)
    return 0


def _token() -> str | None:
    # Not an argument, because those are for everybody on the machine to see.
    return os.environ.get("WSHUB_TOKEN")


def _is_exit(message: Message) -> bool:
    match message:
        case Message(type=MessageType.PROCESS_STATUS, data={"status": "exited", "exitCode": int()}):
            return True
    return False


def _show_json(message: Message) -> None:
    print(encode_message(message).decode(), flush=True)


class _Terminal:
    """Shows messages for people: when, where, what."""

    def __call__(self, message: Message) -> None:
        time = message.timestamp.astimezone() if message.timestamp else None
        when = f"{time:%H:%M:%S} " if time else ""
        where = f"{message.channel} " if message.channel else ""
        print(f"\x1b[2m{when}{where}\x1b[0m{self._describe(message)}\x1b[0m", flush=True)

    def _describe(self, message: Message) -> str:
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


def _complain(error: Exception) -> None:
    _note(str(error))


def _note(text: str) -> None:
    print(f"wshub: {text}", file=sys.stderr, flush=True)


def _fail(error: ClientError) -> int:
    cause = f": {error.__cause__}" if isinstance(error, RetriesExhaustedError) else ""
    _note(f"{error}{cause}")
    return _EXIT_STATUS.get(type(error), 1)
