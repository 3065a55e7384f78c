"""What checkout relies on at Stripe, held by the real client against the sandbox and by the fake alike."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
import stripe as stripe_library

from shared import clock, settings, stripe_api
from shared.stripe_api import Away, KeySpent, NoSuchSession, NotAllowed, Refused, Session, SessionStatus, StripeApi
from tests.support.fake_stripe import FakeStripe
from tests.support.sandboxes import listening, opened, session_request


class Stripe:
    """A client of sessions, and a customer who pays one, or has his bank do so within days."""

    def __init__(self, api, customer):
        self.api, self.pay, self.promise = api, customer.pay, customer.promise


@pytest.fixture(params=["real", "fake"])
async def stripe(request, tmp_path):
    if request.param == "fake":
        fake = FakeStripe()
        yield Stripe(fake, fake)
        return
    async with listening() as webhook, opened(tmp_path, webhook) as world:
        api = StripeApi(settings.StripeApi(_env_file=None, stripe_secret_key="sk_test_x", stripe_api_base=world.url))
        yield Stripe(api, world)
        await api.close()


async def made(stripe, request=None, key=None):
    request = request or session_request()
    return await stripe.api.create_session(request, idempotency_key=key or str(request.payment_id))


async def test_a_session_is_open_and_ends_when_it_was_asked_to(stripe):
    """Its URL is where the customer pays; asked again, Stripe says the same."""
    request = session_request()
    session = await made(stripe, request)

    assert isinstance(session, Session)
    assert (session.status, session.expires_at, session.is_paid) == (SessionStatus.OPEN, request.expires_at, False)
    assert session.id in session.url
    assert await stripe.api.retrieve_session(session.id) == session


async def test_one_key_makes_no_second_session(stripe):
    """The same words under the same key are answered with what was made, as it was when it was made."""
    request = session_request()
    first = await made(stripe, request)
    await stripe.api.expire_session(first.id)

    assert await made(stripe, request) == first


async def test_other_words_under_a_key_make_nothing(stripe):
    """The key is spent on the first words."""
    request = session_request()
    await made(stripe, request)

    assert isinstance(await made(stripe, replace(request, amount_minor=8000)), KeySpent)


async def test_at_once_under_one_key_no_second_session_is_made(stripe):
    """Whoever comes while the key is at work hears the same session, or that it is at work."""
    request = session_request()
    answers = await asyncio.gather(*(made(stripe, request) for _ in range(8)))

    sessions = {answer for answer in answers if isinstance(answer, Session)}
    assert len(sessions) == 1
    assert all(answer in sessions or isinstance(answer, Away) for answer in answers)


async def test_an_expired_session_cannot_be_paid_or_expired_again(stripe):
    """No URL any more."""
    session = await made(stripe)

    expired = await stripe.api.expire_session(session.id)

    assert (expired.status, expired.url, expired.is_paid) == (SessionStatus.EXPIRED, None, False)
    assert await stripe.api.retrieve_session(session.id) == expired
    assert isinstance(await stripe.api.expire_session(session.id), Refused)


async def test_a_paid_session_is_complete_and_cannot_be_expired(stripe):
    """No URL any more, and nothing of ours ends it."""
    session = await made(stripe)
    await stripe.pay(session)

    told = await stripe.api.retrieve_session(session.id)

    assert (told.status, told.url, told.is_paid) == (SessionStatus.COMPLETE, None, True)
    assert isinstance(await stripe.api.expire_session(session.id), Refused)


async def test_a_session_whose_money_is_under_way_is_complete_and_not_paid(stripe):
    """A delayed method: the customer is done, the bank is not."""
    session = await made(stripe, session_request(currency="EUR"))
    await stripe.promise(session)

    told = await stripe.api.retrieve_session(session.id)

    assert (told.status, told.url, told.is_paid) == (SessionStatus.COMPLETE, None, False)


async def test_what_stripe_does_not_know_is_told_as_such(stripe):
    """An id of another account or mode."""
    assert await stripe.api.retrieve_session("cs_test_unknown") == NoSuchSession()
    assert await stripe.api.expire_session("cs_test_unknown") == NoSuchSession()


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 49},
        {"expires_at": clock.now() + timedelta(minutes=29)},
        {"expires_at": clock.now() + timedelta(hours=25)},
    ],
)
async def test_what_stripe_does_not_sell_is_refused(stripe, changes):
    """Below the smallest charge, and outside thirty minutes to a day."""
    assert isinstance(await made(stripe, session_request(**changes)), Refused)


async def test_a_key_that_is_not_let_in_is_no_refusal_of_what_was_asked(tmp_path):
    """The same words may pass once the key is mended."""
    async with listening() as webhook, opened(tmp_path, webhook) as world:
        api = StripeApi(settings.StripeApi(_env_file=None, stripe_secret_key="sk_live_x", stripe_api_base=world.url))
        request = session_request()

        assert isinstance(await api.create_session(request, idempotency_key=str(request.payment_id)), NotAllowed)
        assert await api.retrieve_session("cs_test_unknown") == NotAllowed("AuthenticationError")
        await api.close()


@pytest.mark.parametrize("error", [stripe_library.AuthenticationError, stripe_library.PermissionError])
def test_neither_a_wrong_key_nor_one_without_the_right_refuses_what_was_asked(error):
    """401 and 403."""
    assert stripe_api._failure(error("no")) == NotAllowed(error.__name__)
