"""Stand-ins for what a test does not ask about."""

from shared.messages import booking_changes, payment_states
from tests.support import schemas


class Published:
    """A producer that remembers; that Kafka takes what it is given is the real one's own test.

    Whatever a consumer publishes to a public topic is held to the schema that its readers are given.
    """

    def __init__(self):
        self.records = []

    async def publish(self, records, *, deadline_seconds=5.0):
        for record in records:
            schemas.hold(record.topic, record.value)
        self.records += records

    def states(self):
        """The messages of `payments.events`, in order."""
        return self.events("payments.events", payment_states)

    def changes(self):
        """The messages of `bookings.events`, in order."""
        return self.events("bookings.events", booking_changes)

    def events(self, topic, decoder):
        return [decoder.decode(record.value) for record in self.records if record.topic == topic]

    def refusals(self, topic):
        return [dict(record.headers)["x-error"].decode() for record in self.records if record.topic == topic]
