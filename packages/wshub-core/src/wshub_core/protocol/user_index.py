"""The user index: the connections of each user."""

from typing import Generic, TypeVar

C = TypeVar("C")


class UserIndex(Generic[C]):
    """The connections by user id. Connections without a user are not in the index.

    Most users have one connection. The index holds that connection itself, because a set with one
    entry takes 216 bytes.
    """

    def __init__(self) -> None:
        self._connections: dict[str, C | set[C]] = {}

    def add(self, user_id: str, connection: C) -> None:
        """Add a connection, which must not be in the index."""
        if not user_id:
            return
        present = self._connections.setdefault(user_id, connection)
        if isinstance(present, set):
            present.add(connection)
        elif present is not connection:
            self._connections[user_id] = {present, connection}

    def remove(self, user_id: str, connection: C) -> None:
        """Remove a connection, if it is in the index."""
        present = self._connections.get(user_id)
        if isinstance(present, set):
            present.discard(connection)
            if not present:
                del self._connections[user_id]
        elif present is connection:
            del self._connections[user_id]

    def find(self, user_id: str) -> frozenset[C]:
        """Return the connections of a user."""
        present = self._connections.get(user_id)
        if present is None:
            return frozenset()
        return frozenset(present) if isinstance(present, set) else frozenset((present,))
