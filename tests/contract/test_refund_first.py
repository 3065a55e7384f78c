"""A refund that is seen before its success: nobody is congratulated, and the ledger of letters says why."""

import itertools

import pytest

from deploy.dev.mailbox import open_mailbox
from tests.support.builders import Sale, insert_sales
from tests.support.consumers import walking
from tests.support.database import query

LETTERS = "select kind, role, state, reason from letters order by kind, role"


@pytest.fixture
async def walk(engine, tmp_path):
    async with open_mailbox(tmp_path) as mailbox, walking(engine, mailbox) as walk:
        yield walk


async def test_a_refund_seen_before_its_success_sends_no_confirmation_letter_and_says_so(walk, engine):
    """Whatever the order before the success, and with every message handled alone: no letter, and a reason for each."""
    for first in itertools.permutations(("refund", "charge", "declined"), 2):
        sale = Sale()
        async with engine.begin() as tx:
            await insert_sales(tx, sale)
        told = {"refund": sale.refund(), "charge": sale.refunded(), "declined": sale.declined(metadata={})}
        await walk.stripe_says(*(told[name] for name in first))
        await walk.stripe_says(sale.succeeded(), sale.completed())

        assert await query(engine, LETTERS.replace("order", "where booking_id = $1 order"), sale.booking_id) == [
            ("cancellation", "client", "suppressed", "confirmation_not_sent"),
            ("cancellation", "coach", "suppressed", "confirmation_not_sent"),
            ("confirmation", "client", "suppressed", "cancelled_before_sent"),
            ("confirmation", "coach", "suppressed", "cancelled_before_sent"),
            ("refund", "client", "suppressed", "confirmation_not_sent"),
        ]
        assert await query(engine, "select status::text from bookings where id = $1", sale.booking_id) == [("cancelled",)]
    assert walk.mailbox.letters == []


async def test_a_part_that_is_refunded_before_the_success_takes_no_letter_away(walk, engine):
    """A goodwill cent seen early is no cancellation; the letter about it waits until the booking is confirmed."""
    sale = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
    await walk.stripe_says(sale.refunded(100), sale.succeeded())

    assert len(walk.email.published.incoming("email.retry.1s")) == 1
    assert await query(engine, LETTERS) == [
        ("confirmation", "client", "sent", None),
        ("confirmation", "coach", "sent", None),
        ("refund", "client", "sent", None),
    ]
