"""The ``wshub`` command."""

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import wshub_core
from wshub_core.edges.page import LivePage
from wshub_core.edges.serve import Server
from wshub_core.runtime.hub import Hub
from wshub_core.runtime.process import run_process
from wshub_core.values.channels import validate_process_id
from wshub_core.values.config import HubConfig
from wshub_core.values.errors import ProcessStartError, WSHubError
from wshub_core.values.http import Request, Response
from wshub_core.values.messages import Message, MessageType
from wshub_core.values.origins import is_loopback_host, origin_allowed


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Args:
        argv: The arguments; those of this process if None.
    """
    arguments = _make_parser().parse_args(argv)
    try:
        return _new_event_loop_runner()(_until_terminated(arguments.run(arguments)))
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
    serve.set_defaults(run=_serve)

    run = commands.add_parser(
        "run", parents=[address], help="run a command, and a hub with a page that follows it"
    )
    run.add_argument("--id", default="run", help="the process id: its channel is process:ID (run)")
    run.add_argument("command", nargs=argparse.REMAINDER, help="the command and its arguments")
    run.set_defaults(run=_run)
    return parser


async def _serve(arguments: argparse.Namespace) -> int:
    async with _make_hub(arguments.host) as hub, _serve_page(hub, arguments) as server:
        print(_address(arguments.host, server.port), flush=True)
        await server.serve_forever()
    return 0


async def _run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        raise ProcessStartError("no command: say `wshub run -- COMMAND`")
    validate_process_id(arguments.id)
    async with _make_hub(arguments.host) as hub, _serve_page(hub, arguments) as server:
        # Standard output is the command's.
        print(_address(arguments.host, server.port), file=sys.stderr, flush=True)
        hub.add_publish_listener(_echo)
        exit_code = await run_process(hub, arguments.id, *command)
    # A signal is reported as shells do.
    return exit_code if exit_code >= 0 else 128 - exit_code


def _echo(channel: str, message: Message) -> None:
    if message.type == MessageType.PROCESS_OUTPUT:
        print(message.data, flush=True)


def _make_hub(host: str) -> Hub:
    if not is_loopback_host(_bracket(host)):
        return Hub()

    def check_origin(request: Request) -> bool:
        return is_loopback_host(request.header("host")) and origin_allowed(request, None)

    return Hub(HubConfig(check_origin=check_origin))


@asynccontextmanager
async def _serve_page(hub: Hub, arguments: argparse.Namespace) -> AsyncIterator[Server]:
    page = LivePage(hub)
    is_local = is_loopback_host(_bracket(arguments.host))

    def answer(request: Request) -> Response | None:
        if is_local and not is_loopback_host(request.header("host")):
            return Response(HTTPStatus.FORBIDDEN, b"Forbidden: this page is for this machine\n")
        return page.process_request(request)

    async with hub.serve(arguments.host, arguments.port, process_request=answer) as server:
        yield server


def _address(host: str, port: int) -> str:
    return f"http://{_bracket(host)}:{port}/"


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
