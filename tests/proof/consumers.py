"""The payments and bookings consumers in this process, two of each at once, with a producer that sometimes dies.

A batch whose publishing fails comes again, as Kafka would bring it: its effects are committed by then.
"""

from contextlib import asynccontextmanager

from consumers.bookings.handlers import Bookings
from consumers.payments.handlers import Payments
from shared.db import engine as engines
from shared.errors import KafkaAway
from shared.kafka.batch import Batches
from shared.kafka.records import Incoming

RIVALS = 2
PAYMENTS_EVENTS, BOOKINGS_EVENTS, REFUSED = "payments.events", "bookings.events", "refused"


class Mortal:
    """A producer that now and then loses Kafka in the middle of a batch; what it had sent by then is there."""

    def __init__(self, drawn, dies):
        self.records, self.deaths = [], 0
        self._drawn, self._dies = drawn, dies

    async def publish(self, records, *, deadline_seconds=5.0):
        if self._drawn.random() < self._dies:
            self.records += records[: self._drawn.randrange(len(records))]
            self.deaths += 1
            raise KafkaAway("drawn")
        self.records += records

    def sent(self, topic):
        return [record for record in self.records if record.topic == topic]


class Rivals:
    """Two payments and two bookings consumers on one database; `published` is what all of them sent."""

    def __init__(self, made, published):
        self.published = published
        common = {"producer": published, "refusals": REFUSED}
        self._payments = [Batches(Payments(), engine=e, group="payments", target=PAYMENTS_EVENTS, **common) for e in made]
        self._bookings = [Batches(Bookings(), engine=e, group="bookings", target=BOOKINGS_EVENTS, **common) for e in made]

    def payments(self, rival, records):
        """Let one payments consumer take a batch; it comes again until all of it is published."""
        return _until_published(self._payments[rival], records)

    def bookings(self, rival, records):
        """Let one bookings consumer take a batch likewise."""
        return _until_published(self._bookings[rival], records)


async def _until_published(consumer, records):
    while True:
        try:
            return await consumer.handle(records)
        except KafkaAway:
            continue


@asynccontextmanager
async def rivals(database, drawn, *, dies=0.0):
    """Two consumers of each kind; `dies` is how probable it is that publishing a batch fails."""
    made = [engines.create(database, application=f"rival-{n}") for n in range(RIVALS)]
    try:
        yield Rivals(made, Mortal(drawn, dies))
    finally:
        for engine in made:
            await engine.dispose()


def cut(records, drawn, size_max):
    """Cut a stream into batches of one to `size_max` records."""
    at = 0
    while at < len(records):
        size = drawn.randint(1, size_max)
        yield records[at : at + size]
        at += size


def as_consumed(records):
    """What was published, as a consumer of its topic meets it."""
    return [Incoming(record.topic, 0, place, record.key, record.value) for place, record in enumerate(records)]
