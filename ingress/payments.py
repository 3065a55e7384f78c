"""Shows one payment to those allowed to see it.

Enters: GET /payment/{id}. Leaves: what is true of the payment now, read from the primary database, so that a client that polls
never sees it go back. Only ids, amounts and states: no name, and nothing of the card.
"""

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine

from ingress import access, answers, ids, problems, store
from ingress.problems import Problem
from ingress.store import PaymentView
from shared import settings
from shared.domain.payment import ClosedReason

# Stripe asks to show these as generic declines: someone who pays with a stolen card must not learn that it was reported.
# https://docs.stripe.com/declines/codes
GENERIC_DECLINE = "generic_decline"
SHOWN_AS_GENERIC = frozenset({"fraudulent", "lost_card", "merchant_blacklist", "stolen_card"})


class PaymentHandler:
    """Answers GET /payment/{id}."""

    def __init__(self, engine: AsyncEngine, jwt: settings.Jwt) -> None:
        self._engine = engine
        self._jwt = jwt

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request; raises store.DatabaseAway."""
        caller = await access.identify(request, self._engine, self._jwt)
        if isinstance(caller, Problem):
            return problems.answer(caller)
        payment_id = ids.canonical_uuid(request.match_info["payment_id"])
        if payment_id is None:
            return problems.answer(problems.PAYMENT_NOT_FOUND)
        async with store.transaction(self._engine) as tx:
            payment = await store.load_payment_view(tx, payment_id)
        if payment is None:
            return problems.answer(problems.PAYMENT_NOT_FOUND)
        if not access.may_see(caller, client_id=payment.client_id, coach_id=payment.coach_id):
            return problems.answer(problems.FORBIDDEN)
        return answers.json(200, body_of(payment, to_payer=access.may_pay(caller, client_id=payment.client_id)))


def body_of(payment: PaymentView, *, to_payer: bool) -> dict[str, object]:
    """Return a payment as the API shows it; a bank's reason for a decline is for the payer (and an admin), not for a coach."""
    return {
        "payment_id": str(payment.id),
        "booking_id": str(payment.booking_id),
        "amount": answers.amount(payment.amount_minor, payment.currency),
        "currency": payment.currency,
        "status": payment.status,
        "amount_refunded": answers.amount(payment.amount_refunded_minor, payment.currency),
        "failure_reason": _reason(payment.failure_reason, to_payer=to_payer),
        "created_at": answers.moment(payment.created_at),
        "updated_at": answers.moment(payment.updated_at),
    }


def _reason(known: str | None, *, to_payer: bool) -> str | None:
    is_shown = known is None or known in {*ClosedReason} or (to_payer and known not in SHOWN_AS_GENERIC)
    return known if is_shown else GENERIC_DECLINE
