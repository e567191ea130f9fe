"""JSON Web Tokens, encoded by PyJWT, by hand, and at random."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from wshub_auth.jwt import JWKS, JWTAuth
from wshub_core import AuthExpiredError, AuthResult, InvalidConfigError, Request

SECRET = "a secret of at least thirty-two bytes"
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
OTHER_RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
SHORT_RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
PRIVATE_PEM = RSA_KEY.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    text: bytes = key.public_key().public_bytes(encoding, form)
    return text.decode()


def claims(**others: Any) -> dict[str, Any]:
    return {"sub": "alice", "exp": time.time() + 7_200, **others}


def make(content: dict[str, Any] | None = None, key: Any = SECRET, alg: str = "HS256") -> str:
    return jwt.encode(claims() if content is None else content, key, alg)


def part(content: Any) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign_by_hand(header: Any, content: Any, secret: str = SECRET) -> str:
    signed = f"{part(header)}.{part(content)}"
    digest = hmac.digest(secret.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{part(digest)}"


def check(token: str, auth: JWTAuth | None = None) -> AuthResult:
    auth = auth or JWTAuth(SECRET, algorithms=["HS256"])
    result = auth(Request("GET", "/ws", headers={"authorization": (f"Bearer {token}",)}))
    assert isinstance(result, AuthResult), "verification with a given key does not wait"
    return result


def test_a_valid_token_sets_the_user_id_the_claims_and_the_expiry() -> None:
    content = claims(team="red", roles=["admin"])
    accepted = check(make(content))
    assert (accepted.valid, accepted.user_id, accepted.error) == (True, "alice", None)
    assert accepted.claims == {**content, "roles": ("admin",)}
    assert accepted.expires_at == pytest.approx(content["exp"])


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, "RS256"), (RSA_KEY, "PS384"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")],
)
def test_a_public_key_as_pem_verifies_tokens(key: Any, algorithm: str) -> None:
    auth = JWTAuth(pem(key), algorithms=[algorithm])
    assert check(make(key=key, alg=algorithm), auth).user_id == "alice"
    assert JWTAuth(pem(key).encode(), algorithms=[algorithm])


WRONG = [
    (make(key=SECRET + "!"), "the signature is wrong"),
    (make()[:-4] + "AAAA", "the signature is wrong"),
    (make(alg="HS384", key=SECRET * 2), "the algorithm is not allowed"),
    (make(alg="none", key=None), "the algorithm is not allowed"),
    (f"{part({'alg': 'None'})}.{part(claims())}.", "the algorithm is not allowed"),
    (f"{part({'alg': ['HS256']})}.{part(claims())}.", "the algorithm is not allowed"),
    (f"{part({'alg': None})}.{part(claims())}.", "the algorithm is not allowed"),
    (f"{part({})}.{part(claims())}.", "the algorithm is not allowed"),
    (make(claims(nbf=time.time() + 3_600)), "the token is not valid yet"),
    (make(claims(iat=time.time() + 3_600)), "the token is not valid yet"),
    (make(claims(aud="other")), "the token is for another audience"),
    (make({"sub": "alice"}), "the claim exp is missing"),
    (make({"exp": time.time() + 3_600}), "the claim sub is missing"),
    (make(claims(sub=None)), "the claim sub is missing"),
    (make(claims(exp="soon")), "the token is malformed"),
    (sign_by_hand({"alg": "HS256"}, claims(exp=[1])), "the token is malformed"),
    (sign_by_hand({"alg": "HS256"}, claims(sub={"a": 1})), "the claim sub is neither"),
    (sign_by_hand({"alg": "HS256"}, claims(nbf="x")), "the token is malformed"),
    (sign_by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, claims()), "the token is malformed"),
    (sign_by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, b"x"), "the token is malformed"),
    (sign_by_hand({"alg": "HS256", "kid": 7}, claims()), "the token is malformed"),
    (sign_by_hand({"alg": "HS256"}, b"[1]"), "the token is malformed"),
    (sign_by_hand({"alg": "HS256"}, b"nonsense"), "the token is malformed"),
    (sign_by_hand({"alg": "HS256"}, b"\xff"), "the token is malformed"),
    (sign_by_hand({"alg": "HS256"}, b"[" * 5_000), "the token is malformed"),
    (sign_by_hand({"alg": "HS256"}, b'{"sub":"a","exp":1e999}'), "the token is malformed"),
    (
        sign_by_hand({"alg": "HS256"}, b'{"sub":"a","exp":' + b"9" * 5_000 + b"}"),
        "the token is malformed",
    ),
    (sign_by_hand(b"[" * 5_000, claims()), "the token is malformed"),
    (sign_by_hand(b"null", claims()), "the token is malformed"),
    ("abc", "the token is malformed"),
    ("..", "the token is malformed"),
    ("a.b.c.d.e", "the token is malformed"),
    ("Ã¤.b.c", "the token is malformed"),
]


@pytest.mark.parametrize(("token", "text"), WRONG, ids=[text for _, text in WRONG])
def test_an_invalid_token_is_refused_with_a_reason(token: str, text: str) -> None:
    refused = check(token)
    assert not refused.valid
    assert str(refused.error).startswith(f"invalid token: {text}")
    assert refused.challenge == 'Bearer error="invalid_token"'


def test_an_expired_token_is_refused_with_auth_expired_error() -> None:
    refused = check(make(claims(exp=time.time() - 1)))
    assert isinstance(refused.error, AuthExpiredError)


def test_a_token_above_the_maximum_length_is_not_decoded() -> None:
    assert str(check(make(claims(filler="x" * 9_000))).error) == "malformed token"


def test_a_public_key_is_not_accepted_as_a_secret() -> None:
    # Algorithm confusion (RFC 8725 section 2.1): the PEM of the public key signs as a secret.
    header = {"alg": "HS256"}
    forged = sign_by_hand(header, claims(), secret=pem(RSA_KEY))
    refused = check(forged, JWTAuth(pem(RSA_KEY), algorithms=["RS256"]))
    assert str(refused.error) == "invalid token: the algorithm is not allowed"


def test_a_signature_of_another_key_is_refused() -> None:
    auth = JWTAuth(pem(RSA_KEY), algorithms=["RS256", "PS256"])
    assert check(make(key=RSA_KEY, alg="PS256"), auth).valid
    refused = check(make(key=OTHER_RSA_KEY, alg="RS256"), auth)
    assert str(refused.error) == "invalid token: the signature is wrong"


def test_the_leeway_applies_to_the_start_and_the_end_of_validity() -> None:
    strict = JWTAuth(SECRET, algorithms=["HS256"])
    lenient = JWTAuth(SECRET, algorithms=["HS256"], leeway=30)
    for content in (claims(exp=time.time() - 20), claims(nbf=time.time() + 20)):
        assert not check(make(content), strict).valid
        accepted = check(make(content), lenient)
        assert accepted.expires_at == pytest.approx(content["exp"] + 30)


@pytest.mark.parametrize("expected", ["wshub", ["wshub", "x"], {"wshub"}])
@pytest.mark.parametrize(
    ("given_", "is_valid"),
    [
        ("wshub", True),
        (["a", "wshub"], True),
        ("other", False),
        ([], False),
        (None, False),
        (7, False),
    ],
)
def test_the_audience_must_match(expected: Any, given_: Any, is_valid: bool) -> None:
    auth = JWTAuth(SECRET, algorithms=["HS256"], audience=expected)
    assert check(make(claims(aud=given_)), auth).valid == is_valid
    assert not check(make(), auth).valid


@pytest.mark.parametrize("expected", ["https://id.example", ["https://id.example", "x"]])
def test_the_issuer_must_match(expected: Any) -> None:
    auth = JWTAuth(SECRET, algorithms=["HS256"], issuer=expected)
    assert check(make(claims(iss="https://id.example")), auth).valid
    refused = check(make(claims(iss="https://evil.example")), auth)
    assert str(refused.error) == "invalid token: the token is from another issuer"
    assert str(check(make(), auth).error) == "invalid token: the claim iss is missing"


def test_the_user_id_claim_and_the_mapping_of_claims_are_configurable() -> None:
    auth = JWTAuth(
        SECRET,
        algorithms=["HS256"],
        user_id_claim="uid",
        map_claims=lambda token: {"roles": token["realm_access"]["roles"]},
    )
    assert check(sign_by_hand({"alg": "HS256"}, claims(sub=7))).user_id == "7"
    accepted = check(make(claims(uid=42, realm_access={"roles": ["a"]})), auth)
    assert (accepted.user_id, accepted.claims) == ("42", {"roles": ("a",)})
    for odd in (True, 1.5, ["a"], {"a": 1}):
        refused = check(make(claims(uid=odd, realm_access={"roles": []})), auth)
        assert str(refused.error) == "invalid token: the claim uid is neither a text nor a number"
    blank = check(make(claims(uid=" ", realm_access={"roles": []})), auth)
    assert str(blank.error) == "authenticated user ID must not be empty"


@pytest.mark.parametrize(
    ("key", "algorithms", "text"),
    [
        (SECRET, [], "must be a list"),
        (SECRET, "HS256", "must be a list"),
        (SECRET, ["none"], "must not contain 'none'"),
        (SECRET, ["HS256", "none"], "must not contain 'none'"),
        (SECRET, ["XS256"], "must not contain 'XS256'"),
        ("short", ["HS256"], "must have at least 32 bytes"),
        (SECRET, ["HS512"], "must have at least 64 bytes"),
        (SECRET, ["RS256"], "use a public key as PEM"),
        (pem(RSA_KEY), ["HS256"], "use a secret that is not a PEM"),
        (pem(RSA_KEY), ["RS256", "HS256"], "use a secret that is not a PEM"),
        (pem(RSA_KEY), ["ES256"], "use a public key as PEM"),
        (pem(EC_KEY), ["RS256"], "use a public key as PEM"),
        (pem(ED_KEY), ["RS256"], "use a public key as PEM"),
        (pem(SHORT_RSA_KEY), ["RS256"], "with at least 2048 bits"),
        (PRIVATE_PEM, ["RS256"], "use a public key as PEM"),
        (
            "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----",
            ["RS256"],
            "use a public key",
        ),
        (JWKS("https://id.example/keys"), ["HS256"], "a JWKS must not contain secrets"),
    ],
)
def test_a_key_that_does_not_fit_the_algorithms_raises_invalid_config_error(
    key: Any, algorithms: Any, text: str
) -> None:
    with pytest.raises(InvalidConfigError, match=text) as raised:
        JWTAuth(key, algorithms=algorithms)
    assert SECRET not in str(raised.value)


tokens = st.one_of(
    st.text(max_size=60),
    st.builds(
        lambda parts: ".".join(parts),
        st.lists(st.one_of(st.text("abc-_=", max_size=9), st.binary(max_size=30).map(part))),
    ),
    st.builds(
        sign_by_hand,
        st.fixed_dictionaries(
            {"alg": st.sampled_from(["HS256", "none", "RS256", 1])},
            optional={
                "typ": st.one_of(st.text(max_size=3), st.integers()),
                "kid": st.one_of(st.text(max_size=3), st.integers()),
                "crit": st.lists(st.text(max_size=3), max_size=2),
            },
        ),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), st.integers()),
            lambda inner: st.dictionaries(
                st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "jti"]), inner
            ),
        ),
    ),
)


@given(tokens)
@example(sign_by_hand({"alg": "HS256"}, {"sub": "a", "exp": 10**400}))
def test_every_token_gets_a_result_and_only_correctly_signed_tokens_are_accepted(
    token: str,
) -> None:
    result = check(token) if token.strip() else AuthResult(False)
    if result.valid:
        options: Any = {"verify_sub": False}
        content = jwt.decode(token, SECRET, algorithms=["HS256"], options=options)
        assert content["exp"] > time.time() - 5
        assert result.user_id == str(content["sub"]).strip()


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_with_one_changed_character_is_refused(position: int, change: int) -> None:
    token = make()
    index = position % len(token)
    changed = token[:index] + chr(ord(token[index]) ^ change) + token[index + 1 :]

    # Base64 ignores some bits of the last character of a part.
    def decode(text: str) -> list[bytes]:
        return [base64.urlsafe_b64decode(each + "==") for each in text.split(".")]

    try:
        is_same = decode(changed) == decode(token)
    except ValueError:
        is_same = False
    # A decoder may refuse even more, such as a character that is not in the alphabet.
    assert is_same or not check(changed).valid
