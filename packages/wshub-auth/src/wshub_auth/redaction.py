"""Tokens taken out of log records, before anybody writes them down."""

import logging
import re
from urllib.parse import unquote_plus

_PARAMETER = re.compile(r"(?P<before>[?&](?P<name>[^=&#\s]+)=)(?P<value>[^&#\s\"]+)")


class TokenRedactor(logging.Filter):
    """A logging filter that replaces the values of query parameters by ``***``.

    Servers write the address of every request to their logs, query included. Put this on each
    handler (or logger) that writes such records.

    Args:
        *names: The names of the parameters.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = names or ("token", "ticket", "access_token")

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the secrets out of a record, and let it pass."""
        if isinstance(record.msg, str):
            record.msg = self._redact(record.msg)
        # Formatters of access logs read the arguments one by one, so they stay what they are.
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._redact, record.args))
        elif isinstance(record.args, dict):
            record.args = {key: self._redact(value) for key, value in record.args.items()}
        return True

    def _redact(self, value: object) -> object:
        return _PARAMETER.sub(self._cover, value) if isinstance(value, str) else value

    def _cover(self, parameter: re.Match[str]) -> str:
        # A name can be written in more than one way.
        is_secret = unquote_plus(parameter["name"]) in self._names
        return f"{parameter['before']}***" if is_secret else parameter[0]
