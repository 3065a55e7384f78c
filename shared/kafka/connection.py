"""How every client of ours reaches the cluster: addresses, encryption, credentials; one place for all of them."""

import ssl
from typing import Any

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from shared import settings

REQUEST_TIMEOUT_MS = 40_000  # above the rebalance timeout: JoinGroup is cut by it
SASL = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


def for_aiokafka(kafka: settings.Kafka) -> dict[str, Any]:
    """Return the arguments that aiokafka's producer, consumer and admin client share."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(kafka.kafka_bootstrap_servers),
        "security_protocol": kafka.kafka_security_protocol,
    }
    if kafka.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(kafka)
    if kafka.kafka_security_protocol.startswith("SASL"):
        assert kafka.kafka_sasl_password is not None
        arguments |= {
            "sasl_mechanism": kafka.kafka_sasl_mechanism,
            "sasl_plain_username": kafka.kafka_sasl_username,
            "sasl_plain_password": kafka.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def for_faststream(kafka: settings.Kafka) -> BaseSecurity:
    """Return the same as FastStream's security object."""
    encrypted = kafka.kafka_security_protocol.endswith("SSL")
    context = _ssl_context(kafka) if encrypted else None
    if not kafka.kafka_security_protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=encrypted)
    assert kafka.kafka_sasl_username is not None
    assert kafka.kafka_sasl_password is not None
    return SASL[kafka.kafka_sasl_mechanism](
        username=kafka.kafka_sasl_username,
        password=kafka.kafka_sasl_password.get_secret_value(),
        ssl_context=context,
        use_ssl=encrypted,
    )


def _ssl_context(kafka: settings.Kafka) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=kafka.kafka_ssl_ca_file)
