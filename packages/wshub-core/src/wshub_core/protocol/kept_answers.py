"""The memory of answers by idempotency key, so that a repeated request has no second effect."""

from collections.abc import Callable
from typing import NamedTuple

_SECONDS = 600.0
"""Time for which an answer is kept, in seconds."""

_MAX_ANSWERS = 10_000
"""Maximum number of answers."""

_MAX_BYTES = 4_194_304
"""Maximum size of all answers. Nearly all have 2 bytes; those of batches with errors have more."""


class AnswerKey(NamedTuple):
    """The key of an answer.

    Attributes:
        user_id: The user of the API.
        operation: The operation.
        key: The key that the user has chosen.
    """

    user_id: str
    operation: str
    key: str


class KeptAnswer(NamedTuple):
    """An answer that was given before.

    Attributes:
        digest: The digest of the body of the request.
        answer: The body of the response.
    """

    digest: str
    answer: bytes


class KeptAnswers:
    """The answers of the last requests that had a key.

    Args:
        now: Returns the time of the hub's clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._kept: dict[AnswerKey, tuple[float, KeptAnswer]] = {}
        self._bytes = 0

    def find(self, key: AnswerKey) -> KeptAnswer | None:
        """Return the answer to an earlier request with the same key, or None."""
        expires_at, answer = self._kept.get(key, (0.0, None))
        return answer if expires_at > self._now() else None

    def keep(self, key: AnswerKey, answer: KeptAnswer) -> None:
        """Keep the answer to a request."""
        now = self._now()
        self._drop(key)
        self._kept[key] = (now + _SECONDS, answer)
        self._bytes += len(answer.answer)
        # A dict keeps the order of its entries, and all have the same time: the first is oldest.
        while (oldest := next(iter(self._kept), None)) is not None and (
            len(self._kept) > _MAX_ANSWERS
            or self._bytes > _MAX_BYTES
            or self._kept[oldest][0] <= now
        ):
            self._drop(oldest)

    def _drop(self, key: AnswerKey) -> None:
        if key in self._kept:
            _, answer = self._kept.pop(key)
            self._bytes -= len(answer.answer)
