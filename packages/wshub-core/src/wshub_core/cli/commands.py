"""The ``wshub`` command: its arguments, and the commands ``serve`` and ``run``."""

import argparse
import asyncio
import io
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

import wshub_core
from wshub_core.cli.log_output import add_log_arguments, configure_log
from wshub_core.cli.site import address_of, new_bridge, open_site, print_addresses
from wshub_core.cli.workers import cancel_with_parent, prepare_worker, run_workers
from wshub_core.hub import Hub
from wshub_core.page.page import PROCESS_HISTORY
from wshub_core.process.runner import run_process
from wshub_core.transports.server import bind
from wshub_core.values.channels import PROCESS_CHANNEL_PREFIX, validate_process_id
from wshub_core.values.compression import Compression
from wshub_core.values.errors import ProcessStartError, ServeError, WSHubError
from wshub_core.values.history import HistoryLimits
from wshub_core.values.messages import Message, MessageType


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status.

    Args:
        argv: The arguments; the arguments of this process if None.
    """
    arguments = _make_parser().parse_args(argv)
    return _run_to_end(arguments.run(arguments))


def _run_to_end(work: Coroutine[Any, Any, int]) -> int:
    try:
        return _new_event_loop_runner()(_until_terminated(work))
    except WSHubError as exc:
        print(f"wshub: {exc}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        # Ctrl-C or SIGTERM, after the cleanup. Shells report Ctrl-C as 130.
        return 130


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wshub", description="A WebSocket hub with a page for live process output."
    )
    parser.add_argument("--version", action="version", version=wshub_core.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    address = argparse.ArgumentParser(add_help=False)
    address.add_argument("--host", default="localhost", help="where to listen (localhost)")
    address.add_argument("--port", type=int, default=8080, help="the TCP port (8080; 0: any free)")

    serve = commands.add_parser(
        "serve", parents=[address], help="run a hub, with a page at / that shows its channels"
    )
    serve.add_argument(
        "--allow-publish",
        action="store_true",
        help="let every client publish: `wshub send`, `wshub run --to`",
    )
    serve.add_argument(
        "--redis",
        metavar="URL",
        help="join the hubs that use the same Redis, such as redis://localhost:6379",
    )
    serve.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="serve the port with so many processes, joined by --redis (1)",
    )
    _add_hub_arguments(serve)
    serve.set_defaults(run=_serve)

    run = commands.add_parser(
        "run", parents=[address], help="run a command, and a hub with a page that follows it"
    )
    run.add_argument(
        "--to", metavar="URL", help="stream to the hub at this address, instead of serving one"
    )
    run.add_argument("--id", default="run", help="the process id: its channel is process:ID (run)")
    run.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    run.set_defaults(run=_run)

    try:
        _client_commands().add_commands(commands)
    except _ClientMissingError:
        for name in ("listen", "send"):
            missing = commands.add_parser(name, help="needs wshub-client")
            missing.add_argument("rest", nargs=argparse.REMAINDER)
            missing.set_defaults(run=_raise_client_missing)
    return parser


def _add_hub_arguments(parser: argparse.ArgumentParser) -> None:
    add_log_arguments(parser)
    parser.add_argument(
        "--metrics", action="store_true", help="serve metrics for Prometheus at /metrics"
    )
    parser.add_argument(
        "--compression", action="store_true", help="compress messages for clients that support it"
    )
    limits = PROCESS_HISTORY
    parser.add_argument(
        "--history-messages",
        type=int,
        default=limits.messages,
        metavar="N",
        help="keep so many messages of each process; 0: none (%(default)s)",
    )
    parser.add_argument(
        "--history-bytes",
        type=int,
        default=limits.bytes,
        metavar="N",
        help="keep so many bytes of the messages of each process (%(default)s)",
    )
    parser.add_argument(
        "--history-seconds",
        type=float,
        default=limits.seconds,
        metavar="S",
        help="keep each message so many seconds (%(default)s)",
    )


def _history_of(arguments: argparse.Namespace) -> dict[str, HistoryLimits | None]:
    """Return the setting ``HubConfig.history`` for the arguments of ``serve``."""
    limits = None
    if arguments.history_messages:
        limits = HistoryLimits(
            messages=arguments.history_messages,
            bytes=arguments.history_bytes,
            seconds=arguments.history_seconds,
        )
    return {f"{PROCESS_CHANNEL_PREFIX}*": limits}


class _ClientMissingError(WSHubError):
    def __init__(self) -> None:
        super().__init__(
            "this command needs the package wshub-client: install it beside wshub-core"
        )


def _client_commands() -> Any:
    """Return the module with the commands of the package wshub-client."""
    try:
        return import_module("wshub_client.commands")
    except ModuleNotFoundError as exc:
        raise _ClientMissingError from exc


async def _raise_client_missing(arguments: argparse.Namespace) -> int:
    raise _ClientMissingError


async def _serve(arguments: argparse.Namespace) -> int:
    if arguments.workers < 1:
        raise ServeError(f"--workers must be 1 or more, not {arguments.workers}")
    if arguments.workers == 1:
        return await _serve_here(arguments)
    if arguments.redis is None:
        raise ServeError(
            "several workers need --redis URL: each worker is a hub of its own, which Redis joins"
        )
    if arguments.metrics:
        raise ServeError(
            "--metrics needs a process with a port of its own: a request for /metrics would reach "
            "any one of the workers"
        )
    configure_log(arguments)
    _history_of(arguments)
    # A wrong URL is reported here, once, and not by every worker.
    new_bridge(Hub(), arguments.redis)
    sockets = await bind(arguments.host, arguments.port)
    port = sockets[0].getsockname()[1]
    return await run_workers(
        arguments.workers,
        _serve_worker,
        arguments,
        sockets,
        on_ready=lambda: print_addresses(arguments.host, port),
    )


def _serve_worker(
    ready: Connection, arguments: argparse.Namespace, sockets: Sequence[socket.socket]
) -> None:
    """Serve in a worker process."""
    report_ready = prepare_worker(ready)
    sys.exit(_run_to_end(cancel_with_parent(_serve_here(arguments, sockets, report_ready))))


async def _serve_here(
    arguments: argparse.Namespace,
    sockets: Sequence[socket.socket] = (),
    report_ready: Callable[[], None] | None = None,
) -> int:
    configure_log(arguments)
    settings: dict[str, Any] = {"history": _history_of(arguments)}
    if arguments.compression:
        settings["compression"] = Compression()
    if arguments.allow_publish:
        settings["publish_authorizer"] = lambda *_: True
    async with open_site(
        arguments.host,
        arguments.port,
        arguments.redis,
        sockets,
        with_metrics=arguments.metrics,
        **settings,
    ) as (_, server):
        if report_ready is None:
            print_addresses(arguments.host, server.port)
        else:
            report_ready()
        await server.serve_forever()
    return 0


async def _run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise ProcessStartError("no command given: use `wshub run -- COMMAND`")
    validate_process_id(arguments.id)
    if arguments.to is not None:
        status: int = await _client_commands().run_to(arguments.to, arguments.id, command)
        return _shell_status(status)
    async with open_site(arguments.host, arguments.port) as (hub, server):
        # Standard output belongs to the command.
        print(address_of(arguments.host, server.port), file=sys.stderr, flush=True)
        hub.add_publish_listener(_Echo())
        exit_code = await run_process(hub, arguments.id, *command)
    return _shell_status(exit_code)


def _shell_status(exit_code: int) -> int:
    """Return an exit status as shells report it: 128 and the number of the signal for a signal."""
    return exit_code if exit_code >= 0 else 128 - exit_code


class _Echo:
    """Prints the output of the command until standard output is closed."""

    def __init__(self) -> None:
        self._is_read = True
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A character that the terminal cannot show must not end the command.
            sys.stdout.reconfigure(errors="replace")

    def __call__(self, channel: str, message: Message) -> None:
        if not self._is_read or message.type != MessageType.PROCESS_OUTPUT:
            return
        try:
            print(message.data, flush=True)
        except BrokenPipeError:
            self._is_read = False
            # Python flushes standard output at its exit, which would report the broken pipe again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _until_terminated(work: Coroutine[Any, Any, int]) -> int:
    """Await a coroutine; SIGTERM cancels it as Ctrl-C does, so that it can clean up."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _new_event_loop_runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return uvloop's runner if uvloop is installed (``wshub-core[speed]``), else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    run: Callable[[Coroutine[Any, Any, int]], int] = uvloop.run
    return run
