"""Stripe's sessions without a network, as checkout sees them; tests/contract/test_stripe_api.py holds it to the real client.

Every call gives up its turn before and after its effect, so that calls overtake each other wherever they could.
"""

import asyncio
import itertools
import random
from dataclasses import replace
from datetime import timedelta

from shared import clock
from shared.stripe_api import KEY_IN_USE, Away, KeySpent, NoSuchSession, Refused, Session, SessionStatus

MINUTES_MIN, MINUTES_MAX = 30, 24 * 60
AMOUNT_MINOR_MIN = 50  # of dollars; https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts


class FakeStripe:
    """Sessions by id. `stumbles` is the share of creations that fail in one of the ways in which Stripe fails."""

    def __init__(self, *, stumbles=0.0, seed=1):
        self.sessions, self.requests = {}, {}
        self._answers, self._at_work = {}, {}
        self._numbers = itertools.count(1)
        self._stumbles, self._dice = stumbles, random.Random(seed)

    async def create_session(self, request, *, idempotency_key):
        if idempotency_key in self._answers:
            asked, answer = self._answers[idempotency_key]
            return answer if asked == request else KeySpent("idempotency_error")
        if idempotency_key in self._at_work:
            return Away(KEY_IN_USE) if self._at_work[idempotency_key] == request else KeySpent("idempotency_error")
        self._at_work[idempotency_key] = request
        try:
            await _turns(self._dice.randrange(4))
            answer = self._create(request, idempotency_key)
            await _turns(self._dice.randrange(4))
        finally:
            del self._at_work[idempotency_key]
        return answer

    async def retrieve_session(self, session_id):
        await _turns(1)
        return self.sessions.get(session_id, NoSuchSession())

    async def expire_session(self, session_id):
        await _turns(1)
        held = self.sessions.get(session_id)
        if held is None:
            return NoSuchSession()
        if held.status is not SessionStatus.OPEN:
            return Refused("InvalidRequestError")
        return self.expire(session_id)

    async def pay(self, session):
        """Be the customer."""
        self._end(session.id, SessionStatus.COMPLETE, is_paid=True)

    async def promise(self, session):
        """Be a customer whose bank takes days."""
        self._end(session.id, SessionStatus.COMPLETE)

    def expire(self, session_id):
        """Be the clock."""
        return self._end(session_id, SessionStatus.EXPIRED)

    def _end(self, session_id, status, *, is_paid=False):
        self.sessions[session_id] = replace(self.sessions[session_id], status=status, url=None, is_paid=is_paid)
        return self.sessions[session_id]

    def payable(self):
        return {session.url for session in self.sessions.values() if session.status is SessionStatus.OPEN}

    def _create(self, request, key):
        stumble = self._dice.random() < self._stumbles and self._dice.choice(("before", "after", "stored"))
        if stumble == "before":
            return Away("APIConnectionError")
        left = request.expires_at - clock.now()
        if not timedelta(minutes=MINUTES_MIN) <= left <= timedelta(minutes=MINUTES_MAX):
            return Refused("InvalidRequestError")
        if request.amount_minor < AMOUNT_MINOR_MIN:
            return Refused("amount_too_small")
        session_id = f"cs_test_fake{next(self._numbers):08d}"
        made = Session(session_id, SessionStatus.OPEN, f"https://checkout.stripe.com/c/pay/{session_id}", request.expires_at)
        self.sessions[session_id], self.requests[session_id] = made, request
        self._answers[key] = (request, KeySpent("APIError") if stumble == "stored" else made)
        return Away("TimeoutError") if stumble == "after" else self._answers[key][1]


async def _turns(count):
    for _ in range(count):
        await asyncio.sleep(0)
