"""What tests of `cb-ops stripe reconcile` share: customers of whom nobody heard, the payments consumer, answers in JSON."""

import json

from consumers.payments.handlers import Payments
from shared.db.engine import rows
from shared.kafka.batch import Batches
from tests.support import builders
from tests.support.builders import insert_sales
from tests.support.fakes import Published


async def sold(world, engine, *sales):
    """Checkout's rows, and customers who paid at Stripe, of which nobody heard."""
    async with engine.begin() as tx:
        await insert_sales(tx, *sales)
    for sale in sales:
        intent = {"metadata": sale.metadata}
        await world.paid(client_reference_id=sale.payment_id, metadata=sale.metadata, payment_intent_data=intent)


async def take(engine, *events):
    """Be the payments consumer."""
    consumer = Batches(Payments(), engine=engine, producer=Published(), group="p", target="payments.events", refusals="dlt")
    await consumer.handle([builders.record(event) for event in events])


def answer(result, *, status=0):
    """What a call with --json said; in this process the log shares its stream."""
    assert result.exit_code == status, result.output
    return json.loads(result.stdout[result.stdout.index("{\n") :])


async def statuses(engine):
    async with engine.begin() as tx:
        return sorted(status.lower() for (status,) in await rows(tx, "select status::text from payments"))
