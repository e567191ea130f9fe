"""JSON Web Tokens (RFC 7519), checked as RFC 8725 asks for. Needs ``wshub-auth[jwt]``."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from wshub_auth.credentials import BearerHeader, BearerSubprotocol, CredentialSource
from wshub_auth.errors import InvalidTokenError
from wshub_auth.tokens import TokenAuth
from wshub_core import JSON, AuthError, AuthExpiredError, AuthResult, InvalidConfigError

try:
    import jwt
    from jwt.algorithms import requires_cryptography

    from wshub_auth.jwks import JWKS, check_key
except ImportError as error:
    raise ImportError(
        "JSON Web Tokens need the extra jwt of wshub-auth: install PyJWT[crypto] and httpx"
    ) from error

__all__ = ["JWKS", "JWTAuth"]

_SHORTEST_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Bytes that the secret of each algorithm must have at least (RFC 7518 section 3.2)."""

_TEXTS: dict[type[jwt.PyJWTError], str] = {
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAlgorithmError: "its algorithm is not allowed",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is from another issuer",
    jwt.InvalidSignatureError: "its signature is wrong",
}


class JWTAuth(TokenAuth):
    """Accepts JSON Web Tokens whose signature, time, audience and issuer are right.

    A token must have ``exp`` and the claim with the user id; the connection ends when the token
    does, unless the client sends a new one.

    Args:
        key: What signatures are checked with: the secret, a public key as PEM, or a `JWKS`.
        algorithms: The algorithms that are allowed, such as ``["RS256"]``; what a token says of
            itself does not widen them. Secrets go with ``HS…``, and with nothing else.
        audience: What ``aud`` must be or contain, or one of several; None if tokens must have none.
        issuer: What ``iss`` must be, or one of several; None for any.
        leeway: By how many seconds clocks may differ.
        user_id_claim: The claim with the user id, a text or a number.
        map_claims: Makes the connection's claims from those of the token; None for all as they are.
        sources: Where to look for a token; the first place that has one counts.

    Raises:
        InvalidConfigError: The key does not go with the algorithms, or is too short for them.
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
        super().__init__(self._judge, *sources)
        if isinstance(algorithms, str) or not algorithms:
            raise InvalidConfigError('JWTAuth.algorithms must be a list, such as ["RS256"]')
        self._keys = {each: _prepare_key(key, each) for each in algorithms}
        self._audience = audience if isinstance(audience, str | None) else list(audience)
        self._issuer = issuer if isinstance(issuer, str | None) else list(issuer)
        self._leeway = leeway
        self._user_id_claim = user_id_claim
        self._map_claims = map_claims

    def _judge(self, token: str) -> AuthResult | Awaitable[AuthResult]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return _refuse("it cannot be read")
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._keys:
            return _refuse("its algorithm is not allowed")
        key = self._keys[algorithm]
        if isinstance(key, JWKS):
            return self._fetch_and_verify(token, key, kid, algorithm)
        return self._verify(token, key, algorithm)

    async def _fetch_and_verify(
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
                # The user id may be a number, which the library does not allow for `sub`.
                options={"require": ["exp", self._user_id_claim], "verify_sub": False},
            )
            expires_at = float(claims["exp"]) + self._leeway
        except jwt.ExpiredSignatureError:
            return AuthResult(False, error=AuthExpiredError())
        except jwt.MissingRequiredClaimError as error:
            return _refuse(f"it has no {error.claim}")
        except jwt.PyJWTError as error:
            return _refuse(_TEXTS.get(type(error), "it cannot be read"))
        except (ValueError, TypeError, OverflowError, RecursionError):
            return _refuse("it cannot be read")
        user_id = claims[self._user_id_claim]
        if not isinstance(user_id, str | int) or isinstance(user_id, bool):
            return _refuse(f"its {self._user_id_claim} is neither a text nor a number")
        mapped = claims if self._map_claims is None else self._map_claims(claims)
        return AuthResult(True, str(user_id), mapped, expires_at=expires_at)


def _refuse(why: str) -> AuthResult:
    return AuthResult(False, error=InvalidTokenError(why))


def _prepare_key(key: str | bytes | JWKS, algorithm: str) -> Any:
    """Return the key as the library wants it for one algorithm.

    Raises:
        InvalidConfigError: The key does not go with the algorithm.
    """
    is_asymmetric = algorithm in requires_cryptography
    if not is_asymmetric and algorithm not in _SHORTEST_SECRET:
        raise InvalidConfigError(f"JWTAuth.algorithms must not hold {algorithm!r}")
    if isinstance(key, JWKS):
        if not is_asymmetric:
            raise InvalidConfigError(f"{algorithm} needs a secret, which no JWKS must hold")
        return key
    if algorithm in _SHORTEST_SECRET and len(key) < _SHORTEST_SECRET[algorithm]:
        least = _SHORTEST_SECRET[algorithm]
        raise InvalidConfigError(f"the secret for {algorithm} must have {least} bytes at least")
    try:
        prepared = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
        check_key(prepared)
    except (jwt.PyJWTError, ValueError, TypeError):
        kind = "a public key as PEM" if is_asymmetric else "a secret, not a PEM"
        if algorithm[:2] in ("RS", "PS"):
            kind += " of 2048 bits or more"
        raise InvalidConfigError(
            f"the key does not go with {algorithm}: that needs {kind}"
        ) from None
    return prepared
