"""Every test starts with a log from which nothing has been left out, on each event loop."""

from client_servers import hub as hub
from client_servers import leave_nothing_behind as leave_nothing_behind
from client_servers import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
from client_servers import url as url
from run_limits import pytest_exception_interact as pytest_exception_interact
from support import fresh_logs as fresh_logs
