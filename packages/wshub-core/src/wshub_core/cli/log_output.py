"""The log of ``wshub serve``: its format, and the level of each logger."""

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from wshub_core.cli.settings import ServeSettings
from wshub_core.logs import escape

_NOT_FIELDS = {*vars(logging.makeLogRecord({})), "asctime", "kind", "message"}
"""The attributes of every record, and of wshub's throttle. All others are fields of the line."""


def configure_log(settings: ServeSettings) -> None:
    """Send the log to standard error."""
    handler = logging.StreamHandler()
    if (settings.log_format or ("text" if sys.stderr.isatty() else "json")) == "json":
        handler.setFormatter(JSONFormatter())
    else:
        # The process id tells the lines of several workers apart.
        handler.setFormatter(TextFormatter("wshub[%(process)d]: %(message)s"))
    # Other packages may log secrets at lower levels, such as the headers of requests.
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("wshub").setLevel(settings.log_level.upper())
    access_level = logging.DEBUG if settings.access_log else logging.INFO
    logging.getLogger("wshub.access").setLevel(access_level)


class TextFormatter(logging.Formatter):
    """Formats a record as one line, and the lines of its traceback with an indent.

    Texts of peers and of other packages can contain line breaks and control characters of
    terminals, which are escaped.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return escape(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        """Return the lines of a traceback."""
        lines = super().formatException(ei).split("\n")
        return "\n".join(f"  {escape(line)}" for line in lines)


class JSONFormatter(logging.Formatter):
    """Formats a record as one JSON object in one line, with the fields that the record brings."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        for name, each in vars(record).items():
            # Other packages may bring fields with the names of the line's own.
            if name not in _NOT_FIELDS and name not in fields:
                fields[name] = _to_json(each)
        return json.dumps(fields)


def _to_json(value: object) -> object:
    """Return a value that JSON can represent: the value itself if possible, else its text."""
    # Objects of other packages may raise anything. An error would cost the whole line.
    try:
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except Exception:
        with contextlib.suppress(Exception):
            return repr(value)
        return f"<{type(value).__qualname__} without a text>"
