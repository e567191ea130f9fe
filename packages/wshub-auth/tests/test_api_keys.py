"""API keys: accepted and refused keys, storage as digests, and key files."""

import gc
from pathlib import Path
from typing import Any

import pytest

from wshub_auth import APIKeyAuthenticator, APIKeyUser, Cookie, hash_api_key
from wshub_core import AuthResult, InvalidConfigError, Request

ALICE = "Bearer secret-key-1"


def authenticate(authenticator: APIKeyAuthenticator, header: str | None) -> AuthResult:
    headers = {} if header is None else {"authorization": (header,)}
    result = authenticator(Request("GET", "/ws", headers=headers))
    assert isinstance(result, AuthResult), "the look-up of an API key does not wait"
    return result


def test_a_valid_key_identifies_its_user() -> None:
    authenticator = APIKeyAuthenticator({"secret-key-1": " user-alice ", "secret-key-2": "bob"})
    accepted = authenticate(authenticator, ALICE)
    assert (accepted.valid, accepted.user_id) == (True, "user-alice")
    assert accepted.claims == {"auth_method": "api_key"}
    assert accepted.error is None
    assert authenticate(authenticator, "bearer secret-key-2").user_id == "bob"


@pytest.mark.parametrize(
    ("header", "text", "challenge"),
    [
        (None, "missing Authorization header", "Bearer"),
        ("", "missing Authorization header", "Bearer"),
        ("Basic x", "malformed Authorization header", 'Bearer error="invalid_token"'),
        ("Bearer wrong", "invalid API key", 'Bearer error="invalid_token"'),
        ("Bearer secret-key", "invalid API key", 'Bearer error="invalid_token"'),
        ("Bearer secret-key-1x", "invalid API key", 'Bearer error="invalid_token"'),
        ("Bearer SECRET-KEY-1", "invalid API key", 'Bearer error="invalid_token"'),
        ("Bearer blank", "invalid API key", 'Bearer error="invalid_token"'),
        ("Bearer padded", "invalid API key", 'Bearer error="invalid_token"'),
        ("Bearer a\x00b", "malformed token", 'Bearer error="invalid_token"'),
        ("Bearer " + "x" * 9_000, "malformed token", 'Bearer error="invalid_token"'),
    ],
)
def test_a_refusal_has_an_error_and_a_challenge(
    header: str | None, text: str, challenge: str
) -> None:
    authenticator = APIKeyAuthenticator(
        {"secret-key-1": "alice", "blank": " \t", " padded ": "eve"}
    )
    refused = authenticate(authenticator, header)
    assert (refused.valid, str(refused.error), refused.challenge) == (False, text, challenge)


def test_an_authenticator_without_keys_refuses_every_key() -> None:
    assert str(authenticate(APIKeyAuthenticator({}), ALICE).error) == "invalid API key"


def test_the_mapping_of_keys_is_copied() -> None:
    users = {"secret-key-1": "alice"}
    authenticator = APIKeyAuthenticator(users)
    users["secret-key-1"] = "eve"
    users["secret-key-2"] = "eve"
    assert authenticate(authenticator, ALICE).user_id == "alice"
    assert not authenticate(authenticator, "Bearer secret-key-2").valid


def reachable(root: object) -> list[Any]:
    """Return all objects that an object refers to, directly or indirectly."""
    found: dict[int, Any] = {}
    waiting = [root]
    while waiting:
        each = waiting.pop()
        if id(each) not in found and not isinstance(each, type | type(gc)):
            found[id(each)] = each
            waiting += gc.get_referents(each)
    return list(found.values())


def test_neither_keys_nor_their_plain_digests_are_stored() -> None:
    key = "-".join(["a", "key", "that", "exists", "nowhere", "else"])
    authenticator = APIKeyAuthenticator({key: "alice"})
    digest = hash_api_key(key).removeprefix("sha256:")
    # Only the state is searched. From the methods, every object is reachable, also this test's.
    kept = reachable(vars(authenticator)["_users"]) + reachable(vars(authenticator)["_secret"])
    assert "alice" in kept
    assert key not in kept
    assert not {digest, bytes.fromhex(digest), key.encode()} & {
        each for each in kept if isinstance(each, str | bytes)
    }
    assert key not in repr(authenticator)


def test_a_key_is_read_from_the_configured_source() -> None:
    authenticator = APIKeyAuthenticator({"secret-key-1": "alice"}, sources=[Cookie("key")])
    result = authenticator(Request("GET", "/", headers={"cookie": ("key=secret-key-1",)}))
    assert isinstance(result, AuthResult)
    assert result.user_id == "alice"
    refused = authenticator(Request("GET", "/"))
    assert isinstance(refused, AuthResult)
    assert (str(refused.error), refused.challenge) == ("missing key cookie", "")


def test_a_key_file_contains_digests_and_user_ids(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(
        f"# who may connect\n\n{hash_api_key('secret-key-1')} alice\n"
        f"  {hash_api_key('secret-key-2')} \t bob the builder \n"
    )
    authenticator = APIKeyAuthenticator.from_file(path)
    assert authenticate(authenticator, ALICE).user_id == "alice"
    assert authenticate(authenticator, "Bearer secret-key-2").user_id == "bob the builder"
    assert not authenticate(authenticator, "Bearer " + hash_api_key("secret-key-1")).valid


@pytest.mark.parametrize(
    "line",
    [
        "secret-key-1 alice",
        "sha256:abc alice",
        hash_api_key("secret-key-1"),
        hash_api_key("secret-key-1").upper() + " alice",
        hash_api_key("secret-key-1").removeprefix("sha256:") + " alice",
        hash_api_key("secret-key-1") + " [publish alice",
        hash_api_key("secret-key-1") + " [publish]",
        hash_api_key("secret-key-1") + " [publish]alice",
        hash_api_key("secret-key-1") + " [publish] [read] alice",
    ],
)
def test_the_error_for_a_malformed_line_has_its_number_but_not_its_content(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{hash_api_key('k')} bob\n{line}\n")
    with pytest.raises(InvalidConfigError, match="line 2: expected sha256:<64 hex") as raised:
        APIKeyAuthenticator.from_file(path)
    assert line.split()[0] not in str(raised.value)


def test_a_missing_key_file_raises_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        APIKeyAuthenticator.from_file(tmp_path / "keys")


def test_a_key_can_have_scopes() -> None:
    authenticator = APIKeyAuthenticator(
        {
            "secret-key-1": APIKeyUser("alice", scopes=["publish", "read"]),
            "secret-key-2": APIKeyUser("alice"),
            "secret-key-3": APIKeyUser(" "),
        }
    )
    accepted = authenticate(authenticator, ALICE)
    assert accepted.user_id == "alice"
    assert accepted.claims == {"auth_method": "api_key", "scopes": ("publish", "read")}
    without = authenticate(authenticator, "Bearer secret-key-2")
    assert (without.user_id, without.claims) == ("alice", {"auth_method": "api_key"})
    assert not authenticate(authenticator, "Bearer secret-key-3").valid


def test_scopes_are_no_single_string() -> None:
    with pytest.raises(InvalidConfigError, match="must be a list of scopes"):
        APIKeyUser("alice", scopes="publish")


def test_a_key_file_can_contain_scopes(tmp_path: Path) -> None:
    lines = {
        "k1": "[publish read] alice",
        "k2": "[]  bob",
        "k3": "[ manage ]\tcarol the admin [x]",
        "k4": "dave [publish]",
    }
    path = tmp_path / "keys"
    path.write_text("\n".join(f"{hash_api_key(key)} {rest}" for key, rest in lines.items()))
    authenticator = APIKeyAuthenticator.from_file(path)
    found = {key: authenticate(authenticator, f"Bearer {key}") for key in lines}
    assert {
        key: (each.user_id, (each.claims or {}).get("scopes")) for key, each in found.items()
    } == {
        "k1": ("alice", ("publish", "read")),
        "k2": ("bob", None),
        "k3": ("carol the admin [x]", ("manage",)),
        "k4": ("dave [publish]", None),
    }
