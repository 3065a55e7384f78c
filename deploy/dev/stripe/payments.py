"""One attempt to pay an intent, and what becomes of it: charge, intent and session move together. No I/O.

An intent and a payment method enter; the changed world and an outcome leave. Event order per card: Stripe's own, as
recorded. Next: ``world.take``.
"""

from dataclasses import dataclass
from typing import Any, assert_never

from deploy.dev.stripe.cards import BY_FINGERPRINT, Challenges, Debits, Declines, Pays
from deploy.dev.stripe.ids import stem_of
from deploy.dev.stripe.objects import charge as charges
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.objects import session as sessions
from deploy.dev.stripe.world import World

Json = dict[str, Any]

AUTHENTICATION_FAILED = (
    "We are unable to authenticate your payment method. Please choose a different payment method and try again."
)


@dataclass(frozen=True)
class At:
    """When and why: this second, what caused it (``event.cause``), and where this Stripe's own pages are."""

    now: int
    public_url: str
    cause: Json


@dataclass(frozen=True)
class Accepted:
    """The money is ours, or on its way; the customer may go on once ``event_id`` was answered (None: at once)."""

    event_id: str | None


@dataclass(frozen=True)
class Declined:
    """Not with this card; another may be tried. ``error`` is the intent's ``last_payment_error``."""

    error: Json

    @property
    def message(self) -> str:
        """What the customer is told."""
        return str(self.error["message"])


@dataclass(frozen=True)
class Challenged:
    """The bank wants to see the customer at its own page first."""

    intent_id: str


Outcome = Accepted | Declined | Challenged


def attempt(world: World, intent: Json, method: Json, at: At, *, return_url: str | None) -> Outcome:
    """Play one attempt with this payment method; ``return_url`` is where the bank's page leads back to."""
    intent |= {"payment_method": method["id"], "next_action": None}  # another card may come while a bank still waits
    match BY_FINGERPRINT[method[method["type"]]["fingerprint"]]:
        case Pays():
            return _succeed(world, intent, _charge(world, intent, method, at), at, challenged=False)
        case Declines() as decline:
            return _decline(world, intent, method, _charge(world, intent, method, at), decline, at)
        case Challenges():
            hop = {"return_url": return_url, "url": f"{at.public_url}/3ds/{intent['id']}"}
            intent |= {
                "last_payment_error": None,
                "next_action": {"redirect_to_url": hop, "type": "redirect_to_url"},
                "status": "requires_action",
            }
            world.put("intent", intent)
            world.tell("payment_intent.requires_action", intent, now=at.now, cause=at.cause)
            return Challenged(intent["id"])
        case Debits():
            return _debit(world, intent, _charge(world, intent, method, at), at)
        case _ as never:
            assert_never(never)


def answer_challenge(world: World, intent: Json, at: At, *, passed: bool) -> Outcome:
    """Go on after the bank's page; the intent must be waiting for it (``requires_action``)."""
    method = world.get("method", intent["payment_method"])
    behaviour = BY_FINGERPRINT[method["card"]["fingerprint"]]
    assert isinstance(behaviour, Challenges)
    intent["next_action"] = None
    if not passed:
        error = {
            "code": "payment_intent_authentication_failure",
            "doc_url": "https://stripe.com/docs/error-codes/payment-intent-authentication-failure",
            "message": AUTHENTICATION_FAILED,
            "payment_method": method,
            "type": "invalid_request_error",
        }
        return _fail(world, intent, error, at)
    charge = _charge(world, intent, method, at)
    match behaviour.then:
        case Pays():
            return _succeed(world, intent, charge, at, challenged=True)
        case Declines() as decline:
            return _decline(world, intent, method, charge, decline, at)


def settle_debit(world: World, intent: Json, at: At) -> None:
    """Let the bank answer about a debit that was on its way (``processing``)."""
    method = world.get("method", intent["payment_method"])
    charge = world.get("charge", intent["latest_charge"])
    behaviour = BY_FINGERPRINT[method[method["type"]]["fingerprint"]]
    assert isinstance(behaviour, Debits)
    session = world.session_of(intent["id"])
    match behaviour.then:
        case Pays():
            _succeed(world, intent, charge, at, challenged=False)
            ending = "checkout.session.async_payment_succeeded"
        case Declines() as decline:
            _decline(world, intent, method, charge, decline, at)
            ending = "checkout.session.async_payment_failed"
    if session:
        world.tell(ending, session, now=at.now, cause=at.cause)


def settle_balance(world: World, charge: Json, *, now: int) -> None:
    """Give a paid charge its balance transaction: capture is asynchronous, fees arrive a little later."""
    charge["balance_transaction"] = world.mint.of_payment("txn", stem_of(charge["id"]))
    world.put("charge", charge)
    world.tell("charge.updated", charge, now=now, cause=event.cause(), previous={"balance_transaction": None})


def cancel(world: World, intent: Json, at: At, *, reason: str | None) -> None:
    """End an intent that was not paid."""
    intent |= {
        "canceled_at": at.now,
        "cancellation_reason": reason,
        "next_action": None,
        "payment_method": None,
        "status": "canceled",
    }
    world.put("intent", intent)
    world.tell("payment_intent.canceled", intent, now=at.now, cause=at.cause)


def _charge(world: World, intent: Json, method: Json, at: At) -> Json:
    charge = charges.new(world.mint.of_payment("ch", stem_of(intent["id"])), intent, method, created=at.now)
    intent["latest_charge"] = charge["id"]
    return charge


def _succeed(world: World, intent: Json, charge: Json, at: At, *, challenged: bool) -> Accepted:
    charges.succeed(charge, receipt_url=f"{at.public_url}/receipts/{charge['id']}", challenged=challenged)
    intent |= {"amount_received": intent["amount"], "last_payment_error": None, "status": "succeeded"}
    session = world.session_of(intent["id"])
    was_open = session is not None and session["status"] == "open"
    if session:
        session["payment_status"] = "paid"
    world.put("charge", charge)
    world.put("intent", intent)
    world.tell("charge.succeeded", charge, now=at.now, cause=at.cause)
    world.tell("payment_intent.succeeded", intent, now=at.now, cause=at.cause)
    if session and was_open:
        return Accepted(_complete(world, session, charge, at))
    if session:
        world.put("session", session)
    return Accepted(None)


def _debit(world: World, intent: Json, charge: Json, at: At) -> Accepted:
    intent |= {"last_payment_error": None, "status": "processing"}
    session = world.session_of(intent["id"])
    world.put("charge", charge)
    world.put("intent", intent)
    world.tell("charge.pending", charge, now=at.now, cause=at.cause)
    completed = _complete(world, session, charge, at) if session else None
    world.tell("payment_intent.processing", intent, now=at.now, cause=at.cause)
    return Accepted(completed)


def _complete(world: World, session: Json, charge: Json, at: At) -> str:
    session |= {
        "collected_information": {"business_name": None, "individual_name": None, "shipping_details": None},
        "customer_details": sessions.customer_details(charge["billing_details"]),
        "status": "complete",
        "url": None,
    }
    world.put("session", session)
    return world.tell("checkout.session.completed", session, now=at.now, cause=at.cause)


def _decline(world: World, intent: Json, method: Json, charge: Json, decline: Declines, at: At) -> Declined:
    charges.fail(charge, decline)
    world.put("charge", charge)
    world.tell("charge.failed", charge, now=at.now, cause=at.cause)
    error = {
        "advice_code": decline.advice_code,
        "charge": charge["id"],
        "code": decline.code,
        "decline_code": decline.decline_code,
        "doc_url": "https://stripe.com/docs/error-codes/" + decline.code.replace("_", "-") if decline.code else None,
        "message": decline.message,
        "payment_method": method,
        "type": "card_error",
    }
    return _fail(world, intent, {name: said for name, said in error.items() if said is not None}, at)


def _fail(world: World, intent: Json, error: Json, at: At) -> Declined:
    intent |= {
        "last_payment_error": error,
        "next_action": None,
        "payment_method": None,
        "status": "requires_payment_method",
    }
    world.put("intent", intent)
    world.tell("payment_intent.payment_failed", intent, now=at.now, cause=at.cause)
    return Declined(error)
