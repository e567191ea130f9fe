from wshub_core import Request


def test_a_header_is_found_whatever_its_case_and_the_first_counts() -> None:
    request = Request("GET", "/", headers={"x-name": ("first", "second")})
    assert request.header("X-Name") == "first"
    assert request.header("x-name") == "first"
    assert request.header("x-other") is None
