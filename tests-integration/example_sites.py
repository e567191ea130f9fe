"""The examples of web applications, as processes."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from demo_process import free_port

EXAMPLES = Path(__file__).parents[1] / "docs/examples"


class Site:
    """The running application."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.hub = f"ws://127.0.0.1:{port}/ws"
        self.log = ""


@asynccontextmanager
async def run_site(module: str) -> AsyncIterator[Site]:
    """Run the application of an example with uvicorn."""
    port = free_port()
    site = Site(port)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", f"{module}:app", "--port", str(port)),
        cwd=EXAMPLES,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while "Uvicorn running" not in site.log:
                line = await process.stdout.readline()
                assert line, site.log
                site.log += line.decode()
        yield site
    finally:
        process.terminate()
        output, _ = await process.communicate()
        site.log += output.decode()
