"""Environments of the peers, in a cache folder: each has the packages of one peer, pinned."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from roster import Peer

FOLDER = Path(__file__).parent
SERVERS = FOLDER / "servers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wshub-bench"
TIMEOUT = 600  # seconds for one installation


class MissingPeerError(Exception):
    """A peer cannot be installed here."""


def prepare(peer: Peer) -> list[str | Path]:
    """Return the command of a server; install what it needs, unless an earlier run has done so.

    Raises:
        MissingPeerError: It cannot be installed.
    """
    program = SERVERS / peer.program
    if program.parent.name == "go":
        return [build_go(program)]
    if program.suffix == ".js":
        return [tool("node"), "--expose-gc", install_node(program)]
    python = python_of(peer) if peer.requirements else Path(sys.executable)
    return [python, program, *peer.arguments]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise MissingPeerError(f"there is no command {name}")
    return found


def build_go(folder: Path) -> Path:
    """Return the program that Go builds from a folder of the module."""
    go = tool("go")
    module = folder.parent
    sources = sorted(path for path in module.rglob("*") if path.is_file())
    version = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout
    target = folder_of("go", version, *(path.read_text() for path in sources)) / folder.name
    if not target.exists():
        call(go, "build", "-mod=readonly", "-o", target, f"./{folder.name}", cwd=module)
    return target


def install_node(program: Path) -> Path:
    """Return a copy of a program, beside its packages, where Node.js looks for them."""
    npm = tool("npm")
    sources = sorted(path for path in program.parent.iterdir() if path.is_file())
    folder = folder_of("node", *(path.read_text() for path in sources))
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(program.parent, folder)
        call(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        (folder / "complete").touch()
    return folder / program.name


def python_of(peer: Peer) -> Path:
    """Return the interpreter of a virtual environment with the packages of a peer."""
    folder = folder_of("python", sys.version, *peer.requirements)
    python = folder / "bin/python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        if uv := shutil.which("uv"):
            call(uv, "venv", "--quiet", "--python", sys.executable, folder)
            call(uv, "pip", "install", "--quiet", "--python", python, *peer.requirements)
        else:
            call(sys.executable, "-m", "venv", folder)
            call(python, "-m", "pip", "install", "--quiet", *peer.requirements)
        (folder / "complete").touch()
    return python


def folder_of(kind: str, *content: str) -> Path:
    """Return the folder of an environment. Another content has another folder."""
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()
    return CACHE / f"{kind}-{digest[:12]}"


def call(*command: str | Path, cwd: Path | None = None) -> None:
    """Run a command of an installation."""
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise MissingPeerError(f"{Path(command[0]).name} needed over {TIMEOUT} s") from None
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise MissingPeerError(f"{Path(command[0]).name}: {lines[-1].strip()}")
