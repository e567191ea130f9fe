"""Every test starts with a log from which nothing has been left out."""

from support import fresh_logs as fresh_logs
