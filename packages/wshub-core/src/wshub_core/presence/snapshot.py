"""The members of a channel at one moment, for the application and for the answers to clients."""

from functools import cached_property

import msgspec

from wshub_core.bridge.presence_store import StoredPresence
from wshub_core.values.errors import PresenceUnavailableError
from wshub_core.values.presence import Member, Presence, PresenceCount

_member_decoder = msgspec.json.Decoder(Member)


class PresenceSnapshot:
    """The members of a channel at one moment, which several requests can share.

    Args:
        stored: The members in the form of the store.
        max_answer_bytes: Maximum size of `answer`, in bytes; members that do not fit are left out.

    Raises:
        PresenceUnavailableError: The store has a value that is no member.
    """

    def __init__(self, stored: StoredPresence, max_answer_bytes: int) -> None:
        self._stored = stored
        self._max_answer_bytes = max_answer_bytes
        try:
            # Before any answer contains them: a program that uses the same server can have changed
            # them.
            self._members = tuple(map(_member_decoder.decode, stored.payloads))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise PresenceUnavailableError(f"the store has an invalid member: {exc}") from exc

    @property
    def presence(self) -> Presence:
        """The members, for the application."""
        stored = self._stored
        return Presence(
            connections=stored.connections,
            users=stored.users,
            members=self._members,
            truncated=len(self._members) < stored.connections,
        )

    @property
    def count(self) -> PresenceCount:
        """The numbers alone."""
        return PresenceCount(connections=self._stored.connections, users=self._stored.users)

    @cached_property
    def answer(self) -> msgspec.Raw:
        """The ``data`` of the answer to a client, encoded once for all clients."""
        stored = self._stored
        head = b'{"connections":%d,"users":%d,"members":[' % (stored.connections, stored.users)
        tail = b'],"truncated":true}'
        room = self._max_answer_bytes - len(head) - len(tail)
        fitting = []
        for payload in stored.payloads:
            room -= len(payload) + 1
            if room < 0:
                break
            fitting.append(payload)
        if len(fitting) == stored.connections:
            tail = b"]}"
        return msgspec.Raw(head + b",".join(fitting) + tail)
