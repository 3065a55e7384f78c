"""The Kafka settings of the box's own tools, from the variables of a box."""

from collections.abc import Mapping
from typing import Any

from shared import settings


def of(variables: Mapping[str, str]) -> settings.Kafka:
    """Return the settings of a cluster from the variables of a box, and from nothing else.

    Variables that the box does not set get their default here: else they would be read from the shell, or from a `.env` meant
    for containers.
    """
    silent: dict[str, Any] = {name: one.default for name, one in settings.Kafka.model_fields.items() if not one.is_required()}
    given = {name.lower(): value for name, value in variables.items() if name.startswith("KAFKA_")}
    return settings.Kafka(**silent | given)
