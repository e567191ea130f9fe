"""A demo that runs a command in a loop and shows its output on a page.

`hatch run demo` runs the tests of wshub-core. `hatch run demo -- COMMAND …` runs another command.
The environment variable PORT sets the port, which is 8080 by default.
"""

import asyncio
import os
import sys
from pathlib import Path

from wshub_core import Hub, LivePage, WSHubError, run_process

PAUSE_SECONDS = 3.0
OWN_TESTS = [sys.executable, "-m", "pytest", "--verbose", "packages/wshub-core/tests"]
WORKSPACE = Path(__file__).parents[2]


async def demo(port: int, command: list[str]) -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "PYTHONUNBUFFERED": "1"}
    process_id = "demo" if command else "tests"
    async with Hub() as hub:
        page = LivePage(hub)
        async with hub.serve("localhost", port, process_request=page.process_request) as server:
            print(f"Open http://localhost:{server.port}/  (Ctrl-C ends the demo)", flush=True)
            while True:
                await run_process(
                    hub,
                    process_id,
                    *(command or OWN_TESTS),
                    cwd=None if command else WORKSPACE,
                    env=environment,
                )
                await asyncio.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    try:
        asyncio.run(demo(int(os.environ.get("PORT", "8080")), sys.argv[1:]))
    except (WSHubError, ValueError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        print("The demo has ended.")
