"""A page of another site cannot use the HTTP API, whatever the authenticator accepts."""

from collections.abc import AsyncIterator

import pytest
from browsers import launch_browser, open_page
from playwright.async_api import Browser

from wshub_core import AuthResult, Hub, Response

# Tries the ways in which a page can send a request; tells which ones have failed.
ATTACK = """async (url) => {
  const body = JSON.stringify({channel: "a"});
  const outcome = async (options) => {
    try {
      return (await fetch(url, {method: "POST", body, ...options})).type;
    } catch (error) {
      return error.name;
    }
  };
  const json = {"Content-Type": "application/json"};
  return [
    await outcome({headers: json}),
    await outcome({headers: {...json, Authorization: "Bearer k"}}),
    await outcome({headers: json, credentials: "include"}),
    await outcome({headers: json, mode: "no-cors"}),
    await outcome({mode: "no-cors"}),
    await outcome({mode: "no-cors", body: new Blob([body], {type: "application/json"})}),
    await outcome({mode: "no-cors", body: new URLSearchParams({channel: "a"})}),
    String(navigator.sendBeacon(url, new Blob([body], {type: "text/plain"}))),
  ];
}"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with launch_browser() as browser:
        yield browser


async def test_no_request_of_a_foreign_page_reaches_an_operation(browser: Browser) -> None:
    async with Hub() as hub, Hub() as other:
        # This API accepts everybody, as one behind a session cookie accepts a visitor.
        api = hub.api(lambda _: AuthResult(True, "x", {"scopes": ["publish", "read", "manage"]}))
        page = Response(200, b"<!doctype html>", content_type="text/html")
        async with (
            hub.serve("localhost", 0, http_app=api) as server,
            other.serve("localhost", 0, process_request=lambda _: page) as foreign,
        ):
            opened = await open_page(browser, f"http://localhost:{foreign.port}/", [])
            url = f"http://localhost:{server.port}/v1/publish"
            outcomes = await opened.evaluate(ATTACK, url)
            # Opaque: the request was sent, and answered with 415.
            assert outcomes[:3] == ["TypeError"] * 3
            assert hub.stats().messages == 0
            same = await opened.context.request.post(url, data={"channel": "a"})
            assert same.status == 200
            assert hub.stats().messages == 1
