"""One booking, one payment, one session: whoever asks again, in whatever number, by whichever key."""

from datetime import UTC, datetime, timedelta

import pytest

from ingress import store
from ingress.checkout_rules import session_end
from shared import clock, settings
from tests.support.door import ORIGIN, PAYMENTS, gathered, meeting, opened, person, sandbox


async def test_a_second_checkout_is_shown_the_open_one(door):
    """One payment blocks its booking: 400 with session, URL and payment of the open one, even while Stripe is away."""
    booked = await meeting(door.engine)
    _, first = await door.checkout(booked.booking_id, booked.client)
    door.arm("rate_limit", times=3, route="GET /v1/checkout/sessions/{id}")

    status, body = await door.checkout(booked.booking_id, booked.client, key="another")

    assert (status, body["code"]) == (400, "payment_already_exists")
    assert {name: body[name] for name in ("session_id", "url", "payment_id")} == {
        name: first[name] for name in ("session_id", "url", "payment_id")
    }
    assert len(door.sessions()) == 1


async def test_the_same_key_and_body_give_the_same_session(door):
    """A lost answer is asked for again: 201 with the same open session, and nothing new."""
    booked = await meeting(door.engine)

    first = await door.checkout(booked.booking_id, booked.client, key="k-1")
    second = await door.checkout(booked.booking_id, booked.client, key="k-1")

    assert first == second
    assert first[0] == 201
    assert len(door.sessions()) == 1


async def test_the_same_key_with_another_body_is_refused(door):
    """A key means one wish: another URL or another booking under it is 422, while its payment is open."""
    booked, other = await meeting(door.engine), await meeting(door.engine)
    await door.sql("update bookings set client_id = $1", booked.client.id)
    await door.checkout(booked.booking_id, booked.client, key="k-1")

    elsewhere = await door.checkout(booked.booking_id, booked.client, key="k-1", success_url=f"{ORIGIN}/other")
    another = await door.checkout(other.booking_id, booked.client, key="k-1")

    assert [(s, b["code"]) for s, b in (elsewhere, another)] == [(422, "idempotency_key_reused")] * 2
    assert len(door.sessions()) == 1


async def test_a_key_belongs_to_its_caller(door):
    """Two people may use the same word; only its hash is stored."""
    one, two = await meeting(door.engine), await meeting(door.engine)

    first = await door.checkout(one.booking_id, one.client, key="same")
    second = await door.checkout(two.booking_id, two.client, key="same")

    assert (first[0], second[0]) == (201, 201)
    stored = {row[0] for row in await door.sql("select idempotency_key from payments")}
    assert len(stored) == 2
    assert all(len(key) == 64 for key in stored)


async def test_a_session_that_an_event_bound_first_is_opened_and_its_words_are_forgotten(door, monkeypatch):
    """As where another call's was: name and address were for Stripe alone, whoever writes the session into the row."""
    booked = await meeting(door.engine)
    remember = store.bind_session

    async def remember_later(tx, payment, session_id, request):
        await door.sql("update payments set stripe_session_id = $1 where id = $2", session_id, payment.id)
        return await remember(tx, payment, session_id, request)

    monkeypatch.setattr(store, "bind_session", remember_later)
    status, body = await door.checkout(booked.booking_id, booked.client)

    assert (status, body["session_id"]) == (201, door.sessions()[0]["id"])
    kept = "select stripe_session_id, checkout_request ?| array['item_name', 'customer_email'] from payments"
    assert await door.sql(kept) == [(body["session_id"], False)]


async def test_fifty_at_once_open_one_session(door):
    """However many knock at the same moment, Stripe makes one session and everybody is told that one."""
    booked = await meeting(door.engine)
    admins = [await person(door.engine, "admin") for _ in range(6)]
    callers = [booked.client] * 9 + [admin for admin in admins for _ in range(9)]

    answers = await gathered(*(door.checkout(booked.booking_id, caller) for caller in callers))

    [session] = door.sessions()
    assert {status for status, _ in answers} <= {201, 400}
    assert {body["session_id"] for _, body in answers} == {session["id"]}
    assert len([status for status, _ in answers if status == 201]) >= 1
    assert len(await door.sql(PAYMENTS)) == 1


@pytest.mark.parametrize("minutes", [settings.CHECKOUT_SESSION_MINUTES_MIN, settings.CHECKOUT_SESSION_MINUTES_MAX])
async def test_the_shortest_and_the_longest_session_are_opened_at_once(database, tmp_path, minutes):
    """One row, one session for all who ask, as long as was set: a row that was just made is nobody's to give up."""
    begun = clock.now()
    async with (
        sandbox(tmp_path / "stripe") as stripe,
        opened(database, stripe=stripe, checkout_session_minutes=minutes) as door,
    ):
        booked = await meeting(door.engine)

        answers = await gathered(*(door.checkout(booked.booking_id, booked.client) for _ in range(9)))

        assert 201 in {status for status, _ in answers}
        [session] = door.sessions()
        earliest, latest = (session_end(at, timedelta(minutes=minutes)) for at in (begun, clock.now()))
        assert earliest <= datetime.fromtimestamp(session["expires_at"], UTC) <= latest
        assert {body["session_id"] for _, body in answers} == {session["id"]}
        assert len(await door.sql(PAYMENTS)) == 1


async def test_two_processes_at_once_open_one_session(database, tmp_path):
    """The rule is held by the database and by Stripe's key, not by the memory of one process."""
    async with (
        sandbox(tmp_path / "stripe") as stripe,
        opened(database, stripe=stripe) as left,
        opened(database, stripe=stripe) as right,
    ):
        for _ in range(5):
            booked = await meeting(left.engine)
            calls = [door.checkout(booked.booking_id, booked.client) for door in (left, right) * 4]
            answers = await gathered(*calls)

            [payment] = await left.sql("select stripe_session_id from payments where booking_id = $1", booked.booking_id)
            assert {body["session_id"] for _, body in answers} == {payment[0]}
        assert len(left.sessions()) == 5
