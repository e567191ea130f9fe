"""API keys, stored as digests."""

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

_FILE_LINE = re.compile(r"(?P<digest>sha256:[0-9a-f]{64})\s+(?P<user_id>\S.*)")


def hash_api_key(key: str) -> str:
    """Return the digest of an API key for a key file: ``sha256:`` and 64 hexadecimal digits.

    A plain digest protects keys that cannot be guessed, such as those that
    ``secrets.token_urlsafe`` returns. Do not use it for passwords.
    """
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


class APIKeyAuthenticator(TokenAuth):
    """An authenticator for API keys, by default in ``Authorization: Bearer <key>``.

    The authenticator keeps digests of the keys, and its response time does not reveal how much of a
    guess was right. The connection's claims are ``{"auth_method": "api_key"}``.

    Args:
        users: The user id for each key. The mapping is copied. A key with a blank user id is never
            accepted.
        sources: The places to search for a key, in order. The first place with a key is used.
    """

    def __init__(
        self, users: Mapping[str, str], *, sources: Sequence[CredentialSource] = (BearerHeader(),)
    ) -> None:
        super().__init__(self._look_up, *sources)
        # A dict does not compare in constant time: the time of a look-up may tell how similar two
        # dict keys are. HMACs under a secret of this process make that useless. A client cannot
        # compute the HMAC of a guess, so the similarity of two HMACs says nothing about the API
        # keys. Comparing with every key in constant time would be slower with every key.
        self._secret = secrets.token_bytes(32)
        self._users = {self._hmac(hash_api_key(key)): user_id for key, user_id in users.items()}

    @classmethod
    def from_file(
        cls, path: str | Path, *, sources: Sequence[CredentialSource] = (BearerHeader(),)
    ) -> "APIKeyAuthenticator":
        """Create an authenticator from a key file.

        Each line has a digest as `hash_api_key` returns it, whitespace, and the user id. Empty
        lines and lines that begin with ``#`` are ignored.

        Raises:
            InvalidConfigError: A line is malformed. The error text has the number of the line, but
                not its content, which may be a key.
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
                authenticator._users[authenticator._hmac(match["digest"])] = match["user_id"]
        return authenticator

    def _look_up(self, key: str) -> AuthResult:
        user_id = self._users.get(self._hmac(hash_api_key(key)), "")
        if not user_id.strip():
            return AuthResult(False, error=InvalidAPIKeyError())
        return AuthResult(True, user_id, {"auth_method": "api_key"})

    def _hmac(self, digest: str) -> bytes:
        return hmac.digest(self._secret, digest.encode(), "sha256")
