"""What each process and task reads of its environment, and a value of each secret with which it would start."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.ops import reconciliation
from shared import settings
from tests.architecture import test_images


class Operator(settings.Database, settings.Kafka, settings.StripeApi):
    """All that a command of cb-ops may read."""


SETTINGS = {
    **test_images.SETTINGS,
    "migrate": settings.Database,
    "roles": settings.Database,
    "topics": settings.Kafka,
    "acls": settings.Kafka,
    "inbox-prune": settings.Database,
    "stripe-reconcile": reconciliation.ReconciliationSettings,
    "operator": Operator,
}
PEM, PUBLIC = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
# What a Secret would hold; the public key is of ES256's curve.
SECRETS = {
    "DATABASE_URL": "postgresql://somebody:something@database:5432/culturebridge",
    "KAFKA_SASL_PASSWORD": "a password of Kafka's",
    "STRIPE_SECRET_KEY": "sk_test_" + "k" * 24,
    "STRIPE_WEBHOOK_SECRET": "whsec_" + "w" * 32,
    "JWT_SECRET_KEY": "j" * 40,
    "JWT_PUBLIC_KEY": ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(PEM, PUBLIC).decode(),
    "SMTP_PASSWORD": "a password of the mail server's",
}


def fields(*kinds):
    """Return every variable that these settings read, with its field."""
    return {name.upper(): field for kind in kinds for name, field in kind.model_fields.items()}
