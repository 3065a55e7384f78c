"""The breaker between us and a mail server that is away, by a clock that the test moves."""

import asyncio
import uuid

import pytest
from prometheus_client import REGISTRY

from consumers.email import breaker as breakers
from consumers.email.breaker import TRIPPED_SECONDS_MAX, Breaker
from shared import clock

LETTER = uuid.UUID(int=1)


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self):
        self.seconds = 1_000.0

    def monotonic(self):
        return self.seconds


class Log:
    """A log that remembers."""

    def __init__(self):
        self.lines = []

    def warning(self, event, **fields):
        self.lines.append((event, fields))

    info = warning


@pytest.fixture
def moved(monkeypatch):
    made = Clock()
    monkeypatch.setattr(clock, "monotonic", made.monotonic)
    return made


def told_away():
    """What Prometheus reads."""
    return REGISTRY.get_sample_value("mail_server_away")


@pytest.mark.usefixtures("moved")
def test_the_gauge_is_1_from_the_trip_until_a_letter_is_judged():
    """And says the same as readiness at any time."""
    made = Breaker()
    assert (told_away(), made.reason) == (0, None)

    made.trip("421 4.3.2", LETTER)
    assert (told_away(), made.reason) == (1, "421 4.3.2")

    made.close()
    assert (told_away(), made.reason) == (0, None)


async def test_while_it_is_tripped_letters_find_out_one_after_another():
    """A server that is down is not stormed by every letter at once; once it judged one, all others go side by side."""
    breaker, inside, go_on = Breaker(), [], asyncio.Semaphore(0)
    breaker.trip("421 4.3.2", LETTER)
    since = breaker.trips

    async def letter():
        async with breaker.turn(since):
            inside.append(1)
            await go_on.acquire()

    async with asyncio.TaskGroup() as letters:
        for _ in range(2):
            letters.create_task(letter())
        await settle()
        assert len(inside) == 1
        breaker.close()
        for _ in range(2):
            letters.create_task(letter())
        await settle()
        assert len(inside) == 3
        for _ in range(4):
            go_on.release()


async def settle():
    """Let everything run that can: nothing here waits for the world."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_old_news_is_nobodys_for_the_gauge_too(moved):
    """A rebalance took the batch, and nobody here will ever close it: the alert would go on for ever."""
    made = Breaker()
    made.trip("421 4.3.2", LETTER)
    moved.seconds += TRIPPED_SECONDS_MAX - 1
    assert (told_away(), made.reason) == (1, "421 4.3.2")

    moved.seconds += 2
    assert (told_away(), made.reason) == (0, None)

    made.trip("connection refused", LETTER)
    assert (told_away(), made.reason) == (1, "connection refused")


def test_each_outage_is_logged_once_with_how_long_it_took(moved, monkeypatch):
    """One that comes after old news is another: whoever reads the log sees both begin."""
    made, log = Breaker(), Log()
    monkeypatch.setattr(breakers, "log", log)
    made.close()  # as after every letter
    made.trip("421 4.3.2", LETTER)
    moved.seconds += TRIPPED_SECONDS_MAX + 1
    made.trip("connection refused", LETTER)
    moved.seconds += 5
    made.trip("connection refused", LETTER)
    moved.seconds += 2.5
    made.close()
    made.close()

    assert log.lines == [
        ("mail_server.away", {"reason": "421 4.3.2"}),
        ("mail_server.away", {"reason": "connection refused"}),
        ("mail_server.back", {"seconds": 7.5}),
    ]


def test_whoever_found_it_away_knocks_last_the_next_time():
    """In the order in which they did; once the server judged a letter, all begin anew."""
    made, other, third = Breaker(), uuid.UUID(int=2), uuid.UUID(int=3)
    for letter in (LETTER, other, LETTER):
        made.trip("421 4.3.2", letter)
    assert sorted((LETTER, other, third), key=made.last_trip_of) == [third, other, LETTER]

    made.close()
    assert {made.last_trip_of(letter) for letter in (LETTER, other, third)} == {0}


async def test_a_trip_that_is_over_takes_nobodys_turn():
    """Whoever counted before it goes through all the same: there is no reason to give any more."""
    made = Breaker()
    made.trip("421 4.3.2", LETTER)
    made.close()

    async with made.turn(0):
        pass
