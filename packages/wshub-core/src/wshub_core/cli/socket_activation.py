"""Sockets from a service manager (``sd_listen_fds(3)``), which outlive the command."""

import os
import socket

from wshub_core.values.errors import ServeError

_FIRST_DESCRIPTOR = 3
"""The descriptor of the first socket (``SD_LISTEN_FDS_START``)."""


def take_inherited_sockets() -> list[socket.socket]:
    """Return the listening sockets that a service manager has passed to this process.

    The variables are removed, so that no child process takes the sockets again.

    Raises:
        ServeError: A descriptor is no stream socket.
    """
    process_id = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    # The variables may be meant for another process, which has passed its environment on.
    if process_id != str(os.getpid()) or not count.isdecimal():
        return []
    return [_open(_FIRST_DESCRIPTOR + number) for number in range(int(count))]


def _open(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        opened = socket.socket(fileno=descriptor)
    except OSError as exc:
        raise ServeError(
            f"descriptor {descriptor} of the service manager is no socket: {exc.strerror}"
        ) from exc
    if opened.type != socket.SOCK_STREAM:
        raise ServeError(
            f"descriptor {descriptor} of the service manager is no stream socket: use ListenStream="
        )
    return opened
