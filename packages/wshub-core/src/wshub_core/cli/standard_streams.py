"""The standard streams of the command, which its caller may have closed."""

import io
import os
import sys

_LAST_DESCRIPTOR = 2
"""The descriptor of standard error, the last of the standard streams."""


def prepare_streams() -> None:
    """Make the standard streams usable, whatever the caller has passed on.

    The null device takes the place of streams that are closed. Otherwise the first sockets and
    files would get their descriptors, and uvloop aborts the process when it closes one of these.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_DESCRIPTOR:
        # For worker processes, which would have the same problem.
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # Python has set the streams without a descriptor to None.
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal cannot show must not end the command.
        sys.stdout.reconfigure(errors="replace")


def print_lines(*lines: str) -> None:
    """Print lines, and go on if standard output is full or nobody reads it."""
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:
        discard_output()


def discard_output() -> None:
    """Discard what is printed from now on.

    Python flushes standard output at its exit, which would report the error again.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
