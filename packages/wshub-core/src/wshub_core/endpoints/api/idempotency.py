"""The memory of answers by idempotency key, so that a repeated request has no second effect."""

import hashlib
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, TypeAlias

from wshub_core.endpoints.api.errors import APIError

_SECONDS = 600.0
"""Time for which an answer is kept, in seconds."""

_MAX_ANSWERS = 10_000
"""Maximum number of answers."""

_MAX_BYTES = 4_194_304
"""Maximum size of all answers. Nearly all have 2 bytes; those of batches with errors have more."""

_MAX_KEY_LENGTH = 255

Key: TypeAlias = tuple[str, str, str]
"""A user, an operation, and the key that the user has chosen."""


class _Kept(NamedTuple):
    expires_at: float
    digest: bytes
    answer: bytes


class IdempotentAnswers:
    """The answers of the last requests that had a key.

    No task waits between `find` and `keep`: operations with a key are plain functions. A request
    therefore never meets another one with the same key that is under way.

    Args:
        now: Returns the time of the hub's clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: dict[Key, _Kept] = {}
        self._bytes = 0

    def find(self, key: Key, body: bytes) -> bytes | None:
        """Return the answer to an earlier request with the same key, or None.

        Raises:
            APIError: The earlier request had another body.
        """
        kept = self._kept.get(key)
        if kept is None or kept.expires_at <= self._now():
            return None
        if kept.digest != _digest(body):
            raise APIError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "an earlier request with this Idempotency-Key had another body",
            )
        return kept.answer

    def keep(self, key: Key, body: bytes, answer: bytes) -> None:
        """Keep the answer to a request."""
        now = self._now()
        self._drop(key)
        self._kept[key] = _Kept(now + _SECONDS, _digest(body), answer)
        self._bytes += len(answer)
        # A dict keeps the order of its entries, and all have the same time: the first is oldest.
        while (oldest := next(iter(self._kept), None)) is not None and (
            len(self._kept) > _MAX_ANSWERS
            or self._bytes > _MAX_BYTES
            or self._kept[oldest].expires_at <= now
        ):
            self._drop(oldest)

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= len(kept.answer)


def check_key(values: tuple[str, ...]) -> str:
    """Return the key of the header ``Idempotency-Key``; empty if there is none.

    Raises:
        APIError: The header is empty, too long or repeated, or has other than printable characters.
    """
    if not values:
        return ""
    key = values[0].strip()
    if len(values) > 1 or not 0 < len(key) <= _MAX_KEY_LENGTH or not key.isprintable():
        raise APIError(
            HTTPStatus.BAD_REQUEST,
            "invalid_idempotency_key",
            f"Idempotency-Key must have 1 to {_MAX_KEY_LENGTH} printable characters",
        )
    return key


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
