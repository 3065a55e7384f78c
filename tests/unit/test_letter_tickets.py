"""A letter's ticket as a record: what it counts, and on which step an undecided letter waits."""

import pytest

from consumers.email import tickets
from shared import topics
from shared.kafka import retry
from shared.kafka.records import Incoming
from tests.support.story import example

LADDER = retry.steps(topics.EMAIL_LADDER, prefix="")
NOW_MS = 1_800_000_000_000
HOUR_OF_LOOKS = 229  # 1 + 2 + 4 + 8 s, then 16 s each time


def due(*headers):
    return tickets.read(Incoming("email.retry.1s", 0, 7, b"b", example("email.retry.1s.v1"), headers))


def undecided(letter):
    """Return the ticket of the next look, as it is read there, and the step's delay."""
    record, step = tickets.undecided(letter, LADDER, now_ms=NOW_MS)
    assert record.topic == step.topic
    assert dict(record.headers)["x-due-ms"] == str(step.due_ms(NOW_MS)).encode()
    return tickets.read(Incoming(record.topic, 0, 0, record.key, record.value, record.headers)), step.delay_seconds


def test_an_undecided_letter_waits_longer_at_each_look_and_keeps_its_attempts():
    """One step after the other, then the last one for as long as it takes."""
    letter, delays = due(("x-attempt", b"2")), []
    for _ in range(8):
        letter, seconds = undecided(letter)
        delays.append(seconds)

    assert delays == [1, 2, 4, 8, 16, 16, 16, 16]
    assert (letter.attempt, letter.looks, letter.replayed) == (2, 8, False)


def test_an_undecided_replay_stays_a_replay():
    """It has claimed nothing yet."""
    letter, _ = undecided(due(("x-replay", b"1")))

    assert letter.replayed


@pytest.mark.parametrize("header", [(), (("x-looks", b""),), (("x-looks", b"-3"),), (("x-looks", b"9" * 5000),)])
def test_a_ticket_that_counts_no_looks_begins_with_the_first_step(header):
    """One of an earlier release has no such header."""
    letter, seconds = undecided(due(*header))

    assert (letter.looks, seconds) == (1, 1)


def test_every_other_ticket_forgets_the_looks():
    """The letter was decided meanwhile."""
    letter = due(("x-looks", b"4"))
    others = (
        tickets.later(letter, LADDER[0], now_ms=NOW_MS),
        tickets.tried(letter, LADDER[0], attempts=1, reason="smtp_transient", now_ms=NOW_MS),
    )

    assert ["x-looks" in dict(one.headers) for one in others] == [False, False]


def test_it_is_one_look_at_which_a_letter_has_been_undecided_for_an_hour():
    """Whoever resolved the matter is not asked again every 16 s."""
    long = [looks for looks in range(1000) if tickets.undecided_for_long(due(("x-looks", b"%d" % looks)), LADDER)]

    assert long == [HOUR_OF_LOOKS]
