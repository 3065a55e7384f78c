"""The judge is judged: the oracle agrees with ends written by hand, and complains about stories that the rules forbid."""

import pytest

from shared.stripe_events import Kind
from tests import oracle
from tests.oracle import Booking, Row, Told
from tests.proof.stories import STORIES
from tests.support.builders import Sale

SALE, TWIN = Sale(), Sale()
CONFIRMED, CANCELLED, CONFLICT = "booking.confirmed", "booking.cancelled", "booking.payment_conflict"


def row(sale=SALE):
    return Row(sale.payment_id, sale.booking_id, sale.amount_minor, sale.currency, sale.session_id)


def ends(*told, sale=SALE):
    return oracle.truth(row(sale), told)


PAID, GIVEN_BACK, UNPAID = ends(SALE.succeeded()), ends(SALE.succeeded(), SALE.refunded()), ends(SALE.declined())
TWIN_PAID = ends(TWIN.succeeded(), sale=TWIN)
MINE, OTHERS = SALE.payment_id, TWIN.payment_id


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_oracle_ends_a_story_as_it_was_written_by_hand(story):
    """Status and money; what becomes of the booking follows from them."""
    data = ends(*story.told(SALE)).data
    cancelled, confirmed = data["cancel_due"], data["paid"]

    assert (data["status"], data["amount_refunded_minor"]) == (story.status, story.refunded_minor)
    assert story.booking == ("cancelled" if cancelled else "confirmed" if confirmed else "pending")


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"amount_received": 7499}, "amount_mismatch"),
        ({"currency": "eur"}, "currency_mismatch"),
        ({"metadata": {"payment_id": MINE, "booking_id": OTHERS}}, "booking_mismatch"),
    ],
)
def test_the_oracle_believes_no_forgery(lie, reason):
    """What it refuses changes nothing, and tells nobody whose the intent is."""
    forged, early = SALE.succeeded(**lie), SALE.refunded()
    world = oracle.judge([row()], [forged, early])

    assert world.refused == {forged["id"]: reason}
    assert world.waiting == {early["id"]}
    assert world.payments[MINE].data["status"] == "pending"


@pytest.mark.parametrize(
    ("payments", "story", "status"),
    [
        ({MINE: PAID}, [Told(CONFIRMED, MINE, None)], "confirmed"),
        ({MINE: GIVEN_BACK}, [Told(CONFIRMED, MINE, None), Told(CANCELLED, MINE, "refunded")], "cancelled"),
        ({MINE: GIVEN_BACK}, [Told(CANCELLED, MINE, "refunded")], "cancelled"),
        ({MINE: PAID, OTHERS: TWIN_PAID}, [Told(CONFIRMED, OTHERS, None), Told(CONFLICT, MINE, "already_paid")], "confirmed"),
        ({MINE: GIVEN_BACK, OTHERS: TWIN_PAID}, [Told(CONFIRMED, OTHERS, None)], "confirmed"),
    ],
)
def test_a_story_that_the_rules_allow_has_no_complaint(payments, story, status):
    """Confirmed, cancelled, refunded first, paid twice, the duplicate given back."""
    end = oracle.follow(Booking(SALE.booking_id), payments, story)

    assert (end.status, end.complaints) == (status, [])


@pytest.mark.parametrize(
    ("payments", "story"),
    [
        ({MINE: PAID}, []),
        ({MINE: UNPAID}, [Told(CONFIRMED, MINE, None)]),
        ({MINE: PAID}, [Told(CONFIRMED, MINE, None), Told(CONFIRMED, MINE, None)]),
        ({MINE: PAID}, [Told(CONFIRMED, MINE, None), Told(CANCELLED, MINE, "refunded")]),
        ({MINE: GIVEN_BACK}, [Told(CONFIRMED, MINE, None)]),
        ({MINE: GIVEN_BACK}, [Told(CANCELLED, MINE, "refunded"), Told(CONFLICT, MINE, "cancelled")]),
        ({MINE: PAID, OTHERS: TWIN_PAID}, [Told(CONFIRMED, MINE, None)]),
        ({MINE: PAID, OTHERS: TWIN_PAID}, [Told(CONFIRMED, MINE, None), Told(CONFIRMED, OTHERS, None)]),
        ({MINE: PAID, OTHERS: GIVEN_BACK}, [Told(CONFIRMED, MINE, None), Told(CANCELLED, OTHERS, "refunded")]),
    ],
)
def test_a_story_that_the_rules_forbid_is_complained_of(payments, story):
    """Nobody told, told unpaid, told twice, cancelled for nothing, standing though given back, the wrong one cancelled."""
    assert oracle.follow(Booking(SALE.booking_id), payments, story).complaints


def test_a_refund_before_the_success_confirms_never():
    """By the ledger's order: given back first, and no letter is due."""
    assert oracle.confirms_never(row(), [SALE.refunded(), SALE.succeeded()])
    assert not oracle.confirms_never(row(), [SALE.succeeded(), SALE.refunded()])
    assert not oracle.confirms_never(row(), [SALE.refunded(2500), SALE.succeeded()])


def test_the_oracle_judges_every_kind_of_event_that_the_product_handles():
    """A kind that it passed over would end as it likes, and no proof would say so."""
    assert set(Kind) == oracle.HANDLED
