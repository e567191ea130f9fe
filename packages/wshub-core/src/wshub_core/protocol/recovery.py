"""Requests for the history of a channel, and the plan of the answer (wire protocol, "History")."""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from wshub_core.values.errors import InvalidHistoryRequestError
from wshub_core.values.history import MAX_OFFSET

_Offset = Annotated[int, msgspec.Meta(ge=0, le=MAX_OFFSET)]


class HistoryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The history that a client asks for. Exactly one of `last` and `since` is set.

    Attributes:
        last: Number of the newest messages to send.
        since: Offset behind which the messages are to be sent.
        epoch: The epoch of `since`; None if the client does not know it.
    """

    last: _Offset | None = None
    since: _Offset | None = None
    epoch: Annotated[str, msgspec.Meta(max_length=64)] | None = None


_decoder: msgspec.json.Decoder[HistoryRequest | None] = msgspec.json.Decoder(HistoryRequest | None)


def decode_history_request(raw: bytes) -> HistoryRequest | None:
    """Decode the field ``history`` of a subscribe frame; None if it is null.

    Raises:
        InvalidHistoryRequestError: The value is no valid request.
    """
    try:
        request = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidHistoryRequestError(f"history: {exc}") from None
    if request is not None and (request.last is None) == (request.since is None):
        raise InvalidHistoryRequestError("history: give exactly one of last and since")
    if request is not None and request.epoch is not None and request.since is None:
        raise InvalidHistoryRequestError("history: epoch needs since")
    return request


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    """The part of a history that a subscriber gets.

    Attributes:
        after: Offset behind which the messages are sent.
        reason: Why messages are missing; empty if none are.
        missing: Number of messages that are known to be missing; None if it is not known.
    """

    after: int
    reason: str = ""
    missing: int | None = None


def plan_recovery(request: HistoryRequest, epoch: str, first: int, offset: int) -> RecoveryPlan:
    """Return the part that a subscriber gets.

    Args:
        request: The request.
        epoch: The epoch of the stream.
        first: Offset of the oldest kept message; ``offset + 1`` if none is kept.
        offset: Offset of the newest message.
    """
    if request.epoch is not None and request.epoch != epoch:
        return RecoveryPlan(first - 1, "foreign_epoch")
    since = request.since
    if since is None:
        assert request.last is not None, "decode_history_request checks this"
        since = max(offset - request.last, 0)
    if since > offset:
        return RecoveryPlan(first - 1, "future_offset")
    if since < first - 1:
        return RecoveryPlan(first - 1, "trimmed", first - 1 - since)
    return RecoveryPlan(since)


def describe_plan(plan: RecoveryPlan) -> dict[str, Any]:
    """Return the fields of the answer that say whether something is missing."""
    if not plan.reason:
        return {"recovered": True}
    missing = {} if plan.missing is None else {"missing": plan.missing}
    return {"recovered": False, "reason": plan.reason, **missing}
