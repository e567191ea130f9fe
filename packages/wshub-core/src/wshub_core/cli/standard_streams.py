"""The standard streams of the command, which its caller may have closed."""

import os
import sys

_LAST_DESCRIPTOR = 2
"""The descriptor of standard error, the last of the standard streams."""


def open_missing_streams() -> None:
    """Open the null device in the place of the standard streams that the caller has closed.

    Otherwise the first sockets and files would get their descriptors, and uvloop aborts the process
    when it closes one of these.
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
