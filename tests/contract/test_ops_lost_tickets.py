"""A letter whose ticket was lost: no consumer ever looks at it again, and the hourly check reports it."""

import uuid
from datetime import timedelta

import pytest

from consumers.payments import housekeeping
from shared import clock
from tests.support.database import query

INSERT = """
insert into letters (
    id, booking_id, role, state, queued_at, updated_at, kind, payment_id, amount_minor, refunded_minor, message_id
)
values ($1, $2, $3, $4, $5, $6, $7, $8, 7500, $9, $1::uuid::text)
"""


@pytest.fixture
def written(engine):
    """Write a letter that was queued, and changed last, so many minutes ago; return its booking's id and its own.

    A refund's letter is about the payment and says how much was refunded.
    """

    async def write(state, *, minutes, changed_minutes=None, booking_id=None, role="client", refund=(None, None)):
        letter_id, booking_id, now = uuid.uuid4(), booking_id or uuid.uuid4(), clock.now()
        queued_at, changed_at = (now - timedelta(minutes=m) for m in (minutes, changed_minutes or minutes))
        kind = "confirmation" if refund == (None, None) else "refund"
        await query(engine, INSERT, letter_id, booking_id, role, state, queued_at, changed_at, kind, *refund)
        await query(engine, "update letter_changes set changed_at = $2 where letter_id = $1", letter_id, changed_at)
        return booking_id, letter_id

    return write


async def look(engine):
    await housekeeping.look(engine, now=clock.now())


async def matters(engine):
    found = await query(engine, "select reason, aggregate, cause, resolved_by from attention order by opened_at, cause")
    return [tuple(one) for one in found]


def lost(booking_id, letter_id, *, by=None):
    return ("ticket_lost", f"booking:{booking_id}", str(letter_id), by)


@pytest.mark.parametrize("state", ["queued", "sending", "retrying"])
async def test_a_letter_that_nothing_looks_at_while_others_are_sent_is_reported_once(engine, written, state):
    """However often the check runs; what is young or has ended is not reported."""
    one = await written(state, minutes=120)
    await written(state, minutes=30)
    await written(state, minutes=120, changed_minutes=30)
    for ended in ("sent", "suppressed", "dead"):
        await written(ended, minutes=100)
    await look(engine)
    await look(engine)

    assert await matters(engine) == [lost(*one)]


@pytest.mark.parametrize(
    "others",
    [[], [121], [115], [1]],
    ids=["none was ever sent", "the last was sent before", "too soon after it", "a backlog is just being taken"],
)
async def test_a_letter_that_waits_with_all_others_is_not_reported(engine, written, others):
    """The mail server or the email consumer is away, or was until a moment ago: then everything is late."""
    await written("retrying", minutes=120)
    for minutes in others:
        await written("sent", minutes=minutes)
    await look(engine)

    assert await matters(engine) == []


@pytest.mark.parametrize(
    ("followed", "refunded_minor", "is_lost"),
    [
        (None, 100, False),
        ({"paid": False, "cancel_due": False}, 100, False),
        ({"paid": True, "cancel_due": False}, 100, True),
        ({"paid": True, "cancel_due": False}, 7500, False),
        ({"paid": True, "cancel_due": True}, 7500, True),
    ],
)
async def test_a_refund_s_letter_waits_until_the_booking_followed(engine, written, followed, refunded_minor, is_lost):
    """Its ticket comes again until then, and changes nothing: the bookings consumer is away."""
    payment_id = uuid.uuid4()
    one = await written("queued", minutes=120, refund=(payment_id, refunded_minor))
    await written("sent", minutes=70)
    if followed is not None:
        insert = "insert into booking_payments (payment_id, booking_id, version, paid, cancel_due) values ($1, $2, 1, $3, $4)"
        await query(engine, insert, payment_id, one[0], followed["paid"], followed["cancel_due"])
    await look(engine)

    assert await matters(engine) == ([lost(*one)] if is_lost else [])


@pytest.mark.parametrize("entered", [True, False])
async def test_a_full_refund_s_letter_waits_until_the_cancellation_is_entered(engine, written, entered):
    """The booking is cancelled, and the event is still on its way to the email consumer, or among the dead letters."""
    payment_id = uuid.uuid4()
    one = await written("queued", minutes=120, refund=(payment_id, 7500))
    await written("sent", minutes=70)
    insert = "insert into booking_payments values ($1, $2, 1, true, true, null, true)"
    await query(engine, insert, payment_id, one[0])
    if entered:
        await written("suppressed", minutes=110, booking_id=one[0])
        await query(engine, "update letters set kind = 'cancellation' where state = 'suppressed'")
    await look(engine)

    assert await matters(engine) == ([lost(*one)] if entered else [])


async def test_a_matter_is_resolved_once_no_letter_of_its_booking_is_open(engine, written):
    """A ticket came back after all; of two letters the second one counts as well."""
    booking_id, client = await written("queued", minutes=120)
    _, coach = await written("queued", minutes=120, booking_id=booking_id, role="coach")
    await written("sent", minutes=70)
    await look(engine)
    both = sorted([client, coach], key=str)
    assert await matters(engine) == [lost(booking_id, one) for one in both]

    await query(engine, "update letters set state = 'sent' where id = $1", client)
    await look(engine)
    assert await matters(engine) == [lost(booking_id, one) for one in both]
    await query(engine, "update letters set state = 'dead' where id = $1", coach)
    await look(engine)

    assert await matters(engine) == [lost(booking_id, one, by="the hourly check") for one in both]


async def test_what_a_person_resolved_is_not_opened_again(engine, written):
    """Somebody wrote to the client by hand, and the letter stays open for good."""
    one = await written("retrying", minutes=120)
    await written("sent", minutes=70)
    await look(engine)
    await query(engine, "update attention set resolved_at = now(), resolved_by = 'Ada'")
    await look(engine)

    assert await matters(engine) == [lost(*one, by="Ada")]


async def test_more_lost_tickets_than_are_reported_at_once_are_reported_by_the_next_checks(engine, written, monkeypatch):
    """A topic was deleted: what is reported, or resolved, hides nothing behind it."""
    monkeypatch.setattr("shared.db.lost_tickets.AT_ONCE_MAX", 1)
    found = [await written("queued", minutes=minutes) for minutes in (122, 121, 120)]
    await written("sent", minutes=70)
    for count in (1, 2, 3):
        await look(engine)
        assert await matters(engine) == sorted([lost(*one) for one in found[:count]], key=lambda m: found_at(found, m))


def found_at(found, matter):
    return [str(letter_id) for _, letter_id in found].index(matter[2])
