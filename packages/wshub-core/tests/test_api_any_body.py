"""Any body gets an answer of the form in the document, and never an internal error."""

import asyncio
import json
from typing import Any

from api_support import authenticate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_api_document import REQUESTS, check, schema_of

from wshub_core import HistoryLimits, Hub, HubConfig, PresenceSettings
from wshub_core.endpoints.api.operations import OPERATIONS

CONFIG = HubConfig(history={"log": HistoryLimits()}, presence={"room": PresenceSettings()})

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["a", "log", "room", "process:x", "wshub:x", "event", "pong"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed_requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a valid request in which some fields are replaced, removed or added."""
    operation, valid = draw(st.sampled_from(REQUESTS))
    names = [*OPERATIONS[operation].request.__struct_encode_fields__, draw(st.text())]
    changes = draw(st.dictionaries(st.sampled_from(names), json_values, max_size=3))
    removed = draw(st.sets(st.sampled_from(names), max_size=1))
    body = {name: each for name, each in {**valid, **changes}.items() if name not in removed}
    return operation, json.dumps(body).encode()


async def post(hub: Hub, operation: str, body: bytes) -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(event: Any) -> None:
        sent.append(event)

    headers = [(b"authorization", b"Bearer all"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": f"/v1/{operation}",
        "query_string": b"",
        "headers": headers,
    }
    await hub.api(authenticate)(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def check_answer(operation: str, body: bytes) -> None:
    async def ask() -> tuple[int, Any]:
        async with Hub(CONFIG) as hub:
            return await post(hub, operation, body)

    status, answer = asyncio.run(ask())
    check(answer, schema_of(operation, "answer" if status == 200 else "error"))
    assert status in (200, 400, 403, 404, 409, 413), answer


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(changed_requests())
def test_a_changed_request_is_served_or_refused(request: tuple[str, bytes]) -> None:
    check_answer(*request)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(OPERATIONS)), st.binary(max_size=200))
def test_any_bytes_are_served_or_refused(operation: str, body: bytes) -> None:
    check_answer(operation, body)
