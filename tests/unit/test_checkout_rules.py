"""What a checkout does next, case by case. No database, no Stripe."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from ingress import checkout, checkout_rules, problems, store
from ingress.checkout_rules import Ask, CheckoutParams, Create, Insert, Refuse, Repeat, StripeAnswers, decide
from ingress.store import BlockingPayments, Booking, Payment
from shared import settings
from shared.stripe_api import NoSuchSession, Session, SessionStatus

NOW = datetime(2026, 11, 24, 16, 0, tzinfo=UTC)
BOOKING_ID, PAYMENT_ID = UUID(int=1), UUID(int=2)
URL = "https://checkout.stripe.com/c/pay/cs_1"
PARAMS = CheckoutParams(BOOKING_ID, "https://a/success", "https://a/cancel", key=None)
BOOKING = Booking(
    id=BOOKING_ID,
    client_id=UUID(int=3),
    coach_id=UUID(int=4),
    status="pending",
    starts_at=NOW + timedelta(days=1),
    duration_minutes=60,
    client_email="ada@example.com",
    coach_name="Grace Hopper",
    hourly_rate=Decimal("75.00"),
    currency="USD",
)
FRESH = Payment(
    id=PAYMENT_ID,
    booking_id=BOOKING_ID,
    amount_minor=7500,
    currency="USD",
    is_paid=False,
    is_attempted=False,
    created_at=NOW,
    expires_at=NOW + timedelta(hours=1),
    closed_at=None,
    session_id=None,
    request=checkout_rules.stored_request(PARAMS, BOOKING, 7500, NOW + timedelta(hours=1)),
    idempotency_key=None,
)
SHOWN = replace(FRESH, session_id="cs_1", request={**FRESH.request, "session_url": URL})
PAST = replace(SHOWN, expires_at=NOW)
KEYED = replace(PARAMS, key="k")


def next_step(open_=None, *, params=PARAMS, booking=BOOKING, heard=None, paid=None, same_key=None):
    return decide(params, booking, BlockingPayments(open_, paid, same_key), heard or StripeAnswers(), NOW)


def stripe_says(session):
    return StripeAnswers(sessions={"cs_1": session})


def session(status, url=None):
    return Session("cs_1", status, url, NOW)


def refused(step):
    assert isinstance(step, Refuse)
    return step.problem


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("amount_too_small", problems.BOOKING_HAS_NO_PRICE),
        ("amount_too_large", problems.BOOKING_HAS_NO_PRICE),
        ("email_invalid", problems.CLIENT_EMAIL_REFUSED),
        ("parameter_invalid_integer", problems.STRIPE_REFUSED),
        ("InvalidRequestError", problems.STRIPE_REFUSED),
    ],
)
def test_only_what_a_profile_can_correct_is_not_our_fault(code, problem):
    """Every other refusal stays a 502, by which the alert CheckoutsFail fires."""
    refused = checkout_rules.refusal(code)

    assert (refused.status, refused.code) == (problem.status, problem.code)


def test_a_first_checkout_begins_with_a_row():
    """A row is added first, whatever else."""
    assert next_step() == Insert()


@pytest.mark.parametrize("left", [timedelta(minutes=30, seconds=40), timedelta(minutes=60), timedelta(minutes=1440)])
def test_a_row_without_session_is_resumed(left):
    """With enough time left for Stripe's minimum, the same row is taken to Stripe again."""
    row = replace(FRESH, expires_at=NOW + left)

    assert next_step(row) == Create(row)


@pytest.mark.parametrize(
    "minutes",
    [
        settings.CHECKOUT_SESSION_MINUTES_MIN,
        settings.CHECKOUT_SESSION_MINUTES_MIN + 1,
        60,
        settings.CHECKOUT_SESSION_MINUTES_MAX - 1,
        settings.CHECKOUT_SESSION_MINUTES_MAX,
    ],
)
def test_a_row_just_made_is_taken_to_stripe_however_long_sessions_last(minutes):
    """By whoever finds it, after two slow transactions too; and Stripe, half a minute before or behind, takes its end."""
    made = NOW - timedelta(microseconds=1)
    end = checkout_rules.session_end(made, timedelta(minutes=minutes))
    row = replace(FRESH, created_at=made, expires_at=end)
    later = made + timedelta(seconds=2 * store.DEADLINE_SECONDS)

    assert decide(PARAMS, BOOKING, BlockingPayments(row, None, None), StripeAnswers(), later) == Create(row)
    for stripes_now in (made - timedelta(seconds=30), later + timedelta(seconds=30)):
        assert timedelta(minutes=30) <= end - stripes_now <= timedelta(hours=24)


@pytest.mark.parametrize(
    "changes",
    [
        {"expires_at": NOW + timedelta(minutes=30, seconds=39)},
        {"expires_at": None},
        {"created_at": NOW - timedelta(hours=23, seconds=1), "expires_at": NOW + timedelta(hours=1)},
        {"request": {}},
    ],
)
def test_a_row_that_stripe_would_not_take_any_more_gives_way(changes):
    """Too near its end, too old for its key, or without words: only while nobody was shown its session."""
    row = replace(FRESH, **changes)

    assert next_step(row) == Insert(instead_of=row)
    assert not isinstance(next_step(replace(SHOWN, **{k: v for k, v in changes.items() if k == "created_at"})), Insert)


def test_a_spent_key_gives_way():
    """What Stripe will never make under this key is asked for under another."""
    assert next_step(FRESH, heard=StripeAnswers(spent={PAYMENT_ID})) == Insert(instead_of=FRESH)


@pytest.mark.parametrize(
    "row",
    [
        PAST,
        replace(SHOWN, expires_at=None),
        replace(SHOWN, request={}),
        replace(SHOWN, is_attempted=True),
        replace(SHOWN, is_attempted=True, idempotency_key="k"),
    ],
)
def test_stripe_is_asked_about_a_session_that_may_be_over(row):
    """Past its end (no end counts as past), without a known URL, or after an attempt: it may be complete."""
    assert next_step(row) == Ask("cs_1")
    assert next_step(row, params=KEYED, same_key=row if row.idempotency_key else None) == Ask("cs_1")


@pytest.mark.parametrize("said", [NoSuchSession(), session(SessionStatus.EXPIRED)])
def test_only_stripe_ends_a_session_that_was_shown(said):
    """Expired or unknown to Stripe: close and begin again."""
    assert next_step(PAST, heard=stripe_says(said)) == Insert(instead_of=PAST)


@pytest.mark.parametrize("key", [None, "k"])
def test_a_complete_session_blocks_without_a_url(key):
    """Paid, and the event is on its way; who asks again under the same key has no page to go to, either."""
    row = replace(PAST, idempotency_key=key)
    complete = stripe_says(session(SessionStatus.COMPLETE))
    problem = refused(next_step(row, params=replace(PARAMS, key=key), heard=complete, same_key=row if key else None))

    assert (problem.code, problem.members["url"]) == ("payment_already_exists", None)


@pytest.mark.parametrize("heard", [None, stripe_says(session(SessionStatus.OPEN, URL))])
def test_an_open_session_is_shown_to_the_next(heard):
    """400 with all that is needed to go on paying."""
    problem = refused(next_step(SHOWN, heard=heard))

    assert problem.code == "payment_already_exists"
    assert problem.members == {"payment_id": str(PAYMENT_ID), "session_id": "cs_1", "url": URL}


def test_the_same_key_and_wish_hear_the_same_again():
    """201 for whoever lost the answer."""
    row = replace(SHOWN, idempotency_key="k")

    assert next_step(row, params=KEYED, same_key=row) == Repeat(row, "cs_1", URL)
    assert isinstance(next_step(row, params=replace(KEYED, key="another")), Refuse)


@pytest.mark.parametrize("other", [{"success_url": "https://a/x"}, {"cancel_url": "https://a/x"}, {"booking_id": UUID(int=9)}])
def test_the_same_key_for_another_wish_is_refused(other):
    """422, also before the session exists."""
    row = replace(FRESH, idempotency_key="k")

    assert refused(next_step(row, params=replace(KEYED, **other), same_key=row)) == problems.IDEMPOTENCY_KEY_REUSED


@pytest.mark.parametrize("status", ["confirmed", "completed", "cancelled"])
def test_only_a_pending_booking_is_sold(status):
    """Whatever payments it has."""
    assert refused(next_step(SHOWN, booking=replace(BOOKING, status=status))) == problems.BOOKING_NOT_PENDING


def test_the_past_is_not_sold():
    """A session that begins now is past."""
    assert refused(next_step(booking=replace(BOOKING, starts_at=NOW))) == problems.BOOKING_PAST


def test_a_paid_payment_forbids_another():
    """Also a closed one."""
    paid = replace(SHOWN, is_paid=True, closed_at=NOW)

    assert refused(next_step(paid=paid)).code == "payment_already_exists"


@pytest.mark.parametrize(
    ("rate", "minutes", "currency", "minor"),
    [
        ("75.00", 60, "USD", 7500),
        ("83.33", 30, "USD", 4167),
        ("8000", 45, "JPY", 6000),
        ("5.125", 60, "KWD", 5130),
        ("1234.56", 60, "ISK", 123500),
        ("999999.99", 60, "USD", 99_999_999),
        ("999999.99", 90, "IDR", 149_999_999),
        ("99999999.99", 60, "idr", 9_999_999_999),
        ("1000000.00", 60, "USD", None),
        ("50000000.00", 120, "IDR", None),
        ("NaN", 60, "USD", None),
        ("0.01", 60, "USD", 1),
        ("0", 60, "USD", None),
        ("-1", 60, "USD", None),
        ("75", 0, "USD", None),
        ("75", 60, "", None),
        (None, 60, "USD", None),
    ],
)
def test_the_price_is_whole_steps_or_none(rate, minutes, currency, minor):
    """By the minute, half up to the currency's step, within what Stripe takes."""
    rate = None if rate is None else Decimal(rate)

    assert checkout_rules.price_minor(replace(BOOKING, hourly_rate=rate, duration_minutes=minutes, currency=currency)) == minor


def test_the_same_words_are_said_again():
    """What is stored is all that Stripe is asked, and reads back as it was."""
    request = checkout_rules.session_request(FRESH)

    assert request.item_name == "Coaching session with Grace Hopper, 60 min"
    assert (request.amount_minor, request.currency, request.customer_email) == (7500, "USD", "ada@example.com")
    assert (request.success_url, request.cancel_url) == (PARAMS.success_url, PARAMS.cancel_url)
    assert int(request.expires_at.timestamp()) == FRESH.request["expires_at"]


def test_a_coach_without_a_name_has_a_line_too():
    """Names may be missing."""
    assert checkout_rules.item_name(replace(BOOKING, coach_name="")) == "Coaching session, 60 min"


def test_ids_grow_with_time():
    """Version 7: sorted by their millisecond, never twice."""
    ids = [checkout.uuid7(NOW + timedelta(milliseconds=at)) for at in range(50)]

    assert ids == sorted(ids)
    assert {made.version for made in ids} == {7}
    assert {made.variant for made in ids} == {"specified in RFC 4122"}
    assert len({checkout.uuid7(NOW) for _ in range(1000)}) == 1000


class Slow:
    """A Stripe that answers when it is told to."""

    def __init__(self):
        self.asked, self.go_on = [], asyncio.Event()

    async def create_session(self, request, *, idempotency_key):
        self.asked.append(idempotency_key)
        await self.go_on.wait()
        return session(SessionStatus.OPEN, URL)


async def test_who_waits_for_the_same_row_asks_stripe_once():
    """Two at once under one key would lock each other out; whoever comes later asks anew."""
    stripe = Slow()
    made = checkout.Checkout(None, stripe, settings.Checkout(checkout_allowed_origins="https://a"))
    asking = [asyncio.create_task(made._created(FRESH)) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stripe.asked == [str(PAYMENT_ID)]

    stripe.go_on.set()
    assert {answer.id for answer in await asyncio.gather(*asking)} == {"cs_1"}
    await made._created(FRESH)
    assert stripe.asked == [str(PAYMENT_ID)] * 2
