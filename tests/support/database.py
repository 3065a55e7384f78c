"""What a test asks a database that the code under test has written."""

from shared.db.engine import rows

FOLDED = "status::text, amount_refunded_minor, charge_refunded_minor, paid, failed, cancel_due, failure_reason, closed_reason"


async def query(engine, sql, *parameters):
    """Run one statement in a transaction of its own and return its rows as tuples, which compare with what a test expects."""
    async with engine.begin() as tx:
        return [tuple(row) for row in await rows(tx, sql, *parameters)]


async def folded(engine, sale):
    """What is known of a sale's payment and does not depend on the order of its events."""
    return (await query(engine, f"select {FOLDED} from payments where id = $1", sale.payment_id))[0]


def waits_for_a_lock(engine, *, count=1):
    """A condition for `until`: so many in this database wait for what another transaction holds."""

    async def waits():
        found = await query(
            engine, "select 1 from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        )
        return len(found) >= count

    return waits
