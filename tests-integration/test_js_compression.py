"""Chromium and Node exchange compressed messages with a hub."""

import pytest
from browsers import launch_browser
from client_contract.interface import QUICK
from client_contract.observing import eventually, named
from client_contract.servers import run_hub
from js_clients import JSClient
from js_fixtures import client as client
from js_fixtures import running_client as running_client

from wshub_core import Compression, Connection, HistoryLimits, Message

pytestmark = pytest.mark.asyncio(loop_scope="module")

ITEMS = [{"id": number, "state": "open", "note": "größer 😀"} for number in range(200)]


async def test_the_javascript_client_gets_compressed_messages(client: JSClient) -> None:
    async with run_hub(
        compression=Compression(),
        history={"a": HistoryLimits()},
        publish_authorizer=lambda *_: True,
    ) as running:
        await client.start(running.url, **QUICK)
        await client.subscribe_confirmed("a")
        before = running.hub.stats().delivered_bytes
        for number in range(20):
            running.hub.publish("a", Message(type="event", data=[number, *ITEMS]))
            await client.publish("a", [number, *ITEMS])
        await eventually(lambda: client.count("message"), lambda now: now == 40)
        delivered = running.hub.stats().delivered_bytes - before
        messages = named(await client.events(), "message")
        await client.close()
    assert sorted(each["data"][0] for each in messages) == sorted([*range(20), *range(20)])
    assert all(each["data"][1:] == ITEMS for each in messages)
    # Each message has more than 10,000 bytes.
    assert delivered < 40 * 2_000


async def test_chromium_negotiates_and_compresses_its_messages() -> None:
    def echo(connection: Connection, message: Message) -> None:
        connection.send(Message(type="event", data=message.data))

    async with (
        run_hub(compression=Compression(), on_message=echo) as hub,
        launch_browser() as browser,
    ):
        page = await browser.new_page()
        extensions, echoes = await page.evaluate(
            """([url, items]) => new Promise((resolve, reject) => {
                const socket = new WebSocket(url), echoes = [];
                socket.onopen = () => {
                    for (const n of [0, 1, 10, items.length])
                        socket.send(JSON.stringify({type: "echo", data: items.slice(0, n)}));
                };
                socket.onmessage = event => {
                    echoes.push(JSON.parse(event.data).data);
                    if (echoes.length === 4) resolve([socket.extensions, echoes]);
                };
                socket.onclose = event => reject(new Error(`closed with ${event.code}`));
            })""",
            [hub.url, ITEMS],
        )
        assert extensions == (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        )
        assert echoes == [[], ITEMS[:1], ITEMS[:10], ITEMS]
