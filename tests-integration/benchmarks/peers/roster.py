"""The peers: how each is installed and started, and which protocol its subscribers speak."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    """A server program.

    Attributes:
        name: For the command line and the tables.
        program: File in `servers`; the suffix tells the language.
        description: How the program publishes.
        arguments: Arguments of the program.
        requirements: Packages of the program's own environment. Without packages, the program runs
            in the environment of the benchmark.
        dialect: A key of `dialects.DIALECTS`.
        compresses: Whether the library has permessage-deflate.
    """

    name: str
    program: str
    description: str
    arguments: Sequence[str] = ()
    requirements: Sequence[str] = ()
    dialect: str = "json"
    compresses: bool = True


UVLOOP = ("--loop", "uvloop")
UVICORN = ("uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0", "websockets==17.4")

PEERS = (
    Peer(
        "floor",
        "floor_server.py",
        "`transport.write` of ready frames to plain sockets, asyncio",
        dialect="sockets",
        compresses=False,
    ),
    Peer(
        "floor-uvloop",
        "floor_server.py",
        "the same, uvloop",
        UVLOOP,
        dialect="sockets",
        compresses=False,
    ),
    Peer("wshub", "wshub_server.py", "`hub.publish`, asyncio"),
    Peer("wshub-uvloop", "wshub_server.py", "`hub.publish`, uvloop", UVLOOP),
    Peer("websockets", "websockets_server.py", "`broadcast`, asyncio"),
    Peer(
        "websockets-tasks",
        "websockets_tasks_server.py",
        "a task for each connection that awaits `send`, asyncio",
    ),
    Peer(
        "picows",
        "picows_server.py",
        "a loop over `transport.send`, asyncio",
        requirements=("picows==2.3.1", "aiofastnet==1.2.0"),
        compresses=False,
    ),
    Peer(
        "picows-uvloop",
        "picows_server.py",
        "the same, uvloop",
        UVLOOP,
        requirements=("picows==2.3.1", "aiofastnet==1.2.0", "uvloop==0.23.0"),
        compresses=False,
    ),
    Peer(
        "aiohttp",
        "aiohttp_server.py",
        "a loop over `await send_str`, asyncio",
        requirements=("aiohttp==3.14.5",),
    ),
    Peer(
        "starlette",
        "starlette_server.py",
        "a loop over `await send_text`; uvicorn, uvloop",
        UVLOOP,
        requirements=("starlette==1.10.0", *UVICORN),
    ),
    Peer(
        "socketio",
        "socketio_server.py",
        "python-socketio: `emit` to a room; uvicorn, uvloop",
        UVLOOP,
        requirements=("python-socketio==5.18.1", "python-engineio==4.15.1", *UVICORN),
        dialect="socket.io",
    ),
    Peer(
        "channels",
        "channels_server.py",
        "Django Channels: `group_send` of the layer in memory; uvicorn, uvloop",
        UVLOOP,
        requirements=("channels==4.3.2", "django==5.2.19", *UVICORN),
    ),
    Peer(
        "gorilla",
        "go/gorilla",
        "gorilla/websocket, Go: a `PreparedMessage`, two goroutines for each connection",
    ),
    Peer(
        "centrifuge",
        "go/centrifuge",
        "Centrifuge, Go: `node.Publish`",
        dialect="centrifuge",
    ),
    Peer("ws", "ws/server.js", "ws, Node.js: a loop over `send` of one buffer"),
)
QUICK = ("floor", "wshub", "wshub-uvloop", "websockets", "picows", "gorilla")
