"""Opens a Stripe session for a PENDING payment.

Enters: POST /payment/checkout. Leaves: 201 with the address of Stripe's page, or a problem. The row is inserted before Stripe
is called: its id is the idempotency key, and events find the row by it, so that a call which died at any step is resumed by the
next one and nothing is created twice. Two guards allow one payable URL per booking, and both are needed: a row is given up only
while it has no session, and a URL is returned only after its session was bound to an open row. Rules: checkout_rules.py.
"""

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, assert_never
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingress import access, checkout_rules, problems, store
from ingress.access import Caller
from ingress.checkout_rules import Ask, CheckoutParams, Create, Insert, Refuse, Repeat, StripeAnswers
from ingress.problems import Problem
from ingress.store import Booking, Payment
from shared import clock, logs, settings, stripe_api
from shared.stripe_api import Away, KeySpent, NoSuchSession, NotAllowed, Refused, Session

log = logs.get(__name__)

# A step that loses a race reads again. Each race has a winner, so that a call needs a handful of rounds at the very most.
ROUNDS_MAX = 12


class Stripe(Protocol):
    """What a checkout asks of Stripe."""

    async def create_session(self, request: stripe_api.SessionRequest, *, idempotency_key: str) -> stripe_api.Answer:
        """Create a session, or return the one that this key created."""

    async def retrieve_session(self, session_id: str) -> stripe_api.Answer:
        """Return what became of a session."""

    async def expire_session(self, session_id: str) -> stripe_api.Answer:
        """End an open session."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The customer may pay at `url`."""

    payment: Payment
    session_id: str
    url: str


@dataclass(frozen=True, slots=True)
class ReadAgain:
    """Another call was faster, or Stripe returned something new: read the rows again."""

    reason: str


class Checkout:
    """Runs one checkout step by step; one object for all calls of a process."""

    def __init__(self, engine: AsyncEngine, stripe: Stripe, checkout: settings.Checkout) -> None:
        self._engine = engine
        self._stripe = stripe
        self._lifetime = timedelta(minutes=checkout.checkout_session_minutes)
        self._creating: dict[UUID, asyncio.Task[stripe_api.Answer]] = {}

    async def open(self, caller: Caller, params: CheckoutParams) -> Opened | Problem:
        """Open a session with these parameters.

        Raises store.DatabaseAway, after which the next call goes on where this one ended.
        """
        stripe_answers = StripeAnswers()
        for _ in range(ROUNDS_MAX):
            outcome = await self._round(caller, params, stripe_answers)
            if not isinstance(outcome, ReadAgain):
                return outcome
            log.debug("checkout.read_again", booking_id=str(params.booking_id), reason=outcome.reason)
        return problems.STRIPE_UNAVAILABLE

    async def _round(
        self, caller: Caller, params: CheckoutParams, stripe_answers: StripeAnswers
    ) -> Opened | Problem | ReadAgain:
        """Read, decide, and do one step."""
        now = clock.now()
        async with store.transaction(self._engine) as tx:
            booking = await store.load_booking(tx, params.booking_id)
            if booking is None:
                return problems.BOOKING_NOT_FOUND
            if not access.may_pay(caller, client_id=booking.client_id):
                return problems.FORBIDDEN
            blocking = await store.load_blocking_payments(tx, booking.id, params.key)
            step = checkout_rules.decide(params, booking, blocking, stripe_answers, now)
            if isinstance(step, Insert):
                return await self._insert(tx, params, booking, step, now)
        match step:
            case Refuse(problem=problem):
                return problem
            case Repeat(payment=payment, session_id=session_id, url=url):
                return Opened(payment, session_id, url)
            case Create(payment=payment):
                return await self._create(payment, stripe_answers)
            case Ask(session_id=session_id):
                return await self._ask(session_id, stripe_answers)
            case _ as rest:
                assert_never(rest)

    async def _insert(
        self, tx: AsyncConnection, params: CheckoutParams, booking: Booking, step: Insert, now: datetime
    ) -> Problem | ReadAgain:
        """Insert the row for which the next round asks Stripe for a session, once this transaction is committed."""
        price = checkout_rules.price_minor(booking)
        if price is None:
            return problems.BOOKING_HAS_NO_PRICE
        if step.instead_of is not None and not await store.close_payment(tx, step.instead_of, now):
            return ReadAgain("the payment to close was bound or closed meanwhile")
        expires_at = checkout_rules.session_end(now, self._lifetime)
        payment = Payment(
            id=uuid7(now),
            booking_id=booking.id,
            amount_minor=price,
            currency=booking.currency,
            is_paid=False,
            is_attempted=False,
            created_at=now,
            expires_at=expires_at,
            closed_at=None,
            session_id=None,
            request=checkout_rules.stored_request(params, booking, price, expires_at),
            idempotency_key=params.key,
        )
        if await store.insert_payment(tx, payment):
            log.info("payment.inserted", payment_id=str(payment.id), booking_id=str(booking.id))
            return ReadAgain("the row stands, Stripe is next")
        await tx.rollback()
        return ReadAgain("another payment was inserted meanwhile")

    async def _create(self, payment: Payment, stripe_answers: StripeAnswers) -> Opened | Problem | ReadAgain:
        answer = await self._created(payment)
        match answer:
            case Session():
                return await self._bind(payment, answer)
            case KeySpent():
                if stripe_answers.spent:
                    # The new row's key was never used before: Stripe fails call after call, and more rows would only add load.
                    return problems.STRIPE_UNAVAILABLE
                stripe_answers.spent.add(payment.id)
                return ReadAgain("Stripe will never make a session for this key")
            case Refused(code=code):
                return await self._give_up(payment, code)
            case NotAllowed() | NoSuchSession():
                return problems.STRIPE_REFUSED
            case Away(code=stripe_api.KEY_IN_USE):
                return ReadAgain("another process asks Stripe the same")
            case Away():
                return problems.STRIPE_UNAVAILABLE
            case _ as rest:
                assert_never(rest)

    async def _created(self, payment: Payment) -> stripe_api.Answer:
        """Call Stripe once for all calls of this process that wait for the same row: two at once would get KEY_IN_USE."""
        task = self._creating.get(payment.id)
        if task is None:
            request = checkout_rules.session_request(payment)
            task = asyncio.create_task(self._stripe.create_session(request, idempotency_key=str(payment.id)))
            self._creating[payment.id] = task
            task.add_done_callback(lambda _: self._creating.pop(payment.id, None))
        return await asyncio.shield(task)

    async def _bind(self, payment: Payment, session: Session) -> Opened | ReadAgain:
        """Write the session into its row; only the row that has it may show its URL."""
        async with store.transaction(self._engine) as tx:
            request = checkout_rules.answered_request(payment, session)
            bound = await store.bind_session(tx, payment, session.id, request)
            row = None if bound else await store.load_payment(tx, payment.id)
        if bound and session.url is not None:
            log.info("checkout.opened", payment_id=str(payment.id), booking_id=str(payment.booking_id), session_id=session.id)
            return Opened(payment, session.id, session.url)
        if row is not None and row.session_id is None:
            # Its URL was never shown and never will be; expiring it only keeps an unused session out of Stripe's list.
            await self._stripe.expire_session(session.id)
        return ReadAgain("the session's row was closed meanwhile")

    async def _give_up(self, payment: Payment, code: str) -> Problem | ReadAgain:
        """Close the row whose request Stripe refused, so that the next call sends the price and the address of that time."""
        async with store.transaction(self._engine) as tx:
            closed = await store.close_payment(tx, payment, clock.now())
            row = None if closed else await store.load_payment(tx, payment.id)
        if row is not None and row.closed_at is None:
            return ReadAgain("the payment that was refused was bound or paid meanwhile")
        log.info("payment.given_up", payment_id=str(payment.id), booking_id=str(payment.booking_id), code=code)
        return checkout_rules.refusal(code)

    async def _ask(self, session_id: str, stripe_answers: StripeAnswers) -> Problem | ReadAgain:
        answer = await self._stripe.retrieve_session(session_id)
        match answer:
            case Session() | NoSuchSession():
                stripe_answers.sessions[session_id] = answer
                return ReadAgain("Stripe returned the session")
            case Refused() | KeySpent() | NotAllowed():
                return problems.STRIPE_REFUSED
            case Away():
                return problems.STRIPE_UNAVAILABLE
            case _ as rest:
                assert_never(rest)


def hashed_key(caller: Caller, idempotency_key: str) -> str:
    """Return the stored hash of a caller's Idempotency-Key: two callers never share one, and no key can be read back."""
    return hashlib.sha256(caller.user_id.bytes + idempotency_key.encode()).hexdigest()


def uuid7(now: datetime) -> UUID:
    """Return a new UUID of version 7 (RFC 9562, section 5.7): ordered by time, so that indexes grow at one edge."""
    milliseconds = int(now.timestamp() * 1000)
    bits = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=bits)
