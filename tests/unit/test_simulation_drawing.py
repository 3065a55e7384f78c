"""Who comes to a simulation, and which bad days it has: all of it follows from the seed."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.dev.simulation import bad_days, persons
from deploy.dev.simulation.persons import Accept, Answer, AtBank, Ending, GiveBack, Wait
from deploy.dev.stripe import cards
from deploy.dev.stripe import money as stripes_money
from deploy.dev.stripe.api import ROUTES
from deploy.dev.stripe.deliveries import Switches
from deploy.dev.stripe.faults import Fault
from shared.domain import money

SEEDS = st.integers(min_value=0, max_value=2**63)


@pytest.fixture(scope="module")
def many():
    """Enough persons that everything that may be drawn was drawn."""
    return persons.draw(1, rate=100, seconds=30).persons


@given(seed=SEEDS, rate=st.floats(0.1, 10), seconds=st.floats(0.1, 5))
def test_the_same_seed_is_the_same_world(seed, rate, seconds):
    """Persons, cards, acts, amounts, their order and their moments; bad days too."""
    drawn = persons.draw(seed, rate=rate, seconds=seconds)

    assert persons.draw(seed, rate=rate, seconds=seconds) == drawn
    assert bad_days.draw(seed, seconds=seconds) == bad_days.draw(seed, seconds=seconds)
    assert all(one.arrives_seconds < seconds for one in drawn.persons)
    assert all(one.arrives_seconds <= after.arrives_seconds for one, after in pairwise(drawn.persons))


@given(seed=SEEDS)
def test_a_longer_run_begins_with_the_persons_of_a_shorter_one(seed):
    """What was seen in a short run is seen again in a long one of the seed."""
    short, long = persons.draw(seed, rate=3, seconds=2), persons.draw(seed, rate=3, seconds=5)

    assert long.persons[: len(short.persons)] == short.persons
    assert long.coaches == short.coaches


def test_two_seeds_are_two_worlds():
    """Each seed has persons of its own."""
    assert persons.draw(1, rate=5, seconds=5).persons != persons.draw(2, rate=5, seconds=5).persons


def test_everything_that_can_be_drawn_is_drawn(many):
    """Every card and account, every ending, every act, two tabs, a second visit: none of them is only written down."""
    visits = [visit for one in many for visit in one.visits]
    attempts = [attempt for visit in visits for attempt in visit.attempts]
    acts = [act for one in many for act in one.acts]

    assert {attempt.number for attempt in attempts} == {*cards.BY_NUMBER, *cards.BY_IBAN}
    assert {attempt.at_bank for attempt in attempts} == {*AtBank, None}
    assert {visit.ending for visit in visits} == set(Ending)
    assert {visit.tabs for visit in visits} == {1, 2}
    assert {len(one.visits) for one in many} == {1, 2}
    assert {type(act) for act in acts} == {GiveBack, Answer, Accept, Wait}
    assert {one.coach.currency for one in many} == set(persons.COACHES)
    assert {one.hasty for one in many if one.acts} == {True, False}
    assert not any(one.hasty for one in many if not one.acts or one.visits[-1].attempts[-1].by_debit)


def test_a_price_is_what_the_product_asks(many):
    """Counted another way than the product does, and the same."""
    for one in many:
        assert one.price_minor == money.price_minor(one.coach.hourly_rate, one.minutes, one.coach.currency)


def test_refunds_are_what_stripe_takes(many):
    """Positive, in whole steps of the currency, together never more than the price; a card that gives them back, one alone."""
    for one in many:
        back = [act.amount_minor for act in one.acts if isinstance(act, GiveBack)]
        step = stripes_money.step(one.coach.currency.lower())
        assert all(amount > 0 and amount % step == 0 for amount in back)
        assert sum(back) <= one.price_minor
        assert len(back) <= (1 if one.refunds_come_back else 3)
    assert any(sum(act.amount_minor for act in one.acts if isinstance(act, GiveBack)) == one.price_minor for one in many)


def test_bad_days_are_words_that_the_sandbox_knows():
    """Nothing drawn is refused, every fault occurs, and no event is lost for good."""
    drawn = bad_days.draw(1, seconds=600)
    faults = [msgspec.convert(one.words, Fault) for one in drawn if one.path == "faults"]
    spells = [msgspec.convert(one.words, Switches) for one in drawn if one.path == "deliveries"]

    assert {one.path for one in drawn} == {"faults", "deliveries"}
    assert {fault.kind for fault in faults} == set(bad_days.FAULTS)
    assert {fault.route for fault in faults} <= {route.name for route in ROUTES}
    assert min(spell.duplicates for spell in spells) > 0
    assert {spell.drop_first for spell in spells} == {0, 1}
    assert max(spell.reorder_ms for spell in spells) > 1000
