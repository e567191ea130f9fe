"""The sources of the settings: flags go before environment variables, and these before a file."""

import argparse
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from wshub_core.cli.settings import ServeSettings
from wshub_core.values.errors import InvalidConfigError

_PREFIX = "WSHUB_"
"""The beginning of the names of environment variables."""

_TYPE_NAMES = {
    bool: "true or false",
    float: "a number",
    int: "an integer",
    str: "a string",
    tuple: "a list of strings",
    list: "an array",
    dict: "a table",
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting, and the flag for the configuration file."""
    parser.add_argument("--config", metavar="FILE", help="read the settings from this TOML file")
    for setting, kind in _settings():
        flag = f"--{setting.name.replace('_', '-')}"
        help_text = setting.metadata["effect"]
        if setting.default not in (None, False, ()):
            help_text += f" ({setting.default})"
        # A flag that is not given leaves no attribute, so that the other sources count.
        common: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help_text}
        if kind is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        else:
            metavar = setting.metadata["metavar"]
            convert = partial(_read_argument, kind)
            parser.add_argument(flag, type=convert, metavar=metavar, **common)


def read_settings(
    arguments: argparse.Namespace, environment: Mapping[str, str] = os.environ
) -> ServeSettings:
    """Return the settings from all sources.

    Raises:
        InvalidConfigError: A source has an error. The text has a line for each error.
    """
    problems: list[str] = []
    path = arguments.config or environment.get(f"{_PREFIX}CONFIG")
    values = {} if not path else _read_file(path, problems)
    for setting, kind in _settings():
        variable = f"{_PREFIX}{setting.name.upper()}"
        if variable in environment:
            try:
                values[setting.name] = _parse(environment[variable], kind)
            except ValueError as exc:
                problems.append(f"{variable} {exc}{_explain(environment[variable])}")
        if hasattr(arguments, setting.name):
            values[setting.name] = getattr(arguments, setting.name)
    if problems:
        raise InvalidConfigError("\n".join(problems))
    return ServeSettings(**values)


def _settings() -> Iterator[tuple[Field[Any], Any]]:
    """Yield the settings that have a flag and a variable, each with its type."""
    hints = get_type_hints(ServeSettings)
    for setting in fields(ServeSettings):
        if setting.default is not MISSING:
            yield setting, _without_none(hints[setting.name])


def _read_file(path: str, problems: list[str]) -> dict[str, Any]:
    try:
        # Editors of Windows may put a byte order mark in front, which is no TOML.
        table = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except OSError as exc:
        problems.append(f"cannot read {path}: {exc.strerror}")
    except UnicodeDecodeError:
        problems.append(f"cannot read {path}: the file is not UTF-8")
    except RecursionError:
        problems.append(f"{path}: nested too deeply")
    except ValueError as exc:
        problems.append(f"{path}: {exc}")
    else:
        found: list[str] = []
        values = _read_table(table, ServeSettings, "", found)
        problems += [f"{path}: {problem}" for problem in found]
        return values
    return {}


def _read_table(
    table: Mapping[str, Any], kind: type, prefix: str, problems: list[str]
) -> dict[str, Any]:
    """Return the values of a table for the fields of a dataclass."""
    hints = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if key not in hints:
            problems.append(_describe_unknown(name, key, hints))
            continue
        try:
            values[key] = _convert(value, _without_none(hints[key]), name, problems)
        except ValueError as exc:
            problems.append(f"{name} {exc}")
    return values


def _convert(value: object, kind: Any, name: str, problems: list[str]) -> Any:
    """Return a value of the file in the type of its setting.

    Raises:
        ValueError: The value has another type. The text is the end of a sentence.
    """
    if get_origin(kind) is not Mapping and not is_dataclass(kind):
        return _to_type(value, kind, is_text=False)
    if not isinstance(value, dict):
        raise ValueError(f"must be a table, not {_name_type(type(value))}")
    if not is_dataclass(kind):
        # A table of tables, by patterns of channels.
        entry = get_args(kind)[1]
        return {
            pattern: converted
            for pattern, each in value.items()
            if (converted := _convert_entry(each, entry, f'{name}."{pattern}"', problems))
        }
    assert isinstance(kind, type), "the settings have dataclasses, and no instances of them"
    return kind(**_read_table(value, kind, f"{name}.", problems))


def _convert_entry(value: object, kind: Any, name: str, problems: list[str]) -> Any:
    try:
        return _convert(value, kind, name, problems)
    except ValueError as exc:
        problems.append(f"{name} {exc}")
    except InvalidConfigError as exc:
        problems.append(f"{name}: {exc}")
    return None


def _to_type(value: object, kind: Any, *, is_text: bool) -> Any:
    """Return a value in the type of its setting; numbers may be written as text if `is_text`.

    Raises:
        ValueError: The value does not fit. The text does not repeat it, because it may be a secret.
    """
    try:
        return msgspec.convert(value, kind, strict=not is_text)
    except (msgspec.ValidationError, UnicodeEncodeError):  # bytes of a variable that are no UTF-8
        found = "" if is_text else f", not {_name_type(type(value))}"
        if get_origin(kind) is Literal:
            raise ValueError(f"must be one of {', '.join(get_args(kind))}") from None
        raise ValueError(f"must be {_name_type(get_origin(kind) or kind)}{found}") from None


def _parse(text: str, kind: Any) -> Any:
    """Return the value of a flag or an environment variable.

    Raises:
        ValueError: The text does not fit the type.
    """
    if get_origin(kind) is tuple:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return _to_type(text, kind, is_text=True)


def _read_argument(kind: Any, text: str) -> Any:
    try:
        return _parse(text, kind)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from None


def _explain(value: str) -> str:
    """Return the cause of an invalid variable, if it is well known."""
    if not value.startswith("tcp://"):
        return ""
    return (
        ": Kubernetes sets it for a Service named wshub; "
        "set enableServiceLinks to false, or rename the Service"
    )


def _describe_unknown(name: str, key: str, known: Mapping[str, Any]) -> str:
    similar = get_close_matches(key.lower().replace("-", "_"), known, n=1)
    hint = f": did you mean {similar[0]}?" if similar else ""
    return f"unknown setting {name}{hint}"


def _name_type(kind: Any) -> str:
    return _TYPE_NAMES.get(kind, f"a {getattr(kind, '__name__', kind)}")


def _without_none(kind: Any) -> Any:
    """Return the type of a setting without None: a file cannot hold it, nor a variable."""
    members = [each for each in get_args(kind) if each is not NoneType]
    return members[0] if NoneType in get_args(kind) else kind
