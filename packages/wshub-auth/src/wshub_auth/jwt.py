"""JSON Web Tokens (RFC 7519), verified by the rules of RFC 8725. Needs ``wshub-auth[jwt]``."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from wshub_auth.credentials import BearerHeader, BearerSubprotocol, CredentialSource
from wshub_auth.errors import InvalidTokenError
from wshub_auth.tokens import TokenAuth
from wshub_core import JSON, AuthError, AuthExpiredError, AuthResult, InvalidConfigError

try:
    import jwt

    from wshub_auth.jwks import JWKS
    from wshub_auth.jwt_keys import is_asymmetric, prepare_key
except ImportError as error:
    raise ImportError(
        "wshub_auth.jwt needs the extra wshub-auth[jwt]: install PyJWT[crypto] and httpx"
    ) from error

__all__ = ["JWKS", "JWTAuth"]

_REASONS: dict[type[jwt.PyJWTError], str] = {
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAlgorithmError: "the algorithm is not allowed",
    jwt.InvalidAudienceError: "the token is for another audience",
    jwt.InvalidIssuerError: "the token is from another issuer",
    jwt.InvalidSignatureError: "the signature is wrong",
}
"""Reasons by the exception of PyJWT. They do not depend on the texts of PyJWT."""

_MALFORMED = "the token is malformed"

_NOT_ALLOWED = "the algorithm is not allowed"


class JWTAuth(TokenAuth):
    """An authenticator for JSON Web Tokens.

    It verifies the signature, the time, the audience and the issuer. A token must have the claim
    ``exp`` and the claim with the user id. The connection ends when the token expires, unless the
    client sends a new token before.

    Args:
        key: The key that verifies signatures: a secret, a public key as PEM, or a `JWKS`.
        algorithms: The allowed algorithms, such as ``["RS256"]``. The header of a token cannot
            allow others. Use a secret with the algorithms ``HS…``, and a public key or a `JWKS`
            with all others.
        audience: The required value of ``aud``, or a list of alternatives; ``aud`` may contain
            further values. With None, tokens that have ``aud`` are refused.
        issuer: The required value of ``iss``, or a list of alternatives; None for any issuer.
        leeway: Tolerated difference between clocks, in seconds.
        user_id_claim: The name of the claim with the user id. Its value is a text or a number.
        map_claims: Function that returns the connection's claims for the claims of a token. With
            None, the connection gets all claims of the token.
        sources: The places to search for a token, in order. The first place with a token is used.

    Raises:
        InvalidConfigError: The key does not fit the algorithms, or is too short for them.
    """

    def __init__(
        self,
        key: str | bytes | JWKS,
        *,
        algorithms: Collection[str],
        audience: str | Collection[str] | None = None,
        issuer: str | Collection[str] | None = None,
        leeway: float = 0.0,
        user_id_claim: str = "sub",
        map_claims: Callable[[Mapping[str, JSON]], Mapping[str, JSON]] | None = None,
        sources: Sequence[CredentialSource] = (BearerHeader(), BearerSubprotocol()),
    ) -> None:
        super().__init__(self._validate_token, *sources)
        if isinstance(algorithms, str) or not algorithms:
            raise InvalidConfigError('JWTAuth.algorithms must be a list, such as ["RS256"]')
        # One prepared key for each allowed algorithm: a key is never used with an algorithm that
        # the application has not named (RFC 8725 section 3.1).
        self._keys = {each: _prepare_key_source(key, each) for each in algorithms}
        self._audience = audience if isinstance(audience, str | None) else list(audience)
        self._issuer = issuer if isinstance(issuer, str | None) else list(issuer)
        self._leeway = leeway
        self._user_id_claim = user_id_claim
        self._map_claims = map_claims

    def _validate_token(self, token: str) -> AuthResult | Awaitable[AuthResult]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            # PyJWT 2.13 does not wrap the `RecursionError` that deeply nested JSON raises.
            return _refuse(_MALFORMED)
        # The header is not verified yet. It only selects among the allowed algorithms and the known
        # keys. Headers that carry or locate a key ("jwk", "jku", "x5u") are ignored (RFC 8725
        # section 3.10).
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._keys:
            return _refuse(_NOT_ALLOWED)
        key = self._keys[algorithm]
        if isinstance(key, JWKS):
            return self._find_key_and_verify(token, key, kid, algorithm)
        return self._verify(token, key, algorithm)

    async def _find_key_and_verify(
        self, token: str, keys: JWKS, kid: str | None, algorithm: str
    ) -> AuthResult:
        try:
            key = await keys.find(kid, algorithm)
        except AuthError as error:
            return AuthResult(False, error=error)
        return self._verify(token, key, algorithm)

    def _verify(self, token: str, key: Any, algorithm: str) -> AuthResult:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                # RFC 7519 section 4.1.2 asks for a text in "sub", and PyJWT refuses anything else.
                # Some providers use numbers as user ids, so the type is checked below.
                options={"require": ["exp", self._user_id_claim], "verify_sub": False},
            )
            # The hub ends the connection at this time, so the leeway applies there as well.
            expires_at = float(claims["exp"]) + self._leeway
        except jwt.ExpiredSignatureError:
            return AuthResult(False, error=AuthExpiredError())
        except jwt.MissingRequiredClaimError as error:
            return _refuse(f"the claim {error.claim} is missing")
        except jwt.PyJWTError as error:
            return _refuse(_REASONS.get(type(error), _MALFORMED))
        except (ValueError, TypeError, OverflowError, RecursionError):
            # Claims with values of other types, such as an "exp" that no float can hold.
            return _refuse(_MALFORMED)
        user_id = claims[self._user_id_claim]
        # `bool` is a subclass of `int`.
        if not isinstance(user_id, str | int) or isinstance(user_id, bool):
            return _refuse(f"the claim {self._user_id_claim} is neither a text nor a number")
        mapped = claims if self._map_claims is None else self._map_claims(claims)
        return AuthResult(True, str(user_id), mapped, expires_at=expires_at)


def _refuse(reason: str) -> AuthResult:
    return AuthResult(False, error=InvalidTokenError(reason))


def _prepare_key_source(key: str | bytes | JWKS, algorithm: str) -> Any:
    """Return the key for one algorithm, or the `JWKS` that finds the key for a token.

    Raises:
        InvalidConfigError: The key does not fit the algorithm.
    """
    if not isinstance(key, JWKS):
        return prepare_key(key, algorithm)
    # Anybody can read a key set, so a secret in one is not secret.
    if not is_asymmetric(algorithm):
        raise InvalidConfigError(f"{algorithm} needs a secret, and a JWKS must not contain secrets")
    return key
