"""What the shop of a simulation does at Stripe, against the sandbox and its faults: each act is done, and done once."""

import pytest

from deploy.dev.simulation.bad_days import FAULTS
from deploy.dev.simulation.desk import Desk
from deploy.dev.simulation.patience import Hindered, Patience
from deploy.dev.simulation.persons import Accept, Answer, GiveBack, Wait
from deploy.dev.simulation.steps import Step
from deploy.dev.simulation.support import Support

REFUND = GiveBack(2500, "duplicate")
DISPUTED = "4000000000000259"


@pytest.fixture
def steps():
    return []


@pytest.fixture
def support(world, steps):
    patience = Patience(8)
    return Support(Desk(world.http, world.url, "sk_test_x", patience), patience, steps.append)


@pytest.mark.parametrize("kind", FAULTS)
async def test_a_refund_is_made_once_whatever_happens_to_the_call(world, support, steps, kind):
    """Not done, done and not told, told in half: the money goes back once."""
    session = await world.paid()
    await world.switch("POST", "faults", {"route": "POST /v1/refunds", "kind": kind, "times": 2, "seconds": 0.2})

    await support.act(session.id, REFUND, name="once", comes_back=False)

    [refund] = (await world.client.v1.refunds.list_async()).data
    assert (refund.amount, refund.status, refund.reason, steps) == (2500, "succeeded", "duplicate", [Step.REFUNDED])
    assert (await world.switch("GET", "faults"))[1] == []


async def test_two_parts_of_one_amount_are_two_refunds(world, support):
    """The name of an act tells it from another of the same words, also after a call that was done and not told."""
    session = await world.paid()
    for name in ("first", "second"):
        await world.switch("POST", "faults", {"route": "POST /v1/refunds", "kind": "error_after"})
        await support.act(session.id, REFUND, name=name, comes_back=False)

    assert [refund.amount for refund in (await world.client.v1.refunds.list_async()).data] == [2500, 2500]


async def test_what_stripe_refuses_hinders(world, support):
    """More than was paid: no patience helps."""
    session = await world.paid()

    with pytest.raises(Hindered, match="greater than unrefunded amount"):
        await support.act(session.id, GiveBack(9999, "duplicate"), name="much", comes_back=False)


@pytest.mark.parametrize(
    ("act", "end"),
    [
        (Answer("winning_evidence"), "won"),
        (Answer("losing_evidence"), "lost"),
        (Accept(), "lost"),
        (Wait(), "needs_response"),
    ],
)
async def test_a_dispute_is_decided(world, support, steps, act, end):
    """Each act waits for the bank's question, and for its verdict where there will be one."""
    session = await world.session()
    assert (await world.pay(session, DISPUTED))[0] == 303

    await support.act(session.id, act, name="dispute", comes_back=False)

    [dispute] = (await world.client.v1.disputes.list_async()).data
    assert (dispute.status, steps) == (end, [Step.DISPUTED])
