"""The ``wshub`` command: its arguments, and the commands ``serve`` and ``run``."""

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

import wshub_core
from wshub_core.cli.access import read_access
from wshub_core.cli.log_output import configure_log
from wshub_core.cli.settings import ServeSettings
from wshub_core.cli.site import (
    address_of,
    new_bridge,
    new_metrics,
    open_site,
    print_addresses,
)
from wshub_core.cli.socket_activation import take_inherited_sockets
from wshub_core.cli.sources import add_flags, read_settings
from wshub_core.cli.standard_streams import discard_output, prepare_streams, print_lines
from wshub_core.cli.termination import drain_when_terminated, until_terminated
from wshub_core.cli.workers import cancel_with_parent, prepare_worker, run_workers
from wshub_core.hub import Hub
from wshub_core.process.runner import run_process
from wshub_core.transports.server import bind
from wshub_core.values.channels import validate_process_id
from wshub_core.values.errors import ProcessStartError, WSHubError
from wshub_core.values.messages import Message, MessageType


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status.

    Args:
        argv: The arguments; the arguments of this process if None.
    """
    prepare_streams()
    arguments = _make_parser().parse_args(argv)
    return _run_to_end(arguments.run(arguments))


def _run_to_end(work: Coroutine[Any, Any, int]) -> int:
    try:
        return _new_event_loop_runner()(until_terminated(work))
    except WSHubError as exc:
        for line in str(exc).splitlines():
            print(f"wshub: {line}", file=sys.stderr)
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

    serve = commands.add_parser("serve", help="run a hub, with a page at / that shows its channels")
    add_flags(serve)
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check-config", help="check a configuration file")
    check.add_argument("file", metavar="FILE", help="the TOML file")
    check.set_defaults(run=_check_config)

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


async def _check_config(arguments: argparse.Namespace) -> int:
    # With the variables, because a secret that the file needs is often in one.
    _check(read_settings(argparse.Namespace(config=arguments.file)))
    print_lines(f"{arguments.file} is valid")
    return 0


def _check(settings: ServeSettings) -> None:
    """Raise the errors of settings that need other packages."""
    if settings.redis is not None:
        new_bridge(Hub(), settings.redis)
    if settings.metrics:
        new_metrics(Hub())
    read_access(settings)


async def _serve(arguments: argparse.Namespace) -> int:
    settings = read_settings(arguments)
    sockets = take_inherited_sockets()
    # The service manager knows the addresses of its sockets.
    print_ready = _print_nothing if sockets else partial(print_addresses, settings.host)
    if settings.workers == 1:
        return await _serve_here(settings, sockets, print_ready)
    configure_log(settings)
    # A wrong URL or file is reported here, once, and not by every worker.
    _check(settings)
    sockets = sockets or await bind(settings.host, settings.port)
    port = sockets[0].getsockname()[1]
    return await run_workers(
        settings.workers,
        _serve_worker,
        settings,
        sockets,
        on_ready=lambda: print_ready(port),
        close_timeout=settings.close_timeout,
        drain_window=settings.drain_window,
    )


def _print_nothing(port: int) -> None:
    pass


def _serve_worker(
    ready: Connection, settings: ServeSettings, sockets: Sequence[socket.socket]
) -> None:
    """Serve in a worker process."""
    report_ready = prepare_worker(ready)
    serving = _serve_here(settings, sockets, lambda _: report_ready())
    sys.exit(_run_to_end(cancel_with_parent(serving)))


async def _serve_here(
    settings: ServeSettings,
    sockets: Sequence[socket.socket],
    report_ready: Callable[[int], object],
) -> int:
    """Serve in this process; call a function with the port when the server listens."""
    configure_log(settings)
    async with open_site(settings, sockets) as site:
        report_ready(site.server.port)
        if site.admin_address is not None:
            print_lines(f"admin view: {site.admin_address}")
        if settings.drain_window:
            await drain_when_terminated(site.hub, settings.drain_window)
        else:
            await site.server.serve_forever()
    return 0


async def _run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise ProcessStartError("no command given: use `wshub run -- COMMAND`")
    validate_process_id(arguments.id)
    if arguments.to is not None:
        status: int = await _client_commands().run_to(arguments.to, arguments.id, command)
        return _shell_status(status)
    async with open_site(ServeSettings(host=arguments.host, port=arguments.port)) as site:
        # Standard output belongs to the command.
        print(address_of(arguments.host, site.server.port), file=sys.stderr, flush=True)
        site.hub.add_publish_listener(_Echo())
        exit_code = await run_process(site.hub, arguments.id, *command)
    return _shell_status(exit_code)


def _shell_status(exit_code: int) -> int:
    """Return an exit status as shells report it: 128 and the number of the signal for a signal."""
    return exit_code if exit_code >= 0 else 128 - exit_code


class _Echo:
    """Prints the output of the command until standard output is closed."""

    def __init__(self) -> None:
        self._is_read = True

    def __call__(self, channel: str, message: Message) -> None:
        if not self._is_read or message.type != MessageType.PROCESS_OUTPUT:
            return
        try:
            print(message.data, flush=True)
        except BrokenPipeError:
            self._is_read = False
            discard_output()


def _new_event_loop_runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return uvloop's runner if uvloop is installed (``wshub-core[speed]``), else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    run: Callable[[Coroutine[Any, Any, int]], int] = uvloop.run
    return run
