"""A logging filter that removes tokens from URLs in log records.

The filter assigns to ``msg`` and ``args`` of records, as the throttle in `wshub_core.logs` does.
Records belong to the `logging` module, and changing them in place is its documented way to redact
them. Returning a changed copy from a filter works only in Python 3.12 and later.
"""

import logging
import re
from urllib.parse import unquote_plus

_PARAMETER = re.compile(r"(?P<prefix>[?&](?P<name>[^=&#\s]+)=)(?P<value>[^&#\s\"]+)")


class TokenRedactor(logging.Filter):
    """A logging filter that replaces the values of query parameters by ``***``.

    Servers log the URL of every request, including the query. Add this filter to each handler (or
    logger) that writes such records.

    Args:
        *names: The names of the parameters; ``token``, ``ticket`` and ``access_token`` by default.
    """

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._names = names or ("token", "ticket", "access_token")

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record. Every record is logged."""
        if isinstance(record.msg, str):
            record.msg = self._redact(record.msg)
        # Formatters of access logs, such as that of uvicorn, read single arguments, so the message
        # is not formatted here: the arguments keep their number and their types.
        if isinstance(record.args, tuple):
            record.args = tuple(map(self._redact, record.args))
        elif isinstance(record.args, dict):
            record.args = {key: self._redact(value) for key, value in record.args.items()}
        return True

    def _redact(self, value: object) -> object:
        return _PARAMETER.sub(self._mask, value) if isinstance(value, str) else value

    def _mask(self, parameter: re.Match[str]) -> str:
        # Servers decode names, so "%74oken" is the parameter "token", too.
        is_secret = unquote_plus(parameter["name"]) in self._names
        return f"{parameter['prefix']}***" if is_secret else parameter[0]
