"""The fold, exhaustively: every sequence of facts up to a length, each fact at most twice, ends as the set of its facts.

Going through sequences one by one would take hours, so they are walked: for every multiset of facts, the set of all states
that any of its orders reaches. A sequence ends where the sequence without its last fact ended, one step further, so the walk
takes exactly the steps that all sequences take; equal states (every field, the version and the order inside each mapping
included) are stepped once. That rests on one thing, that `advance` is a function of state and fact, and on nothing else.
"""

import math
from collections.abc import Mapping

import hypothesis
from hypothesis import strategies as st
from msgspec.structs import astuple

from shared.domain.payment import (
    Changed,
    ChargeRefunded,
    ClosedReason,
    DisputeSeen,
    Failed,
    Noted,
    Paid,
    Payment,
    RefundSeen,
    Status,
    advance,
)
from tests.proof.result import Proved, silent

AMOUNT_MINOR = 100
COPIES_MAX = 2
# One payment's life: (fact, the session and the intent that its event names).
ALPHABET = (
    (Noted(), "cs_1", "pi_1"),
    (Paid(AMOUNT_MINOR, "usd"), "cs_1", "pi_1"),
    (Paid(AMOUNT_MINOR, "usd"), None, "pi_2"),
    (Failed(1, "generic_decline"), None, "pi_1"),
    (Failed(2, "insufficient_funds"), None, "pi_2"),
    (Failed(2, "async_failed", ClosedReason.ASYNC_FAILED), "cs_1", "pi_1"),
    (Failed(3, "expired", ClosedReason.EXPIRED), "cs_1", None),
    (Failed(3, "canceled", ClosedReason.CANCELED), None, "pi_1"),
    (RefundSeen("re_1", "pending", 60), None, "pi_1"),
    (RefundSeen("re_1", "succeeded", 60), None, "pi_1"),
    (RefundSeen("re_1", "failed", 60), None, "pi_1"),
    (RefundSeen("re_1", "canceled", 60), None, "pi_1"),
    (RefundSeen("re_2", "succeeded", 40), None, "pi_1"),
    (RefundSeen("re_2", "failed", 40), None, "pi_1"),
    (RefundSeen("re_3", "requires_action", 100), None, "pi_1"),
    (RefundSeen("re_3", "succeeded", 100), None, "pi_1"),
    (RefundSeen("re_3", "failed", 100), None, "pi_1"),
    (ChargeRefunded(60), None, "pi_1"),
    (ChargeRefunded(100), None, "pi_1"),
    (DisputeSeen("du_1", "needs_response"), None, "pi_1"),
    (DisputeSeen("du_1", "won"), None, "pi_1"),
    (DisputeSeen("du_1", "lost"), None, "pi_1"),
    (DisputeSeen("du_2", "warning_needs_response"), None, "pi_1"),
)
# What may tell of the order: when and how often it changed, never what it became.
TIMING = {"version", "slot_free"}
DERIVED = ("status", "refunded_minor", "cancel_due", "failure_reason", "dispute_open", "intent_id")
STATUS_RANK = {status: rank for rank, status in enumerate((Status.PENDING, Status.FAILED, Status.SUCCEEDED, Status.REFUNDED))}
UNDONE = {"failed", "canceled"}
EVEN_BITS = int("01" * len(ALPHABET), 2)


def opened():
    """The payment before anything is known of it."""
    return Payment(id="p", booking_id="b", amount_minor=AMOUNT_MINOR, currency="USD")


def columns(known):
    """Everything that is written of a payment but what tells of timing; mappings in no order."""
    kept = tuple(_unordered(getattr(known, name)) for name in Payment.__struct_fields__ if name not in TIMING)
    return (*kept, *(getattr(known, name) for name in DERIVED))


def step(known, event):
    """Fold one fact in, and hold the step against what a reader may rely on; return the state after it."""
    fact, session_id, intent_id = event
    outcome = advance(known, fact, session_id=session_id, intent_id=intent_id)
    now = outcome.now
    told = isinstance(outcome, Changed)
    assert told == (now.shown() != known.shown()), f"told {told}: {known} {fact} {now}"
    assert now.version == known.version + told, f"version: {known} {fact} {now}"
    undone = isinstance(fact, RefundSeen) and fact.status in UNDONE
    assert undone or STATUS_RANK[now.status] >= STATUS_RANK[known.status], f"status backwards: {known} {fact} {now}"
    assert undone or now.refunded_minor >= known.refunded_minor, f"amount backwards: {known} {fact} {now}"
    assert not (known.status is not Status.FAILED and known.paid and now.status is Status.FAILED), f"{known} {fact} {now}"
    for name in ("paid", "failed", "closed", "cancel_due"):
        assert getattr(now, name) >= getattr(known, name), f"{name} taken back: {known} {fact} {now}"
    return now


class Walk:
    """All states that were met, each stepped once by each fact."""

    def __init__(self):
        self.states, self.columns = [], []
        self._ids, self._column_ids, self._edges = {}, {}, {}
        self.start = self._id(opened())

    def after(self, state, letter):
        """The state that `state` becomes by the letter of the alphabet, by numbers."""
        place = state * len(ALPHABET) + letter
        found = self._edges.get(place)
        if found is None:
            found = self._edges[place] = self._id(step(self.states[state], ALPHABET[letter]))
        return found

    @property
    def steps(self):
        return len(self._edges)

    def _id(self, known):
        exact = tuple(_ordered(value) for value in astuple(known))
        found = self._ids.setdefault(exact, len(self.states))
        if found == len(self.states):
            self.states.append(known)
            self.columns.append(self._column_ids.setdefault(columns(known), len(self._column_ids)))
        return found


def every_sequence(length_max, progress=silent):
    """Prove it for every sequence of up to `length_max` facts; each multiset is a number with two bits a fact."""
    walk, sequences, multisets = Walk(), 1, 1
    level, value_of_set = {0: {walk.start}}, {0: walk.columns[walk.start]}
    for length in range(1, length_max + 1):
        longer = {}
        for done, (multiset, states) in enumerate(level.items()):
            for letter in range(len(ALPHABET)):
                if (multiset >> 2 * letter) & 3 < COPIES_MAX:
                    grown = longer.setdefault(multiset + (1 << 2 * letter), set())
                    grown.update([walk.after(state, letter) for state in states])
            if done % 1000 == 0:
                progress(
                    _weight(length) + done * (_weight(length + 1) - _weight(length)) // len(level), _weight(length_max + 1)
                )
        for multiset, states in longer.items():
            ends = {walk.columns[state] for state in states}
            expected = value_of_set.setdefault((multiset | multiset >> 1) & EVEN_BITS, min(ends))
            assert ends == {expected}, f"{_facts(multiset)} ends as {[walk.states[state] for state in states]}"
            sequences += math.factorial(length) >> (multiset >> 1 & EVEN_BITS).bit_count()
        multisets += len(longer)
        level = longer
    progress(1, 1)
    return Proved(
        title=f"Every sequence of up to {length_max} facts",
        how=f"{len(ALPHABET)} facts of one payment's life, each at most {COPIES_MAX} times, in every order: all columns but "
        "`version`, `closed_at`, `slot_free` and `updated_at` depend only on the set of facts, and no step takes back "
        "what a reader was told (except a failed refund). The proof walks over states, not single sequences: "
        "`tests/proof/fold.py` explains.",
        cases={"sequences": sequences, "sets of facts with copies": multisets, "states": len(walk.states), "steps": walk.steps},
    )


AMOUNTS = st.sampled_from([1, 40, 60, 99, 100, 160])
CLOSED_REASONS = st.sampled_from([ClosedReason.EXPIRED, ClosedReason.CANCELED, ClosedReason.ASYNC_FAILED])
# A refund's amount never changes: Stripe makes another refund.
REFUND_STATUSES = st.sampled_from(["pending", "requires_action", "succeeded", "failed", "canceled"])
DISPUTE_STATUSES = st.sampled_from(["needs_response", "under_review", "won", "lost", "warning_closed", "warning_under_review"])
INTENTS = st.sampled_from([None, "pi_1", "pi_2", "pi_3"])
WIDER = st.one_of(
    st.sampled_from(ALPHABET),
    st.tuples(st.builds(Failed, st.integers(1, 9), st.sampled_from("abc"), st.none() | CLOSED_REASONS), st.none(), INTENTS),
    st.tuples(
        st.builds(lambda amount, status: RefundSeen(f"re_of_{amount}", status, amount), AMOUNTS, REFUND_STATUSES),
        st.none(),
        INTENTS,
    ),
    st.tuples(st.builds(ChargeRefunded, AMOUNTS), st.none(), INTENTS),
    st.tuples(st.builds(DisputeSeen, st.sampled_from(["du_1", "du_2", "du_3"]), DISPUTE_STATUSES), st.none(), INTENTS),
)


def beyond(examples, *, seed, facts_max=40):
    """Draw longer lives of a wider alphabet: commutative, idempotent, never backwards."""
    tried = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    @hypothesis.given(st.lists(WIDER, min_size=2, max_size=facts_max), st.randoms(use_true_random=False))
    def holds(events, drawn):
        nonlocal tried
        tried += 1
        once = _folded(events)
        again = events + drawn.choices(events, k=len(events) // 2)
        drawn.shuffle(again)
        assert columns(_folded(again)) == columns(once)
        for event in events:
            assert step(once, event) == once

    holds()
    return Proved(
        title="Longer lives, drawn",
        how=f"Up to {facts_max} facts of a wider alphabet, copies among them, shuffled by Hypothesis: the end is the same, a "
        "repeated fact changes nothing, not even the version, and no step takes anything back.",
        cases={"lives": tried},
        seed=seed,
    )


def _folded(events):
    known = opened()
    for event in events:
        known = step(known, event)
    return known


def _weight(length):
    """How much of the walk lies before a length; lengths grow about tenfold."""
    return 10**length


def _facts(multiset):
    return [(fact, multiset >> 2 * n & 3) for n, (fact, *_) in enumerate(ALPHABET) if multiset >> 2 * n & 3]


def _ordered(value):
    return tuple(value.items()) if isinstance(value, Mapping) else value


def _unordered(value):
    return tuple(sorted(value.items())) if isinstance(value, Mapping) else value
