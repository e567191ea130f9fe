"""The log of ``wshub serve``: its format, and the level of each logger."""

import json
import logging
import sys
from datetime import UTC, datetime

from wshub_core.cli.settings import ServeSettings

_NOT_FIELDS = {*vars(logging.makeLogRecord({})), "asctime", "kind", "message"}
"""The attributes of every record, and of wshub's throttle. All others are fields of the line."""


def configure_log(settings: ServeSettings) -> None:
    """Send the log to standard error."""
    handler = logging.StreamHandler()
    if (settings.log_format or ("text" if sys.stderr.isatty() else "json")) == "json":
        handler.setFormatter(JSONFormatter())
    else:
        # The process id tells the lines of several workers apart.
        handler.setFormatter(logging.Formatter("wshub[%(process)d]: %(message)s"))
    # Other packages may log secrets at lower levels, such as the headers of requests.
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("wshub").setLevel(settings.log_level.upper())
    access_level = logging.DEBUG if settings.access_log else logging.INFO
    logging.getLogger("wshub.access").setLevel(access_level)


class JSONFormatter(logging.Formatter):
    """Formats a record as one JSON object in one line, with the fields that the record brings."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        fields |= {name: each for name, each in vars(record).items() if name not in _NOT_FIELDS}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)
