"""Rules for the keys that verify JSON Web Tokens: which key fits which algorithm.

PyJWT leaves some rules to the application, such as the minimum size of keys.
"""

from typing import Any

import jwt
from jwt.algorithms import requires_cryptography

from wshub_core import InvalidConfigError

_MIN_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Minimum length of the secret for each HMAC algorithm (RFC 7518 section 3.2)."""

_MIN_RSA_BITS = 2_048
"""Minimum size of an RSA key (RFC 7518 section 3.3)."""


def check_public_key(key: object) -> None:
    """Check a key that PyJWT has parsed.

    Raises:
        ValueError: The key is a private key, or an RSA key that is too short.
    """
    # A server that only verifies tokens has no use for a private key. A private key here is a
    # mistake that would expose the key to one more machine.
    if hasattr(key, "private_bytes"):
        raise ValueError("the key is a private key: use the public key")
    # Of the public keys, only those of RSA can encrypt. Elliptic curves have shorter keys.
    if getattr(key, "key_size", _MIN_RSA_BITS) < _MIN_RSA_BITS and hasattr(key, "encrypt"):
        raise ValueError(f"the RSA key has less than {_MIN_RSA_BITS} bits")


def is_asymmetric(algorithm: str) -> bool:
    """Return whether an algorithm verifies signatures with a public key.

    Raises:
        InvalidConfigError: The algorithm is ``none`` or unknown.
    """
    if algorithm in requires_cryptography:
        return True
    if algorithm in _MIN_SECRET_BYTES:
        return False
    raise InvalidConfigError(f"JWTAuth.algorithms must not contain {algorithm!r}")


def prepare_key(key: str | bytes, algorithm: str) -> Any:
    """Return a secret or a public key in the form in which PyJWT uses it for one algorithm.

    Raises:
        InvalidConfigError: The key does not fit the algorithm. The error text does not contain the
            key.
    """
    needs_public_key = is_asymmetric(algorithm)
    if not needs_public_key and len(key) < _MIN_SECRET_BYTES[algorithm]:
        least = _MIN_SECRET_BYTES[algorithm]
        raise InvalidConfigError(f"the secret for {algorithm} must have at least {least} bytes")
    try:
        # PyJWT refuses a PEM as an HMAC secret here. Otherwise anybody who knows the public key
        # could sign tokens with its text as the secret (RFC 8725 section 2.1).
        prepared = jwt.get_algorithm_by_name(algorithm).prepare_key(key)
        check_public_key(prepared)
    except (jwt.PyJWTError, ValueError, TypeError):
        kind = "a public key as PEM" if needs_public_key else "a secret that is not a PEM"
        if algorithm[:2] in ("RS", "PS"):
            kind += f" with at least {_MIN_RSA_BITS} bits"
        raise InvalidConfigError(f"the key does not fit {algorithm}: use {kind}") from None
    return prepared
