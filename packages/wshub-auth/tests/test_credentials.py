"""Credential sources; the rules are in the wire protocol, "Authentication"."""

import re
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wshub_auth import (
    BearerHeader,
    BearerSubprotocol,
    Cookie,
    MalformedAuthHeaderError,
    MalformedTokenError,
    MissingAuthHeaderError,
    MissingTokenError,
    QueryParameter,
)
from wshub_auth.credentials import CredentialSource, check_credential
from wshub_core import AuthError, Request


def outcome(source: CredentialSource, **request: Any) -> str | type[AuthError]:
    try:
        return source.read(Request("GET", "/ws", **request))
    except AuthError as error:
        return type(error)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Bearer k1", "k1"),
        ("bearer k1", "k1"),
        ("BEARER k1", "k1"),
        ("bearer   k1  ", "k1"),
        ("Bearer k1 x", "k1 x"),
        ("Bearer \tk1\t", "k1"),
        ("Bearer k1,k2", "k1,k2"),
        ("Bearer voil\xc3\xa0", "voilà"),
        ("Bearer \xc3\xa4", "ä"),  # two octets of UTF-8, decoded as ISO 8859-1
        ("Bearer\tk1", MalformedAuthHeaderError),
        ("Bearer", MalformedAuthHeaderError),
        ("Bearer ", MalformedAuthHeaderError),
        ("Bearer \t ", MalformedAuthHeaderError),
        ("Bearerk1", MalformedAuthHeaderError),
        ("k1", MalformedAuthHeaderError),
        ("Basic dXNlcjpwYXNz", MalformedAuthHeaderError),
        ("Token k1", MalformedAuthHeaderError),
        ("Bearer: k1", MalformedAuthHeaderError),
        ("Bearer \xff", MalformedAuthHeaderError),
        ("Bearer \u20ac", MalformedAuthHeaderError),
        ("", MissingAuthHeaderError),
        ("  ", MissingAuthHeaderError),
    ],
)
def test_the_bearer_header_is_parsed(header: str, expected: object) -> None:
    assert outcome(BearerHeader(), headers={"authorization": (header,)}) == expected


def test_only_the_first_authorization_header_is_read() -> None:
    assert outcome(BearerHeader()) is MissingAuthHeaderError
    several = {"authorization": ("Bearer k1", "Bearer k2")}
    assert outcome(BearerHeader(), headers=several) == "k1"
    broken_first = {"authorization": ("Basic k1", "Bearer k2")}
    assert outcome(BearerHeader(), headers=broken_first) is MalformedAuthHeaderError


@given(st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=40))
def test_every_header_is_parsed_by_the_rule_or_refused(header: str) -> None:
    expected: object = MalformedAuthHeaderError
    try:
        text = header.encode("latin-1").decode().strip()
        match = re.fullmatch(r"([^ ]*) (.*)", text)
        if not text:
            expected = MissingAuthHeaderError
        elif match is not None and match[1].lower() == "bearer" and match[2].strip():
            expected = match[2].strip()
    except UnicodeDecodeError:
        pass
    assert outcome(BearerHeader(), headers={"authorization": (header,)}) == expected


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.sampled_from("bB"))
def test_every_token_survives_the_header(token: str, initial: str) -> None:
    header = f"{initial}earer {token}".encode().decode("latin-1")
    found = outcome(BearerHeader(), headers={"authorization": (header,)})
    assert found == (token.strip() or MalformedAuthHeaderError)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("token=abc", "abc"),
        ("a=b&token=abc&c=d", "abc"),
        ("token=a%2Bb", "a+b"),
        ("token=a+b", "a b"),
        ("token=%20", " "),
        ("token=%20abc%20", " abc "),
        ("token=a=b", "a=b"),
        ("token=%C3%A4", "ä"),
        ("%74oken=abc", "abc"),
        ("token=abc&token=def", "abc"),
        ("token=%zz&token=abc", "abc"),
        ("token=a;b&token=abc", "abc"),
        ("token=&token=x", MissingTokenError),
        ("token=", MissingTokenError),
        ("token", MissingTokenError),
        ("", MissingTokenError),
        ("&&", MissingTokenError),
        ("Token=abc", MissingTokenError),
        ("TOKEN=abc", MissingTokenError),
        ("tokens=abc", MissingTokenError),
        ("token=%", MissingTokenError),
        ("token=%4", MissingTokenError),
        ("token=%zz", MissingTokenError),
        ("token=%ff", MissingTokenError),
        ("a=b;token=abc", MissingTokenError),
        ("token=abc;a=b", MissingTokenError),
    ],
)
def test_the_query_parameter_is_parsed(query: str, expected: object) -> None:
    assert outcome(QueryParameter(), query=query) == expected


def test_the_name_of_the_query_parameter_is_configurable() -> None:
    assert outcome(QueryParameter("ticket"), query="token=a&ticket=b") == "b"
    with pytest.raises(MissingTokenError, match=r"^missing ticket query parameter$"):
        QueryParameter("ticket").read(Request("GET", "/"))
    with pytest.raises(MissingTokenError, match=r"^missing token query parameter$"):
        QueryParameter().read(Request("GET", "/"))


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.booleans())
def test_every_token_survives_the_query(token: str, is_form: bool) -> None:
    query = urlencode({"a": "b", "token": token}) if is_form else f"token={quote(token, safe='')}"
    assert outcome(QueryParameter(), query=query) == token


@given(st.text("token=&%+;ä0aF", max_size=30))
def test_a_query_without_semicolons_is_parsed_as_by_the_standard_library(query: str) -> None:
    found = outcome(QueryParameter(), query=query)
    if ";" not in query and not re.search(r"%(?![0-9A-Fa-f]{2})", query):
        pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
        valid = [value for name, value in pairs if name == "token" and "udc" not in ascii(value)]
        expected = valid[0] if valid else ""
        assert found == (expected or MissingTokenError)


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (("wshub.bearer, abc",), "abc"),
        (("wshub.bearer,abc",), "abc"),
        (("wshub.bearer", "abc"), "abc"),
        (("chat, wshub.bearer, abc, def",), "abc"),
        (("wshub.bearer, a%2Fb%3D",), "a/b="),
        (("wshub.bearer, eyJh.eyJz.c2ln-_",), "eyJh.eyJz.c2ln-_"),
        (("wshub.bearer",), MalformedTokenError),
        (("abc, wshub.bearer",), MalformedTokenError),
        (("wshub.bearer, a%zz",), MalformedTokenError),
        (("wshub.bearer, %ff",), MalformedTokenError),
        (("WSHUB.BEARER, abc",), MissingTokenError),
        (("chat",), MissingTokenError),
        ((), MissingTokenError),
    ],
)
def test_the_token_after_the_marker_is_read(offered: tuple[str, ...], expected: object) -> None:
    headers = {"sec-websocket-protocol": offered}
    assert outcome(BearerSubprotocol(), headers=headers) == expected


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        ("theme=dark; session=abc", "abc"),
        ("session=abc; session=def", "abc"),
        ('session="abc"', "abc"),
        ("session=", MissingTokenError),
        ("Session=abc", MissingTokenError),
        ("sessionabc", MissingTokenError),
    ],
)
def test_the_cookie_is_parsed(cookies: str, expected: object) -> None:
    assert outcome(Cookie("session"), headers={"cookie": (cookies,)}) == expected


@pytest.mark.parametrize(
    "text", ["a\x00b", "a\nb", "a\r", "\x1b[31m", "\x7f", "\x9b", "x" * 8_193, "\ud800"]
)
def test_malformed_credentials_are_refused(text: str) -> None:
    with pytest.raises(MalformedTokenError):
        check_credential(text)


@pytest.mark.parametrize("text", ["", " ", "x" * 8_192, "ä€🙂", "a b"])
def test_well_formed_credentials_are_accepted(text: str) -> None:
    check_credential(text)
