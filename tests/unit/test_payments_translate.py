"""From Stripe's JSON to a fact: recorded payloads, missing fields, and anything at all."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.payments.translate import FACTS, Event, Refusal, translate
from shared.domain.payment import ChargeRefunded, ClosedReason, DisputeSeen, Failed, Noted, Paid, RefundSeen
from shared.stripe_events import Kind
from tests.support.builders import Sale, bytes_of, stripe_event

EXAMPLES = Path(__file__).parent.parent / "examples" / "stripe"

# Written by hand from the files, not by running the code.
RECORDED = {
    "charge.dispute.created.chargeback": DisputeSeen("du_1UCZ6fDcuIe00H3nvFXJwiof", "needs_response", 900),
    "charge.refunded.full": ChargeRefunded(900),
    "charge.refunded.partial": ChargeRefunded(1500),
    "charge.refunded.partial-then-full": ChargeRefunded(5000),
    "checkout.session.async_payment_failed": Failed(1753799118, "async_failed", ClosedReason.ASYNC_FAILED),
    "checkout.session.async_payment_succeeded": Paid(3000, "eur"),
    "checkout.session.completed": Paid(800, "jpy"),
    "checkout.session.completed.unpaid": Noted(),
    "checkout.session.expired": Failed(1757931189, "expired", ClosedReason.EXPIRED),
    "payment_intent.canceled": Failed(1763738710, "canceled", ClosedReason.CANCELED),
    "payment_intent.payment_failed.card_declined": Failed(1749053457, "generic_decline"),
    "payment_intent.succeeded": Paid(4620, "eur"),
    "payment_intent.succeeded.2026-08": Paid(5000, "usd"),
    "refund.created": RefundSeen("re_3S7LDxDpld3oaqFN1n9bjbLH", "succeeded", 100),
    "refund.created.partial": RefundSeen("re_3UHnJtHIBYZYyePr0NWaslIl", "succeeded", 1500),
    "refund.failed": RefundSeen("re_3S7LDxDpld3oaqFN1n9bjbLH", "failed", 100),
    "refund.updated": RefundSeen("re_3S7LDxDpld3oaqFN1n9bjbLH", "succeeded", 100),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_payload_brings_its_fact(name):
    """What Stripe really sent, over the API versions from basil to dahlia."""
    body = (EXAMPLES / f"{name}.json").read_bytes()
    event, sent = translate(body), json.loads(body)

    assert isinstance(event, Event)
    assert event.fact == RECORDED[name]
    assert (event.id, event.type, event.created) == (
        sent["id"],
        sent["type"],
        datetime.fromtimestamp(sent["created"], UTC),
    )
    assert event.keys, "it can be found by an intent or a session"


def test_the_ids_of_a_session_an_intent_and_a_refund_are_told_apart():
    """Each kind names itself and what belongs to it."""
    sale = Sale()
    session, intent, charge, refund = (
        translate(bytes_of(e)) for e in (sale.completed(), sale.succeeded(), sale.refunded(), sale.refund())
    )

    assert (session.session_id, session.intent_id, str(session.payment_id)) == (
        sale.session_id,
        sale.intent_id,
        sale.payment_id,
    )
    assert (intent.session_id, intent.intent_id, str(intent.booking_id)) == (None, sale.intent_id, sale.booking_id)
    assert (charge.intent_id, charge.payment_id, charge.charge_id) == (sale.intent_id, None, f"ch_3{sale.tag}00000000")
    assert (refund.intent_id, refund.payment_id, refund.keys) == (sale.intent_id, None, (sale.intent_id,))


def test_a_session_of_the_older_application_refers_to_its_booking_and_names_no_payment():
    """It is found by its own id, which the older row holds; its reference, taken for a payment's, would be somebody else."""
    sale = Sale()
    older = {"client_reference_id": sale.booking_id, "metadata": {"booking_id": sale.booking_id, "client_id": sale.client_id}}
    session = translate(bytes_of(sale.completed(**older)))

    assert (session.payment_id, session.booking_id, session.session_id) == (None, sale.booking_id, sale.session_id)


def test_a_charge_is_named_by_itself_and_by_its_intent_refund_and_dispute():
    """Whoever knows the charge can find the payment, also where Stripe names no intent."""
    sale = Sale()
    intent = translate(bytes_of(sale.succeeded(latest_charge="ch_one")))
    refund = translate(bytes_of(sale.refund(charge="ch_one", payment_intent=None)))
    dispute = translate(bytes_of(sale.dispute(charge="ch_one")))

    assert intent.keys == dispute.keys == (sale.intent_id, "ch_one")
    assert refund.keys == ("ch_one",)


def test_a_kind_that_is_not_ours_is_an_event_without_a_fact_whatever_its_object():
    """Its shape is nobody's business: it is recorded as unhandled."""
    for shape in ({}, {"id": 7}, []):
        event = translate(bytes_of(stripe_event("invoice.paid", shape)))
        assert isinstance(event, Event)
        assert event.fact is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"id": "in_1"}, "no_event_id"),
        ({"id": "evt_1\n"}, "no_event_id"),
        ({"id": "evt_" + "x" * 201}, "no_event_id"),
        ({"created": 10**14}, "created_out_of_range"),
        ({"created": 10**30}, "created_out_of_range"),
        ({"created": "now"}, "wrong_shape"),
        ({"created": None}, "wrong_shape"),
        ({"data": {}}, "wrong_shape"),
        ({"type": None}, "wrong_shape"),
    ],
)
def test_what_lacks_what_an_event_needs_is_refused_by_name(change, told):
    """The reason's first word is stable: metrics and operators go by it."""
    refused = translate(bytes_of(Sale().succeeded() | change))

    assert isinstance(refused, Refusal)
    assert refused.reason.partition(":")[0] == told


@pytest.mark.parametrize("value", [b"", b"\xff", b'{"id": "evt_\xff", "type": "", "created": 1}', b'{"z":' + b"[" * 200_000])
def test_what_is_no_json_is_refused_as_such(value):
    """Also where only a string in it is no UTF-8, and where it is nested deeper than anybody reads."""
    assert translate(value) == Refusal("not_json")


@pytest.mark.parametrize("field", ["amount_received", "currency"])
def test_money_without_an_amount_or_a_currency_is_refused(field):
    """Nothing is guessed about money; an absent amount_received falls back to the intent's amount."""
    event = Sale().succeeded(**{field: None})
    if field == "amount_received":
        assert translate(bytes_of(event)).fact == Paid(7500, "usd")
        event["data"]["object"]["amount"] = None
    assert isinstance(translate(bytes_of(event)), Refusal)


def test_a_refund_of_a_status_that_nobody_knows_is_refused_by_name():
    """Whether its money went back is not guessed."""
    assert translate(bytes_of(Sale().refund(status="on_its_way"))) == Refusal("wrong_shape:unknown refund status on_its_way")


@pytest.mark.parametrize("kind", sorted(FACTS))
def test_ids_that_are_no_uuid_are_no_ids_of_ours(kind):
    """Another application's metadata on the same account names none of our payments."""
    shape = {
        "id": "x_1",
        "object": "thing",
        "metadata": {"payment_id": "order 7", "booking_id": ""},
        "status": "succeeded",
        "amount": 1,
        "amount_total": 1,
        "amount_refunded": 1,
        "currency": "usd",
        "payment_intent": "pi_1",
    }
    event = translate(bytes_of(stripe_event(kind, shape)))

    assert isinstance(event, Event)
    assert (event.payment_id, event.booking_id, event.intent_id) == (None, None, "pi_1")


@pytest.mark.parametrize("spell", [str.upper, "{{{}}}".format, "urn:uuid:{}".format, lambda text: text.replace("-", "")])
def test_an_id_of_ours_is_known_by_any_spelling(spell):
    """Metadata may have been typed by hand: it is still our payment that was paid."""
    sale = Sale()
    named = {"payment_id": spell(sale.payment_id), "booking_id": spell(sale.booking_id)}
    event = translate(bytes_of(sale.succeeded(metadata=named)))

    assert (event.payment_id, event.booking_id) == (sale.payment_id, sale.booking_id)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_refusal(value):
    """Nothing raises: an exception would rewind the batch for ever."""
    assert isinstance(translate(value), Event | Refusal)


@given(kind=st.sampled_from([*sorted(FACTS), "invoice.paid"]), top=st.dictionaries(
    st.sampled_from(["id", "type", "created", "data", "api_version"]), JSON, max_size=2
), shape=st.dictionaries(
    st.sampled_from(
        [
            "id",
            "object",
            "status",
            "payment_status",
            "payment_intent",
            "client_reference_id",
            "metadata",
            "currency",
            "amount",
            "amount_total",
            "amount_received",
            "amount_refunded",
            "last_payment_error",
        ]
    ),
    JSON,
))  # fmt: skip
def test_any_shape_of_an_event_is_an_event_or_a_refusal(kind, top, shape):
    """Fields of any type, at any place that we read."""
    event = stripe_event(kind, {"id": "x_1", "object": "thing"} | shape) | top
    assert isinstance(translate(json.dumps(event).encode()), Event | Refusal)


def test_every_payload_has_its_fact_by_hand():
    """One that nobody read would prove that it decodes, and not that it means what it says."""
    sent = {file.stem for file in EXAMPLES.glob("*.json") if json.loads(file.read_text()).get("object") == "event"}

    assert set(RECORDED) == sent


def test_every_kind_that_we_ask_stripe_for_has_a_meaning_and_an_example():
    """What `cb-ops stripe check` demands of the endpoint is what is handled, no more and no less, as Stripe sends it."""
    whole = [file.read_text() for file in EXAMPLES.glob("*.json")]
    lines = [line for file in EXAMPLES.glob("versions/*.jsonl") for line in file.read_text().splitlines()]

    assert set(FACTS) == set(Kind)
    assert set(Kind) <= {json.loads(text).get("type") for text in whole + lines}
