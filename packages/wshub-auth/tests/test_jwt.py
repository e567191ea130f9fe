"""JSON Web Tokens, made by the same library's other half, by hand, and at random."""

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
    assert isinstance(result, AuthResult), "with a key at hand there is nothing to wait for"
    return result


def test_a_token_tells_user_claims_and_end() -> None:
    content = claims(team="red", roles=["admin"])
    accepted = check(make(content))
    assert (accepted.valid, accepted.user_id, accepted.error) == (True, "alice", None)
    assert accepted.claims == {**content, "roles": ("admin",)}
    assert accepted.expires_at == pytest.approx(content["exp"])


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, "RS256"), (RSA_KEY, "PS384"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")],
)
def test_public_keys_as_pem(key: Any, algorithm: str) -> None:
    auth = JWTAuth(pem(key), algorithms=[algorithm])
    assert check(make(key=key, alg=algorithm), auth).user_id == "alice"
    assert JWTAuth(pem(key).encode(), algorithms=[algorithm])


WRONG = [
    (make(key=SECRET + "!"), "its signature is wrong"),
    (make()[:-4] + "AAAA", "its signature is wrong"),
    (make(alg="HS384", key=SECRET * 2), "its algorithm is not allowed"),
    (make(alg="none", key=None), "its algorithm is not allowed"),
    (f"{part({'alg': 'None'})}.{part(claims())}.", "its algorithm is not allowed"),
    (f"{part({'alg': ['HS256']})}.{part(claims())}.", "its algorithm is not allowed"),
    (f"{part({'alg': None})}.{part(claims())}.", "its algorithm is not allowed"),
    (f"{part({})}.{part(claims())}.", "its algorithm is not allowed"),
    (make(claims(nbf=time.time() + 3_600)), "it is not valid yet"),
    (make(claims(iat=time.time() + 3_600)), "it is not valid yet"),
    (make(claims(aud="other")), "it is for another audience"),
    (make({"sub": "alice"}), "it has no exp"),
    (make({"exp": time.time() + 3_600}), "it has no sub"),
    (make(claims(sub=None)), "it has no sub"),
    (make(claims(exp="soon")), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, claims(exp=[1])), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, claims(sub={"a": 1})), "its sub is neither"),
    (sign_by_hand({"alg": "HS256"}, claims(nbf="x")), "it cannot be read"),
    (sign_by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, claims()), "it cannot be read"),
    (sign_by_hand({"alg": "HS256", "b64": False, "crit": ["b64"]}, b"x"), "it cannot be read"),
    (sign_by_hand({"alg": "HS256", "kid": 7}, claims()), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, b"[1]"), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, b"nonsense"), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, b"\xff"), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, b"[" * 5_000), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, b'{"sub":"a","exp":1e999}'), "it cannot be read"),
    (sign_by_hand({"alg": "HS256"}, b'{"sub":"a","exp":' + b"9" * 5_000 + b"}"), "it cannot be"),
    (sign_by_hand(b"[" * 5_000, claims()), "it cannot be read"),
    (sign_by_hand(b"null", claims()), "it cannot be read"),
    ("abc", "it cannot be read"),
    ("..", "it cannot be read"),
    ("a.b.c.d.e", "it cannot be read"),
    ("Ã¤.b.c", "it cannot be read"),
]


@pytest.mark.parametrize(("token", "text"), WRONG, ids=[text for _, text in WRONG])
def test_tokens_that_are_not_right_are_refused_and_say_why(token: str, text: str) -> None:
    refused = check(token)
    assert not refused.valid
    assert str(refused.error).startswith(f"invalid token: {text}")
    assert refused.challenge == 'Bearer error="invalid_token"'


def test_an_expired_token_says_so() -> None:
    refused = check(make(claims(exp=time.time() - 1)))
    assert isinstance(refused.error, AuthExpiredError)


def test_a_huge_token_is_not_even_read() -> None:
    assert str(check(make(claims(filler="x" * 9_000))).error) == "malformed token"


def test_a_public_key_is_no_secret() -> None:
    # The classic: a token signed with the text of the public key as if that were a secret.
    header = {"alg": "HS256"}
    forged = sign_by_hand(header, claims(), secret=pem(RSA_KEY))
    refused = check(forged, JWTAuth(pem(RSA_KEY), algorithms=["RS256"]))
    assert str(refused.error) == "invalid token: its algorithm is not allowed"


def test_another_key_of_the_same_kind_is_wrong() -> None:
    auth = JWTAuth(pem(RSA_KEY), algorithms=["RS256", "PS256"])
    assert check(make(key=RSA_KEY, alg="PS256"), auth).valid
    refused = check(make(key=OTHER_RSA_KEY, alg="RS256"), auth)
    assert str(refused.error) == "invalid token: its signature is wrong"


def test_leeway_counts_on_both_ends() -> None:
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
def test_the_audience(expected: Any, given_: Any, is_valid: bool) -> None:
    auth = JWTAuth(SECRET, algorithms=["HS256"], audience=expected)
    assert check(make(claims(aud=given_)), auth).valid == is_valid
    assert not check(make(), auth).valid


@pytest.mark.parametrize("expected", ["https://id.example", ["https://id.example", "x"]])
def test_the_issuer(expected: Any) -> None:
    auth = JWTAuth(SECRET, algorithms=["HS256"], issuer=expected)
    assert check(make(claims(iss="https://id.example")), auth).valid
    refused = check(make(claims(iss="https://evil.example")), auth)
    assert str(refused.error) == "invalid token: it is from another issuer"
    assert str(check(make(), auth).error) == "invalid token: it has no iss"


def test_user_and_claims_are_mapped() -> None:
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
        assert str(refused.error) == "invalid token: its uid is neither a text nor a number"
    blank = check(make(claims(uid=" ", realm_access={"roles": []})), auth)
    assert str(blank.error) == "authenticated user ID must not be empty"


@pytest.mark.parametrize(
    ("key", "algorithms", "text"),
    [
        (SECRET, [], "must be a list"),
        (SECRET, "HS256", "must be a list"),
        (SECRET, ["none"], "must not hold 'none'"),
        (SECRET, ["HS256", "none"], "must not hold 'none'"),
        (SECRET, ["XS256"], "must not hold 'XS256'"),
        ("short", ["HS256"], "must have 32 bytes"),
        (SECRET, ["HS512"], "must have 64 bytes"),
        (SECRET, ["RS256"], "needs a public key as PEM"),
        (pem(RSA_KEY), ["HS256"], "needs a secret, not a PEM"),
        (pem(RSA_KEY), ["RS256", "HS256"], "needs a secret, not a PEM"),
        (pem(RSA_KEY), ["ES256"], "needs a public key as PEM"),
        (pem(EC_KEY), ["RS256"], "needs a public key as PEM"),
        (pem(ED_KEY), ["RS256"], "needs a public key as PEM"),
        (pem(SHORT_RSA_KEY), ["RS256"], "of 2048 bits or more"),
        (PRIVATE_PEM, ["RS256"], "needs a public key as PEM"),
        ("-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----", ["RS256"], "needs a"),
        (JWKS("https://id.example/keys"), ["HS256"], "no JWKS must hold"),
    ],
)
def test_keys_and_algorithms_have_to_go_together(key: Any, algorithms: Any, text: str) -> None:
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
def test_whatever_comes_there_is_an_answer_and_only_the_rightly_signed_come_in(token: str) -> None:
    result = check(token) if token.strip() else AuthResult(False)
    if result.valid:
        options: Any = {"verify_sub": False}
        content = jwt.decode(token, SECRET, algorithms=["HS256"], options=options)
        assert content["exp"] > time.time() - 5
        assert result.user_id == str(content["sub"]).strip()


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_with_one_changed_character_is_another(position: int, change: int) -> None:
    token = make()
    index = position % len(token)
    changed = token[:index] + chr(ord(token[index]) ^ change) + token[index + 1 :]

    # The last character of a part has bits that stand for nothing.
    def decode(text: str) -> list[bytes]:
        return [base64.urlsafe_b64decode(each + "==") for each in text.split(".")]

    try:
        is_same = decode(changed) == decode(token)
    except ValueError:
        is_same = False
    assert check(changed).valid == is_same or not is_same
    if not is_same:
        assert not check(changed).valid
