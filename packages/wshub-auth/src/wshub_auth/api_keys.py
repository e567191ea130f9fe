"""API keys: who has which, kept as digests."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from wshub_auth.credentials import BearerHeader, CredentialSource
from wshub_auth.errors import InvalidAPIKeyError
from wshub_auth.tokens import TokenAuth
from wshub_core import AuthResult, InvalidConfigError

_FILE_LINE = re.compile(r"(?P<hash>sha256:[0-9a-f]{64})\s+(?P<user_id>\S.*)")


def hash_api_key(key: str) -> str:
    """Return what a key file holds instead of a key: ``sha256:`` and 64 hex digits.

    A plain digest is enough for keys that cannot be guessed, such as those that
    ``secrets.token_urlsafe`` makes; it is no way to keep passwords.
    """
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


class APIKeyAuthenticator(TokenAuth):
    """Accepts API keys, by default in ``Authorization: Bearer <key>``.

    The keys themselves are not kept, and how long a look-up takes tells nothing about them. The
    connection's claims are ``{"auth_method": "api_key"}``.

    Args:
        users: Whose each key is, copied; a key with a blank user id never matches.
        sources: Where to look for the key; the first place that has one counts.
    """

    def __init__(
        self, users: Mapping[str, str], *, sources: Sequence[CredentialSource] = (BearerHeader(),)
    ) -> None:
        super().__init__(self._look_up, *sources)
        # Under a secret of this process, nobody outside knows which keys are near each other, so
        # comparing them in a dict is as good as in constant time, however many there are.
        self._secret = secrets.token_bytes(32)
        self._users = {self._tag(hash_api_key(key)): user_id for key, user_id in users.items()}

    @classmethod
    def from_file(
        cls, path: str | Path, *, sources: Sequence[CredentialSource] = (BearerHeader(),)
    ) -> "APIKeyAuthenticator":
        """Read a key file: in each line what `hash_api_key` returned, blanks, and the user id.

        Empty lines and those that begin with ``#`` mean nothing.

        Raises:
            InvalidConfigError: A line is something else; the text tells which, but not what it
                holds, because that may be a key.
            OSError: The file cannot be read.
        """
        authenticator = cls({}, sources=sources)
        for number, line in enumerate(Path(path).read_text().splitlines(), start=1):
            if line.strip() and not line.startswith("#"):
                match = _FILE_LINE.fullmatch(line.strip())
                if match is None:
                    raise InvalidConfigError(
                        f"{path}, line {number}: expected sha256:<64 hex digits> and a user id, "
                        "see hash_api_key"
                    )
                authenticator._users[authenticator._tag(match["hash"])] = match["user_id"]
        return authenticator

    def _look_up(self, key: str) -> AuthResult:
        user_id = self._users.get(self._tag(hash_api_key(key)), "")
        if not user_id.strip():
            return AuthResult(False, error=InvalidAPIKeyError())
        return AuthResult(True, user_id, {"auth_method": "api_key"})

    def _tag(self, key_hash: str) -> bytes:
        return hmac.digest(self._secret, key_hash.encode(), "sha256")
