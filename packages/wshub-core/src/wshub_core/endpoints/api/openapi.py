"""The OpenAPI 3.1 document of the HTTP API, made from the types that the API uses."""

from functools import cache
from typing import Any

import msgspec

from wshub_core.endpoints.api.answers import ErrorAnswer
from wshub_core.endpoints.api.errors import JSON_TYPE
from wshub_core.endpoints.api.operations import OPERATIONS, PUBLISH, SCOPES, Operation

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A key of your choice, which is new for each message. A repeated request with "
    "the same key has no second effect and gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


@cache
def openapi_document() -> bytes:
    """Return the document as JSON."""
    types = [each for operation in OPERATIONS.values() for each in _types_of(operation)]
    # msgspec and OpenAPI 3.1 use the same version of JSON Schema, 2020-12.
    schemas, components = msgspec.json.schema_components(
        [*types, ErrorAnswer], ref_template="#/components/schemas/{name}"
    )
    found = iter(schemas)
    document = {
        "openapi": "3.1.1",
        "info": {"title": "wshub HTTP API", "version": "1"},
        # Relative to this document, wherever the application mounts the API.
        "servers": [{"url": "."}],
        "security": [{"key": []}],
        "paths": {
            f"/{operation.name}": {"post": _describe(operation, next(found), next(found))}
            for operation in OPERATIONS.values()
        },
        "components": {
            "schemas": {name: _shorten(schema) for name, schema in components.items()},
            "responses": {
                "Error": {
                    "description": "The request was refused.",
                    "content": {JSON_TYPE: {"schema": next(found)}},
                }
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. Its scopes are: "
                    + "; ".join(f"{scope}: {meaning}" for scope, meaning in SCOPES.items()),
                }
            },
        },
    }
    return msgspec.json.encode(document)


def _types_of(operation: Operation) -> tuple[Any, Any]:
    return operation.request, operation.answer


def _describe(operation: Operation, request: Any, answer: Any) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"The key needs the scope {operation.scope}.",
        "requestBody": {"required": True, "content": {JSON_TYPE: {"schema": request}}},
        "responses": {
            "200": {"description": "Done.", "content": {JSON_TYPE: {"schema": answer}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if operation.scope == PUBLISH:
        described["parameters"] = [_IDEMPOTENCY_KEY]
    return described


def _shorten(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the first paragraph of its description; the rest is about Python."""
    description = schema.get("description", "")
    return {**schema, "description": description.partition("\n\n")[0]}
