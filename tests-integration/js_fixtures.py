"""Fixtures for tests of the JavaScript client alone, in Node and in Chromium.

One browser and one Node process serve all tests of a module, which share an event loop.
"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from js_clients import ChromiumClient, JSClient, NodeClient

CLIENTS = [pytest.param(NodeClient.run, id="node"), pytest.param(ChromiumClient.run, id="chromium")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CLIENTS)
async def running_client(request: pytest.FixtureRequest) -> AsyncIterator[JSClient]:
    async with request.param() as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def client(running_client: JSClient) -> AsyncIterator[JSClient]:
    yield running_client
    await running_client.close()
