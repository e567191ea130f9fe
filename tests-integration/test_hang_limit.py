"""A test that pytest-timeout cannot end does not hang the run."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

HANGING = """
import threading, time
import pytest

@pytest.fixture
def stuck():
    yield
    threading.Event().wait()

def test_that_fails(stuck):
    assert False

def test_that_catches_everything():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

@pytest.mark.parametrize("number", range(4))
def test_that_passes(number):
    pass
"""


def test_hanging_tests_end_and_the_others_run(tmp_path: Path) -> None:
    # Deeper than the conftest modules that pytest loads before it redirects the standard error.
    folder = tmp_path / "packages" / "x" / "tests"
    folder.mkdir(parents=True)
    (folder / "test_hanging.py").write_text(HANGING)
    shutil.copy(ROOT / "packages/wshub-core/tests/run_limits.py", folder / "conftest.py")
    options = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-n", "2"]
    options += ["-o", "timeout=0.5", "-o", "faulthandler_timeout=2"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    for name in ("test_that_fails", "test_that_catches_everything"):
        assert f"crashed while running 'packages/x/tests/test_hanging.py::{name}'" in done.stdout
    assert "3 failed, 4 passed" in done.stdout  # one test fails, and so does its teardown
    # The stacks of all threads.
    assert done.stderr.count("Timeout (0:00:02)!") == 2
    assert done.stderr.count("test_hanging.py") == 2
