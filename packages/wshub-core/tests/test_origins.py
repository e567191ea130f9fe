import pytest

from wshub_core import Request
from wshub_core.values.origins import origin_allowed


def request(host: str | None, *origins: str) -> Request:
    headers = {"origin": origins} if origins else {}
    if host is not None:
        headers["host"] = (host,)
    return Request("GET", "/ws", headers=headers)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("app.example", "https://app.example"),
        ("app.example", "http://app.example"),
        ("APP.example", "https://app.EXAMPLE"),
        ("app.example:443", "https://app.example"),
        ("app.example", "https://app.example:443"),
        ("app.example:80", "http://app.example"),
        ("localhost:8080", "http://localhost:8080"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_pages_of_the_same_origin_may_connect(host: str, origin: str) -> None:
    assert origin_allowed(request(host, origin), None)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("app.example", "https://evil.example"),
        ("app.example", "https://app.example.evil.example"),
        ("app.example", "https://app.example:8443"),
        ("app.example:8080", "http://app.example"),
        ("app.example", "null"),
        ("app.example", ""),
        ("app.example", "app.example"),
        ("app.example", "ftp://app.example"),
        ("app.example", "https://app.example:port"),
        ("app.example", "https://[::1"),
        ("app.example", "https://"),
        ("", "https://"),
        (None, "https://app.example"),
    ],
)
def test_pages_of_other_origins_may_not_connect(host: str | None, origin: str) -> None:
    assert not origin_allowed(request(host, origin), None)


def test_requests_without_an_origin_are_allowed() -> None:
    assert origin_allowed(request("app.example"), None)
    assert origin_allowed(request("app.example"), ["https://app.example"])


@pytest.mark.parametrize(
    ("sites", "is_allowed"),
    [
        (["same-origin"], True),
        (["none"], True),
        (["same-site"], False),
        (["cross-site"], False),
        (["anything"], False),
        (["same-origin", "cross-site"], False),
    ],
)
@pytest.mark.parametrize("require_origin", [False, True])
def test_without_an_origin_the_site_counts(
    sites: list[str], is_allowed: bool, require_origin: bool
) -> None:
    fetched = Request("GET", "/", headers={"host": ("x",), "sec-fetch-site": tuple(sites)})
    for allowed in (None, ["https://app.example"]):
        assert origin_allowed(fetched, allowed, require_origin=require_origin) is is_allowed
    assert origin_allowed(fetched, ["*"], require_origin=require_origin)


def test_an_origin_counts_more_than_the_site() -> None:
    headers = {"origin": ("https://app.example",), "sec-fetch-site": ("same-site",)}
    fetched = Request("GET", "/", headers={"host": ("api.example",), **headers})
    assert origin_allowed(fetched, ["https://app.example"])
    assert not origin_allowed(fetched, None)


def test_a_list_allows_exactly_its_origins() -> None:
    allowed = ["https://app.example"]
    assert origin_allowed(request("api.example", "https://app.example"), allowed)
    assert not origin_allowed(request("api.example", "https://api.example"), allowed)
    assert not origin_allowed(request("api.example", "https://APP.example"), allowed)


def test_a_star_allows_all_origins() -> None:
    assert origin_allowed(request("app.example", "https://evil.example"), ["*"])


def test_two_origin_headers_are_refused() -> None:
    twice = request("app.example", "https://app.example", "https://evil.example")
    assert not origin_allowed(twice, None)
    assert not origin_allowed(twice, ["*"])
