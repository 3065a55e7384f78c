"""The ladder by itself: which step comes next, when it is due, and which records of a batch are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import topics
from shared.kafka import retry
from shared.kafka.records import Incoming
from shared.kafka.retry import Waiting

LADDER = retry.steps(topics.EMAIL_LADDER, prefix="p.")
NOW_MS = 1_800_000_000_000


def record(due_ms, *, partition=0, offset=0, written_ms=NOW_MS):
    due = due_ms if isinstance(due_ms, bytes) else str(due_ms).encode()
    return Incoming("p.email.retry.16s", partition, offset, b"k", b"v", (("x-due-ms", due),), written_ms)


def split(*records, delay_seconds=16):
    return retry.split(records, now_ms=NOW_MS, delay_seconds=delay_seconds)


def test_one_try_and_five_retries():
    """1, 2, 4, 8 and 16 s after the one before, each in a topic of its own; after the sixth attempt there is none."""
    climbed = [retry.step_after(LADDER, attempts) for attempts in range(1, 7)]

    assert [(step.topic, step.due_ms(NOW_MS) - NOW_MS) for step in climbed[:5]] == [
        ("p.email.retry.1s", 1000),
        ("p.email.retry.2s", 2000),
        ("p.email.retry.4s", 4000),
        ("p.email.retry.8s", 8000),
        ("p.email.retry.16s", 16000),
    ]
    assert climbed[5] is None


def test_what_is_due_is_taken_and_the_first_that_is_not_ends_its_partition():
    """Other partitions go on; what lies behind a waiting record comes again with it."""
    due, waits, behind = record(NOW_MS), record(NOW_MS + 1, offset=1), record(NOW_MS, offset=2)
    elsewhere = record(NOW_MS - 5, partition=1, offset=9)

    cut = split(due, waits, behind, elsewhere)

    assert cut.due == [due, elsewhere]
    assert cut.waiting == {("p.email.retry.16s", 0): Waiting(offset=1, due_ms=NOW_MS + 1)}


@pytest.mark.parametrize("moment", [b"", b"soon", b"-5", b"9" * 5000])
def test_a_moment_that_cannot_be_read_is_now(moment):
    """Nobody waits for what means nothing."""
    assert len(split(record(moment)).due) == 1


def test_a_record_without_a_moment_is_due():
    """It was written by hand, or by who knows no ladder: it stops nobody behind it."""
    bare = Incoming("p.email.retry.16s", 0, 0, b"k", b"v", (), NOW_MS)

    assert split(bare).due == [bare]


def test_no_header_makes_a_record_wait_longer_than_its_step():
    """A clock that is an hour ahead costs a step's delay, not an hour, and not for ever."""
    [waiting] = split(record(NOW_MS + 3_600_000)).waiting.values()

    assert waiting.due_ms == NOW_MS + 16_000
    assert len(split(record(NOW_MS + 3_600_000, written_ms=NOW_MS - 16_000)).due) == 1


def test_a_clock_that_was_put_back_makes_nobody_wait_until_it_has_caught_up():
    """Written an hour in our future, it has waited for as long as nobody knows; a moment ahead is another machine's clock."""
    assert len(split(record(NOW_MS + 3_616_000, written_ms=NOW_MS + 3_600_000)).due) == 1
    assert split(record(NOW_MS + 46_000, written_ms=NOW_MS + 30_000)).due == []


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-20_000, 20_000)), max_size=30),
    st.integers(1, 16),
)
def test_every_record_is_either_due_or_behind_one_that_waits(drawn, delay_seconds):
    """Whatever the due times: none is lost, none taken early, and no partition waits longer than the delay."""
    records = [record(NOW_MS + due, partition=partition, offset=place) for place, (partition, due) in enumerate(drawn)]

    cut = split(*records, delay_seconds=delay_seconds)

    for one in records:
        waiting = cut.waiting.get((one.topic, one.partition))
        assert (one in cut.due) == (waiting is None or one.offset < waiting.offset)
    assert all(NOW_MS < waiting.due_ms <= NOW_MS + delay_seconds * 1000 for waiting in cut.waiting.values())
