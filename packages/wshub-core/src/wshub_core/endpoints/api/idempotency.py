"""The header ``Idempotency-Key``: a repeated request gets the answer of the first one."""

import hashlib
from collections.abc import Callable
from http import HTTPStatus

from wshub_core.connections.fleet_operations import FleetOperations
from wshub_core.endpoints.api.errors import APIError
from wshub_core.protocol.kept_answers import AnswerKey, KeptAnswer

_MAX_KEY_LENGTH = 255


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


def answer_once(
    fleet: FleetOperations, key: AnswerKey, body: bytes, answer: Callable[[], bytes]
) -> bytes:
    """Return the answer to the first request with a key.

    Nothing waits between the search for an answer and its storage, because operations with a key
    are plain functions. So no other request with the same key is under way at this hub.

    Args:
        fleet: Keeps the answers.
        key: The key of the request.
        body: The body of the request.
        answer: Carries the request out, and returns its answer.

    Raises:
        APIError: The first request had another body.
    """
    digest = hashlib.sha256(body).hexdigest()
    kept = fleet.find_answer(key)
    if kept is None:
        kept = KeptAnswer(digest, answer())
        fleet.keep_answer(key, kept)
    elif kept.digest != digest:
        raise APIError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "an earlier request with this Idempotency-Key had another body",
        )
    return kept.answer
