"""A sale's letters as tests of the email consumer see them: what makes them due, whom they reach, how the ledger has them."""

from shared import clock, metrics
from shared.db.engine import rows
from shared.kafka.records import Incoming
from tests.support.builders import Sale, booking_event, insert_sales, record


async def sales(engine, count):
    made = [Sale() for _ in range(count)]
    async with engine.begin() as tx:
        await insert_sales(tx, *made, booking_status="confirmed")
    return made


def event(sale, name="booking.confirmed", **changes):
    value = booking_event(sale, name, **changes)
    return record(value, topic="bookings.events", key=sale.booking_id.encode(), headers=(("correlation_id", b"c-1"),))


def now_ms():
    """This moment, as records say when they are due."""
    return int(clock.now().timestamp() * 1000)


def address(sale, role):
    return f"{role}-{sale.client_id if role == 'client' else sale.coach_id}@example.com"


def recipients(mailbox):
    return sorted(letter.to[0] for letter in mailbox.letters)


def both(sale):
    return [address(sale, "client"), address(sale, "coach")]


async def states(engine, columns="role, state, attempts"):
    async with engine.begin() as tx:
        return [tuple(r) for r in await rows(tx, f"select {columns} from letters order by role")]


async def sql(engine, statement, *parameters):
    async with engine.begin() as tx:
        return await rows(tx, statement, *parameters)


def headers(one):
    return {name: value.decode() for name, value in one.headers}


def counted_as_sent():
    return sum(metrics.letters.labels("confirmation", role, "sent")._value.get() for role in ("client", "coach"))


def replay_of(email):
    """The one dead letter, as `cb-ops dlt replay` puts it back."""
    [dead] = email.published.incoming("email.dlt")
    return Incoming("email.retry.1s", 0, 0, dead.key, dead.value, (("x-attempt", b"0"), ("x-replay", b"1")))
