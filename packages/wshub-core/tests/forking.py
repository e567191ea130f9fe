"""A fork for tests, whose child cannot keep them waiting."""

import os
import signal

_CHILD_SECONDS = 30


def fork() -> int:
    """Fork; return the child's process id in the parent and 0 in the child.

    The kernel kills a child that has not ended after 30 seconds. A child of a process with threads
    may wait for ever for a lock that a thread held in the parent.
    """
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_CHILD_SECONDS)
    return child
