"""What PostgreSQL would do at a million rows: tables filled with a few thousand, and statistics that say a million.

The planner multiplies a table's real pages with the rows per page that its statistics tell. So `pretend` leaves every index
and every column's statistics as they are and makes the pages look fuller: reading a whole table costs less than it would at
a true million, and an index that wins here wins there all the more.
"""

import importlib
import inspect
import pkgutil
import uuid
from datetime import UTC, datetime

from shared.db.engine import driver, rows
from shared.kafka.batch import TRANSACTION_ITEMS_MAX

ROOMS = ("consumers.payments", "consumers.bookings", "consumers.email", "ingress", "shared.db")
STATEMENTS = ("select", "insert", "update", "delete", "with")
PRETENDED_ROWS = 1_000_000
# One row of each for every number; what belongs together bears the same number.
FILL = {
    "users": "md5('user' || n)::uuid, 'u' || n, 'x', 'client'",
    "client_profiles": "md5('client' || n)::uuid, md5('user' || n)::uuid",
    "coach_profiles": "md5('coach' || n)::uuid, md5('user' || n)::uuid",
    "bookings": "md5('booking' || n)::uuid, md5('user' || n)::uuid, md5('user' || n)::uuid, now()",
    "payments (id, booking_id, amount, stripe_session_id, stripe_payment_intent_id, idempotency_key)": (
        "md5('payment' || n)::uuid, md5('booking' || n)::uuid, 75, 'cs_' || n, 'pi_' || n, 'key_' || n"
    ),
    "payment_intents": "'pi_' || n, md5('payment' || n)::uuid",
    "payment_charges": "'ch_' || n, md5('payment' || n)::uuid",
    "refunds": "'re_' || n, md5('payment' || n)::uuid, 'succeeded', true, 100",
    "disputes": "'du_' || n, md5('payment' || n)::uuid, 'won'",
    'payment_ledger (event_id, event_type, payment_id, decision, topic, "partition", "offset")': (
        "'evt_' || n, 'charge.refunded', md5('payment' || n / 3)::uuid, 'applied', 'stripe.events', 0, n"
    ),
    'waiting_events (event_id, object_key, body, seen_at, topic, "partition", "offset")': (
        "'evt_w' || n, 'pi_w' || n, '{}', now() - make_interval(hours => n % 72), 'stripe.events', 0, n"
    ),
    "attention": "md5('matter' || n)::uuid, 'refund_failed', 'payment:' || md5('payment' || n)::uuid, 'evt_' || n",
    "inbox": (
        "(array['payments', 'bookings', 'email'])[n % 3 + 1], now() + make_interval(days => n % 160 - 45, secs => n), "
        "'evt_' || n, array['{}'::bytea], 'stripe.events', 0, n"
    ),
    "booking_payments": "md5('payment' || n)::uuid, md5('booking' || n)::uuid, 1, true, false",
    "booking_versions": "md5('booking' || n)::uuid, 1",
    "letters (id, booking_id, kind, role, state, message_id)": (
        "md5('letter' || n)::uuid, md5('booking' || n)::uuid, 'confirmation', 'client', "
        "(array['queued', 'sent', 'sent'])[n % 3 + 1], '<' || n || '@x>'"
    ),
}
PRETEND = """
select pg_restore_relation_stats(
    'schemaname', n.nspname::text, 'relname', c.relname::text,
    'relpages', greatest(c.relpages, 1), 'reltuples', ($1::bigint)::real
)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'public' and c.relkind in ('r', 'i') and c.reltuples > 0
"""
PLANNING_COST = 25  # what PostgreSQL adds for planning anew: 2.5 a table, https://doxygen.postgresql.org/plancache_8c.html
ONE = {
    "bool": False,
    "bytea": b"{}",
    "float8": 1.0,
    "int4": 72,  # hours or days before now
    "int8": 1,
    "json": "{}",
    "jsonb": "{}",
    "numeric": 1,
    "text": "unheard_of",
    "timestamptz": datetime(2026, 11, 24, tzinfo=UTC),
    "uuid": uuid.UUID(int=7),
    "varchar": "EUR",
}


def statements():
    """Every SQL statement that stands in a constant of a room, by the constant's full name: a new one cannot be forgotten."""
    found = {}
    for room in map(importlib.import_module, ROOMS):
        below = pkgutil.iter_modules(room.__path__, prefix=f"{room.__name__}.")
        for module in [importlib.import_module(name) for _, name, _ in below if not name.endswith("__main__")]:
            for name, value in vars(module).items():
                if name.isupper() and isinstance(value, str) and value.split()[:1] and value.split()[0] in STATEMENTS:
                    found[f"{module.__name__}.{name}"] = value
    return found


def sql_outside_constants():
    """Return the calls that pass SQL to `rows` as a literal, where `statements` cannot see it, by module."""
    found = []
    for room in map(importlib.import_module, ROOMS):
        for _, name, _ in pkgutil.iter_modules(room.__path__, prefix=f"{room.__name__}."):
            if not name.endswith("__main__"):
                source = inspect.getsource(importlib.import_module(name))
                found += [f"{name}: {line.strip()}" for line in source.splitlines() if 'rows(tx, "' in line]
    return found


async def fill(tx, count):
    """Write `count` rows into every table that grows."""
    for table, values in FILL.items():
        await rows(tx, f"insert into {table} select {values} from generate_series(1, {count}) n")


async def pretend(tx, count):
    """Let the statistics of every filled table and of its indexes tell of `count` rows; in no transaction that analyzes."""
    await rows(tx, PRETEND, count)


async def plans(tx, sql):
    """Return the plan for a whole batch, and the one for any parameters, if PostgreSQL would ever take that one.

    A prepared statement is planned anew for its parameters unless the plan for any parameters is thought to cost less.
    """
    connection = driver(tx)
    prepared = await connection.prepare(sql)
    values = [
        [ONE[kind.name.removesuffix("[]")]] * TRANSACTION_ITEMS_MAX if kind.kind == "array" else ONE[kind.name]
        for kind in prepared.get_parameters()
    ]
    custom = await connection.fetchval(f"explain (format json) {sql}", *values)
    await connection.execute(f"set local plan_cache_mode = force_generic_plan; prepare asked as {sql}")
    nothing = f"({', '.join(['null'] * len(values))})" if values else ""
    generic = await connection.fetchval(f"explain (format json) execute asked{nothing}")
    await connection.execute("deallocate asked; set local plan_cache_mode = default")
    asked, any_ = (plan[0]["Plan"] for plan in (custom, generic))
    return [asked, any_] if any_["Total Cost"] <= asked["Total Cost"] + PLANNING_COST else [asked]


def unindexed(plan):
    """Yield each place in a plan where a whole table, or a whole index, is read."""
    kind, table = plan["Node Type"], plan.get("Relation Name", plan.get("Index Name"))
    if kind == "Seq Scan" or ((kind.endswith("Index Scan") or kind == "Index Only Scan") and "Index Cond" not in plan):
        yield f"{kind} on {table}"
    for below in plan.get("Plans", ()):
        yield from unindexed(below)
