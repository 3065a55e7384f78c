"""``/v1/payment_methods``: test cards and accounts, by number or by Stripe's test names."""

from typing import Any

from deploy.dev.stripe import cards
from deploy.dev.stripe.api.route import Call, Route, retrieve, update
from deploy.dev.stripe.errors import ApiError, bad_parameter, missing_object
from deploy.dev.stripe.objects import payment_method
from deploy.dev.stripe.params import choice, email, group, integer, metadata, read, text, unsettable
from deploy.dev.stripe.world import World

Json = dict[str, Any]

PATH = "/v1/payment_methods"
NAMED = "pm_card_"  # pm_card_visa and its siblings: a new method each time they are used
TOKEN = "tok_"  # noqa: S105 - the prefix of Stripe's test tokens
# What a token's card says about itself.
EXP_MONTH, EXP_YEAR = 12, 2034

ADDRESS = group({name: text() for name in payment_method.ADDRESS})
CREATE = {
    "type": choice("card", "sepa_debit"),
    "card": group(
        {"number": text(), "exp_month": integer(least=1, most=12), "exp_year": integer(), "cvc": text(), "token": text()}
    ),
    "sepa_debit": group({"iban": text()}, required=("iban",)),
    "billing_details": group(
        {
            "email": unsettable(email),
            "name": unsettable(text()),
            "phone": unsettable(text()),
            "tax_id": text(),
            "address": unsettable(ADDRESS),
        }
    ),
    "metadata": metadata,
}


def create(world: World, call: Call) -> Json:
    """Make a payment method of a test card or account."""
    wish = read(call.tree, CREATE, required=("type",))
    if wish["type"] not in wish:
        raise bad_parameter(f"Missing required param: {wish['type']}.", wish["type"], "parameter_missing")
    paid_with = _account(wish["sepa_debit"]) if wish["type"] == "sepa_debit" else _card(wish["card"])
    method = payment_method.new(world.mint.alone("pm"), paid_with, created=call.now, wish=wish)
    world.put("method", method)
    return method


def method_named(world: World, method_id: str, now: int) -> Json:
    """Return the method with this id; ``pm_card_visa`` and its siblings make a new one."""
    test_card = cards.BY_TOKEN.get(method_id.removeprefix(NAMED)) if method_id.startswith(NAMED) else None
    if test_card is None:
        found = world.tables["method"].get(method_id)
        if found is None:
            raise missing_object("PaymentMethod", method_id, param="payment_method", status=400)
        return found
    card = cards.Card(test_card.number, EXP_MONTH, EXP_YEAR)
    method = payment_method.new(world.mint.alone("pm"), card, created=now, wish={})
    world.put("method", method)
    return method


def _card(wish: Json) -> cards.Card:
    if "token" in wish:
        found = cards.BY_TOKEN.get(str(wish["token"]).removeprefix(TOKEN))
        if found is None:
            raise missing_object("token", str(wish["token"]), param="card[token]", status=400)
        return cards.Card(found.number, EXP_MONTH, EXP_YEAR)
    for name in ("number", "exp_month", "exp_year"):
        if name not in wish:
            raise bad_parameter(f"Missing required param: card[{name}].", f"card[{name}]", "parameter_missing")
    number = str(wish["number"]).replace(" ", "")
    if not cards.luhn(number):
        raise ApiError(402, "Your card number is incorrect.", kind="card_error", code="incorrect_number", param="number")
    if number not in cards.BY_NUMBER:
        raise bad_parameter("A sandbox takes test cards only.", "card[number]")
    return cards.Card(number, wish["exp_month"], wish["exp_year"])


def _account(wish: Json) -> cards.BankAccount:
    account = cards.inspect_iban(str(wish["iban"]))
    if isinstance(account, cards.Faults):
        raise bad_parameter(account.by_field["iban"], "sepa_debit[iban]", "invalid_bank_account_iban")
    return account


ROUTES = (
    Route("POST", PATH, "method", create),
    Route("GET", PATH + "/{id}", "method", retrieve("method")),
    Route("POST", PATH + "/{id}", "method", update("method")),
)
