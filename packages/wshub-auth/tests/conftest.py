"""Every test starts with a log from which nothing has been left out."""

from run_limits import pytest_exception_interact as pytest_exception_interact
from support import fresh_logs as fresh_logs
