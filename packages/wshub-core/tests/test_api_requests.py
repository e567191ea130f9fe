"""Requests that the HTTP API refuses: a clear answer each, and nobody else notices."""

import asyncio
import contextlib
import gzip
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from api_support import KEYS, authenticate, by_user, call, refused, request, serve_api
from support import Serve, WireClient, eventually
from test_http_app import connected
from websockets.asyncio.client import connect

from wshub_core import AuthResult, Connection, Hub, HubStats, Request, TooManyAttemptsError
from wshub_core.endpoints.api import app
from wshub_core.endpoints.api.bodies import decode_batch
from wshub_core.endpoints.api.operations import OPERATIONS

PUBLISH = {"channel": "a"}


# Credentials.


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic YWxs", "Bearer"])
async def test_a_request_without_a_valid_key_gets_401_with_a_challenge(
    serve: Serve, header: str
) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        sent = request("publish", PUBLISH, authorization=header)
        status, headers, body = await peer.ask(sent)
        assert status == 401
        assert headers["www-authenticate"] == "Bearer"
        assert json.loads(body)["error"]["code"] == "not_authenticated"
    assert served.hub.stats().messages == 0


async def test_each_operation_needs_its_scope(serve: Serve) -> None:
    served = await serve_api(serve)
    allowed: dict[str, set[str]] = {key: set() for key in KEYS}
    for name in OPERATIONS:
        for key in KEYS:
            async with connected(served) as peer:
                status, _, body = await peer.ask(request(name, b"[]", key=key))
            if status == 403:
                assert json.loads(body)["error"]["code"] == "scope_missing"
            else:
                # Past the check of the scope, the body is wrong.
                assert status == 400
                allowed[key].add(name)
    assert allowed["nothing"] == set()
    assert allowed["publisher"] == {"publish", "publish_batch", "broadcast", "send_to_user"}
    assert allowed["reader"] == {
        "channels",
        "history",
        "presence",
        "presence_count",
        "connections_of_user",
        "stats",
    }
    assert allowed["manager"] == {
        "clear_history",
        "subscribe_user",
        "unsubscribe_user",
        "disconnect_user",
        "disconnect",
    }
    assert allowed["all"] == set(OPERATIONS)


@pytest.mark.parametrize(
    "claims",
    [
        None,
        {},
        {"scopes": None},
        {"scopes": "publish"},
        {"scopes": "publish read"},
        {"scopes": {"publish": True}},
        {"scopes": ["PUBLISH", "*", 1, None]},
        {"scope": ["publish"]},
    ],
)
async def test_only_a_list_with_the_scope_allows(serve: Serve, claims: Any) -> None:
    served = await serve_api(serve, lambda _: AuthResult(True, "x", claims))
    async with connected(served) as peer:
        assert await refused(peer, "publish", PUBLISH) == (403, "scope_missing")
    assert served.hub.stats().messages == 0


async def test_too_many_attempts_get_429(serve: Serve) -> None:
    served = await serve_api(
        serve, lambda _: AuthResult(False, error=TooManyAttemptsError(2.5), challenge="Bearer")
    )
    async with connected(served) as peer:
        status, headers, body = await peer.ask(request("stats"))
        assert (status, headers["retry-after"]) == (429, "3")
        assert json.loads(body)["error"]["code"] == "too_many_attempts"


async def hang(request: Request) -> AuthResult:
    await asyncio.sleep(3_600)
    raise AssertionError


async def cancel(request: Request) -> AuthResult:
    raise asyncio.CancelledError


def fail(request: Request) -> AuthResult:
    raise ValueError("secret-key-1")


class Stop(BaseException):
    """An exception that is no `Exception`."""


async def stop(request: Request) -> AuthResult:
    raise Stop


@pytest.mark.parametrize("failing", [hang, cancel, fail, stop, lambda _: True, lambda _: None])
async def test_an_authenticator_that_fails_refuses(serve: Serve, failing: Any) -> None:
    served = await serve_api(serve, failing, open_timeout=0.2)
    async with connected(served) as peer:
        assert await refused(peer, "publish", PUBLISH) == (401, "not_authenticated")
    assert served.hub.stats().messages == 0


async def test_the_log_has_no_secret(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    served = await serve_api(serve)
    async with connected(served) as peer:
        await refused(peer, "publish", PUBLISH, key="secret-key-1")
    async with connected(served) as peer:
        await refused(peer, "publish", {"channel": "/secret-channel"})
    assert "refused authentication from 127.0.0.1" in caplog.text
    assert "secret" not in caplog.text


# The form of a request.


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_other_methods_get_405_without_permissions_for_pages(
    serve: Serve, method: str
) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        peer.writer.write(
            request(
                "publish",
                b"",
                method=method,
                origin="http://evil.example",
                access_control_request_method="POST",
                access_control_request_headers="authorization,content-type",
            )
        )
        status, headers, _ = await peer.read(has_body=method != "HEAD")
        assert (status, headers["allow"]) == (405, "POST")
        assert not [name for name in headers if name.startswith("access-control")]


async def test_the_document_is_only_read(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        status, headers, _ = await peer.ask(request("openapi.json"))
        assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("publsh", "did you mean publish?"), ("", ""), ("publish/", "publish"), ("x" * 7_000, "")],
)
async def test_an_unknown_operation_gets_404(serve: Serve, name: str, hint: str) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        status, answer = await call(peer, name)
        assert (status, answer["error"]["code"]) == (404, "not_found")
        assert hint in answer["error"]["message"]
        assert len(answer["error"]["message"]) < 100


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/publish", "/publish", "/v1/v1/publish", "//v1/", "publish"]
)
async def test_other_paths_get_404(serve: Serve, path: str) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        sent = request("publish", PUBLISH).replace(b"/v1/publish", path.encode())
        status, _, body = await peer.ask(sent)
        assert (status, json.loads(body)["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "content_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"],
)
async def test_a_body_of_another_type_gets_415(serve: Serve, content_type: str) -> None:
    # A page of another site can send these types without asking the server first.
    served = await serve_api(serve)
    async with connected(served) as peer:
        options = {"content_type": content_type}
        assert await refused(peer, "publish", PUBLISH, **options) == (415, "unsupported_media_type")
    assert served.hub.stats().messages == 0


async def test_a_compressed_body_gets_415(serve: Serve) -> None:
    async with connected(await serve_api(serve)) as peer:
        body = gzip.compress(b'{"channel":"a"}')
        sent = request("publish", body, content_encoding="gzip")
        status, headers, answer = await peer.ask(sent)
        assert (status, headers["accept-encoding"]) == (415, "identity")
        assert b"must not be compressed" in answer
        assert (await call(peer, "publish", {"channel": "a"}, content_encoding="identity"))[
            0
        ] == 200


async def test_parameters_of_the_type_are_allowed(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        for content_type in ("application/json; charset=utf-8", "APPLICATION/JSON"):
            status, _ = await call(peer, "publish", PUBLISH, content_type=content_type)
            assert status == 200


WRONG_BODIES: list[tuple[str, bytes, str, str, str]] = [
    ("publish", b"", "invalid_json", "truncated", ""),
    ("publish", b'{"channel": "a"', "invalid_json", "truncated", ""),
    ("publish", b'{channel: "a"}', "invalid_json", "malformed", ""),
    ("publish", b'{"channel": "a"} {}', "invalid_json", "trailing", ""),
    ("publish", b'{"channel": "\xff"}', "invalid_json", "UTF-8", ""),
    ("publish", b'{"channel": "a", "data": ' + b"[" * 60_000, "invalid_json", "deep", ""),
    ("publish", b"null", "invalid_field", "Expected `object`, got `null`", "$"),
    ("publish", b"[]", "invalid_field", "Expected `object`, got `array`", "$"),
    ("publish", b"{}", "missing_field", "channel is missing", "$.channel"),
    ("publish", b'{"channel": 5}', "invalid_field", "Expected `str`, got `int`", "$.channel"),
    ("publish", b'{"channel": null}', "invalid_field", "got `null`", "$.channel"),
    ("publish", b'{"chanel": "a"}', "unknown_field", "did you mean channel?", "$.chanel"),
    ("publish", b'{"channel":"a","process_id":"x"}', "unknown_field", "processId", "$.process_id"),
    ("publish", b'{"channel":"a","zzz":1}', "unknown_field", "'zzz'", "$.zzz"),
    ("publish", b'{"channel":"a","type":""}', "invalid_field", "length >= 1", "$.type"),
    ("publish_batch", b'{"messages":[]}', "invalid_field", "length >= 1", "$.messages"),
    ("publish_batch", b'{"messages":{}}', "invalid_field", "array", "$.messages"),
    (
        "publish_batch",
        b'{"messages":[{"channel":"a"},{"channel":"a","date":1}]}',
        "unknown_field",
        "did you mean data?",
        "$.messages[1].date",
    ),
    (
        "publish_batch",
        b'{"messages":[{"data":1}]}',
        "missing_field",
        "channel",
        "$.messages[0].channel",
    ),
    (
        "publish_batch",
        b'{"messages":[' + b'{"channel":"a"},' * 100 + b'{"channel":"a"}]}',
        "invalid_field",
        "length <= 100",
        "$.messages",
    ),
    ("channels", b'{"limit":0}', "invalid_field", ">= 1", "$.limit"),
    ("channels", b'{"limit":1001}', "invalid_field", "<= 1000", "$.limit"),
    ("channels", b'{"limit":"5"}', "invalid_field", "got `str`", "$.limit"),
    ("history", b'{"channel":"a","since":-1}', "invalid_field", ">= 0", "$.since"),
    ("history", b'{"channel":"a","since":1e30}', "invalid_field", "", "$.since"),
    ("send_to_user", b'{"userId":""}', "invalid_field", "length >= 1", "$.userId"),
    ("disconnect", b'{"connectionId":true}', "invalid_field", "got `bool`", "$.connectionId"),
    ("disconnect_user", b'{"userId":"a","code":99}', "invalid_field", ">= 1000", "$.code"),
    ("stats", b'{"x":1}', "unknown_field", "'x'", "$.x"),
]


async def test_a_wrong_body_gets_400_with_the_field_at_fault(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        for operation, body, code, text, field in WRONG_BODIES:
            status, answer = await call(peer, operation, body)
            error = answer["error"]
            assert (status, error["code"]) == (400, code), (operation, body[:60])
            assert text in error["message"]
            assert error.get("field", "") == field
    assert served.hub.stats().messages == 0


async def test_a_long_name_of_a_field_is_cut_in_the_answer(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        for name in ("x" * 40_000, "x`y - at `$.z" * 3_000, "\n" * 4_000):
            _, answer = await call(peer, "publish", {"channel": "a", name: 1})
            assert answer["error"]["code"] == "unknown_field"
            assert len(json.dumps(answer)) < 1_000


# Sizes and halves.


async def test_a_body_above_the_limit_gets_413(serve: Serve) -> None:
    served = await serve_api(serve, max_message_bytes=1_000)
    limit = 1_000 + 4_096
    fitting = b'{"channel":"a"}'.ljust(limit)
    async with connected(served) as peer:
        assert (await call(peer, "publish", fitting))[0] == 200
        assert await refused(peer, "publish", fitting + b" ") == (413, "body_too_large")
    # The length is refused before any byte of the body.
    for length in (str(limit + 1), "9" * 18):
        async with connected(served) as peer:
            sent = request("publish", b"", content_length=length)
            assert (await peer.ask(sent))[0] == 413
    # Without a length, the body is read up to the limit.
    async with connected(served) as peer:
        head = request("publish", b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        peer.writer.write(head)
        for _ in range(6):
            peer.writer.write(b"3e8\r\n" + b" " * 1_000 + b"\r\n")
        assert (await peer.read())[0] == 413
    assert served.hub.stats().messages == 1


async def test_a_batch_may_have_the_size_of_sixteen_messages(serve: Serve) -> None:
    served = await serve_api(serve, max_message_bytes=1_000)
    body = b'{"messages":[{"channel":"a"}]}'.ljust(16_000 + 4_096)
    async with connected(served) as peer:
        assert (await call(peer, "publish_batch", body))[0] == 200
        assert await refused(peer, "publish_batch", body + b" ") == (413, "body_too_large")


async def test_a_batch_of_tiny_values_leaves_time_for_others() -> None:
    # 300,000 lists take some 0.2 s to decode.
    message = b'{"channel":"a","data":[' + b"[]," * 20_000 + b"0]}"
    decoding = asyncio.create_task(
        decode_batch(b'{"messages":[' + b",".join([message] * 16) + b"]}")
    )
    steps = 0
    while not decoding.done():
        await asyncio.sleep(0)
        steps += 1
    assert len(decoding.result().messages) == 16
    assert steps > 3


async def test_a_body_without_credentials_is_not_read(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        sent = request("publish", b"", key="wrong", content_length="1000")
        assert (await peer.ask(sent))[0] == 401


async def test_a_body_may_come_in_single_bytes(serve: Serve) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        for byte in request("publish", PUBLISH):
            peer.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await peer.read())[0] == 200


@pytest.mark.parametrize("is_reset", [False, True])
async def test_half_a_request_publishes_nothing_and_logs_nothing(
    serve: Serve, is_reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    served = await serve_api(serve)
    whole = request("publish", PUBLISH)
    for length in range(1, len(whole), 7):
        _, writer = await asyncio.open_connection("127.0.0.1", served.server.port)
        writer.write(whole[:length])
        await writer.drain()
        await asyncio.sleep(0)
        if is_reset:
            writer.transport.abort()
        else:
            writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    await eventually(lambda: not served.sockets)
    assert served.hub.stats().messages == 0
    assert served.hub.stats().callback_errors == 0
    # asyncio's own records are about slow turns of a busy machine.
    assert not [each for each in caplog.records if each.name.startswith("wshub")]


async def test_a_flood_of_refused_requests_does_not_fill_the_log(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    served = await serve_api(serve)
    client = await served.connect()
    for _ in range(50):
        async with connected(served) as peer:
            await refused(peer, "stats", key="wrong")
    await client.sync()
    records = [each for each in caplog.records if each.name.startswith("wshub")]
    assert 0 < len(records) <= 10


# The hub.


async def test_a_hub_that_does_not_run_answers_503() -> None:
    hub = Hub()
    api = hub.api(authenticate)

    async def ask() -> tuple[int, str]:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(event: Any) -> None:
            sent.append(event)

        headers = [(b"authorization", b"Bearer all"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/stats",
            "query_string": b"",
            "headers": headers,
        }
        await api(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])["error"]["code"]

    assert await ask() == (503, "hub_not_running")
    async with hub:
        pass
    assert await ask() == (503, "hub_not_running")


async def test_an_unexpected_exception_is_logged_and_gives_500(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve_api(serve)

    def fail() -> HubStats:
        raise RuntimeError("the reason")

    monkeypatch.setattr(served.hub, "stats", fail)
    async with connected(served) as peer:
        assert await refused(peer, "stats") == (500, "internal_error")
        assert (await call(peer, "channels"))[0] == 200
    assert "the reason" in caplog.text


async def test_a_publish_waits_while_the_bridge_is_behind(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = await serve_api(serve)
    may_end = asyncio.Event()
    drain: Callable[[], Awaitable[Any]] = may_end.wait
    monkeypatch.setattr(served.hub, "drain", drain)
    async with connected(served) as peer, connected(served) as other:
        asking = asyncio.create_task(call(peer, "publish", PUBLISH))
        await eventually(lambda: served.hub.stats().messages == 1)
        assert (await call(other, "channels"))[0] == 200
        assert not asking.done()
        may_end.set()
        assert await asking == (200, {})


async def ignore_cancellation(connection: Connection, channel: str) -> bool:
    if channel == "a":
        return True
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await RELEASE.wait()
            return False


RELEASE = asyncio.Event()


async def test_an_operation_has_a_time_limit(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_MAX_SECONDS", 0.1)
    monkeypatch.setattr(sys.modules[__name__], "RELEASE", asyncio.Event())
    served = await serve_api(serve, authenticator=by_user, channel_authorizer=ignore_cancellation)
    url = f"ws://127.0.0.1:{served.server.port}/ws?u"
    async with connect(url, proxy=None) as socket, connected(served) as peer:
        await WireClient(socket).sync()
        for _ in range(2):
            body = {"userId": "u", "channel": "hangs"}
            assert await refused(peer, "subscribe_user", body) == (503, "timed_out")
        body = {"userId": "u", "channel": "a"}
        assert await call(peer, "subscribe_user", body) == (200, {"connections": 1})
        RELEASE.set()
        await eventually(lambda: len(asyncio.all_tasks()) < 10)


async def test_a_bridge_that_stays_behind_delays_an_answer_for_a_limited_time(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_MAX_SECONDS", 0.1)
    served = await serve_api(serve)
    monkeypatch.setattr(served.hub, "drain", asyncio.Event().wait)
    async with connected(served) as peer:
        # The hub has accepted the message, so the answer says so.
        assert await call(peer, "publish", PUBLISH) == (200, {})
