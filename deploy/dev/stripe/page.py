"""The pages a customer meets: hosted Checkout, the bank's 3-D Secure page, the receipt.

A form enters; a page, or the way to the shop's ``success_url``, leaves. No script is needed. Next: ``checkout``.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar, assert_never

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from multidict import MultiDictProxy

from deploy.dev.stripe import brands, cards, checkout, money, params, payments
from deploy.dev.stripe.payments import Accepted, Challenged, Declined, Outcome
from deploy.dev.stripe.sandbox import Sandbox

Json = dict[str, Any]
T = TypeVar("T")

FOLDER = Path(__file__).parent
HEADERS = {
    # No form-action: browsers apply it to the redirect back to the shop, too.
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:;"
    " base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HOME_ROWS = 20
SAMPLE_EXPIRY = "12 / 34"
# What became of a completed session's payment, by its intent's status; a debit may be returned after all.
FATES = {
    "succeeded": "is complete",
    "processing": "is on its way from your bank",
    "requires_payment_method": "was returned by your bank",
}
FIELDS = ("email", "number", "expiry", "cvc", "iban")


@dataclass(frozen=True)
class Typed:
    """What the customer has typed, and what is wrong with it (field name -> sentence)."""

    email: str = ""
    number: str = ""
    expiry: str = ""
    cvc: str = ""
    iban: str = ""
    by_account: bool = False  # rather than by card, where both are offered
    faults: dict[str, str] = field(default_factory=dict)


class Pages:
    """The handlers of all pages."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._templates = Environment(loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined)

    async def show_home(self, _request: web.Request) -> web.Response:
        """GET /: the latest checkouts and webhooks, for a person who wonders what happened."""
        sandbox = self._sandbox
        types = {event["id"]: event["type"] for event in sandbox.world.tables["event"].values()}
        return self.render(
            "home.html",
            webhook_url=sandbox.settings.webhook_url,
            sessions=[
                {"id": session["id"], "status": session["status"], "amount": _amount(session)}
                for session in _latest(sandbox.world.tables["session"])
            ],
            deliveries=[
                {"type": types[delivery.event_id], "state": delivery.state, "attempts": delivery.attempts}
                for delivery in _latest(sandbox.outbox.deliveries)
            ],
        )

    async def show_checkout(self, request: web.Request) -> web.Response:
        """GET /c/pay/{id}."""
        session = self._session(request)
        if session["status"] != "open":
            return self._over(session)
        return self._form(session, self._remembered(session))

    async def submit_checkout(self, request: web.Request) -> web.Response:
        """POST /c/pay/{id}: ``email``; ``number``, ``expiry``, ``cvc``, or ``iban``; or ``fill`` = what to fill in.

        ``method`` (``card``, ``sepa_debit``) says which of the two counts; without it an IBAN does where one was typed.

        Answers 303 to the shop or to 3-D Secure, 422 with errors beside the fields, 402 where the bank declined, and
        409 where the session is over.
        """
        form = await typed(request)
        # Only now: while a slow form arrived, another tab may have paid.
        session = self._session(request)
        if session["status"] != "open":
            return self._over(session, status=409)
        fields = {name: str(form.get(name, "")) for name in FIELDS}
        fields["method"] = _method(session, str(form.get("method", "")), fields["iban"])
        if session["customer_email"]:
            fields["email"] = session["customer_email"]
        filled = _filled(str(form.get("fill", "")), fields["email"].strip())
        if filled:
            return self._form(session, filled)
        paid_with = self._inspect(fields)
        faults = dict(paid_with.by_field) if isinstance(paid_with, cards.Faults) else {}
        email = fields["email"].strip()
        if not params.looks_like_email(email):
            faults["email"] = "Enter your email address, such as name@example.com."
        if faults or isinstance(paid_with, cards.Faults):
            return self._form(session, _echo(fields, faults), status=422)
        outcome = checkout.pay(self._sandbox.world, session, paid_with, {"email": email}, self._sandbox.at)
        return await self._after(session, outcome, fields | {"email": email})

    async def show_challenge(self, request: web.Request) -> web.Response:
        """GET /3ds/{id}: the bank asks; a question that was answered leads back to the checkout."""
        intent, back = self._challenge(request)
        if intent["status"] != "requires_action":
            raise web.HTTPSeeOther(back)
        method = self._sandbox.world.get("method", intent["payment_method"])
        return self.render(
            "challenge.html",
            intent_id=intent["id"],
            merchant=self._sandbox.settings.merchant,
            amount=money.spell(intent["amount"], intent["currency"]),
            brand=brands.BY_CODE[method["card"]["brand"]].name,
            last4=method["card"]["last4"],
        )

    async def submit_challenge(self, request: web.Request) -> web.Response:
        """POST /3ds/{id}: ``answer`` = ``complete`` or ``fail``."""
        intent, back = self._challenge(request)
        answer = str((await typed(request)).get("answer", ""))
        if intent["status"] != "requires_action":
            raise web.HTTPSeeOther(back)
        if answer not in {"complete", "fail"}:
            raise web.HTTPSeeOther(request.path)
        outcome = payments.answer_challenge(self._sandbox.world, intent, self._sandbox.at, passed=answer == "complete")
        self._sandbox.commit()
        session = self._sandbox.world.session_of(intent["id"])
        if session is None or not isinstance(outcome, Accepted):
            raise web.HTTPSeeOther(back)
        await self._hold(outcome)
        raise web.HTTPSeeOther(_success_url(session))

    async def show_receipt(self, request: web.Request) -> web.Response:
        """GET /receipts/{id}: what a charge's ``receipt_url`` opens."""
        charge = self._sandbox.world.tables["charge"].get(request.match_info["id"])
        if charge is None or not charge["paid"]:
            return self._unknown("receipt")
        paid = money.spell(charge["amount"], charge["currency"])
        back = money.spell(charge["amount_refunded"], charge["currency"])
        details = charge["payment_method_details"]
        means = "card" if details["type"] == "card" else "account"
        text = f"Paid with the {means} ending in {details[details['type']]['last4']}." + (
            f" {back} of it was refunded." if charge["amount_refunded"] else ""
        )
        return self._notice(f"Receipt: {paid}", text, mark="paid")

    def _inspect(self, fields: dict[str, str]) -> cards.Card | cards.BankAccount | cards.Faults:
        if fields["method"] == "sepa_debit":
            return cards.inspect_iban(fields["iban"])
        today = datetime.fromtimestamp(self._sandbox.now, UTC)
        return cards.inspect(fields["number"], fields["expiry"], fields["cvc"], year=today.year, month=today.month)

    async def _after(self, session: Json, outcome: Outcome, fields: dict[str, str]) -> web.Response:
        """Keep what an attempt did, and send the customer where it leads."""
        self._sandbox.commit()
        match outcome:
            case Accepted():
                await self._hold(outcome)
                raise web.HTTPSeeOther(_success_url(session))
            case Challenged(intent_id):
                raise web.HTTPSeeOther(f"/3ds/{intent_id}")
            case Declined():
                return self._form(session, _echo(fields, {"number": outcome.message}), status=402)
            case _:
                assert_never(outcome)

    async def _hold(self, accepted: Accepted) -> None:
        """Keep the customer here until the shop's webhook answered, as Stripe does, so that the shop knows first."""
        if accepted.event_id:
            seconds = self._sandbox.settings.redirect_wait_seconds_max
            await self._sandbox.outbox.courier.answered(accepted.event_id, seconds=seconds)

    def _session(self, request: web.Request) -> Json:
        session = self._sandbox.world.tables["session"].get(request.match_info["id"])
        if session is None:
            raise _Page(self._unknown("checkout"))
        return session

    def _challenge(self, request: web.Request) -> tuple[Json, str]:
        """Return the intent that the bank asks about, and where its page leads back to."""
        intent = self._sandbox.world.tables["intent"].get(request.match_info["id"])
        if intent is None:
            raise _Page(self._unknown("payment"))
        session = self._sandbox.world.session_of(intent["id"])
        if session:
            return intent, f"/c/pay/{session['id']}"
        return intent, (intent["next_action"] or {}).get("redirect_to_url", {}).get("return_url") or "/"

    def _remembered(self, session: Json) -> Typed:
        """Return the form after the last attempt, if there was one: its mail address, and why it failed."""
        if not session["payment_intent"]:
            return Typed()
        error = self._sandbox.world.get("intent", session["payment_intent"])["last_payment_error"]
        if not error:
            return Typed()
        email = error["payment_method"]["billing_details"]["email"]
        return Typed(email=email, faults={"number": error["message"]})

    def _form(self, session: Json, typed: Typed, *, status: int = 200) -> web.Response:
        items = [
            {
                "name": item["name"],
                "description": item["description"],
                "quantity": item["quantity"],
                "each": _spell(session, item["unit_amount"]),
                "amount": _spell(session, item["unit_amount"] * item["quantity"]),
            }
            for item in self._sandbox.world.get("cart", session["id"])["line_items"]
        ]
        kinds = session["payment_method_types"]
        return self.render(
            "pay.html",
            status=status,
            session=session,
            items=items,
            amount=_amount(session),
            merchant=self._sandbox.settings.merchant,
            typed=typed,
            cards="card" in kinds,
            accounts="sepa_debit" in kinds,
            brands=msgspec.to_builtins(brands.BRANDS),
            typed_brand=brands.of(typed.number),
            groups=_groups(kinds),
            sample_expiry=SAMPLE_EXPIRY,
        )

    def _over(self, session: Json, *, status: int = 200) -> web.Response:
        if session["status"] == "complete":
            intent = self._sandbox.world.get("intent", session["payment_intent"])
            return self._notice(
                "You have already paid",
                f"Your payment of {_amount(session)} {FATES[intent['status']]}. You will not be charged again.",
                mark="paid",
                link=(_success_url(session), "Continue"),
                status=status,
            )
        back = (session["cancel_url"], f"Back to {self._sandbox.settings.merchant}") if session["cancel_url"] else None
        return self._notice(
            "This checkout has expired",
            "Nothing was charged. Go back and start again to pay.",
            mark="over",
            link=back,
            status=status,
        )

    def _unknown(self, noun: str) -> web.Response:
        return self._notice("Nothing here", f"This sandbox knows no such {noun}.", mark="over", status=404)

    def _notice(
        self, title: str, text: str, *, mark: str, link: tuple[str, str] | None = None, status: int = 200
    ) -> web.Response:
        return self.render("notice.html", status=status, title=title, text=text, mark=mark, link=link)

    def render(self, template: str, *, status: int = 200, **values: object) -> web.Response:
        """Return a page made from this template."""
        html = self._templates.get_template(template).render(values)
        return web.Response(status=status, text=html, content_type="text/html", headers=HEADERS)


async def typed(request: web.Request) -> MultiDictProxy[Any]:
    """Return the form that was sent; what is none, which no browser sends, is a 400."""
    try:
        return await request.post()
    except (ValueError, LookupError, RuntimeError) as fault:  # of aiohttp's reader of multipart and of charsets
        raise web.HTTPBadRequest(text=f"This is no form: {fault}\n") from fault


class _Page(Exception):
    """Carries a page out of the helpers; ``pages_instead`` shows it."""

    def __init__(self, response: web.Response) -> None:
        super().__init__()
        self.response = response


@web.middleware
async def pages_instead(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Show the page that a helper chose instead of the wanted one."""
    try:
        return await handler(request)
    except _Page as page:
        return page.response


def _method(session: Json, said: str, iban: str) -> str:
    """Return what is paid with: what was said, if the session takes it; else what an IBAN says by being there."""
    kinds = session["payment_method_types"]
    if said in kinds:
        return said
    return "sepa_debit" if "sepa_debit" in kinds and (iban or "card" not in kinds) else "card"


def _groups(kinds: list[str]) -> list[tuple[str, list[cards.TestCard]]]:
    """Return the test cards and accounts that this session takes, under their headings."""
    offered = (*(cards.TEST_CARDS if "card" in kinds else ()), *(cards.SEPA_ACCOUNTS if "sepa_debit" in kinds else ()))
    return [(title, list(group)) for title, group in groupby(offered, key=lambda card: card.group)]


def _echo(fields: dict[str, str], faults: dict[str, str]) -> Typed:
    """Return the form as typed, but never a number that could be somebody's real card, and no CVC."""
    digits = fields["number"].replace(" ", "").replace("-", "")
    number = cards.BY_NUMBER[digits].spaced if digits in cards.BY_NUMBER else ""
    iban = fields["iban"] if fields["iban"].replace(" ", "").upper() in cards.BY_IBAN else ""
    return Typed(fields["email"], number, fields["expiry"], "", iban, fields["method"] == "sepa_debit", faults)


def _filled(wanted: str, email: str) -> Typed | None:
    """Return the form with a test card or account filled in."""
    if wanted in cards.BY_NUMBER:
        card = cards.BY_NUMBER[wanted]
        return Typed(email, card.spaced, SAMPLE_EXPIRY, card.cvc)
    return Typed(email, iban=cards.BY_IBAN[wanted].spaced, by_account=True) if wanted in cards.BY_IBAN else None


def _latest(things: dict[str, T]) -> list[T]:
    return list(islice(reversed(things.values()), HOME_ROWS))


def _success_url(session: Json) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _amount(session: Json) -> str:
    return _spell(session, session["amount_total"])


def _spell(session: Json, amount_minor: int) -> str:
    language = session["locale"] if session["locale"] != "auto" else None
    return money.spell(amount_minor, session["currency"], language)
