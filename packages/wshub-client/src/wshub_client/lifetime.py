"""The start and the end of a client, as all of its parts see them."""

from wshub_client.errors import ClientClosedError, ClientError
from wshub_core.forks import ForkGuard


class Lifetime:
    """Answers two questions: may this process use the client, and has the client ended?

    Attributes:
        is_closed: Whether the client has been closed, or has ended with an error.
        error: The error that has ended the client; None if `close` was called, or before the end.
    """

    __slots__ = (
        "_guard",
        "error",
        "is_closed",
    )

    def __init__(self) -> None:
        self.is_closed = False
        self.error: ClientError | None = None
        # A client that was not started holds no socket, so parent and child may both use it.
        self._guard: ForkGuard | None = None

    def start(self) -> None:
        """Tie the client to this process.

        Raises:
            ClientClosedError: The client has ended.
        """
        self.check_open()
        self._guard = ForkGuard("client")

    def end(self, error: ClientError | None = None) -> None:
        """Note that the client has been closed, or has ended with an error."""
        self.is_closed = True
        if error is not None:
            self.error = error

    def end_error(self) -> ClientError:
        """Return the error for calls that the end of the client makes impossible."""
        return self.error or ClientClosedError()

    def check_process(self) -> None:
        """Check that this process may use the client.

        Raises:
            ForkedProcessError: This is a forked child of the process that has started the client.
        """
        if self._guard is not None:
            self._guard.check()

    def check_open(self) -> None:
        """Check that the client can be used.

        Raises:
            ForkedProcessError: This is a forked child of the process that has started the client.
            ClientClosedError: The client has ended.
        """
        self.check_process()
        if self.is_closed:
            raise ClientClosedError
