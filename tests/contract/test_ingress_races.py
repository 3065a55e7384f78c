"""Checkouts that overtake each other between any two steps: both guards at work, on a real database."""

import asyncio
from datetime import timedelta

import pytest

from ingress import store
from ingress.access import Caller
from ingress.checkout import ROUNDS_MAX, Checkout, ReadAgain
from ingress.checkout_rules import CheckoutParams, Insert
from shared import clock
from shared.stripe_api import KEY_IN_USE, Away, Refused, StripeApi
from tests.support.door import URLS, ingress_settings, meeting, opened, person, sandbox
from tests.support.waiting import until


class Held(StripeApi):
    """The real client, whose answers to `create_session` wait until they are let go."""

    def __init__(self, configured):
        super().__init__(configured)
        self.answered, self.let_go = asyncio.Event(), asyncio.Event()
        self.calls = 0

    async def create_session(self, request, *, idempotency_key):
        self.calls += 1
        answer = await super().create_session(request, idempotency_key=idempotency_key)
        self.answered.set()
        await self.let_go.wait()
        return answer


@pytest.fixture
async def doors(database, tmp_path):
    """Two processes on one database: the first one's answers from Stripe are held back."""
    async with sandbox(tmp_path / "stripe") as stripe:
        held = Held(ingress_settings(database, stripe_api_base=stripe.settings.public_url))
        async with opened(database, stripe=stripe, stripe_api=held) as slow, opened(database, stripe=stripe) as quick:
            yield slow, quick, held
        await held.close()


# What time does to a row whose session is still being made: too near its end for Stripe, or too old for its key.
AGEING = ["expires_at = expires_at - interval '30 minutes'", "created_at = created_at - interval '24 hours'"]


@pytest.mark.parametrize("ageing", AGEING)
async def test_a_session_whose_row_was_closed_is_never_shown(doors, ageing):
    """While one call waits for Stripe another gives its row up: both end with the newer session, the stray is expired."""
    slow, quick, held = doors
    booked = await meeting(quick.engine)
    first = asyncio.create_task(slow.checkout(booked.booking_id, booked.client))
    await held.answered.wait()
    await quick.sql(f"update payments set {ageing}")

    _, newer = await quick.checkout(booked.booking_id, booked.client)
    held.let_go.set()
    _, older = await first

    stray, shown = quick.sessions()
    assert newer["session_id"] == older["session_id"] == shown["id"]
    assert newer["url"] == older["url"] == shown["url"]
    assert (stray["status"], shown["status"]) == ("expired", "open")
    rows = await quick.sql("select stripe_session_id, closed_at is null from payments order by id")
    assert rows == [(None, False), (shown["id"], True)]


@pytest.mark.parametrize("ageing", AGEING)
async def test_a_row_whose_session_was_shown_meanwhile_is_never_given_up(doors, ageing, monkeypatch):
    """One call is about to close a row that looks too old, when the other's session is bound to it: both show that one."""
    slow, quick, held = doors
    booked = await meeting(quick.engine)
    first = asyncio.create_task(slow.checkout(booked.booking_id, booked.client))
    await held.answered.wait()
    await quick.sql(f"update payments set {ageing}")
    about_to_close, may_close, close = asyncio.Event(), asyncio.Event(), store.close_payment

    async def close_later(*arguments):
        about_to_close.set()
        await may_close.wait()
        return await close(*arguments)

    monkeypatch.setattr(store, "close_payment", close_later)
    second = asyncio.create_task(quick.checkout(booked.booking_id, booked.client))
    await about_to_close.wait()
    held.let_go.set()
    status, shown = await first
    may_close.set()
    later, told = await second

    [session] = quick.sessions()
    assert (status, shown["url"], session["status"]) == (201, session["url"], "open")
    assert (later, told["code"], told["url"]) == (400, "payment_already_exists", session["url"])
    assert await quick.sql("select stripe_session_id, closed_at from payments") == [(session["id"], None)]


async def test_two_who_are_refused_at_once_close_one_row(doors):
    """The second one to hear it finds the row closed, is told the same, and opens no other."""
    slow, quick, held = doors
    booked = await meeting(quick.engine, rate="0.10")
    first = asyncio.create_task(slow.checkout(booked.booking_id, booked.client))
    await held.answered.wait()

    second = await quick.checkout(booked.booking_id, booked.client)
    held.let_go.set()

    assert await first == second
    assert (second[0], second[1]["code"]) == (400, "booking_has_no_price")
    assert await quick.sql("select closed_at is null from payments") == [(False,)]


async def test_a_row_that_was_bound_meanwhile_is_never_given_up_for_a_refusal(doors, monkeypatch):
    """Stripe refuses one call and takes the other: both show the session that there is."""
    slow, quick, held = doors
    booked = await meeting(quick.engine)

    async def refuse_later(_request, *, idempotency_key):
        held.answered.set()
        await held.let_go.wait()
        return Refused(f"parameter_invalid under {idempotency_key}")

    monkeypatch.setattr(held, "create_session", refuse_later)
    first = asyncio.create_task(slow.checkout(booked.booking_id, booked.client))
    await held.answered.wait()

    _, shown = await quick.checkout(booked.booking_id, booked.client)
    held.let_go.set()
    status, told = await first

    assert (status, told["code"], told["url"]) == (400, "payment_already_exists", shown["url"])
    assert await quick.sql("select stripe_session_id, closed_at from payments") == [(shown["session_id"], None)]


async def test_a_key_that_another_process_has_at_work_is_no_reason_to_send_anybody_away(doors, monkeypatch):
    """Stripe tells one call that the other's is under way, which ends by then: both show its session."""
    slow, quick, held = doors
    booked = await meeting(quick.engine)
    shown = []

    async def find_it_in_use(_request, *, idempotency_key):
        shown.append(await quick.checkout(booked.booking_id, booked.client))
        return Away(KEY_IN_USE)

    monkeypatch.setattr(held, "create_session", find_it_in_use)
    status, told = await slow.checkout(booked.booking_id, booked.client)

    [(opened_with, session)] = shown
    assert (opened_with, status, told["code"]) == (201, 400, "payment_already_exists")
    assert told["url"] == session["url"]


async def test_a_key_that_stays_at_work_is_asked_for_a_handful_of_times(doors, monkeypatch):
    """Its call hangs elsewhere: whoever waits for it is told to come again, and the row is there for them."""
    slow, quick, held = doors
    booked = await meeting(quick.engine)

    async def find_it_in_use(_request, *, idempotency_key):
        held.calls += 1
        return Away(KEY_IN_USE)

    monkeypatch.setattr(held, "create_session", find_it_in_use)
    status, told = await slow.checkout(booked.booking_id, booked.client)

    assert (status, told["code"]) == (502, "stripe_unavailable")
    assert held.calls < ROUNDS_MAX
    assert (await quick.checkout(booked.booking_id, booked.client))[0] == 201
    assert await quick.sql("select count(*) from payments") == [(1,)]


async def test_a_second_process_resumes_a_row_in_flight_and_both_answer_it(doors):
    """Another process finds a row without a session, asks Stripe with the same key and gets the same session."""
    slow, quick, held = doors
    booked = await meeting(quick.engine)
    first = asyncio.create_task(slow.checkout(booked.booking_id, booked.client))
    await held.answered.wait()

    second = await quick.checkout(booked.booking_id, booked.client)
    held.let_go.set()

    assert second == await first
    assert second[0] == 201
    assert len(quick.sessions()) == 1


async def test_a_closed_row_takes_no_session(doors):
    """Binding asks that the row is open and has no session yet."""
    _, quick, _ = doors
    booked = await meeting(quick.engine)
    await quick.checkout(booked.booking_id, booked.client)
    for change in ("closed_at = now(), stripe_session_id = null", "closed_at = null, stripe_session_id = 'cs_other'"):
        await quick.sql(f"update payments set {change}")
        async with store.transaction(quick.engine) as tx:
            [[payment_id]] = await quick.sql("select id from payments")
            row = await store.load_payment(tx, payment_id)

            assert not await store.bind_session(tx, row, "cs_test_new", {})


@pytest.mark.parametrize(
    "change", ["status = 'succeeded', paid = true", "closed_at = now()", "stripe_session_id = 'cs_test_other'"]
)
async def test_a_payment_that_changed_meanwhile_is_not_closed(doors, change):
    """Money, a session or another closing came between reading and closing: the row stays, and no second one is opened."""
    _, quick, _ = doors
    booked = await meeting(quick.engine)
    await quick.checkout(booked.booking_id, booked.client)
    async with store.transaction(quick.engine) as tx:
        stale = (await store.load_blocking_payments(tx, booked.booking_id, None)).open
    await quick.sql(f"update payments set {change}")

    async with store.transaction(quick.engine) as tx:
        assert not await store.close_payment(tx, stale, clock.now() + timedelta(hours=2))


async def test_one_key_for_two_bookings_at_once(doors):
    """The same caller, the same key, two bookings at the same moment: one is opened, the other is told."""
    _, quick, _ = doors
    admin = await person(quick.engine, "admin")
    for attempt in range(5):
        one, two = await meeting(quick.engine), await meeting(quick.engine)

        answers = await asyncio.gather(*(quick.checkout(m.booking_id, admin, key=f"k-{attempt}") for m in (one, two)))

        assert sorted(status for status, _ in answers) == [201, 422]


async def test_calls_of_one_process_ask_stripe_once(doors, monkeypatch):
    """Whoever waits for the same row waits for the same answer: Stripe would refuse a key that is at work with 409."""
    slow, quick, held = doors
    booked = await meeting(quick.engine)
    calls = [asyncio.create_task(slow.checkout(booked.booking_id, booked.client))]
    await held.answered.wait()
    read, load = [], store.load_blocking_payments

    async def counted(*arguments):
        read.append(await load(*arguments))
        return read[-1]

    monkeypatch.setattr(store, "load_blocking_payments", counted)
    calls += [asyncio.create_task(slow.checkout(booked.booking_id, booked.client)) for _ in range(7)]

    async def all_wait_for_stripe():
        return len(read) == 7 and slow.engine.pool.checkedout() == 0

    await until(all_wait_for_stripe, "seven calls found the row without a session")
    held.let_go.set()
    answers = await asyncio.gather(*calls)

    assert held.calls == 1
    assert len({body["session_id"] for _, body in answers}) == 1


async def test_a_call_that_is_given_up_takes_stripes_answer_from_no_other(doors, database):
    """The one that asked first is cancelled: whoever waits with it for the same row is answered all the same."""
    _, quick, held = doors
    booked = await meeting(quick.engine)
    story = Checkout(quick.engine, held, ingress_settings(database))
    params = CheckoutParams(booked.booking_id, *URLS.values(), key=None)
    first = asyncio.create_task(story.open(Caller(booked.client.id, "client"), params))
    await held.answered.wait()
    async with store.transaction(quick.engine) as tx:
        row = (await store.load_blocking_payments(tx, booked.booking_id, None)).open
    second = asyncio.create_task(story._created(row))
    await asyncio.sleep(0)

    first.cancel()
    await asyncio.wait([first])
    held.let_go.set()

    assert (await second).id == quick.sessions()[0]["id"]
    assert (first.cancelled(), held.calls) == (True, 1)


async def test_closing_and_inserting_are_one(doors, database):
    """A row is closed only together with the one that takes its place: a key that is taken meanwhile undoes both."""
    _, quick, held = doors
    one, two = await meeting(quick.engine), await meeting(quick.engine)
    await quick.checkout(one.booking_id, one.client)
    await quick.checkout(two.booking_id, two.client)
    await quick.sql("update payments set idempotency_key = 'taken' where booking_id = $1", two.booking_id)
    story = Checkout(quick.engine, held, ingress_settings(database))
    params = CheckoutParams(one.booking_id, *URLS.values(), key="taken")
    async with store.transaction(quick.engine) as tx:
        booking = await store.load_booking(tx, one.booking_id)
        row = (await store.load_blocking_payments(tx, one.booking_id, None)).open

        assert isinstance(await story._insert(tx, params, booking, Insert(row), clock.now()), ReadAgain)

    assert await quick.sql("select closed_at from payments") == [(None,), (None,)]
