"""The programs in README and documentation run as they stand."""

import asyncio
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from demo_process import free_port
from redis_servers import RedisServer, run_server

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]
PROGRAMS = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}:{index}")
    for page in PAGES
    for index, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    )
]


def test_there_are_programs() -> None:
    assert len(PROGRAMS) >= 8


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with run_server() as server:
        yield server


@pytest.mark.parametrize("code", PROGRAMS)
async def test_the_program_runs(code: str, tmp_path: Path, redis: RedisServer) -> None:
    """Run until it ends by itself, or serves and is told to end; either way without a complaint."""
    port = free_port()
    program = tmp_path / "program.py"
    # The clock runs faster, so that lessons with pauses take no time here.
    code = code.replace("8080", str(port)).replace("6379", str(redis.port))
    program.write_text(code.replace("range(1_000)", "range(2)"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    communicate = asyncio.create_task(process.communicate())
    try:
        async with asyncio.timeout(30):
            while not communicate.done():
                if "serve_forever" in code and await accepts(port):
                    process.send_signal(signal.SIGINT)
                await asyncio.wait([communicate], timeout=0.1)
            _, errors = await communicate
    finally:
        if process.returncode is None:
            process.kill()
            await communicate
    text = errors.decode()
    if "serve_forever" in code:
        assert text == "" or text.rstrip().endswith("KeyboardInterrupt"), text
        assert process.returncode == -signal.SIGINT
    else:
        assert text == ""
        assert process.returncode == 0


async def accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("localhost", port)
    except OSError:  # refused, by one or by both addresses of localhost
        return False
    writer.close()
    await writer.wait_closed()
    return True
