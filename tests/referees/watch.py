"""Eyes on a sandbox: whatever it answers or delivers is judged, in every test that drives one.

`over_sockets` sees what leaves by HTTP, as bytes; what it finds fails the test at the end, since a handler that raises
would only look like a server's error. `at_once` sees calls and events where there are no sockets, and raises there.
"""

import hashlib
import hmac
import json
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock
from urllib.parse import parse_qsl

import stripe
from aiohttp import web

from deploy.dev.stripe import app, forgeries
from deploy.dev.stripe.api import Route
from deploy.dev.stripe.errors import ApiError
from deploy.dev.stripe.world import World
from tests.referees import tour
from tests.referees.judge import judge
from tests.referees.stripe_mock import Request

TRUE_WORDS = {None, "stale_timestamp", "wrong_signature"}  # forgeries that lie by their signature alone


@dataclass
class Seen:
    """What is wrong with anything that left, and every request that was answered, as `stripe_mock` takes it."""

    complaints: list = field(default_factory=list)
    requests: list = field(default_factory=list)


@contextmanager
def over_sockets():
    """Judge every answer of the API and every delivery of the sandboxes that are opened inside; fail at the end."""
    with seeing() as seen:
        yield
    used = {each for request in seen.requests if request.verdict == "taken" for each in request.parameters}
    unjudged = [f"{each}: the tour must use it, too, so that stripe-mock judges it" for each in used - tour.parameters()]
    _fail_on(seen.complaints + unjudged)


@contextmanager
def seeing():
    """The same, for who wants to tell of the complaints himself: give what is seen."""
    seen = Seen()
    with ExitStack() as stack:
        for module, name, watched in (
            (app, "_app", _answering),
            (forgeries, "body", _delivering),
            (forgeries, "header", _signing),
        ):
            stack.enter_context(mock.patch.object(module, name, watched(getattr(module, name), seen)))
        yield seen


@contextmanager
def at_once():
    """Judge every answer and refusal of a route, and every event that is born, while the block runs."""
    perform, take = Route.perform, World.take

    def performed(route, world, call):
        try:
            answer = perform(route, world, call)
        except ApiError as refusal:
            _fail_on(judge(refusal.body("req_x")))
            raise
        _fail_on(judge(answer))
        return answer

    def taken(world):
        changes = take(world)
        for told in changes.events:
            _fail_on(judge(told))
        return changes

    with mock.patch.object(Route, "perform", performed), mock.patch.object(World, "take", taken):
        yield


def _fail_on(found):
    # No plain assert: pytest explains those of test modules alone.
    if found:
        raise AssertionError("\n".join(dict.fromkeys(map(str, found))))


def _answering(make, seen):
    async def see(request, response):
        if request.path.startswith("/v1/") and isinstance(response, web.Response):
            said = json.loads(response.text)
            seen.complaints += judge(said)
            seen.requests.append(await _request(request, said))

    def made(sandbox):
        application = make(sandbox)
        application.on_response_prepare.append(see)
        return application

    return made


async def _request(request, said):
    sent = (await request.read()).decode(errors="replace") if request.method == "POST" else request.rel_url.raw_query_string
    route, object_id = request.match_info.route.resource.canonical, request.match_info.get("id", "")
    return Request.told(f"{request.method} {route}", object_id, parse_qsl(sent, keep_blank_values=True), said)


def _delivering(make, seen):
    def made(event, forgery=None):
        body = make(event, forgery)
        if forgery in TRUE_WORDS:
            seen.complaints += judge(json.loads(body))
        return body

    return made


def _signing(make, seen):
    """Every secret's signature must pass Stripe's own check, and one of our own that shares no code with it."""

    def made(body, secrets, at_seconds, forgery=None):
        header = make(body, secrets, at_seconds, forgery)
        if forgery is None:
            wrong = [secret for secret in secrets if not _passes(body, header, secret)]
            seen.complaints += [f"{header} is no signature of {body[:60]}"] if wrong else []
        return header

    return made


def _passes(body, header, secret):
    at = re.match(r"t=(\d+),", header)[1]
    ours = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    try:
        stripe.Webhook.construct_event(body, header, secret)
    except (ValueError, stripe.SignatureVerificationError):
        return False
    return f"v1={ours}" in header.split(",")
