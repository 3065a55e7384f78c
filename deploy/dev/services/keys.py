"""The credentials of a secured box: certificates of its own authority, and users with passwords, made once.

Enters: a box. Leaves: files in its folder `keys`, and the variables with which a user signs in. The names are those of
production (docs/security.md): one user for each process, `cb-ops` for operators. Next: broker.py uses them.
"""

import secrets
import shutil
from pathlib import Path

from deploy.dev.processes.ports import LOOPBACK
from deploy.dev.state import Box

BROKER = "broker"
OPERATOR = "cb-ops"
USERS = (BROKER, OPERATOR, "ingress", "payments", "bookings", "email")
MECHANISM = "SCRAM-SHA-512"
NOTE = "users"


def authority(box: Box) -> Path:
    """Return the certificate file of the authority that clients of the box's brokers trust."""
    return box.home / "keys" / "authority.pem"


def broker(box: Box) -> Path:
    """Return the file with the brokers' key and certificate, which both clients and other brokers see."""
    return box.home / "keys" / "broker.pem"


def passwords(box: Box) -> dict[str, str]:
    """Return every user's password; empty in a box that is not secured."""
    return box.read(NOTE)


def make(box: Box) -> None:
    """Make what is missing; the authority's private key is not kept, so that nobody can issue another certificate."""
    if passwords(box):
        return
    # Nobody else needs these, which take a while to import.
    import trustme  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - see above

    authority(box).parent.mkdir(parents=True, exist_ok=True)
    made = trustme.CA(organization_name="CultureBridge box")
    issued = made.issue_cert(LOOPBACK, "localhost", common_name=BROKER)
    made.cert_pem.write_to_path(authority(box))
    broker(box).touch(mode=0o600)
    # Java reads keys in PKCS #8 alone.
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), password=None)
    pkcs8 = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    broker(box).write_bytes(pkcs8 + b"".join(one.bytes() for one in issued.cert_chain_pems))
    box.write(NOTE, {user: secrets.token_hex(16) for user in USERS})


def variables(box: Box, user: str) -> dict[str, str]:
    """Return the variables with which a process signs in as `user`; none in a box that is not secured."""
    if not (known := passwords(box)):
        return {}
    return {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": MECHANISM,
        "KAFKA_SASL_USERNAME": user,
        "KAFKA_SASL_PASSWORD": known[user],
        "KAFKA_SSL_CA_FILE": str(authority(box)),
    }


def remove(box: Box) -> None:
    """Remove all of it."""
    shutil.rmtree(authority(box).parent, ignore_errors=True)
    box.forget(NOTE)
