"""How every client of ours reaches the cluster: addresses, encryption, credentials; one place for all of them."""

import ssl
from typing import Any

from shared import settings

REQUEST_TIMEOUT_MS = 40_000  # above the rebalance timeout: JoinGroup is cut by it


def for_aiokafka(kafka: settings.Kafka) -> dict[str, Any]:
    """Return the arguments that aiokafka's producer, consumer and admin client share."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(kafka.kafka_bootstrap_servers),
        "security_protocol": kafka.kafka_security_protocol,
    }
    if kafka.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = ssl_context(kafka)
    if kafka.kafka_security_protocol.startswith("SASL"):
        assert kafka.kafka_sasl_password is not None
        arguments |= {
            "sasl_mechanism": kafka.kafka_sasl_mechanism,
            "sasl_plain_username": kafka.kafka_sasl_username,
            "sasl_plain_password": kafka.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def ssl_context(kafka: settings.Kafka) -> ssl.SSLContext:
    """Return how the cluster's certificate is checked: by the given authority, else by the system's."""
    return ssl.create_default_context(cafile=kafka.kafka_ssl_ca_file)
