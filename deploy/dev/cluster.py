"""How the box's own tools reach its cluster: what any process takes from the variables, in one value."""

from collections.abc import Mapping
from typing import Any

from shared import settings


def of(variables: Mapping[str, str]) -> settings.Kafka:
    """Return the settings of a cluster from the variables of a box."""
    given: dict[str, Any] = {name.lower(): value for name, value in variables.items() if name.startswith("KAFKA_")}
    return settings.Kafka(**given)
