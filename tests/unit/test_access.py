"""Who is asking: a token is taken only when every rule of RFC 8725 that concerns us is kept."""

import base64
import json
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ingress import access
from ingress.access import Caller
from shared import clock, settings

SECRET = "s" * 20 + "-of-at-least-32-bytes"
USER = UUID("6a1f2d0e-7a53-4b5e-9d2f-0c5b1d6f3a10")


def jwt_settings(**values):
    return settings.Jwt(_env_file=None, **{"jwt_secret_key": SECRET, **values})


def claims(**changes):
    now = int(clock.now().timestamp())
    made = {"sub": str(USER), "email": "ada@example.com", "role": "client", "iat": now, "exp": now + 3600, **changes}
    return {name: value for name, value in made.items() if value is not None}


def token(key=SECRET, algorithm="HS256", headers=None, **changes):
    return jwt.encode(claims(**changes), key, algorithm, headers=headers)


def raw(header, payload, signature=None, key=SECRET):
    """A token of any header and payload bytes, signed by HS256 unless a signature is given."""

    def segment(part):
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    signed = segment(header) + b"." + segment(payload)
    if signature is None:
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed, key.encode())
    return (signed + b"." + segment(signature)).decode()


def asked(bearer, **values):
    return access.user_id([f"Bearer {bearer}"], jwt_settings(**values))


def pem(key):
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
RS = {"jwt_algorithm": "RS256", "jwt_public_key": pem(RSA.public_key())}
ES = {"jwt_algorithm": "ES256", "jwt_public_key": pem(EC.public_key())}


def test_todays_token_names_its_user():
    """A token as CultureBridge issues it is taken."""
    assert asked(token()) == USER


def test_the_scheme_is_not_case_sensitive():
    """RFC 9110, section 11.1: the name of a scheme may be written in any case."""
    assert access.user_id(["bearer " + token()], jwt_settings()) == USER


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt"])
def test_the_types_of_access_tokens_are_taken(typ):
    """RFC 9068 names at+jwt; older issuers say JWT."""
    assert asked(token(headers={"typ": typ})) == USER


@pytest.mark.parametrize(("key", "algorithm", "values"), [(RSA, "RS256", RS), (EC, "ES256", ES)])
def test_one_asymmetric_algorithm_can_be_pinned(key, algorithm, values):
    """With a public key the issuer keeps its secret to itself, and may name the key."""
    assert asked(token(key, algorithm), **values) == USER
    assert asked(token(key, algorithm, headers={"kid": "2026-11"}), **values) == USER


def test_issuer_and_audience_are_checked_when_configured():
    """They are optional; set, they must be there and equal."""
    values = {"jwt_issuer": "https://auth.culturebridge.com", "jwt_audience": "payments"}

    assert asked(token(iss="https://auth.culturebridge.com", aud="payments"), **values) == USER
    for wrong in ({}, {"iss": "https://evil.example", "aud": "payments"}, {"iss": "https://auth.culturebridge.com"}):
        assert asked(token(**wrong), **values) is None
    for audience in ("posts", ["payments"], ["payments", "posts"], []):
        assert asked(token(iss="https://auth.culturebridge.com", aud=audience), **values) is None


@pytest.mark.parametrize("headers", [[], ["Bearer"], ["Bearer "], ["Basic " + "a" * 20], ["", ""], ["Token x"]])
def test_no_token_is_nobody(headers):
    """Absent, empty or of another scheme."""
    assert access.user_id(headers, jwt_settings()) is None


def test_two_authorization_headers_are_nobody():
    """What a proxy and we may read differently is not read at all."""
    assert access.user_id([f"Bearer {token()}"] * 2, jwt_settings()) is None


NOW = int(clock.now().timestamp())
CLAIMS = {
    "exp absent": {"exp": None},
    "exp a string": {"exp": str(NOW + 60)},
    "exp a float": {"exp": NOW + 60.5},
    "exp NaN": {"exp": float("nan")},
    "exp infinite": {"exp": float("inf")},
    "exp true": {"exp": True},
    "exp a list": {"exp": [NOW + 60]},
    "exp past": {"exp": NOW - 1},
    "exp in the year 9999": {"exp": 253_370_764_800},
    "exp negative": {"exp": -1},
    "nbf future": {"nbf": NOW + 600},
    "iat absent": {"iat": None},
    "iat future": {"iat": NOW + 600},
    "iat a string": {"iat": str(NOW)},
    "iat a float": {"iat": NOW - 0.5},
    "sub absent": {"sub": None},
    "sub no UUID": {"sub": "ada"},
    "sub a path": {"sub": "../" + str(USER)},
    "sub in braces": {"sub": "{" + str(USER) + "}"},
    "sub a URN": {"sub": USER.urn},
    "sub without hyphens": {"sub": USER.hex},
    "refresh token": {"type": "refresh"},
    "type a list": {"type": ["access"]},
    "ID token": {"nonce": "n-0S6_WzA2Mj"},
    "ID token of another kind": {"token_use": "id"},
    "role a list": {"role": ["admin"]},
    "role with a space": {"role": "admin "},
    "role unknown": {"role": "root"},
}


@pytest.mark.parametrize("changes", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_token_with_wrong_claims_is_nobody(changes):
    """A good signature under wrong claims opens nothing."""
    assert asked(raw(b'{"alg":"HS256","typ":"JWT"}', json.dumps(claims(**changes)).encode())) is None


@pytest.mark.parametrize("absent", ["exp", "iat", "sub"])
def test_null_is_absent(absent):
    """A claim that is there but null is not there."""
    payload = json.dumps({**claims(), absent: None}).encode()

    assert asked(raw(b'{"alg":"HS256","typ":"JWT"}', payload)) is None


HEADERS = {
    "none": b'{"alg":"none"}',
    "None": b'{"alg":"None"}',
    "nOnE": b'{"alg":"nOnE"}',
    "no alg": b'{"typ":"JWT"}',
    "another HMAC": b'{"alg":"HS512"}',
    "alg a list": b'{"alg":["HS256"]}',
    "alg twice": b'{"alg":"HS256","alg":"HS256"}',
    "crit": b'{"alg":"HS256","crit":["exp"]}',
    "crit unknown": b'{"alg":"HS256","crit":["x"],"x":1}',
    "b64": b'{"alg":"HS256","b64":false}',
    "b64 and crit": b'{"alg":"HS256","b64":false,"crit":["b64"]}',
    "kid path": b'{"alg":"HS256","kid":"../../dev/null"}',
    "kid SQL": b'{"alg":"HS256","kid":"x\' or 1=1--"}',
    "kid NUL": b'{"alg":"HS256","kid":"a\\u0000"}',
    "kid unknown": b'{"alg":"HS256","kid":"other"}',
    "kid a number": b'{"alg":"HS256","kid":1}',
    "jku": b'{"alg":"HS256","jku":"https://evil.example/keys"}',
    "x5u": b'{"alg":"HS256","x5u":"https://evil.example/cert"}',
    "x5c": b'{"alg":"HS256","x5c":["MII"]}',
    "jwk": b'{"alg":"HS256","jwk":{"kty":"oct","k":"eA"}}',
    "zip": b'{"alg":"HS256","zip":"DEF"}',
    "JWE": b'{"alg":"RSA-OAEP","enc":"A256GCM"}',
    "refresh type": b'{"alg":"HS256","typ":"refresh+jwt"}',
    "ID type": b'{"alg":"HS256","typ":"id_token"}',
    "typ a list": b'{"alg":"HS256","typ":["JWT"]}',
    "a list": b'["HS256"]',
    "a string": b'"HS256"',
    "no JSON": b"HS256",
    "not UTF-8": b'{"alg":"HS256","typ":"\xff"}',
    "deep": b'{"alg":' * 900,
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_token_that_chooses_how_it_is_judged_is_nobody(header):
    """The algorithm is pinned and no header names a key, even under a good signature."""
    assert asked(raw(header, json.dumps(claims()).encode())) is None


def spellings():
    header, payload, mac = token().split(".")
    # The last character of 32 bytes in base64url carries two bits that mean nothing.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = mac[:-1] + alphabet[alphabet.index(mac[-1]) ^ 1]
    return {
        "empty signature": f"{header}.{payload}.",
        "two segments": f"{header}.{payload}",
        "four segments": f"{header}.{payload}.{mac}.{mac}",
        "five segments": f"{header}.{payload}.{mac}.{mac}.{mac}",
        "no segments": "..",
        "another spelling": f"{header}.{payload}.{twin}",
        "padded": f"{header}.{payload}.{mac}=",
        "plus and slash": f"{header}.{payload}.{'+/' * 21}A",
        "space inside": f"{header}. {payload}.{mac}",
        "newline": f"{header}.{payload}.{mac}\n",
        "one character altered": f"{header}.{payload}.{'A' if mac[0] != 'A' else 'B'}{mac[1:]}",
        "1 MB": "a" * 1_000_000,
        "a long one": raw(b'{"alg":"HS256"}', json.dumps(claims(x="x" * 8000)).encode()),
        "not ASCII": f"{header}.{payload}é.{mac}",
    }


SPELLINGS = spellings()


@pytest.mark.parametrize("bearer", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_token_has_one_spelling(bearer):
    """Three segments of canonical base64url, none missing, none bent."""
    assert asked(bearer) is None


def test_a_claim_said_twice_is_nobody():
    """Two readers could take different ones."""
    payload = json.dumps(claims()).encode()[:-1] + b',"sub":"%s"}' % str(uuid4()).encode()

    assert asked(raw(b'{"alg":"HS256","typ":"JWT"}', payload)) is None


@pytest.mark.parametrize("payload", [b"[]", b"null", b"{", b'"x"', b"\xff", b'{"a":' * 1500])
def test_claims_that_are_no_object_are_nobody(payload):
    """What is inside must be one JSON object."""
    assert asked(raw(b'{"alg":"HS256","typ":"JWT"}', payload)) is None


def test_another_key_is_nobody():
    """Neither a stranger's key nor the webhook's secret signs tokens."""
    assert asked(token("x" * 40)) is None
    assert asked(token("whsec_" + "a" * 40)) is None


def test_the_public_key_is_no_shared_secret():
    """HS256 over the published key is the classic confusion."""
    forged = raw(b'{"alg":"HS256","typ":"JWT"}', json.dumps(claims()).encode(), key=RS["jwt_public_key"])

    assert asked(forged, **RS) is None


def test_algorithms_are_not_swapped():
    """A token of one asymmetric algorithm is nothing under another."""
    assert asked(token(EC, "ES256"), **RS) is None
    assert asked(token(RSA, "RS256"), **ES) is None


def test_psychic_signatures_are_refused():
    """ECDSA with r = s = 0 verifies in a careless implementation (CVE-2022-21449)."""
    assert asked(raw(b'{"alg":"ES256","typ":"JWT"}', json.dumps(claims()).encode(), b"\0" * 64), **ES) is None


@pytest.mark.parametrize("name", ["../key", "x' or 1=1--", "a\0", ""])
def test_a_public_keys_name_is_plain(name):
    """The name of a key chooses nothing, and must not look as if it tried."""
    assert asked(token(RSA, "RS256", headers={"kid": name}), **RS) is None


CLIENT, COACH, OTHER = uuid4(), uuid4(), uuid4()


@pytest.mark.parametrize(
    ("caller", "pays", "sees"),
    [
        (Caller(CLIENT, "client"), True, True),
        (Caller(OTHER, "client"), False, False),
        (Caller(COACH, "coach"), False, True),
        (Caller(OTHER, "coach"), False, False),
        (Caller(OTHER, "admin"), True, True),
        (Caller(CLIENT, "coach"), True, True),
    ],
)
def test_who_may_pay_and_who_may_see(caller, pays, sees):
    """The booking's client and admins pay; its coach sees as well; nobody else does either."""
    assert pays == access.may_pay(caller, client_id=CLIENT)
    assert sees == access.may_see(caller, client_id=CLIENT, coach_id=COACH)
