"""Refuses weak keys for checking tokens. Pure; called once, at start, so that no weak key is ever used.

Enters: the algorithm and its key, and the webhook's secrets. Leaves: None, or one line that names the variable. A key that is
shorter than its hash can be guessed (RFC 7518, section 3.2), an RSA key below 2048 bits can be factored (section 3.3), a curve
that is not the algorithm's checks nothing, and with a secret that serves two purposes, a signature for one is valid for the
other.
"""

from collections.abc import Collection

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from shared import settings

RSA_BITS_MIN = 2048
CURVES: dict[str, type[ec.EllipticCurve]] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1}  # RFC 7518, section 3.4


def fault(jwt: settings.Jwt, webhook_secrets: Collection[bytes]) -> str | None:
    """Return what is wrong with the key, naming its variable; never a part of the key."""
    if jwt.jwt_algorithm == "HS256":
        return _secret_fault(jwt.jwt_key.encode(), webhook_secrets)
    return _public_fault(jwt.jwt_algorithm, jwt.jwt_key)


def _secret_fault(secret: bytes, webhook_secrets: Collection[bytes]) -> str | None:
    if any(secret in {known, known.removeprefix(b"whsec_")} for known in webhook_secrets):
        return "JWT_SECRET_KEY must not be the secret of STRIPE_WEBHOOK_SECRET: who signs webhooks could sign tokens"
    if b"-----BEGIN" in secret:
        return "JWT_SECRET_KEY is a PEM key; a public one belongs in JWT_PUBLIC_KEY, with an asymmetric JWT_ALGORITHM"
    return None


def _public_fault(algorithm: str, pem: str) -> str | None:
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return "JWT_PUBLIC_KEY is not a public key in PEM (-----BEGIN PUBLIC KEY-----)"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS_MIN:
        return f"JWT_PUBLIC_KEY has {key.key_size} bits; an RSA key needs at least {RSA_BITS_MIN}"
    if not _fits(algorithm, key):
        return f"JWT_PUBLIC_KEY does not fit JWT_ALGORITHM={algorithm}"
    return None


def _fits(algorithm: str, key: PublicKeyTypes) -> bool:
    if algorithm in CURVES:
        return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES[algorithm])
    if algorithm == "EdDSA":
        return isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey)
    return isinstance(key, rsa.RSAPublicKey)
