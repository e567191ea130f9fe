"""A FastAPI application with the live page at /live/: POST /builds runs a build that it shows.

Run it: ``uvicorn fastapi_page:app``, and open http://localhost:8000/live/.
"""

import sys
from asyncio import Task, create_task
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from fastapi import FastAPI

from wshub_core import Hub, LivePage, run_process

hub = Hub()
page = LivePage(hub)
numbers = count(1)
builds: set[Task[int]] = set()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Enter the hub, which ends the builds when the server stops."""
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/live", page.asgi())


@app.post("/builds", status_code=202)
async def build() -> dict[str, str]:
    """Start a build, and say which channel its lines are published to."""
    process_id = f"build-{next(numbers)}"
    code = "for number in range(20): print('compiling file', number)"
    task = create_task(run_process(hub, process_id, sys.executable, "-c", code))
    builds.add(task)
    task.add_done_callback(builds.discard)
    return {"channel": f"process:{process_id}"}
