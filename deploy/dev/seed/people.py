"""The people of every box: a client, a coach, an admin, the same everywhere so that examples can name them."""

import uuid
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Person:
    """Somebody in the box."""

    role: str
    first_name: str
    last_name: str
    timezone: str

    @property
    def id(self) -> uuid.UUID:
        """Their id in `users`."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"https://culturebridge.example/people/{self.role}")

    @property
    def email(self) -> str:
        """Their address; .example belongs to nobody (RFC 2606)."""
        return f"{self.first_name.lower()}@culturebridge.example"


CLIENT = Person("client", "Amara", "Okafor", "Africa/Lagos")
COACH = Person("coach", "Kenji", "Tanaka", "Asia/Tokyo")
ADMIN = Person("admin", "Ingrid", "Solberg", "Europe/Oslo")
PEOPLE = {person.role: person for person in (CLIENT, COACH, ADMIN)}
COACH_HOURLY_RATE = Decimal("75.00")
COACH_CURRENCY = "USD"
