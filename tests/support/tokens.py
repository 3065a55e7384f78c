"""Tokens that open nothing, as tables: what is wrong, and what the header, the claims or the spelling then are.

`KEY` is the secret under which all of them bear a good signature, unless the signature is what is wrong.
"""

import base64
import json
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared import clock

KEY = "s" * 20 + "-of-at-least-32-bytes"
USER = UUID("6a1f2d0e-7a53-4b5e-9d2f-0c5b1d6f3a10")
PLAIN = b'{"alg":"HS256","typ":"JWT"}'


def claims(**changes):
    now = int(clock.now().timestamp())
    made = {"sub": str(USER), "email": "ada@example.com", "role": "client", "iat": now, "exp": now + 3600, **changes}
    return {name: value for name, value in made.items() if value is not None}


def token(key=KEY, algorithm="HS256", headers=None, **changes):
    return jwt.encode(claims(**changes), key, algorithm, headers=headers)


def raw(header, payload, signature=None, key=KEY):
    """A token of any header and payload bytes, signed by HS256 unless a signature is given."""

    def segment(part):
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    signed = segment(header) + b"." + segment(payload)
    if signature is None:
        signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signed, key.encode())
    return (signed + b"." + segment(signature)).decode()


def pem(key):
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
RS = {"jwt_algorithm": "RS256", "jwt_public_key": pem(RSA.public_key())}
ES = {"jwt_algorithm": "ES256", "jwt_public_key": pem(EC.public_key())}

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
    "nbf future": {"nbf": NOW + 86_400},
    "iat absent": {"iat": None},
    "iat future": {"iat": NOW + 86_400},
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
