"""Hooks that all tests of the workspace share: a limit for tests that hang, and settings of tools.

The conftest modules import them.
"""

import faulthandler
import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine must not make a test fail.
settings.register_profile("wshub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wshub")

_stderr = pytest.StashKey[int]()


def pytest_exception_interact(node: pytest.Item | pytest.Collector) -> None:
    """Start the limit of ``faulthandler_timeout`` again, for the teardown of a test that failed.

    pytest and pytest-timeout stop their limits at the failure of a test.
    """
    seconds = float(node.config.getini("faulthandler_timeout"))
    if seconds and isinstance(node, pytest.Item):
        stash = node.config.stash
        if _stderr not in stash:
            # A copy: pytest redirects the standard error during the teardown, but not here.
            stash[_stderr] = os.dup(2)
        faulthandler.dump_traceback_later(seconds, exit=True, file=stash[_stderr])


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Return the number of processes: 1.5 per core, because tests wait more than they compute."""
    cores = yield
    return cores * 3 // 2
