"""How the box's own tools reach its cluster: what any process takes from the variables, in one value."""

from collections.abc import Mapping
from typing import Any

from shared import settings


def of(variables: Mapping[str, str]) -> settings.Kafka:
    """Return the settings of a cluster from the variables of a box, and from nothing else.

    What the box says nothing about is said here: else it would be taken from the shell, or from a `.env` of containers.
    """
    silent: dict[str, Any] = {name: one.default for name, one in settings.Kafka.model_fields.items() if not one.is_required()}
    given = {name.lower(): value for name, value in variables.items() if name.startswith("KAFKA_")}
    return settings.Kafka(**silent | given)
