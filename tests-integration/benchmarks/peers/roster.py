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

PEERS = (
    Peer(
        "floor",
        "floor_server.py",
        "asyncio: `transport.write` of ready frames to plain sockets",
        dialect="sockets",
        compresses=False,
    ),
    Peer(
        "floor-uvloop",
        "floor_server.py",
        "uvloop: the same",
        UVLOOP,
        dialect="sockets",
        compresses=False,
    ),
    Peer("wshub", "wshub_server.py", "wshub on asyncio: `hub.publish`"),
    Peer("wshub-uvloop", "wshub_server.py", "wshub on uvloop: `hub.publish`", UVLOOP),
    Peer("websockets", "websockets_server.py", "websockets: `broadcast`"),
    Peer(
        "picows",
        "picows_server.py",
        "picows on asyncio: a loop over `transport.send`",
        requirements=("picows==2.3.1", "aiofastnet==1.2.0"),
        compresses=False,
    ),
    Peer(
        "picows-uvloop",
        "picows_server.py",
        "picows on uvloop: a loop over `transport.send`",
        UVLOOP,
        requirements=("picows==2.3.1", "aiofastnet==1.2.0", "uvloop==0.23.0"),
        compresses=False,
    ),
)
SMOKE = ("floor", "wshub", "websockets")
QUICK = ("floor", "wshub", "wshub-uvloop", "websockets", "picows")
