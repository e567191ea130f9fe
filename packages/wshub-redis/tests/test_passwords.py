"""A password that changes while a bridge runs: the reason and its end are reported."""

from collections.abc import Callable
from typing import Any

import pytest
from fleet import wait_until
from redis_servers import run_server

from wshub_core import BridgeState, Hub
from wshub_redis import RedisBridge

QUICK: dict[str, Any] = {"timeout": 1.0, "probe_interval": 0.5}

Change = Callable[[Any], None]


def require(password: str) -> Change:
    return lambda client: client.config_set("requirepass", password)


def set_user(*rules: str) -> Change:
    return lambda client: client.execute_command("ACL", "SETUSER", "hub", *rules)


USER = ("on", ">secret", "resetchannels", "&ws:*", "+publish", "+subscribe", "+unsubscribe")


@pytest.mark.parametrize(
    ("prepare", "options", "change", "reason", "undo"),
    [
        (
            require("first"),
            {"password": "first"},
            require("second"),
            "invalid username-password pair",
            require("first"),
        ),
        (require(""), {}, require("second"), "Authentication required", require("")),
        (
            set_user(*USER, "+@connection"),
            {"username": "hub", "password": "secret"},
            set_user("resetpass", ">other"),
            "invalid username-password pair",
            set_user(">secret"),
        ),
        (
            set_user(*USER, "+@connection"),
            {"username": "hub", "password": "secret"},
            set_user("off"),
            "user is disabled",
            set_user("on"),
        ),
        (
            set_user(*USER, "+@connection"),
            {"username": "hub", "password": "secret"},
            set_user("resetchannels", "&other:*"),
            "permissions",
            set_user("&ws:*"),
        ),
    ],
    ids=["WRONGPASS", "NOAUTH", "user's password", "user is off", "NOPERM"],
)
async def test_each_reason_is_reported_once_while_the_connections_are_down(
    prepare: Change,
    options: dict[str, Any],
    change: Change,
    reason: str,
    undo: Change,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with run_server() as server, server.client() as client:
        prepare(client)
        told: list[tuple[BridgeState, str]] = []
        async with (
            Hub() as hub,
            RedisBridge(
                hub,
                server.url,
                on_state_change=lambda each: told.append((each.state, each.reason)),
                **QUICK | options,
            ) as bridge,
        ):
            change(client)
            kill_clients(client)
            await wait_until(lambda: any(reason in why for _, why in told))
            assert bridge.state != BridgeState.UP
            assert reason in bridge.reason
            # Every attempt fails with the reason, and the first one is reported.
            before = count_connections(client)
            await wait_until(lambda: count_connections(client) >= before + 6)
            assert [why for _, why in told].count(bridge.reason) == 1
            assert reason in caplog.text
            assert "secret" not in caplog.text
            assert "first" not in caplog.text
            undo(client)
            await wait_until(lambda: bridge.state == BridgeState.UP)
            assert bridge.reason == ""
        assert told[-1] == (BridgeState.UP, "")


def kill_clients(client: Any) -> None:
    for kind in ("normal", "pubsub"):
        client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def count_connections(client: Any) -> int:
    return int(client.info("stats")["total_connections_received"])
