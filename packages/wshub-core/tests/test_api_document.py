"""The OpenAPI document agrees with the real answers of every operation."""

import json
from typing import Any

import pytest
from api_support import by_user, request, serve_api
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from support import Serve, WireClient
from test_http_app import connected
from websockets.asyncio.client import connect

from wshub_core import HistoryLimits, PresenceSettings
from wshub_core.endpoints.api.openapi import openapi_document
from wshub_core.endpoints.api.operations import OPERATIONS

DOCUMENT = json.loads(openapi_document())

REQUESTS: list[tuple[str, Any]] = [
    ("publish", {"channel": "log", "data": {"x": [1.5, None]}}),
    ("publish", {"channel": "log", "type": "process_output", "overwrites": True}),
    ("publish_batch", {"messages": [{"channel": "log"}, {"channel": "/"}]}),
    ("broadcast", {}),
    ("send_to_user", {"userId": "a"}),
    ("channels", {}),
    ("channels", {"limit": 1}),
    ("history", {"channel": "log"}),
    ("clear_history", {"channel": "log"}),
    ("presence", {"channel": "room"}),
    ("presence_count", {"channel": "room"}),
    ("connections_of_user", {"userId": "a"}),
    ("subscribe_user", {"userId": "a", "channel": "b"}),
    ("unsubscribe_user", {"userId": "a", "channel": "b"}),
    ("stats", {}),
    ("disconnect", {"connectionId": 1}),
    ("disconnect_user", {"userId": "a"}),
]

REFUSED: list[tuple[str, bytes]] = [
    ("publish", b'{"channel":"no channel"}'),
    ("publish", b'{"chanel":1}'),
    ("publish", b"{"),
    ("disconnect", b'{"connectionId":99}'),
]


def close(schema: Any) -> Any:
    """Return a schema that allows no other fields than it names, so that none is missing in it."""
    if isinstance(schema, list):
        return [close(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: close(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


CLOSED = close(DOCUMENT)


def check(value: Any, schema: Any) -> None:
    Draft202012Validator({**schema, "components": CLOSED["components"]}).validate(value)


def schema_of(operation: str, part: str) -> Any:
    described = CLOSED["paths"][f"/{operation}"]["post"]
    if part == "request":
        return described["requestBody"]["content"]["application/json"]["schema"]
    if part == "error":
        assert described["responses"]["default"] == {"$ref": "#/components/responses/Error"}
        error = CLOSED["components"]["responses"]["Error"]
        return error["content"]["application/json"]["schema"]
    return described["responses"]["200"]["content"]["application/json"]["schema"]


def test_the_document_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_is_described_and_tested() -> None:
    assert set(DOCUMENT["paths"]) == {f"/{name}" for name in OPERATIONS}
    assert {name for name, _ in REQUESTS} == set(OPERATIONS)


def test_descriptions_say_nothing_about_python() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert schema["description"], name
        assert "Attributes:" not in schema["description"], name


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_document_is_served_without_a_key(serve: Serve, method: str) -> None:
    served = await serve_api(serve)
    async with connected(served) as peer:
        sent = request("openapi.json", b"", key="none", method=method)
        peer.writer.write(sent)
        status, headers, body = await peer.read(has_body=method == "GET")
        assert (status, headers["content-type"]) == (200, "application/json")
        assert int(headers["content-length"]) == len(openapi_document())
        assert body == (openapi_document() if method == "GET" else b"")


async def test_every_answer_has_the_form_in_the_document(serve: Serve) -> None:
    served = await serve_api(
        serve,
        authenticator=by_user,
        history={"log": HistoryLimits()},
        presence={"room": PresenceSettings()},
        presence_info=lambda connection, channel: ["any"],
    )
    async with connected(served) as peer:
        url = f"ws://127.0.0.1:{served.server.port}/ws?a"
        async with connect(url, proxy=None) as first, connect(url, proxy=None) as second:
            for socket in (first, second):
                await WireClient(socket).subscribe("room")
            for operation, body in REQUESTS:
                check(body, schema_of(operation, "request"))
                status, _, answer = await peer.ask(request(operation, body))
                assert status == 200, (operation, answer)
                check(json.loads(answer), schema_of(operation, "answer"))
        for operation, wrong in REFUSED:
            status, _, answer = await peer.ask(request(operation, wrong))
            assert status >= 400
            check(json.loads(answer), schema_of(operation, "error"))
