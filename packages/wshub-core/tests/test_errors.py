import re

from wshub_core import WSHubError
from wshub_core.values import errors


def test_every_error_is_a_wshub_error_and_is_in_the_documented_tree() -> None:
    defined = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception)
    }
    assert all(issubclass(error, WSHubError) for error in defined.values())
    assert set(re.findall(r"\w+Error", errors.__doc__ or "")) == set(defined)


def test_long_names_do_not_fill_the_log() -> None:
    assert len(str(errors.InvalidChannelError("x" * 1_000_000))) < 200
    assert len(str(errors.InvalidProcessIDError("x" * 1_000_000))) < 200


def test_error_texts_name_the_remedy() -> None:
    assert str(errors.MessageTooLargeError(70_000, 65_536)) == (
        "encoded message has 70000 bytes, the limit is 65536: send less, or raise max_message_bytes"
    )
    assert str(errors.SubscriptionLimitError(3)).startswith("subscription limit exceeded")
