"""The bodies of requests to the HTTP API: read within a limit, decoded with exact errors."""

import asyncio
import re
from difflib import get_close_matches
from http import HTTPStatus
from time import monotonic
from typing import Any

import msgspec

from wshub_core.endpoints.api.errors import JSON_TYPE, APIError
from wshub_core.endpoints.api.requests import (
    EncodedBatchRequest,
    PublishBatchRequest,
    PublishRequest,
)
from wshub_core.transports.asgi_messages import BodyTooLargeError, Receive, read_body
from wshub_core.transports.reading import TURN_SECONDS
from wshub_core.values.http import Request

_WITH_PATH = re.compile(r"(?P<text>.*?)(?: - at `(?P<path>\$.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*?)`?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>\w+)`")

_batch_decoder = msgspec.json.Decoder(EncodedBatchRequest)
_message_decoder = msgspec.json.Decoder(PublishRequest)

_LONGEST_TEXT = 120
"""Number of characters of msgspec's texts, which repeat names of fields that the client chooses."""

_MAX_DIGITS = 18
"""Number of digits of a length that is above every limit."""


def check_content_type(request: Request) -> None:
    """Raise an error if the body of a request is not declared as JSON, without compression.

    This is also a protection: a page of another site can send a form or a text with the cookies of
    a user, but no JSON, unless the server allows it in an answer to ``OPTIONS``.
    """
    content_type = request.header("content-type") or ""
    if content_type.partition(";")[0].strip().lower() != JSON_TYPE:
        raise APIError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            f"the body must be JSON, with the header Content-Type: {JSON_TYPE}",
        )
    if (request.header("content-encoding") or "identity").strip().lower() != "identity":
        raise APIError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must not be compressed, so leave out the header Content-Encoding",
            # RFC 9110 section 12.5.3: the encodings that the next request may use.
            headers={"Accept-Encoding": "identity"},
        )


async def read_bounded_body(request: Request, receive: Receive, limit: int) -> bytes:
    """Return the body of a request; refuse a length that is too large before the body comes.

    Args:
        request: The request.
        receive: Receives the body.
        limit: Maximum size, in bytes.

    Raises:
        APIError: The body exceeds the limit.
        ClientGoneError: The client has gone.
    """
    announced = request.header("content-length") or ""
    # The length first: Python refuses to convert thousands of digits.
    if announced.isdecimal() and (len(announced) > _MAX_DIGITS or int(announced) > limit):
        raise _too_large(limit)
    try:
        return await read_body(receive, limit)
    except BodyTooLargeError:
        raise _too_large(limit) from None


def _too_large(limit: int) -> APIError:
    return APIError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body_too_large",
        f"the body must have at most {limit} bytes",
    )


async def decode_batch(body: bytes) -> PublishBatchRequest:
    """Return the messages of a batch; give way between two of them.

    A batch of the largest size can hold 300,000 empty lists, which take some 0.2 s to decode.

    Raises:
        APIError: The body is not JSON, or no batch.
    """
    messages = []
    turn_end = monotonic() + TURN_SECONDS
    for index, encoded in enumerate(decode_body(_batch_decoder, body).messages):
        messages.append(decode_body(_message_decoder, encoded, f"$.messages[{index}]"))
        if monotonic() >= turn_end:
            await asyncio.sleep(0)
            turn_end = monotonic() + TURN_SECONDS
    return PublishBatchRequest(messages=tuple(messages))


def decode_body(
    decoder: msgspec.json.Decoder[Any], body: bytes | msgspec.Raw, place: str = "$"
) -> Any:
    """Return the object of a body.

    Args:
        decoder: The decoder of the object.
        body: The object, as JSON.
        place: The path of the object, for the error.

    Raises:
        APIError: The body is not JSON, or not the object that the operation takes.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _explain(decoder.type, str(exc), place) from None
    except UnicodeDecodeError:
        why = "the body is not UTF-8"
    except msgspec.DecodeError as exc:
        why = str(exc)
    except RecursionError:
        why = "the body is nested too deeply"
    raise APIError(HTTPStatus.BAD_REQUEST, "invalid_json", why)


def _explain(request_type: Any, text: str, place: str) -> APIError:
    """Return the error for an object of a wrong form, from msgspec's text."""
    parts = _WITH_PATH.fullmatch(text)
    assert parts is not None, "the pattern matches every text"
    path = place + (parts["path"] or "$")[1:_LONGEST_TEXT]
    why = parts["text"][:_LONGEST_TEXT]
    if missing := _MISSING.fullmatch(why):
        name = missing["name"]
        return _invalid("missing_field", f"the field {name} is missing", f"{path}.{name}")
    if unknown := _UNKNOWN.fullmatch(why):
        name = unknown["name"]
        close = get_close_matches(name, request_type.__struct_encode_fields__, 1)
        hint = f": did you mean {close[0]}?" if close else ""
        return _invalid("unknown_field", f"unknown field {name!r}{hint}", f"{path}.{name}")
    return _invalid("invalid_field", why, path)


def _invalid(code: str, text: str, field: str) -> APIError:
    return APIError(HTTPStatus.BAD_REQUEST, code, text, field=field)
