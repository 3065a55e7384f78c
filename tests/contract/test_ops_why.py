"""`cb-ops why`, told after what an operator is asked about at three in the morning; all of it through the real consumers."""

import asyncio
import json
import re
import uuid
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from deploy.dev.mailbox import Fault, Switches, open_mailbox
from deploy.ops.cli import app
from shared.db.engine import rows
from tests.support.builders import Sale, insert_sales, record, stripe_event
from tests.support.consumers import walking


@pytest.fixture
async def walk(engine, tmp_path):
    async with open_mailbox(tmp_path) as mailbox, walking(engine, mailbox) as walk:
        yield walk


async def why(database, *arguments):
    environment = {"DATABASE_URL": database.database_url.get_secret_value()}
    return await asyncio.to_thread(CliRunner().invoke, app, ("why", *arguments), env=environment)


async def story(database, asked, *sales):
    """What is told, without moments; the payments' and bookings' ids, and the numbers of their events, by short names."""
    result = await why(database, asked)
    assert result.exit_code == 0, result.stderr
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC(  )?", lambda at: "" if at[1] else "MOMENT UTC", result.stdout)
    for number, sale in enumerate(sales, start=1):
        names = {
            sale.payment_id: f"P{number}",
            sale.booking_id: "B",
            sale.intent_id: f"PI{number}",
            sale.session_id: f"CS{number}",
        }
        for value, name in names.items():
            text = text.replace(value, name)
    text = re.sub(r" \(evt_\w+\)", "", text)
    return text.splitlines()


async def change(engine, sql, *parameters):
    async with engine.begin() as tx:
        await rows(tx, sql, *parameters)


async def twin_of(engine, sale):
    """Another payment of the same booking, whose first one checkout had closed."""
    twin = replace(sale, payment_id=str(uuid.uuid4()), tag=uuid.uuid4().hex[:16])
    await change(engine, "update payments set closed_at = now() where id = $1", sale.payment_id)
    await change(
        engine,
        "insert into payments (id, booking_id, amount, currency, amount_minor, stripe_session_id) "
        "values ($1, $2, 75, 'USD', 7500, $3)",
        *(twin.payment_id, twin.booking_id, twin.session_id),
    )
    return twin


async def test_a_payment_by_the_second_card_is_told_with_the_first_ones_decline(walk, database, sale):
    """The first card was refused, the second was not."""
    await walk.stripe_says(sale.declined("insufficient_funds"), sale.succeeded(), sale.completed())

    assert await story(database, sale.booking_id, sale) == [
        "booking B is confirmed, held by payment; its session is at MOMENT UTC",
        "payment P1 is succeeded: 75.00 USD, PI1, CS1",
        "",
        "payment: checkout began, 75.00 USD",
        "payment: payment_intent.payment_failed was applied: pending → failed, reason insufficient_funds",
        "payment: payment_intent.succeeded was applied: failed → succeeded",
        "booking: confirmed by payment",
        "confirmation letter to the client: due",
        "confirmation letter to the coach: due",
        "confirmation letter to the client: the mail server took it (250), attempt 1",
        "confirmation letter to the coach: the mail server took it (250), attempt 1",
        "payment: checkout.session.completed was taken: nothing that is shown changed",
        "",
        "nothing is open",
    ]


async def test_a_refund_seen_first_and_no_letter_sent_and_why(walk, database, sale):
    """Nobody was congratulated, and the page says what came first."""
    await walk.stripe_says(sale.refunded(), sale.succeeded())

    assert await story(database, sale.payment_id, sale) == [
        "booking B is cancelled; its session is at MOMENT UTC",
        "payment P1 is refunded: 75.00 USD, 75.00 USD given back, closed as refunded, PI1, CS1",
        "",
        "payment: checkout began, 75.00 USD",
        "charge.refunded came too early and waits: no payment is known by PI1 (it said 75.00 USD)",
        (
            "payment: charge.refunded after waiting since MOMENT UTC was applied: pending → refunded, 75.00 USD of 75.00 USD "
            "given back, all of it was given back: a booking that it holds goes, closed as refunded: it stops no new checkout"
        ),
        "payment: payment_intent.succeeded was applied: paid",
        "booking: cancelled because of payment: refunded",
        "no confirmation letter to the client: the booking was cancelled before it could be sent",
        "no confirmation letter to the coach: the booking was cancelled before it could be sent",
        "cancellation letter to the client: due",
        "cancellation letter to the coach: due",
        "no cancellation letter to the client: no confirmation had been sent, so neither is this",
        "no cancellation letter to the coach: no confirmation had been sent, so neither is this",
        "refund letter to the client: due",
        "no refund letter to the client: no confirmation had been sent, so neither is this",
        "",
        "nothing is open",
    ]


async def test_an_amount_that_is_not_ours(walk, database, sale):
    """Quarantined, nobody is confirmed, and what to type stands at the end."""
    await walk.stripe_says(sale.succeeded(amount_received=100))

    told = await story(database, sale.payment_id, sale)

    assert told[1] == "payment P1 is pending: 75.00 USD, CS1"
    assert (
        "payment: payment_intent.succeeded was quarantined: the amount is not what we asked for; it changed nothing "
        "(it said 1.00 USD)"
    ) in told
    assert re.fullmatch(r"open: a person must look after amount_mismatch: cb-ops attention resolve \S+ --by NAME", told[-1])


async def test_of_a_booking_that_was_paid_twice_each_line_says_which_payment_it_is_about(walk, database, engine, sale):
    """Paid twice: the second money is real, confirms nothing, and every line says which payment it is about."""
    twin = await twin_of(engine, sale)
    await walk.stripe_says(sale.succeeded(), twin.succeeded())

    told = await story(database, twin.payment_id, sale, twin)

    assert told[:3] == [
        "booking B is confirmed, held by payment 1; its session is at MOMENT UTC",
        "payment 1 P1 is succeeded: 75.00 USD, closed by checkout, PI1, CS1",
        "payment 2 P2 is succeeded: 75.00 USD, PI2, CS2",
    ]
    assert "payment 2: payment_intent.succeeded was applied: pending → succeeded" in told
    conflict = "booking: the money of payment 2 confirms nothing: another payment holds the booking already; nobody is mailed"
    assert conflict in told
    assert "a person was told: payment_conflict:already_paid (because of payment:P2)" in told
    assert told[-1].startswith("open: a person must look after payment_conflict:already_paid")
    assert len([line for line in told if "mail server took it" in line]) == 2


async def test_a_part_given_back_in_yen(walk, database):
    """Amounts have their currency's decimals."""
    sale = Sale(amount_minor=8000, currency="JPY")
    async with walk.engine.begin() as tx:
        await insert_sales(tx, sale)
    await walk.stripe_says(sale.succeeded(), sale.refunded(300))

    told = await story(database, sale.booking_id, sale)

    assert told[1] == "payment P1 is succeeded: 8000 JPY, 300 JPY given back, PI1, CS1"
    assert "payment: charge.refunded was applied: 300 JPY of 8000 JPY given back" in told


async def test_where_the_money_is_that_a_status_does_not_tell_of(walk, database, sale):
    """A dispute that was lost is no dispute that was won, and a refund under way is one: each with its amount."""
    refund, dispute = f"re_3{sale.tag}", f"du_3{sale.tag}00000000"
    await walk.stripe_says(
        sale.succeeded(),
        sale.refund(2000, status="pending", refund_id=refund),
        sale.dispute(amount=3000),
        sale.dispute("lost", amount=3000),
    )

    told = await story(database, refund, sale)

    assert told[1:5] == [
        "payment P1 is succeeded: 75.00 USD, PI1, CS1",
        f"refund {refund} of payment: 20.00 USD, pending",
        f"dispute {dispute} of payment for 30.00 USD is lost: the customer's bank keeps the money",
        "",
    ]
    taken = f"payment: refund.created was taken: nothing that is shown changed (refund {refund} of 20.00 USD, pending)"
    over = f"payment: charge.dispute.closed was applied: the dispute is over (dispute {dispute} of 30.00 USD, lost)"
    assert {taken, over} <= set(told)


async def test_what_a_charge_said_is_told_where_another_sum_is_shown(walk, database, sale):
    """One of its refunds failed, and its total came after a greater one: no amount is shown of which nobody sees why."""
    await walk.stripe_says(
        sale.succeeded(), sale.refund(2000, status="failed"), sale.refunded(5000), sale.refunded(2000), sale.refunded(3000)
    )

    told = await story(database, sale.payment_id, sale)

    assert "payment: charge.refunded was applied: 30.00 USD of 75.00 USD given back (its charge said 50.00 USD in all)" in told
    assert [line for line in told if line.startswith("payment: charge.refunded was taken")] == [
        "payment: charge.refunded was taken: nothing that is shown changed (its charge said 20.00 USD in all)",
        "payment: charge.refunded was taken: nothing that is shown changed",
    ]


async def test_what_the_older_application_gave_back_is_told_as_the_api_tells_it(database, engine, sale):
    """Its row says that it is refunded, and no column of ours says yet how much that was."""
    await change(
        engine, "update payments set amount_minor = null, status = 'refunded', closed_reason = 'refunded', closed_at = now()"
    )

    told = await story(database, sale.payment_id, sale)
    [payment] = json.loads((await why(database, sale.payment_id, "--json")).stdout)["story"]["payments"]

    assert told[1] == "payment P1 is refunded: 75.00 USD, 75.00 USD given back, closed as refunded, CS1"
    assert (payment["amount_minor"], payment["amount_refunded_minor"]) == (7500, 7500)


async def test_money_that_holds_no_booking_takes_none_with_it(walk, database, engine, sale):
    """The second of two payments is given back: the booking stays, and no line says otherwise."""
    twin = await twin_of(engine, sale)
    await walk.stripe_says(sale.succeeded(), twin.succeeded(), twin.refunded())

    told = await story(database, sale.booking_id, sale, twin)

    assert told[0] == "booking B is confirmed, held by payment 1; its session is at MOMENT UTC"
    assert not any("the booking goes" in line for line in told)


async def test_charges_and_refunds_of_bank_debits_lead_to_their_story(walk, database, sale):
    """Stripe calls them py_ and pyr_."""
    charge, refund = f"py_3{sale.tag}", f"pyr_3{sale.tag}"
    await walk.stripe_says(
        sale.succeeded(latest_charge=charge), sale.refunded(2000, id=charge), sale.refund(2000, refund_id=refund)
    )

    for asked in (charge, refund):
        assert (await story(database, asked, sale))[0].startswith("booking B is confirmed")


async def test_a_letter_that_was_given_up_and_an_event_that_came_twice(walk, database, sale):
    """The mailbox said no for good; Stripe said everything twice."""
    await walk.mailbox.switch(Switches(faults=(Fault(at="rcpt", what=550, recipient=f"coach-{sale.coach_id}@example.com"),)))
    event = sale.succeeded()
    await walk.take(record(event))
    await walk.take(record(event, partition=3, offset=41))

    told = await story(database, sale.booking_id, sale)

    assert "payment_intent.succeeded came again, at stripe.events/3/41: known, nothing happened twice" in told
    assert any(
        re.match(r"confirmation letter to the coach: given up after 1 attempt: smtp_permanent:550", line) for line in told
    )
    assert "confirmation letter to the client: the mail server took it (250), attempt 1" in told
    assert told[-2:] == [
        "",
        (
            "open: confirmation letter to the coach was given up: mend the cause, then "
            "cb-ops dlt replay email.dlt --id B --by NAME"
        ),
    ]


async def test_which_consumer_has_not_taken_a_payment_yet(walk, database, sale):
    """Paid, and nothing came of it: the bookings consumer stands, then the email consumer."""
    await walk.payments.handle([record(sale.succeeded())])

    assert (await story(database, sale.booking_id, sale))[-1] == (
        "open: payment is paid, and the bookings consumer has not taken that yet: is it ready? "
        "cb-ops dlt list payments.events.dlt --id P1"
    )

    [sent] = walk.published.records
    await walk.bookings.handle([record(sent.value, topic="payments.events", key=sent.key)])

    told = await story(database, sale.booking_id, sale)
    assert told[-2:] == [
        "",
        (
            "open: the booking is confirmed, and no letter about that is written down yet: is the email consumer ready? "
            "cb-ops dlt list bookings.events.dlt --id B"
        ),
    ]


async def test_which_consumer_has_not_taken_a_full_refund_yet(walk, database, sale):
    """The booking stands until it has; then nothing is open."""
    await walk.stripe_says(sale.succeeded())
    told_before = len(walk.published.records)
    await walk.payments.handle([record(sale.refunded())])

    assert (
        "open: payment was given back in full, and the bookings consumer has not taken that yet: is it ready? "
        "cb-ops dlt list payments.events.dlt --id P1"
    ) in await story(database, sale.booking_id, sale)

    [sent] = walk.published.records[told_before:]
    await walk.bookings.handle([record(sent.value, topic="payments.events", key=sent.key)])

    assert not any("has not taken that yet" in line for line in await story(database, sale.booking_id, sale))


async def test_what_still_waits_is_told_by_the_id_that_it_waits_for(walk, database, sale):
    """A refund of an intent that we do not know yet: no booking, but no shrug either."""
    await walk.stripe_says(sale.refunded())

    assert await story(database, sale.intent_id, sale) == [
        "PI1 belongs to no payment that we know",
        "",
        "charge.refunded came too early and waits: no payment is known by PI1 (it said 75.00 USD)",
        "",
        "open: charge.refunded has waited under PI1 since MOMENT UTC",
    ]


async def test_an_event_that_decides_nothing_is_told_by_its_id(walk, database):
    """Why did this event do nothing? Because it is of no kind of ours."""
    event = stripe_event("customer.created", {"id": "cus_1", "object": "customer"})
    await walk.stripe_says(event)

    told = await story(database, event["id"])

    assert told[0] == f"{event['id']} belongs to no payment that we know"
    assert told[2] == "customer.created decides nothing here"


async def test_a_booking_that_nobody_began_to_pay_for(database, engine, sale):
    """A booking without a payment is a short story."""
    await change(engine, "delete from payments")

    told = await story(database, sale.booking_id, sale)

    assert told[:2] == ["booking B is pending; its session is at MOMENT UTC", "nobody has begun to pay for it"]


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "10000-01-01", "0044-03-15 BC"])
async def test_a_session_outside_the_time_that_python_knows_hides_no_story(database, engine, sale, moment):
    """Its letters are dead, and who mends the booking looks here first."""
    await change(engine, f"update bookings set session_datetime = '{moment}'")

    told = await story(database, sale.booking_id, sale)

    assert told[0].startswith("booking B is pending; its session is at ")
    assert told[1].startswith("payment P1 is pending: 75.00 USD")


async def test_every_id_that_belongs_to_a_payment_leads_to_its_story(walk, database, sale):
    """The booking's, the payment's, and those that Stripe's dashboard shows."""
    refund, event = sale.refund(100), sale.succeeded()
    dispute = {"id": "du_1abc", "object": "dispute", "status": "needs_response", "payment_intent": sale.intent_id}
    await walk.stripe_says(event, refund, stripe_event("charge.dispute.created", dispute))

    asked = [
        sale.payment_id,
        sale.booking_id,
        sale.intent_id,
        sale.session_id,
        event["id"],
        refund["data"]["object"]["id"],
        "du_1abc",
    ]
    told = [await story(database, one, sale) for one in asked]

    assert all(each == told[0] for each in told)
    assert (
        "payment: charge.dispute.created was applied: disputed: Stripe may refuse refunds meanwhile "
        "(dispute du_1abc, needs_response)"
    ) in told[0]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("7f3c7a3e-0000-4000-8000-000000000000", "ask by its event (evt_) or its payment intent (pi_)"),
        ("nonsense", "ask by its event (evt_) or its payment intent (pi_)"),
        ("du_1", "ask by its event (evt_) or its payment intent (pi_)"),
        ("pi_unknown", "ask by its event (evt_)"),
        (
            "evt_unknown",
            "what could not be read lies among the dead letters: cb-ops dlt list stripe.events.dlt --id evt_unknown",
        ),
    ],
)
async def test_an_unknown_id_is_one_line_and_a_failure(database, asked, hint):
    """No traceback, and no empty story; what was quarantined or waits is found by another id, what was not read elsewhere."""
    result = await why(database, asked)

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"nothing is known about {asked}; {hint}\n")


async def test_a_script_gets_the_values_and_the_words(walk, database, sale):
    """The same story as values: ids, minor units, moments in RFC 3339."""
    await walk.stripe_says(sale.succeeded())

    answer = json.loads((await why(database, sale.payment_id, "--json")).stdout)

    assert answer["story"]["payments"][0]["amount_minor"] == 7500
    [line] = answer["story"]["lines"]
    assert (line["decision"], line["before"]["status"], line["after"]["status"]) == ("applied", "pending", "succeeded")
    assert [letter["state"] for letter in answer["story"]["letters"]] == ["sent", "sent"]
    assert [step["about"] for step in answer["told"]["steps"]] == ["checkout", "event", "booking", *["letter"] * 4]


async def test_what_the_inbox_has_forgotten_is_still_told_by_rows_and_ledger(walk, database, engine, sale):
    """After 45 days the booking's own changes are gone from the story; what it is, and why, is not."""
    await walk.stripe_says(sale.succeeded())
    await change(engine, "delete from inbox")

    told = await story(database, sale.payment_id, sale)

    assert told[0] == "booking B is confirmed, held by payment; its session is at MOMENT UTC"
    assert "payment: payment_intent.succeeded was applied: pending → succeeded" in told


async def test_what_was_refused_when_its_payment_came_is_told_and_still_open(walk, database, sale):
    """An event that waited and then contradicted the payment stays where an operator finds it."""
    nameless = {"id": "cs_test_another", "metadata": {}, "client_reference_id": None}
    wrong = sale.completed(amount_total=7400, **nameless)
    await walk.stripe_says(wrong, sale.succeeded())

    told = await story(database, sale.payment_id, sale)

    assert any("checkout.session.completed after waiting since MOMENT UTC was quarantined" in line for line in told)
    assert f"open: checkout.session.completed waited under PI1 and was refused: cb-ops waiting show {wrong['id']}" in told
