"""A key that is weak, malformed or of the wrong kind never gets as far as serving."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ingress import keys
from shared import settings
from tests.support.door import ingress_settings
from tests.support.tokens import EC, RSA, pem

WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)
PRIVATE = RSA.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
).decode()
WEBHOOK_SECRET = b"whsec_" + b"w" * 40

PUBLIC = {
    "RSA": ("RS256", pem(RSA.public_key()), None),
    "RSA for PS512": ("PS512", pem(RSA.public_key()), None),
    "P-256": ("ES256", pem(EC.public_key()), None),
    "Ed25519": ("EdDSA", pem(ed25519.Ed25519PrivateKey.generate().public_key()), None),
    "1024 bits": ("RS256", pem(WEAK.public_key()), "at least 2048"),
    "no PEM": ("RS256", "ssh-rsa AAAA", "not a public key"),
    "cut": ("RS256", pem(RSA.public_key())[:200], "not a public key"),
    "a secret": ("RS256", "s" * 64, "not a public key"),
    "a private key": ("RS256", PRIVATE, "not a public key"),
    "a curve for RSA": ("RS256", pem(EC.public_key()), "does not fit"),
    "RSA for a curve": ("ES256", pem(RSA.public_key()), "does not fit"),
    "another curve": ("ES384", pem(EC.public_key()), "does not fit"),
    "a curve for EdDSA": ("EdDSA", pem(EC.public_key()), "does not fit"),
    "P-192": ("ES256", pem(ec.generate_private_key(ec.SECP224R1()).public_key()), "does not fit"),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_key_fits_its_algorithm(name):
    """One line, naming the variable, and nothing of the key."""
    algorithm, key, expected = PUBLIC[name]
    jwt = settings.Jwt(_env_file=None, jwt_algorithm=algorithm, jwt_public_key=key)

    told = keys.fault(jwt, [WEBHOOK_SECRET])

    assert (told is None) == (expected is None)
    if told is not None:
        assert told.startswith("JWT_PUBLIC_KEY ")
        assert expected in told
        assert "\n" not in told
        assert key not in told


@pytest.mark.parametrize(
    ("secret", "is_fine"),
    [
        ("j" * 32, True),
        (WEBHOOK_SECRET.decode(), False),
        (WEBHOOK_SECRET.decode().removeprefix("whsec_"), False),
        (pem(RSA.public_key()), False),
    ],
)
def test_a_secret_has_one_purpose(secret, is_fine):
    """Neither the webhook's secret nor a published key signs tokens."""
    jwt = settings.Jwt(_env_file=None, jwt_secret_key=secret)

    told = keys.fault(jwt, [b"whsec_" + b"o" * 40, WEBHOOK_SECRET])

    assert (told is None) == is_fine
    assert told is None or (told.startswith("JWT_SECRET_KEY ") and secret not in told)


class Nowhere:
    """Settings of a database that nobody asks."""

    class database_url:  # noqa: N801 - as the settings call it
        @staticmethod
        def get_secret_value():
            return "postgresql://cb@127.0.0.1:9/nowhere"


@pytest.mark.parametrize(
    "changes",
    [
        {"jwt_secret_key": "s" * 31},
        {"jwt_secret_key": "whsec_" + "d" * 32},
        {"jwt_algorithm": "none"},
        {"jwt_algorithm": "HS512"},
        {"jwt_algorithm": "RS256"},
        {"jwt_algorithm": "RS256", "jwt_public_key": pem(WEAK.public_key())},
        {"stripe_webhook_secret": ""},
        {"stripe_webhook_secret": ","},
        {"stripe_webhook_secret": "whsec_"},
        {"stripe_webhook_secret": "whsec_" + "x" * 23},
        {"stripe_webhook_secret": "sk_test_" + "x" * 40},
        {"stripe_webhook_secret": "whsec_" + "x" * 40 + ",whsec_short"},
        {"stripe_secret_key": "pk_test_" + "k" * 24},
        {"checkout_allowed_origins": "*"},
        {"checkout_allowed_origins": "https://*.example.com/x"},
        {"checkout_allowed_origins": "http://example.com"},
        {"checkout_allowed_origins": "https://user@example.com"},
        {"checkout_allowed_origins": "https://*.example.com"},
        {"checkout_allowed_origins": "https://bücher.example"},
        {"checkout_allowed_origins": "https://example.com:70000"},
        {"checkout_allowed_origins": "https://example.com:door"},
        {"checkout_allowed_origins": ""},
    ],
)
def test_a_door_that_could_be_opened_by_anybody_does_not_stand(changes):
    """The settings are refused, and what is told names a variable and no secret."""
    with pytest.raises(ValueError) as refused:
        ingress_settings(Nowhere, **changes)

    told = str(refused.value)
    assert any(name.upper() in told or name in told for name in changes)
    assert not any(len(value) > 20 and value in told for value in changes.values())


def test_the_door_of_the_other_tests_stands():
    """Else the list above would prove nothing."""
    assert ingress_settings(Nowhere).jwt_key
