"""Encoding of Python values as JSON.

Values with one obvious JSON form are converted. For any other value, the error names the value and
its path in the data.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from math import isfinite
from numbers import Integral
from typing import Any
from uuid import UUID

import msgspec

from wshub_core.values.errors import MessageEncodeError


def _to_plain(value: Any) -> Any:
    """Return the JSON form of a value whose type msgspec does not support.

    Such types are subclasses of plain types, other containers, and models of pydantic.
    """
    match value:
        case msgspec.Raw():
            # The encoder copies it. It is passed here only for the search for values.
            return msgspec.json.decode(value)
        case None | bool():
            # msgspec supports both as values, so they are passed here only as keys.
            raise TypeError("JSON objects have strings as keys")
        case str():
            # Not str(value), which a subclass may override.
            return str.__str__(value)
        case float():
            if not isfinite(value):
                raise ValueError("JSON has no NaN and no infinity")
            return float.__float__(value)
        case Integral():
            return int(value)
        case Mapping():
            return dict(value)
        case Set() | deque() | list() | tuple():
            return list(value)
        case datetime() | date() | time():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"JSON has no form for {type(value).__qualname__}")


_encoder = msgspec.json.Encoder(enc_hook=_to_plain)

_ENCODE_ERRORS = (TypeError, ValueError, OverflowError, msgspec.MsgspecError)


def encode(value: object, data: object) -> bytes:
    """Encode a value as JSON in UTF-8.

    Numbers are exact. JSON has no NaN and no infinities, so these are refused.

    Args:
        value: The value, such as a message.
        data: The part of the value that the application has made. Error texts contain paths in it.

    Raises:
        MessageEncodeError: The data contains a value that JSON cannot represent.
    """
    try:
        payload = _encoder.encode(value)
        # msgspec encodes NaN and the infinities as null. The search for them is slow, and necessary
        # only if the payload contains a null.
        if payload.find(b"null") >= 0 and _has_non_finite(
            msgspec.to_builtins(data, enc_hook=_to_plain)
        ):
            raise ValueError("JSON has no NaN and no infinity")
    except RecursionError:
        raise MessageEncodeError("data is nested too deeply or contains itself") from None
    except _ENCODE_ERRORS as exc:
        raise MessageEncodeError(_explain(data) or str(exc)) from exc
    except Exception as exc:
        # Code of the application ran, such as a property of a model, and may raise anything.
        raise MessageEncodeError(f"{type(exc).__qualname__}: {exc}") from exc
    return payload


def _explain(data: object) -> str | None:
    """Return the error and the path of the part that cannot be encoded, or None.

    The search descends from the data to the innermost part that cannot be encoded.
    """
    why = _refusal(data)
    path = "data"
    while why is not None:
        for step, part in _parts(data):
            if (part_why := _refusal(part)) is not None:
                data, why, path = part, part_why, path + step
                break
        else:
            return f"{why} (at {path})"
    return None


def _refusal(value: object) -> str | None:
    """Return the reason why a value cannot be encoded, or None if it can be encoded."""
    try:
        _encoder.encode(value)
        if _has_non_finite(msgspec.to_builtins(value, enc_hook=_to_plain)):
            return "JSON has no NaN and no infinity"
    except UnicodeEncodeError:
        return "the text has a lone surrogate, which UTF-8 cannot encode"
    except _ENCODE_ERRORS as exc:
        return str(exc)
    return None


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of a container, each with the path from the container to the part."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield f"[{key!r}]", part
    elif isinstance(value, list | tuple | deque | Set):
        for index, part in enumerate(value):
            yield f"[{index}]", part
    elif is_dataclass(value) or isinstance(value, msgspec.Struct):
        names = (
            value.__struct_fields__
            if isinstance(value, msgspec.Struct)
            else [field.name for field in fields(value)]
        )
        for name in names:
            yield f".{name}", getattr(value, name, None)


def _has_non_finite(data: object) -> bool:
    if isinstance(data, float):
        return not isfinite(data)
    if isinstance(data, dict):
        return any(map(_has_non_finite, data.values()))
    return isinstance(data, list | tuple | set | frozenset) and any(map(_has_non_finite, data))


def replace_surrogates(text: str) -> str:
    """Return a text that UTF-8 can encode, with question marks for lone surrogates."""
    return text.encode(errors="replace").decode()
