"""``/v1/charges``: made by intents only."""

from deploy.dev.stripe.api.route import Route, listing, retrieve, update
from deploy.dev.stripe.params import email, text, unsettable

PATH = "/v1/charges"

ROUTES = (
    Route("GET", PATH, "charge", listing("charge", PATH, {"payment_intent": text()})),
    Route("GET", PATH + "/{id}", "charge", retrieve("charge")),
    Route(
        *("POST", PATH + "/{id}", "charge"),
        update("charge", {"description": unsettable(text()), "receipt_email": email}, tells=("charge.updated",)),
    ),
)
