"""When a matter for a person is opened again after somebody looked after it, and when it stays closed."""

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import REGISTRY

from consumers.payments import housekeeping
from shared import clock
from shared.db import attention
from shared.db.inbox import KEEP_DAYS
from tests.support.builders import Sale, record
from tests.support.database import query
from tests.support.letters import event, replay_of

MATTERS = "select reason, resolved_by from attention order by opened_at, resolved_at"
RESOLVE = "update attention set resolved_at = clock_timestamp(), resolved_by = $1 where resolved_at is null"


def told_of(reason):
    return REGISTRY.get_sample_value("operator_attention_total", {"reason": reason}) or 0


async def test_a_letter_that_dies_again_after_a_wrong_repair_calls_again(email, engine, sale):
    """Whoever looked after it first stays on record; of the same death nobody is told twice."""
    await query(engine, "update users set email = '' where id = $1", sale.client_id)
    await email.changes.handle([event(sale)])
    told_before = told_of("letter_missing_address")
    replay = replay_of(email)

    for name in ("Ada", "Grace"):
        await query(engine, RESOLVE, name)
        await email.retries.handle([replay])
        await email.changes.handle([event(sale)])

    assert await query(engine, MATTERS) == [
        ("letter_missing_address", "Ada"),
        ("letter_missing_address", "Grace"),
        ("letter_missing_address", None),
    ]
    assert told_of("letter_missing_address") == told_before + 2


async def test_a_letter_that_dies_again_while_somebody_looks_after_it_is_one_matter(email, engine, sale):
    """It is open already."""
    await query(engine, "update users set email = '' where id = $1", sale.client_id)
    await email.changes.handle([event(sale)])
    await email.retries.handle([replay_of(email)])

    assert await query(engine, MATTERS) == [("letter_missing_address", None)]


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (lambda sale: sale.succeeded(amount_received=7499), "amount_mismatch"),
        (lambda sale: sale.refund(2**63, metadata=sale.metadata), "broke_its_batch"),
    ],
    ids=["contradicts our row", "breaks its batch"],
)
async def test_an_event_that_is_refused_again_after_a_replay_calls_again(payments, engine, sale, forge, code):
    """What was mended was not the cause: the event is quarantined once more, and its matter is open again."""
    forged = record(forge(sale))
    await payments.handle([forged])
    await query(engine, RESOLVE, "Ada")
    await payments.handle([forged])
    await payments.handle([forged])

    told = [(reason.partition(":")[0], by) for reason, by in await query(engine, MATTERS)]
    assert told == [(code, "Ada"), (code, None)]


async def test_what_waited_and_was_refused_stays_closed_whatever_comes_of_its_payment(payments, engine, sale):
    """Nobody replayed it: the payment's next events look at what waits, and call nobody again."""
    await payments.handle([record(sale.refund(currency="jpy"))])
    await payments.handle([record(sale.succeeded())])
    await query(engine, RESOLVE, "Ada")
    await payments.handle([record(sale.refund(100))])

    assert ("currency_mismatch", "Ada") in await query(engine, MATTERS)
    assert ("currency_mismatch", None) not in await query(engine, MATTERS)


async def test_the_hourly_look_opens_nothing_that_a_person_has_closed(payments, engine):
    """It sees the same every hour: of an inbox that is not pruned, and of events that wait, an operator is told once."""
    now = clock.now()
    old = now - timedelta(days=KEEP_DAYS + 70)
    month = datetime(old.year, old.month, 1, tzinfo=UTC)
    following = datetime(old.year + old.month // 12, old.month % 12 + 1, 1, tzinfo=UTC)
    await query(
        engine,
        f"create table inbox_{month:%Y_%m} partition of inbox for values from ('{month:%Y-%m-%d}') to ('{following:%Y-%m-%d}')",
    )
    await payments.handle([record(Sale().refund())])
    await query(engine, "update waiting_events set seen_at = now() - interval '80 hours'")

    for _ in range(2):
        await housekeeping.look(engine, now=now)
        await query(engine, RESOLVE, "Ada")

    assert sorted(await query(engine, MATTERS)) == [("inbox_not_pruned", "Ada"), ("unmatched_events", "Ada")]


@pytest.mark.parametrize("reason", ["payment_conflict:already_paid", "paid_after_session", "dispute_opened"])
async def test_what_happens_once_for_good_stays_closed(engine, reason):
    """Only a replay makes a letter die or an event contradict a second time; nothing else does, however often it is seen."""
    for _ in range(2):
        async with engine.begin() as tx:
            await attention.open_(tx, reason=reason, aggregate="booking:1", cause="evt_1")
        await query(engine, RESOLVE, "Ada")

    assert await query(engine, MATTERS) == [(reason, "Ada")]
