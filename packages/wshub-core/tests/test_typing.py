"""Type errors in applications that a type checker finds.

A ``type: ignore`` comment marks an expected error. The type check of this project fails if the
error does not occur.
"""

from wshub_core import AuthResult, Connection, HubConfig, Message, Request


def test_correct_callbacks_have_no_type_errors() -> None:
    HubConfig(authenticator=lambda request: AuthResult(True, request.header("x-user") or "nobody"))
    HubConfig(channel_authorizer=lambda connection, channel: channel == connection.user_id)
    HubConfig(publish_authorizer=lambda *_: True)
    HubConfig(check_origin=lambda request: request.path == "/ws")
    HubConfig(on_connect=lambda connection: connection.send(Message(type="hello")))

    async def later(connection: Connection, channel: str) -> bool:
        return bool(channel) and bool(connection)

    async def authenticate(request: Request) -> AuthResult:
        return AuthResult(request.query == "let-me-in", "alice")

    HubConfig(authenticator=authenticate, channel_authorizer=later, publish_authorizer=later)


def test_wrong_callbacks_have_type_errors() -> None:
    HubConfig(authenticator=lambda request: AuthResult(True, request.user))  # type: ignore[attr-defined]
    HubConfig(authenticator=lambda request: True)  # type: ignore[arg-type, return-value]
    HubConfig(authenticator=lambda: AuthResult(True))  # type: ignore[arg-type, misc]
    HubConfig(channel_authorizer=lambda connection, _: connection.name == "a")  # type: ignore[attr-defined]
    HubConfig(channel_authorizer=lambda connection: True)  # type: ignore[arg-type, misc]
    HubConfig(publish_authorizer=lambda connection, channel: "yes")  # type: ignore[arg-type, return-value]
    HubConfig(on_connect=lambda: None)  # type: ignore[arg-type, misc]
