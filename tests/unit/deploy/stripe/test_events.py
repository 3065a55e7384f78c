"""The list of events, which whoever lost a webhook reads: filters, cursors, and how far back it goes."""

import pytest

from deploy.dev.stripe.errors import ApiError
from tests.support.stripe_offline import OfflineStripe

DAY = 24 * 60 * 60


@pytest.fixture
def bank():
    """A paid intent, half of which went back a minute later: six kinds of events at two moments, all of them delivered."""
    bank = OfflineStripe(seed=1)
    card = {"amount": 5000, "currency": "usd", "payment_method": "pm_card_visa", "confirm": True}
    intent = bank.call("POST /v1/payment_intents", card)
    bank.look()
    bank.pass_time(60)
    bank.call("POST /v1/refunds", {"payment_intent": intent["id"], "amount": 2500})
    bank.look()
    for event in bank.told:
        event["pending_webhooks"] = 0
    return bank


def listed(bank, **wish):
    return [event["type"] for event in bank.call("GET /v1/events", wish)["data"]]


def test_a_type_may_be_a_group(bank):
    """With * as a wildcard; a dot stands for itself."""
    assert listed(bank, type="charge.*") == ["charge.refunded", "charge.updated", "charge.succeeded"]
    assert listed(bank, type="*.created") == ["refund.created", "payment_intent.created"]
    assert listed(bank, type="charge") == listed(bank, type="charge_succeeded") == []
    assert listed(bank, types=["charge.*"]) == []


def test_filters_combine(bank):
    """Type, time and delivery: what fits all of them."""
    began, later = bank.told[0]["created"], bank.told[-1]["created"]
    bank.told[1]["pending_webhooks"] = bank.told[-1]["pending_webhooks"] = 1
    kinds = [bank.told[1]["type"], bank.told[2]["type"], bank.told[-1]["type"]]

    assert listed(bank, types=kinds, delivery_success=False) == [kinds[2], kinds[0]]
    assert listed(bank, types=kinds, delivery_success=True) == [kinds[1]]
    assert listed(bank, types=kinds, delivery_success=False, created={"gte": began, "lt": later}) == [kinds[0]]
    assert listed(bank, types=kinds, created=later) == [kinds[2]]


@pytest.mark.parametrize(
    "wish", [{"types": [f"a.{nth}" for nth in range(21)]}, {"type": "charge.refunded", "types": ["charge.refunded"]}]
)
def test_stripe_takes_twenty_types_or_one_type(bank, wish):
    """One more is refused, and both at once."""
    with pytest.raises(ApiError) as refused:
        listed(bank, **wish)

    assert (refused.value.status, refused.value.param) == (400, "types")


def test_a_cursor_is_a_place_among_all_events(bank):
    """Stripe's recipe for an outage begins behind an event that was delivered; what is delivered meanwhile stays a place."""
    first, *missed, last = bank.told
    for event in missed:
        event["pending_webhooks"] = 1
    newest, *rest = [event["type"] for event in reversed(missed)]

    assert listed(bank, delivery_success=False, ending_before=first["id"]) == [newest, *rest]
    assert listed(bank, delivery_success=False, starting_after=last["id"], limit=1) == [newest]
    missed[-1]["pending_webhooks"] = 0
    assert listed(bank, delivery_success=False, starting_after=missed[-1]["id"]) == rest


def test_events_are_kept_for_thirty_days(bank):
    """Then they are in no list, are shown to nobody, and are no place in the list any more."""
    first, last = bank.told[0], bank.told[-1]
    bank.now = first["created"] + 30 * DAY

    assert listed(bank) == [event["type"] for event in reversed(bank.told) if event["created"] > first["created"]]
    for call in (
        lambda: bank.call("GET /v1/events/{id}", object_id=first["id"]),
        lambda: listed(bank, starting_after=first["id"]),
    ):
        with pytest.raises(ApiError) as refused:
            call()
        assert refused.value.code == "resource_missing"
    assert bank.call("GET /v1/events/{id}", object_id=last["id"]) == last
