"""What `cb-ops stripe reconcile` makes of a session that should be over, and how fast it asks."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest

from deploy.ops import sessions
from deploy.ops.reconciliation import named
from deploy.ops.sessions import OverduePayment, SessionState, state_of
from shared.stripe_api import Away, NoSuchSession, Session, SessionStatus
from tests.support.builders import Sale, bytes_of

ENDED = datetime(2026, 11, 24, 12, tzinfo=UTC)


def session(status, *, is_paid=False):
    return Session("cs_1", status, None, ENDED, is_paid)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (session(SessionStatus.COMPLETE, is_paid=True), SessionState.PAID),
        (session(SessionStatus.COMPLETE), SessionState.UNDER_WAY),
        (session(SessionStatus.OPEN), SessionState.UNDER_WAY),
        (session(SessionStatus.EXPIRED), SessionState.EXPIRED),
        (NoSuchSession(), SessionState.UNKNOWN),
    ],
)
def test_only_a_complete_session_that_is_paid_has_anybodys_money(said, state):
    """A delayed method completes it days before."""
    assert state_of(said) is state


def test_an_event_names_its_session_and_its_payment():
    """Of a session its own id and ours; of an intent ours alone."""
    sale = Sale()
    ours = {sale.payment_id, sale.booking_id}

    assert set(named(bytes_of(sale.completed()))) == {sale.session_id, *ours}
    assert set(named(bytes_of(sale.succeeded()))) == ours


class Stripe:
    """Notes each question and each pause; falls silent after so many."""

    def __init__(self, silent_after=100):
        self.noted, self.left = [], silent_after

    async def retrieve_session(self, session_id):
        self.noted.append(session_id)
        self.left -= 1
        return session(SessionStatus.OPEN) if self.left >= 0 else Away("rate_limit")

    async def sleep(self, seconds):
        self.noted.append(seconds)


async def asked(stripe, monkeypatch):
    monkeypatch.setattr(sessions, "ASKED_PER_SECOND_MAX", 2)
    monkeypatch.setattr(asyncio, "sleep", stripe.sleep)
    overdue = [OverduePayment(UUID(int=number), f"cs_{number}") for number in range(5)]
    return await sessions._retrieve(stripe, overdue, progress=lambda done, total: None)


async def test_stripe_is_asked_so_many_times_a_second(monkeypatch):
    """Its limit is checkout's, too; and nobody waits after the last."""
    stripe = Stripe()

    states, failure = await asked(stripe, monkeypatch)

    assert (len(states), failure) == (5, None)
    assert stripe.noted == ["cs_0", "cs_1", 1.0, "cs_2", "cs_3", 1.0, "cs_4"]


async def test_who_is_silent_is_asked_no_more(monkeypatch):
    """What was said before counts."""
    stripe = Stripe(silent_after=3)

    states, failure = await asked(stripe, monkeypatch)

    assert (len(states), failure) == (3, Away("rate_limit"))
    assert stripe.noted == ["cs_0", "cs_1", 1.0, "cs_2", "cs_3"]
