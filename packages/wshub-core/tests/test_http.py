import pytest

from wshub_core import Request, offered_subprotocols
from wshub_core.values.subprotocols import select_subprotocol


def test_header_names_ignore_case_and_the_first_value_counts() -> None:
    request = Request("GET", "/", headers={"x-name": ("first", "second")})
    assert request.header("X-Name") == "first"
    assert request.header("x-name") == "first"
    assert request.header("x-other") is None


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (("session=abc",), "abc"),
        (("theme=dark; session=abc; session=def",), "abc"),
        (("theme=dark", "session=abc"), "abc"),
        ((" session = abc ;x",), "abc"),
        (('session="a b"',), "a b"),
        (('session="',), '"'),
        (("session=a=b==",), "a=b=="),
        (("session=",), ""),
        (("SESSION=abc",), None),
        (("xsession=abc; session",), None),
        ((), None),
    ],
)
def test_a_cookie_is_found_among_others_and_not_decoded(
    headers: tuple[str, ...], value: str | None
) -> None:
    assert Request("GET", "/", headers={"cookie": headers}).cookie("session") == value


def test_the_repr_of_a_request_shows_no_secrets() -> None:
    secrets = Request(
        "GET", "/ws", "token=s3cret", {"authorization": ("Bearer s3cret",)}, "192.0.2.1:1"
    )
    assert "s3cret" not in repr(secrets)
    assert "/ws" in repr(secrets)
    assert "192.0.2.1:1" in repr(secrets)


@pytest.mark.parametrize(
    ("headers", "offered", "selected"),
    [
        (("wshub.bearer, t0ken",), ["wshub.bearer", "t0ken"], "wshub.bearer"),
        (("chat", "wshub.bearer,t0ken"), ["chat", "wshub.bearer", "t0ken"], "wshub.bearer"),
        (("chat,, ",), ["chat"], None),
        (("WSHUB.BEARER, t0ken",), ["WSHUB.BEARER", "t0ken"], None),
        ((), [], None),
    ],
)
def test_only_the_marker_of_the_subprotocols_is_selected(
    headers: tuple[str, ...], offered: list[str], selected: str | None
) -> None:
    request = Request("GET", "/", headers={"sec-websocket-protocol": headers})
    assert offered_subprotocols(request) == offered
    assert select_subprotocol(request) == selected
