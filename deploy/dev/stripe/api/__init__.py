"""Stripe's endpoints: what each accepts, and what it does to the world. No I/O.

A checked call enters, an object leaves; refusals are ``ApiError``. ``ROUTES`` is the table of everything served, one
file per page of docs.stripe.com/api. Next: ``checkout``, ``payments``, ``refunds``, ``disputes``.
"""

from deploy.dev.stripe.api import (
    catalogue,
    charges,
    disputes,
    endpoints,
    events,
    intents,
    methods,
    payment_pages,
    refunds,
    sessions,
)
from deploy.dev.stripe.api.route import Call, Route

__all__ = ["ROUTES", "Call", "Route"]

ROUTES: tuple[Route, ...] = (
    *sessions.ROUTES,
    *payment_pages.ROUTES,
    *intents.ROUTES,
    *methods.ROUTES,
    *charges.ROUTES,
    *refunds.ROUTES,
    *disputes.ROUTES,
    *events.ROUTES,
    *endpoints.ROUTES,
    *catalogue.ROUTES,
)
