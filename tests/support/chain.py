"""From Stripe's event to the ledger of letters in one process: the three consumers' transactions on a real database.

What crosses Kafka is handed on by hand, in the order in which it was published; that Kafka carries it is other tests' promise.
"""

from consumers.bookings.handlers import Bookings
from consumers.email import ledger, store
from consumers.email.handlers import LetterIntake
from consumers.email.kinds import of_booking, of_payment
from consumers.email.ledger import Suppress
from consumers.payments.handlers import Payments
from shared.db.engine import rows
from shared.kafka.batch import Batches
from shared.messages import booking_changes, payment_states
from tests.support.builders import record
from tests.support.database import query
from tests.support.fakes import Published

LINKS = (
    (Payments, "payments", "stripe.events", "payments.events"),
    (Bookings, "bookings", "payments.events", "bookings.events"),
    (lambda: LetterIntake(of_payment, sender_domain="culturebridge.example"), "email-payments", "payments.events", None),
    (lambda: LetterIntake(of_booking, sender_domain="culturebridge.example"), "email", "bookings.events", None),
)


class Chain:
    """The consumers one after the other; `tell` returns once all that followed is written."""

    def __init__(self, engine):
        self.engine, self.published = engine, Published()
        self._links = [
            (Batches(made(), engine=engine, producer=self.published, group=group, target=to, refusals=f"{of}.dlt"), group, of)
            for made, group, of, to in LINKS
        ]
        self._read = dict.fromkeys((group for _, group, _, _ in LINKS), 0)

    async def tell(self, *events):
        """Hand in Stripe's events as one batch, and on what they cause."""
        await self._links[0][0].handle([record(event) for event in events])
        for batches, group, topic in self._links[1:]:
            there = [r for r in self.published.records if r.topic == topic]
            news = [record(r.value, topic=topic, key=r.key, headers=r.headers) for r in there[self._read[group] :]]
            self._read[group] = len(there)
            await batches.handle(news)

    def payments(self):
        """What `payments.events` says, in order."""
        return self.published.events("payments.events", payment_states)

    def bookings(self):
        """Name, reason and payment of all that `bookings.events` says, in order."""
        said = self.published.events("bookings.events", booking_changes)
        return [(event.name, event.data.reason, str(event.data.payment_id)) for event in said]

    async def sql(self, statement, *parameters):
        return await query(self.engine, statement, *parameters)

    async def payment(self, payment_id, columns="status::text, closed_reason, slot_free"):
        return (await self.sql(f"select {columns} from payments where id = $1", payment_id))[0]

    async def booking(self, booking_id):
        return (await self.sql("select status::text, payment_id::text from bookings where id = $1", booking_id))[0]

    async def letters(self):
        """Kind, role and state of every letter, but for those that the next look would suppress."""
        found = []
        for letter_id, kind, role, state in await self.sql("select id, kind, role, state from letters order by 2, 3"):
            async with self.engine.begin() as tx:
                row = (await store.load(tx, [letter_id]))[letter_id]
            judgement = ledger.judge(row, attempt=0, replayed=False)
            if not isinstance(judgement, Suppress):
                found.append((kind, role, state))
        return found


async def insert_twin(engine, sale, twin):
    """Write a second payment of the sale's booking, as the older application could: closed, so that it blocks nothing."""
    async with engine.begin() as tx:
        await rows(
            tx,
            "insert into payments (id, booking_id, amount, amount_minor, currency, stripe_session_id, closed_at) "
            "select $1, booking_id, amount, amount_minor, currency, $2, now() from payments where id = $3",
            twin.payment_id,
            twin.session_id,
            sale.payment_id,
        )
