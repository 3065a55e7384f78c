"""The ledger of letters on real PostgreSQL: one row for ever, one sender at a time, no mark without a claim."""

import asyncio
import uuid
from dataclasses import replace

import pytest

from consumers.email import delivery, kinds, ledger, sending, store
from consumers.email.breaker import TRIPPED_SECONDS_MAX
from consumers.email.kinds import Suppression
from consumers.email.ledger import Claim, Leased, NothingToDo, Suppress
from consumers.email.store import ClaimWrite, Sent
from shared.db import engine as engines
from shared.db.engine import rows
from shared.kafka.liveness import BATCH_SECONDS_MAX
from tests.support.builders import Sale, confirmed, insert_sales
from tests.support.database import waits_for_a_lock
from tests.support.waiting import until

ROUNDS = 200  # in one of thirty both are between looking for the letter and writing it
WRITTEN = {
    "due": store.enter,
    "withheld": lambda tx, letters: store.withhold(tx, [(letter, Suppression.CANCELLED_FIRST) for letter in letters]),
}


@pytest.fixture
async def sale(engine):
    one = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, one, booking_status="confirmed")
    return one


@pytest.fixture
async def rival(database):
    """Another process at the same database."""
    made = engines.create(database, application="tests")
    yield made
    await made.dispose()


@pytest.fixture
def letters(sale):
    return kinds.of_booking(confirmed(sale), sender_domain="example.org").due


async def judged(engine, letter, *, attempt=0, replayed=False):
    async with engine.begin() as tx:
        return ledger.judge((await store.load(tx, [letter.id]))[letter.id], attempt=attempt, replayed=replayed)


async def claimed(engine, letter, *, maybe_sent=False, attempts=0):
    token = uuid.uuid4()
    async with engine.begin() as tx:
        await store.load(tx, [letter.id])
        await store.claim(tx, [ClaimWrite(letter.id, token, attempts, maybe_sent)])
    return token


async def handed_over(engine, letter, token):
    async with engine.begin() as tx:
        return await store.hand_over(tx, [(letter.id, token)])


async def sent(engine, letter, token, answer="250"):
    async with engine.begin() as tx:
        return (await store.record_sent(tx, [Sent(letter.id, token, answer)]))[letter.id]


async def entered(engine, *letters):
    async with engine.begin() as tx:
        await store.enter(tx, letters)


async def expire(engine, letter):
    async with engine.begin() as tx:
        await rows(tx, "update letters set lease_until = now() - interval '1 second' where id = $1", letter.id)


async def row(engine, letter, columns="state"):
    async with engine.begin() as tx:
        return (await rows(tx, f"select {columns} from letters where id = $1", letter.id))[0]


def test_ids_and_message_ids_are_the_bookings(letters):
    """A repeated event means the same two letters, whatever else it says."""
    client, coach = letters
    assert client.id != coach.id
    assert client.message_id == f"<{client.id}@example.org>"
    assert (client.currency, client.role, coach.role) == ("USD", "client", "coach")


async def test_a_letter_is_entered_once(engine, letters):
    """Entering again changes nothing, not even after it was sent."""
    await entered(engine, *letters, *letters)
    await sent(engine, letters[0], await claimed(engine, letters[0]))
    await entered(engine, *letters)

    assert (await row(engine, letters[0]))[0] == "sent"
    assert (await row(engine, letters[1]))[0] == "queued"
    assert await judged(engine, letters[0]) == NothingToDo("already_sent")


async def test_only_one_of_two_senders_claims(engine, letters):
    """Two processes at the same letter: one claims it, the other finds it leased."""
    await entered(engine, *letters)

    async def race():
        async with engine.begin() as tx:
            locked = (await store.load(tx, [letters[0].id]))[letters[0].id]
            judgement = ledger.judge(locked, attempt=0, replayed=False)
            if isinstance(judgement, Claim):
                await store.claim(tx, [ClaimWrite(letters[0].id, uuid.uuid4(), 0, judgement.maybe_sent)])
            return judgement

    judgements = await asyncio.gather(*(race() for _ in range(4)))
    assert sorted(type(j).__name__ for j in judgements) == ["Claim", "Leased", "Leased", "Leased"]


async def test_a_lease_that_ran_out_after_data_began_is_claimed_as_maybe_sent(engine, letters):
    """Its sender died, perhaps after the final dot: it is sent again, under the same Message-ID, and counted."""
    await entered(engine, *letters)
    token = await claimed(engine, letters[0])
    assert await judged(engine, letters[0]) == Leased()
    assert await handed_over(engine, letters[0], token) == {token}
    await expire(engine, letters[0])

    assert await judged(engine, letters[0]) == Claim(maybe_sent=True, attempts=0)
    await claimed(engine, letters[0], maybe_sent=True)
    assert tuple(await row(engine, letters[0], "possible_duplicates, message_id")) == (1, letters[0].message_id)


async def test_a_lease_that_ran_out_before_data_is_no_possible_duplicate(engine, letters):
    """Nothing of the letter left the house; what an earlier sender had begun counts for that one alone."""
    await entered(engine, *letters)
    first = await claimed(engine, letters[0])
    await handed_over(engine, letters[0], first)
    await expire(engine, letters[0])
    await claimed(engine, letters[0], maybe_sent=True)
    await expire(engine, letters[0])

    assert await judged(engine, letters[0]) == Claim(maybe_sent=False, attempts=0)


async def test_a_letter_leaves_only_under_its_claim(engine, letters):
    """Whoever lost its lease is told so before DATA; whoever holds it gets a lease anew, for as long as the answer may take."""
    await entered(engine, *letters)
    lost = await claimed(engine, letters[0])
    await expire(engine, letters[0])
    now = await claimed(engine, letters[0])
    await expire(engine, letters[0])

    assert await handed_over(engine, letters[0], lost) == set()
    assert await handed_over(engine, letters[0], now) == {now}
    assert await judged(engine, letters[0]) == Leased()
    (seconds,) = await row(engine, letters[0], "extract(epoch from lease_until - now())::float8")
    assert seconds > delivery.CONVERSATION_SECONDS_MAX + delivery.DOT_SECONDS_MAX


def test_the_longest_conversation_fits_into_whatever_waits_for_it():
    """A claim's lease until DATA begins, the breaker's memory, and the time after which a batch counts as stuck."""
    to_the_dot, after_it = delivery.CONVERSATION_SECONDS_MAX, delivery.DOT_SECONDS_MAX

    assert to_the_dot < store.LEASE_SECONDS
    assert to_the_dot + after_it < TRIPPED_SECONDS_MAX
    assert sending.BEGIN_SECONDS_MAX + to_the_dot + after_it < BATCH_SECONDS_MAX


async def test_whoever_lost_its_claim_is_not_mistaken_for_its_holder(engine, letters):
    """Both ask in one statement before DATA: the letter leaves once."""
    await entered(engine, *letters)
    lost, now = await claimed(engine, letters[0]), await claimed(engine, letters[0])

    async with engine.begin() as tx:
        assert await store.hand_over(tx, [(letters[0].id, lost), (letters[0].id, now)]) == {now}


MARKS = {
    "handed over": store.hand_over,
    "sent": lambda tx, claims: store.record_sent(tx, [Sent(letter_id, token, "250") for letter_id, token in claims]),
}


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
async def test_letters_are_marked_in_the_order_in_which_they_are_loaded(engine, letters, mark):
    """Whoever waits for one letter holds none that comes after it: nobody waits crosswise."""
    await entered(engine, *letters)
    first, second = sorted(letters, key=lambda letter: letter.id)
    claims = [(letter.id, await claimed(engine, letter)) for letter in (second, first)]

    async with engine.begin() as holder:
        await store.load(holder, [first.id])
        async with engine.begin() as tx:
            asking = asyncio.create_task(mark(tx, claims))
            await until(waits_for_a_lock(engine), "it waits for the first letter")
            await rows(holder, "set local lock_timeout = '2s'")
            await store.load(holder, [second.id])
            await holder.commit()
            assert len(await asking) == len(claims)


async def test_a_failed_attempt_is_counted_and_may_be_repeated(engine, letters):
    """The letter waits for its next record; one whose connection was lost after the dot may have arrived."""
    await entered(engine, *letters)
    for letter, answer in zip(letters, ("450 4.2.1", "connection_lost_after_dot"), strict=True):
        token = await claimed(engine, letter)
        async with engine.begin() as tx:
            assert await store.record_retrying(tx, letter.id, token, reason="x", answer=answer)
            assert not await store.record_retrying(tx, letter.id, token, reason="x", answer=answer)

    assert tuple(await row(engine, letters[0], "state, attempts, last_answer")) == ("retrying", 1, "450 4.2.1")
    assert await judged(engine, letters[0], attempt=1) == Claim(maybe_sent=False, attempts=1)
    assert await judged(engine, letters[1], attempt=1) == Claim(maybe_sent=True, attempts=1)


async def test_every_change_of_state_has_its_time(engine, letters):
    """Queued, sending, retrying, sending, sent: each once, with attempts and answer; marks that change no state add none."""
    await entered(engine, *letters)
    token = await claimed(engine, letters[0])
    await handed_over(engine, letters[0], token)
    async with engine.begin() as tx:
        await store.record_retrying(tx, letters[0].id, token, reason="smtp_transient:450", answer="450")
    await sent(engine, letters[0], await claimed(engine, letters[0], attempts=1))
    async with engine.begin() as tx:
        changes = await rows(
            tx,
            "select state, attempts, last_answer, reason from letter_changes where letter_id = $1 order by id",
            letters[0].id,
        )
        undated = await rows(tx, "select count(*) from letter_changes where changed_at is null")

    assert [tuple(change) for change in changes] == [
        ("queued", 0, None, None),
        ("sending", 0, None, None),
        ("retrying", 1, "450", "smtp_transient:450"),
        ("sending", 1, "450", None),
        ("sent", 2, "250", None),
    ]
    assert undated == [(0,)]


async def test_a_mark_needs_the_claim(engine, letters):
    """Whoever lost its lease can neither bury nor release the letter of the one who has it now."""
    await entered(engine, *letters)
    lost = await claimed(engine, letters[0])
    await expire(engine, letters[0])
    await claimed(engine, letters[0])

    async with engine.begin() as tx:
        assert not await store.record_dead(tx, letters[0].id, lost, judged=True, reason="x", answer="550")
        await store.release(tx, letters[0].id, lost)
    assert tuple(await row(engine, letters[0], "state, attempts")) == ("sending", 0)


async def test_a_250_is_recorded_whoever_holds_the_claim(engine, letters):
    """What was accepted is accepted; the other sender's later mark finds it sent."""
    await entered(engine, *letters)
    lost = await claimed(engine, letters[0])
    await expire(engine, letters[0])
    now = await claimed(engine, letters[0])

    recorded = await sent(engine, letters[0], lost, "250 2.0.0")
    assert not recorded.claim_held
    assert recorded.seconds >= 0
    async with engine.begin() as tx:
        assert not await store.record_dead(tx, letters[0].id, now, judged=True, reason="x", answer="450")
    assert tuple(await row(engine, letters[0], "state, attempts, last_answer")) == ("sent", 1, "250 2.0.0")
    assert (await row(engine, letters[0], "sent_at >= queued_at"))[0]


async def test_release_gives_back_without_counting(engine, letters):
    """The mail server's trouble is no attempt."""
    await entered(engine, *letters)
    token = await claimed(engine, letters[0])
    async with engine.begin() as tx:
        await store.release(tx, letters[0].id, token)

    assert tuple(await row(engine, letters[0], "state, attempts, claim_token")) == ("queued", 0, None)
    assert await judged(engine, letters[0]) == Claim(maybe_sent=False, attempts=0)


async def test_a_dead_letter_is_claimed_only_by_a_replay(engine, letters):
    """And one that was lost after its final dot may have arrived already."""
    await entered(engine, *letters)
    for letter, answer in zip(letters, ("550 5.1.1", "connection_lost_after_dot"), strict=True):
        token = await claimed(engine, letter)
        async with engine.begin() as tx:
            assert await store.record_dead(tx, letter.id, token, judged=True, reason="x", answer=answer)

    assert await judged(engine, letters[0], attempt=1) == NothingToDo("already_dead")
    assert await judged(engine, letters[0], replayed=True) == Claim(maybe_sent=False, attempts=0)
    assert await judged(engine, letters[1], replayed=True) == Claim(maybe_sent=True, attempts=0)


async def test_a_record_of_an_earlier_attempt_is_stale(engine, letters):
    """What the letter has gone through since, its record need not repeat."""
    await entered(engine, *letters)
    async with engine.begin() as tx:
        await rows(tx, "update letters set state = 'retrying', attempts = 2 where id = $1", letters[0].id)

    assert await judged(engine, letters[0], attempt=1) == NothingToDo("stale")
    assert await judged(engine, letters[0], attempt=2) == Claim(maybe_sent=False, attempts=2)


@pytest.mark.parametrize("confirmed_first", [True, False])
async def test_a_cancelled_booking_suppresses_in_either_order(engine, letters, confirmed_first):
    """Confirmed then cancelled, or the other way round: nobody is told, and the row says why."""
    for confirm in (confirmed_first, not confirmed_first):
        async with engine.begin() as tx:
            if confirm:
                await store.enter(tx, letters)
            else:
                await store.withhold(tx, [(letter, Suppression.CANCELLED_FIRST) for letter in letters])

    for letter in letters:
        assert tuple(await row(engine, letter, "state, reason")) == ("suppressed", "cancelled_before_sent")
        assert await judged(engine, letter) == NothingToDo("already_suppressed")


@pytest.mark.parametrize("write", WRITTEN.values(), ids=WRITTEN)
async def test_two_processes_that_enter_one_letter_in_the_same_moment_both_find_it_entered(engine, rival, letters, write):
    """An event comes to two when its partition changes hands: a refusal of PostgreSQL's would make a dead letter of it."""

    async def write_by(one, letter):
        async with one.begin() as tx:
            await write(tx, [letter])

    for _ in range(ROUNDS):
        letter = replace(letters[0], id=uuid.uuid4(), booking_id=uuid.uuid4())
        await asyncio.gather(write_by(engine, letter), write_by(rival, letter))

    async with engine.begin() as tx:
        assert await rows(tx, "select count(*), count(distinct booking_id) from letters") == [(ROUNDS, ROUNDS)]


async def take_back(tx, *letters):
    await store.withhold(tx, [(letter, Suppression.CANCELLED_FIRST) for letter in letters])


async def test_a_letter_being_sent_stays_with_its_sender(engine, letters):
    """A cancellation takes back only letters for which DATA has not begun."""
    await entered(engine, *letters)
    await handed_over(engine, letters[0], await claimed(engine, letters[0]))
    async with engine.begin() as tx:
        await take_back(tx, *letters)

    assert (await row(engine, letters[0]))[0] == "sending"
    assert (await row(engine, letters[1]))[0] == "suppressed"


async def test_a_letter_that_waits_for_a_connection_is_taken_back(engine, letters):
    """Its claim holds no more when its sender asks before DATA."""
    await entered(engine, *letters)
    token = await claimed(engine, letters[0])
    async with engine.begin() as tx:
        await take_back(tx, *letters)

    assert await handed_over(engine, letters[0], token) == set()
    found = await row(engine, letters[0], "state, reason, claim_token, lease_until")
    assert tuple(found) == ("suppressed", "cancelled_before_sent", None, None)


@pytest.mark.parametrize("claimed_again", [True, False])
async def test_a_letter_that_is_taken_back_may_have_been_accepted_under_an_earlier_claim(engine, letters, claimed_again):
    """Then its row says so, and a cancellation follows."""
    await entered(engine, *letters)
    token = await claimed(engine, letters[0])
    async with engine.begin() as tx:
        await store.record_retrying(tx, letters[0].id, token, reason="x", answer="connection_lost_after_dot")
    if claimed_again:
        await claimed(engine, letters[0], maybe_sent=True, attempts=1)
    async with engine.begin() as tx:
        await take_back(tx, *letters)

    assert tuple(await row(engine, letters[0], "state, reason")) == ("suppressed", "cancelled_perhaps_sent")


@pytest.mark.parametrize("first", ["hand over", "take back"])
async def test_a_letter_is_either_taken_back_or_sent_when_both_come_in_one_moment(engine, rival, letters, first):
    """The second one waits for the row, and sees what the first one made of it."""
    await entered(engine, *letters)
    token = await claimed(engine, letters[0])

    async def hand_over(tx):
        return await store.hand_over(tx, [(letters[0].id, token)])

    async def withhold(tx):
        await take_back(tx, letters[0])

    async def second(work):
        async with rival.begin() as tx:
            return await work(tx)

    one, other = (hand_over, withhold) if first == "hand over" else (withhold, hand_over)
    async with engine.begin() as tx:
        held = await one(tx)
        waiting = asyncio.create_task(second(other))
        await until(waits_for_a_lock(engine), "the second one waits for the row")
    answer = await waiting

    assert (held, answer) == (({token}, None) if first == "hand over" else (None, set()))
    assert (await row(engine, letters[0]))[0] == ("sending" if first == "hand over" else "suppressed")


async def test_what_waits_for_another_attempt_is_taken_back(engine, letters):
    """Refused once: it left no more than one that nobody tried."""
    await entered(engine, *letters)
    token = await claimed(engine, letters[0])
    async with engine.begin() as tx:
        assert await store.record_retrying(tx, letters[0].id, token, reason="x", answer="450")
        await store.withhold(tx, [(letter, Suppression.CANCELLED_FIRST) for letter in letters])

    assert tuple(await row(engine, letters[0], "state, reason")) == ("suppressed", "cancelled_before_sent")


async def test_a_booking_cancelled_meanwhile_suppresses_before_sending(engine, letters, sale):
    """The booking itself is asked before each send."""
    await entered(engine, *letters)
    async with engine.begin() as tx:
        await rows(tx, "update bookings set status = 'cancelled' where id = $1", sale.booking_id)

    assert await judged(engine, letters[0]) == Suppress(Suppression.CANCELLED_FIRST)
    assert await judged(engine, letters[0], replayed=True) == Suppress(Suppression.CANCELLED_FIRST)


async def test_a_letter_is_made_of_what_the_database_says_when_it_is_written(engine, letters, sale):
    """Names, addresses and zones are read when the letter is written; a missing profile leaves gaps, not errors."""
    await entered(engine, *letters)
    async with engine.begin() as tx:
        facts, _ = (await store.facts(tx, [letters[1].id]))[letters[1].id]
    assert (facts.kind, facts.role, facts.amount_minor, facts.currency) == ("confirmation", "coach", 7500, "USD")
    assert (facts.client.first_name, facts.client.timezone) == ("Ada", "America/New_York")
    assert (facts.coach.last_name, facts.coach.timezone) == ("Hopper", "Europe/Paris")
    assert facts.client.address == f"client-{sale.client_id}@example.com"
    assert facts.session_at.isoformat() == "2127-03-01T10:00:00+00:00"

    async with engine.begin() as tx:
        await rows(tx, "delete from client_profiles")
        await rows(tx, "update coach_profiles set availability = '[1]'")
        facts, _ = (await store.facts(tx, [letters[1].id]))[letters[1].id]
    assert (facts.client.first_name, facts.client.timezone, facts.coach.timezone) == (None, None, None)


async def test_an_unknown_letter_is_left_out(engine):
    """A ticket for nothing finds nothing."""
    async with engine.begin() as tx:
        assert await store.load(tx, [uuid.uuid4()]) == {}
        assert await store.facts(tx, [uuid.uuid4()]) == {}
