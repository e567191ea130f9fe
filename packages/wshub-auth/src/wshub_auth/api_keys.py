"""API keys, stored as digests."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wshub_auth.credentials import BearerHeader, CredentialSource
from wshub_auth.errors import InvalidAPIKeyError
from wshub_auth.tokens import TokenAuth
from wshub_core import JSON, AuthResult, InvalidConfigError

_FILE_LINE = re.compile(
    r"(?P<digest>sha256:[0-9a-f]{64})\s+(?:\[(?P<scopes>[^\]]*)\]\s+)?(?P<user_id>[^\s\[].*)"
)


@dataclass(frozen=True, slots=True)
class APIKeyUser:
    """The user of an API key, with the scopes of the key.

    Attributes:
        user_id: The user's id.
        scopes: The scopes, such as ``publish``: the operations that the key allows.
    """

    user_id: str
    scopes: Collection[str] = ()

    def __post_init__(self) -> None:
        # A string is a collection, too: of characters.
        if isinstance(self.scopes, str):
            raise InvalidConfigError("APIKeyUser.scopes must be a list of scopes, not one string")


def hash_api_key(key: str) -> str:
    """Return the digest of an API key for a key file: ``sha256:`` and 64 hexadecimal digits.

    A plain digest protects keys that cannot be guessed, such as those that
    ``secrets.token_urlsafe`` returns. Do not use it for passwords.
    """
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


class APIKeyAuthenticator(TokenAuth):
    """An authenticator for API keys, by default in ``Authorization: Bearer <key>``.

    The authenticator keeps digests of the keys, and its response time does not reveal how much of a
    guess was right. The claims of a client are ``{"auth_method": "api_key"}``, with ``scopes`` if
    its key has scopes. The HTTP API of a hub uses the scopes; WebSockets do not need them.

    Args:
        users: The user id for each key, or an `APIKeyUser`. The mapping is copied. A key with a
            blank user id is never accepted.
        sources: The places to search for a key, in order. The first place with a key is used.
    """

    def __init__(
        self,
        users: Mapping[str, str | APIKeyUser],
        *,
        sources: Sequence[CredentialSource] = (BearerHeader(),),
    ) -> None:
        super().__init__(self._look_up, *sources)
        # A dict does not compare in constant time: the time of a look-up may tell how similar two
        # dict keys are. HMACs under a secret of this process make that useless. A client cannot
        # compute the HMAC of a guess, so the similarity of two HMACs says nothing about the API
        # keys. Comparing with every key in constant time would be slower with every key.
        self._secret = secrets.token_bytes(32)
        self._users = {
            self._hmac(hash_api_key(key)): user
            if isinstance(user, APIKeyUser)
            else APIKeyUser(user)
            for key, user in users.items()
        }

    @classmethod
    def from_file(
        cls, path: str | Path, *, sources: Sequence[CredentialSource] = (BearerHeader(),)
    ) -> "APIKeyAuthenticator":
        """Create an authenticator from a key file.

        Each line has a digest as `hash_api_key` returns it, whitespace, and the user id. The scopes
        of the key can stand before the user id, in brackets and with spaces between them, as in
        ``[publish read] alice``. Empty lines and lines that begin with ``#`` are ignored.

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
                        f"{path}, line {number}: expected sha256:<64 hex digits>, [scopes] if "
                        "there are any, and a user id; see hash_api_key"
                    )
                user = APIKeyUser(match["user_id"], (match["scopes"] or "").split())
                authenticator._users[authenticator._hmac(match["digest"])] = user
        return authenticator

    def _look_up(self, key: str) -> AuthResult:
        user = self._users.get(self._hmac(hash_api_key(key)))
        if user is None or not user.user_id.strip():
            return AuthResult(False, error=InvalidAPIKeyError())
        claims: dict[str, JSON] = {"auth_method": "api_key"}
        if user.scopes:
            claims["scopes"] = user.scopes
        return AuthResult(True, user.user_id, claims)

    def _hmac(self, digest: str) -> bytes:
        return hmac.digest(self._secret, digest.encode(), "sha256")
