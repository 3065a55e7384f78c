"""A session that is paid and of which Stripe made no event is found by the same run, and put before a person."""

import json
from datetime import timedelta

import pytest

from deploy.ops import matters, sessions
from shared import clock
from shared.db import attention
from shared.db.engine import rows
from shared.stripe_events import Kind
from tests.support.builders import Sale, insert_sales
from tests.support.reconciling import answer, statuses, take
from tests.support.sandboxes import order


async def overdue(world, engine, sale, *, hours=2.0, **wish):
    """Checkout's row, the session that it made, and two hours since that should be over."""
    intent = {"metadata": sale.metadata}
    session = await world.session(
        client_reference_id=sale.payment_id, metadata=sale.metadata, payment_intent_data=intent, **wish
    )
    async with engine.begin() as tx:
        await insert_sales(tx, sale)
        bind = "update payments set stripe_session_id = $2, expires_at = now() - $3::interval where id = $1"
        await rows(tx, bind, sale.payment_id, session.id, timedelta(hours=hours))
    return session


async def lose(world, *kinds):
    """Have Stripe fail to make the next event of each kind."""
    for kind in kinds:
        await world.switch("POST", "losses", {"type": kind})


async def paid_in_silence(world, engine, sale):
    """A customer pays, and Stripe makes no event of it."""
    session = await overdue(world, engine, sale)
    await lose(world, "checkout.session.completed", "payment_intent.succeeded")
    await world.pay(session)
    return session


async def told(engine):
    """Each matter for a person: what it is about, its cause, and who resolved it."""
    async with engine.begin() as tx:
        return [(one.aggregate, one.cause, one.resolved_by) for one in await matters.listed(tx, resolved_too=True)]


async def test_a_session_that_is_paid_without_an_event_is_one_matter_until_its_payment_moves(world, engine, ground, reconcile):
    """However often it is seen; and the event that comes in the end, by whatever way, resolves it."""
    sale = Sale()
    session = await paid_in_silence(world, engine, sale)

    first, again = [answer(await reconcile("--json"), status=1)["sessions"] for _ in range(2)]
    standing = await told(engine)
    await take(engine, sale.completed(id=session.id))
    later = answer(await reconcile("--json"))["sessions"]

    stands = {"payment_id": sale.payment_id, "session_id": session.id}
    assert first == again
    assert (first["asked"], first["paid"], first["moved_on"]) == (1, [stands], 0)
    assert standing == [(f"payment:{sale.payment_id}", session.id, None)]
    assert (later["asked"], later["paid"], later["moved_on"]) == (0, [], 1)
    assert await told(engine) == [(f"payment:{sale.payment_id}", session.id, "cb-ops stripe reconcile")]


async def test_a_refund_ends_what_no_event_began(world, engine, ground, reconcile):
    """What docs/operating.md tells an operator to do: its charge names the payment, which is closed."""
    session = await paid_in_silence(world, engine, Sale())
    answer(await reconcile("--json"), status=1)
    shown = await world.client.v1.checkout.sessions.retrieve_async(session.id)
    await world.client.v1.refunds.create_async({"payment_intent": shown.payment_intent})
    listed = json.loads((await world.client.v1.events.list_async()).last_response.body)["data"]
    await take(engine, *(event for event in listed if event["type"] in {*Kind}))

    later = answer(await reconcile("--json"))["sessions"]

    assert await statuses(engine) == ["refunded"]
    assert (later["asked"], later["moved_on"]) == (0, 1)


async def test_a_person_reads_which_sessions_are_paid_and_where_to_look(world, engine, ground, reconcile):
    """And whoever watches the timer sees its status."""
    sale = Sale()
    session = await paid_in_silence(world, engine, sale)

    result = await reconcile()

    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert f"{sale.payment_id}  {session.id}  paid" in lines
    assert lines[-2].startswith("of 1 sessions that should be over and of which no event said so, 1 are paid, 0 expired")
    assert lines[-1] == "each that is paid is a matter for a person: `cb-ops attention list`"


async def test_a_dry_run_opens_no_matter_and_resolves_none(world, engine, ground, reconcile):
    """It tells all the same."""
    sale, moved = Sale(), Sale()
    moved_session = await paid_in_silence(world, engine, moved)
    await reconcile()
    await take(engine, moved.completed(id=moved_session.id))
    await paid_in_silence(world, engine, sale)

    found = answer(await reconcile("--dry-run", "--json"), status=1)["sessions"]

    assert [one["payment_id"] for one in found["paid"]] == [sale.payment_id]
    assert await told(engine) == [(f"payment:{moved.payment_id}", moved_session.id, None)]


async def test_a_session_that_is_not_paid_calls_nobody(world, engine, ground, reconcile):
    """Open, expired, or complete while the customer's bank takes its days: they are counted."""
    await overdue(world, engine, Sale())
    await lose(world, "checkout.session.expired")
    expired = await overdue(world, engine, Sale())
    await world.client.v1.checkout.sessions.expire_async(expired.id)
    await lose(world, "checkout.session.completed", "checkout.session.async_payment_failed", "payment_intent.payment_failed")
    await world.promise(await overdue(world, engine, Sale(currency="EUR"), **order(currency="eur")))

    found = answer(await reconcile("--json"))["sessions"]

    assert (found["asked"], found["paid"], found["expired"], found["under_way"]) == (3, [], 1, 2)
    assert await told(engine) == []


async def test_of_a_session_whose_event_is_on_its_way_nobody_is_told(world, engine, ground, reconcile):
    """Its money came a moment ago, as a delayed method's may at any time."""
    await world.pay(await overdue(world, engine, Sale()))

    found = answer(await reconcile("--json"))

    assert (found["events"], found["sessions"]["asked"], found["sessions"]["under_way"]) == (0, 1, 1)
    assert await told(engine) == []


@pytest.mark.parametrize("choice", [(), ("--dry-run",)])
async def test_a_session_whose_event_this_run_brings_is_left_to_it(world, engine, ground, reconcile, settled, choice):
    """The endpoint was disabled: all of yesterday's payments would be matters, for an hour."""
    await world.pay(await overdue(world, engine, Sale()))

    found = answer(await reconcile("--json", *choice))

    assert (len(found["missing"]), found["sessions"]["asked"]) == (2, 0)
    assert await told(engine) == []


async def test_whose_session_has_just_ended_or_whose_payment_moved_is_not_asked_for(world, engine, ground, reconcile):
    """Their webhooks may come; or one has."""
    await overdue(world, engine, Sale(), hours=0.9)
    for end in ("paid = true", "closed_at = now()"):
        moved = Sale()
        await overdue(world, engine, moved)
        async with engine.begin() as tx:
            await rows(tx, f"update payments set {end} where id = $1", moved.payment_id)

    assert answer(await reconcile("--json"))["sessions"]["asked"] == 0


async def test_what_a_person_has_looked_after_is_left_alone(world, engine, ground, reconcile):
    """Whatever they decided: the run ends well again, and asks no more."""
    await paid_in_silence(world, engine, Sale())
    await reconcile()
    async with engine.begin() as tx:
        [matter] = await matters.listed(tx, resolved_too=False)
        await matters.resolve(tx, matter.id, by="Ada")

    assert answer(await reconcile("--json"))["sessions"]["asked"] == 0


async def test_what_a_person_has_looked_after_hides_nothing_else(world, engine, ground, reconcile):
    """Neither another payment, nor of another reason: each that is paid is told, and stays until its own payment moves."""
    await paid_in_silence(world, engine, Sale())
    await reconcile()
    other = Sale()
    async with engine.begin() as tx:
        [matter] = await matters.listed(tx, resolved_too=False)
        await matters.resolve(tx, matter.id, by="Ada")
        await attention.open_(tx, reason="dispute_opened", aggregate=f"payment:{other.payment_id}", cause="evt_1")
        [matter] = await matters.listed(tx, resolved_too=False)
        await matters.resolve(tx, matter.id, by="Ada")
    session = await paid_in_silence(world, engine, other)

    found = answer(await reconcile("--json"), status=1)["sessions"]

    assert found["paid"] == [{"payment_id": other.payment_id, "session_id": session.id}]


async def test_what_moved_on_settles_no_matter_of_another_reason(world, engine, ground, reconcile):
    """A dispute of a payment that is paid is still for a person."""
    sale = Sale()
    session = await paid_in_silence(world, engine, sale)
    await reconcile()
    await take(engine, sale.completed(id=session.id))
    async with engine.begin() as tx:
        await attention.open_(tx, reason="dispute_opened", aggregate=f"payment:{sale.payment_id}", cause="evt_1")
    found = answer(await reconcile("--json"))["sessions"]

    assert found["moved_on"] == 1
    async with engine.begin() as tx:
        assert [one.reason for one in await matters.listed(tx, resolved_too=False)] == ["dispute_opened"]


async def test_a_session_that_stripe_does_not_know_ends_the_run_badly_and_hides_no_other(world, engine, ground, reconcile):
    """A key of another mode; what is paid is told all the same."""
    stranger, sale = Sale(), Sale()
    await overdue(world, engine, stranger)
    async with engine.begin() as tx:
        await rows(tx, "update payments set stripe_session_id = 'cs_live_1' where id = $1", stranger.payment_id)
    alone = await reconcile()
    session = await paid_in_silence(world, engine, sale)

    result = await reconcile("--json")

    found = answer(result, status=1)["sessions"]
    assert alone.exit_code == 1
    assert [one["session_id"] for one in found["unknown"]] == ["cs_live_1"]
    assert result.stderr.splitlines()[-1] == (
        f"Stripe at {world.url} does not know 1 of our sessions: is the key of their mode and account?"
    )
    assert await told(engine) == [(f"payment:{sale.payment_id}", session.id, None)]


async def test_what_stripe_said_before_it_fell_silent_is_told(world, engine, ground, reconcile):
    """Of two sessions one is refused, by Stripe's limit of calls: the next run asks for it again."""
    for _ in range(2):
        await paid_in_silence(world, engine, Sale())
    await world.switch("POST", "faults", {"route": "GET /v1/checkout/sessions/{id}", "kind": "rate_limit"})

    result = await reconcile()
    before = await told(engine)
    answer(await reconcile("--json"), status=1)

    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, f"Stripe at {world.url}: rate_limit")
    assert (len(before), len(await told(engine))) == (1, 2)


async def test_more_than_one_run_asks_for_are_left_to_the_next_and_none_for_ever(world, engine, ground, reconcile, monkeypatch):
    """Rows that stay as they are stand in nobody's way: who is asked for is drawn by lot."""
    monkeypatch.setattr(sessions, "ASKED_MAX", 2)
    for _ in range(3):
        await overdue(world, engine, Sale())

    found = answer(await reconcile("--json"))["sessions"]
    lines = (await reconcile()).stdout.splitlines()
    drawn = set()
    async with engine.begin() as tx:
        for _ in range(60):
            drawn |= {row[0] for row in await rows(tx, sessions.OVERDUE, clock.now(), sessions.REASON, 2)}

    assert (found["asked"], found["left"]) == (2, 1)
    assert lines[-1] == "1 more were left to the next run"
    assert len(drawn) == 3
