"""The routes of a server: each path has its application."""

import json

import pytest
from support import Serve
from test_http_app import connected

from wshub_core import Request, Response
from wshub_core.endpoints.routes import Routes
from wshub_core.transports.asgi_messages import Receive, Scope, Send, send_response


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    seen = [scope["root_path"], scope["path"]]
    await send_response(send, "http", Response(200, json.dumps(seen).encode()))


ROUTES = {"/api/*": show, "/api/deep/*": show, "/one": show}


def answer(request: Request) -> Response | None:
    return Response(200, b"page") if request.path == "/" else None


def admit(request: Request) -> Response | None:
    return Response(403) if request.header("host") == "evil.example" else None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api", '["/api", "/api"]'),
        ("/api/a/b?c", '["/api", "/api/a/b"]'),
        ("/api/deep", '["/api/deep", "/api/deep"]'),
        ("/api/deeper", '["/api", "/api/deeper"]'),
        ("/", "page"),
        ("/apis", "Not Found\n"),
        ("/one", '["/one", "/one"]'),
        ("/one/", "Not Found\n"),
        ("/one%2Fa", "Not Found\n"),
    ],
)
async def test_the_longest_route_counts(serve: Serve, path: str, expected: str) -> None:
    served = await serve(http_app=Routes(ROUTES, answer, admit))
    async with connected(served) as peer:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        _, _, body = await peer.ask(request.encode())
        assert body.decode() == expected


async def test_a_refused_request_reaches_no_application(serve: Serve) -> None:
    served = await serve(http_app=Routes({"/api": show}, answer, admit))
    async with connected(served) as peer:
        for path in (b"/api", b"/"):
            request = b"GET %b HTTP/1.1\r\nHost: evil.example\r\n\r\n" % path
            assert (await peer.ask(request))[0] == 403
