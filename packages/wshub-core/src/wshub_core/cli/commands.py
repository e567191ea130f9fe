"""The ``wshub`` command."""

import argparse
import asyncio
import io
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

import wshub_core
from wshub_core.cli.workers import begin_work, run_workers, with_parent
from wshub_core.hub import Hub
from wshub_core.page.page import LivePage
from wshub_core.process.runner import run_process
from wshub_core.transports.server import Server, bind
from wshub_core.values.channels import validate_process_id
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import ProcessStartError, ServeError, WSHubError
from wshub_core.values.http import Request, Response
from wshub_core.values.messages import Message, MessageType
from wshub_core.values.origins import is_loopback_host, origin_allowed

_ALL_ADDRESSES = ("", "0.0.0.0", "::")
"""Hosts that a server listens at and no client can connect to."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        argv: The arguments; those of this process if None.
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
        # Ended from outside and cleaned up; 130 is what shells report for Ctrl-C.
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
            missing.set_defaults(run=_tell_client_missing)
    return parser


class _ClientMissingError(WSHubError):
    def __init__(self) -> None:
        super().__init__(
            "this command needs the package wshub-client: install it beside wshub-core"
        )


def _client_commands() -> Any:
    """Return the module with the client's commands, which is another package's."""
    try:
        return import_module("wshub_client.commands")
    except ModuleNotFoundError as exc:
        raise _ClientMissingError from exc


async def _tell_client_missing(arguments: argparse.Namespace) -> int:
    raise _ClientMissingError


async def _serve(arguments: argparse.Namespace) -> int:
    if arguments.workers < 1:
        raise ServeError(f"cannot serve with {arguments.workers} workers: 1 is the least")
    if arguments.workers == 1:
        return await _serve_here(arguments)
    if arguments.redis is None:
        raise ServeError(
            "several workers need --redis URL: each has clients of its own, and Redis joins them"
        )
    _new_bridge(Hub(), arguments.redis)  # what is wrong with it is said once
    sockets = await bind(arguments.host, arguments.port)
    port = sockets[0].getsockname()[1]
    return await run_workers(
        arguments.workers,
        _work,
        arguments,
        sockets,
        on_ready=lambda: _print_addresses(arguments.host, port),
    )


def _work(
    ready: Connection, arguments: argparse.Namespace, sockets: Sequence[socket.socket]
) -> None:
    """Serve in one of several processes."""
    tell_ready = begin_work(ready)
    sys.exit(_run_to_end(with_parent(_serve_here(arguments, sockets, tell_ready))))


async def _serve_here(
    arguments: argparse.Namespace,
    sockets: Sequence[socket.socket] = (),
    tell_ready: Callable[[], None] | None = None,
) -> int:
    # What several processes have to say is told apart.
    logging.basicConfig(format="wshub[%(process)d]: %(message)s", level=logging.WARNING)
    allow: dict[str, Any] = (
        {"publish_authorizer": lambda *_: True} if arguments.allow_publish else {}
    )
    async with _serve_page(arguments, arguments.redis, sockets, **allow) as (_, server):
        if tell_ready is None:
            _print_addresses(arguments.host, server.port)
        else:
            tell_ready()
        await server.serve_forever()
    return 0


def _new_bridge(hub: Hub, url: str) -> Any:
    """Return a bridge, which is another package's."""
    try:
        return import_module("wshub_redis").RedisBridge(hub, url)
    except ModuleNotFoundError as exc:
        raise WSHubError(
            "--redis needs the package wshub-redis: install it beside wshub-core"
        ) from exc


async def _run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise ProcessStartError("no command: say `wshub run -- COMMAND`")
    validate_process_id(arguments.id)
    if arguments.to is not None:
        status: int = await _client_commands().run_to(arguments.to, arguments.id, command)
        return _shell_status(status)
    async with _serve_page(arguments) as (hub, server):
        # Standard output is the command's.
        print(_address(arguments.host, server.port), file=sys.stderr, flush=True)
        hub.add_publish_listener(_Echo())
        exit_code = await run_process(hub, arguments.id, *command)
    return _shell_status(exit_code)


def _shell_status(exit_code: int) -> int:
    """Return an exit status as shells report it, signals too."""
    return exit_code if exit_code >= 0 else 128 - exit_code


class _Echo:
    """Prints what the command prints, for as long as somebody reads it."""

    def __init__(self) -> None:
        self._is_read = True
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that cannot show a character is no reason to end the command.
            sys.stdout.reconfigure(errors="replace")

    def __call__(self, channel: str, message: Message) -> None:
        if not self._is_read or message.type != MessageType.PROCESS_OUTPUT:
            return
        try:
            print(message.data, flush=True)
        except BrokenPipeError:
            self._is_read = False
            # Nothing is to be flushed at the end, where it would be complained about.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Guard:
    """Keeps strangers' pages away from a server that listens on loopback only."""

    def __init__(self, **settings: Any) -> None:
        self.is_local = True
        self.hub = Hub(HubConfig(check_origin=self._check_origin, **settings))

    def admits(self, request: Request) -> bool:
        """Tell whether a request is for this machine's own name."""
        return not self.is_local or is_loopback_host(request.header("host"))

    def _check_origin(self, request: Request) -> bool:
        return self.admits(request) and origin_allowed(request, None)


@asynccontextmanager
async def _serve_page(
    arguments: argparse.Namespace,
    redis: str | None = None,
    sockets: Sequence[socket.socket] = (),
    **settings: Any,
) -> AsyncIterator[tuple[Hub, Server]]:
    guard = _Guard(**settings)
    hub = guard.hub
    page = LivePage(hub)

    def answer(request: Request) -> Response | None:
        if not guard.admits(request):
            return Response(HTTPStatus.FORBIDDEN, b"Forbidden: this page is for this machine\n")
        return page.process_request(request)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(hub)
        if redis is not None:
            await stack.enter_async_context(_new_bridge(hub, redis))
            await page.join()
        if sockets:
            server = hub.serve(sockets=sockets, process_request=answer)
        else:
            server = hub.serve(arguments.host, arguments.port, process_request=answer)
        await stack.enter_async_context(server)
        # However the address was spelled.
        guard.is_local = all(is_loopback_host(_bracket(each)) for each in server.addresses)
        yield hub, server


def _print_addresses(host: str, port: int) -> None:
    """Print where the page is, and where clients connect."""
    address = _address(host, port)
    print(address, f"ws{address.removeprefix('http')}ws", sep="\n", flush=True)


def _address(host: str, port: int) -> str:
    """Return an address that can be opened on this machine."""
    name = "localhost" if host in _ALL_ADDRESSES else _bracket(host)
    return f"http://{name}:{port}/"


def _bracket(host: str) -> str:
    """Return a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


async def _until_terminated(work: Coroutine[Any, Any, int]) -> int:
    """Await work; SIGTERM cancels it as Ctrl-C does, so that it can clean up."""
    task = asyncio.current_task()
    assert task is not None, "a coroutine runs in a task"
    if sys.platform != "win32":
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def _new_event_loop_runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return uvloop's runner if it is installed (``wshub-core[speed]``), else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    run: Callable[[Coroutine[Any, Any, int]], int] = uvloop.run
    return run
