"""Python values as JSON: what has one plain form is written, and anything else is named."""

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
    """Return the plain form of a value whose type msgspec does not know.

    These are subclasses of plain types, other containers, and models of pydantic.
    """
    match value:
        case None | bool():
            # They come here only as keys.
            raise TypeError("JSON objects have strings as keys")
        case str():
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
    """Write a value as JSON in UTF-8.

    Numbers stay exact. There is no JSON for NaN and the infinities, so they are refused.

    Args:
        value: The value, such as a message.
        data: The part of it that the application has made; errors name the place in it.

    Raises:
        MessageEncodeError: The data holds something that JSON cannot hold.
    """
    try:
        payload = _encoder.encode(value)
        # msgspec writes NaN and the infinities as null: only a payload with a null can hide one.
        if b"null" in payload and _has_non_finite(msgspec.to_builtins(data, enc_hook=_to_plain)):
            raise ValueError("JSON has no NaN and no infinity")
    except RecursionError:
        raise MessageEncodeError("data is nested too deeply or contains itself") from None
    except _ENCODE_ERRORS as exc:
        raise MessageEncodeError(_explain(data) or str(exc)) from exc
    except Exception as exc:
        # The application's own code, such as a property of a model.
        raise MessageEncodeError(f"{type(exc).__qualname__}: {exc}") from exc
    return payload


def _explain(data: object) -> str | None:
    """Return what is wrong with which part of the data; None if nothing is."""
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
    """Return why a value cannot be written; None if it can."""
    try:
        _encoder.encode(value)
        if _has_non_finite(msgspec.to_builtins(value, enc_hook=_to_plain)):
            return "JSON has no NaN and no infinity"
    except UnicodeEncodeError:
        return "the text has a lone surrogate, which is half of a character"
    except _ENCODE_ERRORS as exc:
        return str(exc)
    return None


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """Yield the parts of a container, each with how it is reached."""
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
