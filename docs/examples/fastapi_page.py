"""A FastAPI application with the live page at /live/. POST /builds starts a build.

Run it with ``uvicorn fastapi_page:app`` and open http://localhost:8000/live/. Then
``curl -X POST http://localhost:8000/builds`` starts a build, and the page shows its lines.
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
    """Enter the hub. When the server stops, closing the hub ends running builds."""
    async with hub:
        yield


app = FastAPI(lifespan=lifespan)
app.mount("/live", page.asgi())


@app.post("/builds", status_code=202)
async def build() -> dict[str, str]:
    """Start a build and return the channel of its lines."""
    process_id = f"build-{next(numbers)}"
    code = "for number in range(20): print('compiling file', number)"
    task = create_task(run_process(hub, process_id, sys.executable, "-c", code))
    builds.add(task)  # the event loop keeps only a weak reference to a task
    task.add_done_callback(builds.discard)
    return {"channel": f"process:{process_id}"}
