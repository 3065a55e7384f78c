"""What Stripe publishes about its API judges everything that the sandbox shows, and is sharp enough to do so.

The tour is everything that there is to see (tests/referees/tour.py); the other tests of the sandbox are watched by the same
schemas (tests/referees/watch.py). Stripe's own programs judge the tour in `make referees`.
"""

import copy
import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from deploy.dev.stripe.api import ROUTES
from deploy.dev.stripe.objects import refund
from tests.referees import __main__ as referees
from tests.referees import fetching, specification, tour, typescript
from tests.referees.differences import ADDITIONS, KNOWN, UNTYPED
from tests.referees.judge import amended, complaints, judge, kind_of, schemas
from tests.support.stripe_offline import OfflineStripe

SANDBOX = Path(__file__).parents[4] / "deploy" / "dev" / "stripe"


@cache
def visited():
    """The tour is taken once, and by nobody changed."""
    return tour.take()


def places(value, place=""):
    """Every place of a body, as `differences` calls it, with the object or list that holds it and the step to it."""
    if isinstance(value, dict) and isinstance(value.get("object"), str):
        place = value["object"]
    for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
        here = f"{place}.{step}" if isinstance(step, str) else f"{place}[]"
        yield here, value, step
        if isinstance(inner, dict | list):
            yield from places(inner, here)


def test_nothing_that_the_sandbox_shows_is_complained_about():
    """No unknown key, every nullable key present, types and words as they are published."""
    assert {complaint.key: complaint for body in visited().bodies for complaint in judge(body)} == {}


def test_the_tour_sees_everything():
    """Every route, and every kind of event that stands in the sandbox's source."""
    source = "".join(path.read_text() for path in SANDBOX.rglob("*.py"))
    kinds = set(schemas()["event"]["properties"]["type"]["enum"])

    assert {request.route for request in visited().requests} == {route.name for route in ROUTES}
    assert {event["type"] for event in visited().stripe.told} == set(re.findall(r'"([a-z_.]+)"', source)) & kinds


def test_every_difference_that_is_known_is_needed():
    """An entry that nothing needs would hide a mistake."""
    found = {complaint.key for body in visited().bodies for complaint in complaints(body)}
    seen = {place for body in visited().bodies for place, _, _ in places(body)}

    assert found == set(KNOWN)
    assert set(ADDITIONS) | set(UNTYPED) <= seen
    assert all(difference.reason for difference in ADDITIONS.values())


def test_an_addition_that_the_specification_learns_is_told():
    """Its own word about a key is better than ours."""
    learnt = copy.deepcopy(specification.read())
    learnt["charge"]["properties"]["source"] = {"type": ["string", "null"]}

    with pytest.raises(ValueError, match=r"charge\.source: the specification knows it by now"):
        amended(learnt)


def test_every_body_has_a_type_of_its_own():
    """As Stripe's library calls it; a list is judged by its items."""
    typed = [body for body in typescript.singly(visited().bodies) if body.get("object") not in typescript.TYPELESS]
    names = {typescript.name_of(body) for body in typed}

    assert {"Checkout.Session", "LineItem", "Refund", "DeletedWebhookEndpoint", "ChargeDisputeFundsWithdrawnEvent"} <= names


def test_a_referee_that_cannot_be_had_fails_with_its_name_and_what_to_install(monkeypatch, capsys):
    """One line for whoever has no Go; nobody is left out in silence."""
    monkeypatch.setenv("PATH", "")

    assert referees.asked("specification", lambda: fetching.source(fetching.STRIPE_MOCK)) == 1
    said = capsys.readouterr().out
    assert "no  specification" in said
    assert "stripe-mock: go is not on this machine; install Go 1.22 or newer" in said


def test_npm_packages_are_pinned_by_their_content_and_by_no_address():
    """Each has a hash; where it comes from is the machine's choice."""
    packages = json.loads((fetching.HERE / "package-lock.json").read_text())["packages"]
    packages.pop("")

    assert len(packages) == 3
    assert all(one["integrity"].startswith("sha512-") and "resolved" not in one for one in packages.values())


# Planted mistakes: each place of a real body once, by its name.


def renamed(holder, step):
    holder[f"{step}_renamed"] = holder.pop(step)


def retyped(holder, step):
    holder[step] = "wrong" if isinstance(holder[step], list) else [0.5]  # no list of Stripe holds a fraction


def deleted(holder, step):
    del holder[step]


@cache
def judged_places():
    """Where a mistake can be planted: (body, place), each place once, wherever a schema has something to say."""
    free = re.compile(r".*(metadata|previous_attributes|enhanced_evidence)\.\w+|payment_page\..*")
    unplanted = defaultdict(bool)
    chosen = []
    for body in tour.distinct(visited().bodies):
        inner = [place for place, _, _ in places(body)]
        fresh = [place for place in dict.fromkeys(inner) if not unplanted[place] and not free.fullmatch(place)]
        for place in fresh:
            unplanted[place] = True
            chosen.append((body, place))
    return chosen


def caught(mistake):
    """The share of planted mistakes that is complained about, and where those are that are not."""
    planted, missed = 0, []
    for body, place in judged_places():
        changed = copy.deepcopy(body)
        holder, step = next((holder, step) for here, holder, step in places(changed) if here == place)
        if isinstance(step, int) and mistake is not retyped:
            continue  # an item has no name, and no list need have one
        mistake(holder, step)
        planted += 1
        if not judge(changed):
            missed.append(place)
    assert planted > 400
    return 1 - len(missed) / planted, missed


@pytest.mark.parametrize(("mistake", "least"), [(renamed, 1.0), (retyped, 1.0), (deleted, 0.8)])
def test_a_mistake_that_is_planted_is_caught(mistake, least):
    """A renamed key and a wrong type always; a deleted key where it must be there, which is four times of five."""
    share, missed = caught(mistake)

    assert share >= least, missed


def test_a_word_that_stripe_does_not_have_is_caught():
    """A status nobody knows, an event that is none."""
    told = copy.deepcopy(next(body for body in visited().bodies if kind_of(body) == "event"))
    told["type"] = "payment_intent.borne"

    assert [complaint.key for complaint in judge(told)] == ["event.type: unknown value"]


def test_a_shape_that_is_not_stripes_fails_the_test_that_meets_it(monkeypatch):
    """A refund that says more than Stripe's is noticed in the answer that shows it."""
    honest = refund.new
    monkeypatch.setattr(refund, "new", lambda *a, **b: honest(*a, **b) | {"mood": "sorry"})
    stripe = OfflineStripe(1)
    wish = {"amount": 5000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    intent = stripe.call("POST /v1/payment_intents", wish)
    stripe.look()

    with pytest.raises(AssertionError, match=r"refund\.mood"):
        stripe.call("POST /v1/refunds", {"payment_intent": intent["id"]})
