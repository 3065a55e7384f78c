"""What is due by itself happens once, in its order, at its moment."""

from deploy.dev.stripe import checkout
from deploy.dev.stripe.cards import Card
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.timetable import SETTLE_SECONDS, Timetable
from deploy.dev.stripe.world import World

URL = "http://127.0.0.1:1"
DAY = 24 * 3600


def shop(now):
    world = World(seed=1)
    price = {"currency": "usd", "unit_amount": 5000, "product_data": {"name": "Coaching"}}
    wish = {"success_url": URL, "line_items": [{"price_data": price, "quantity": 1}]}
    session = checkout.create(world, wish, now=now, public_url=URL)
    return world, session, Timetable(world, URL)


def noted(world, timetable):
    """Look at what changed, as the sandbox does after every change; return the events."""
    changes = world.take()
    for kind, thing in changes.objects:
        timetable.note(kind, thing)
    return [told["type"] for told in changes.events]


def test_an_open_session_expires_at_its_moment_and_only_once():
    """Not a second before."""
    world, _, timetable = shop(now=1000)
    noted(world, timetable)

    assert timetable.next_moment == 1000 + DAY
    assert not timetable.act(1000 + DAY - 1)
    assert timetable.act(1000 + DAY)
    assert noted(world, timetable) == ["checkout.session.expired"]
    assert not timetable.act(1000 + 2 * DAY)


def test_what_was_dealt_with_is_not_due_any_more():
    """A paid session does not expire; its charge gets its balance transaction and is done."""
    world, session, timetable = shop(now=1000)
    noted(world, timetable)
    checkout.pay(world, session, Card("4242424242424242", 12, 2034), {"email": "a@b.org"}, At(1001, URL, event.cause()))
    noted(world, timetable)

    assert timetable.act(1001 + SETTLE_SECONDS)
    assert noted(world, timetable) == ["charge.updated"]
    assert not timetable.act(1000 + 2 * DAY)
    assert noted(world, timetable) == []


def test_a_session_expired_by_hand_is_not_expired_again():
    """Its entry in the timetable is void."""
    world, session, timetable = shop(now=1000)
    noted(world, timetable)
    checkout.expire(world, session, At(1001, URL, event.cause()))
    noted(world, timetable)

    assert not timetable.act(1000 + 2 * DAY)
