"""The scripts that run on Redis, each a Lua file of this package."""

import hashlib
from functools import cache
from importlib.resources import files


class Script:
    """A script.

    Args:
        text: The text of the script.

    Attributes:
        text: The text of the script.
        sha: The name by which Redis runs the script once it is loaded, 40 hexadecimal digits.
    """

    def __init__(self, text: bytes) -> None:
        self.text = text
        # Redis chooses this algorithm.
        self.sha = hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


@cache
def load_script(*names: str) -> Script:
    """Return the script that several files form together.

    Args:
        names: The names of the files, without ``.lua``.
    """
    folder = files(__name__)
    return Script(b"\n".join([folder.joinpath(f"{name}.lua").read_bytes() for name in names]))
