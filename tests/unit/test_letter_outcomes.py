"""Whose fault it is that a letter did not go out, where one letter alone cannot tell."""

import pytest

from consumers.email.outcomes import Accepted, Blame, LetterRefused, NotHandedOver, ServerTrouble

TAKEN = Accepted("250")
LOST = LetterRefused(None, permanent=False, answer="connection_lost_before_dot")
LOST_AFTER = LetterRefused(None, permanent=False, answer="connection_lost_after_dot")
CLOSING = LetterRefused(421, permanent=False, answer="421 4.7.0")
PUT_OFF = LetterRefused(450, permanent=False, answer="450 4.7.1")
REFUSED = LetterRefused(554, permanent=True, answer="554 5.7.1")
AWAY = ServerTrouble("it cannot be reached: ConnectionRefusedError")


@pytest.fixture
def judged():
    """Says of an outcome and its letter whether that is to blame; an outcome that is nobody's fault stays as it is."""
    blame = Blame()

    def judge(outcome, letter):
        told = blame.judge(outcome, letter, at="RCPT TO", after_dot=outcome == LOST_AFTER)
        assert told == outcome or isinstance(told, ServerTrouble)
        return "server" if isinstance(told, ServerTrouble) and not isinstance(outcome, ServerTrouble) else "letter"

    return judge


def test_a_server_that_breaks_connections_is_judged_until_it_judges_a_letter(judged):
    """However often the same letter finds it out: an outage costs no more attempts than the one that it began with."""
    assert [judged(LOST, letter) for letter in "ABBAAC"] == ["letter", *["server"] * 5]
    assert [judged(outcome, "C") for outcome in (AWAY, NotHandedOver(), LOST_AFTER, LOST)] == [*["letter"] * 3, "server"]

    assert [judged(PUT_OFF, "A"), judged(LOST, "B"), judged(LOST, "B")] == ["letter"] * 3


def test_421_is_a_letters_own_once_another_was_judged(judged):
    """The server works; each such attempt needs a proof of its own, for the server may have gone away since."""
    assert [judged(CLOSING, letter) for letter in "ABA"] == ["server"] * 3
    judged(REFUSED, "C")
    assert [judged(CLOSING, letter) for letter in "ABAB"] == ["letter", "letter", "server", "server"]

    judged(LOST_AFTER, "C")
    assert judged(CLOSING, "A") == "server"


def test_whoever_was_turned_away_and_judged_since_begins_anew(judged):
    """Accepted at last: what it met before is no sign of anything."""
    judged(CLOSING, "A")
    judged(TAKEN, "A")
    judged(TAKEN, "B")

    assert judged(CLOSING, "A") == "server"


def test_letters_that_were_turned_away_are_not_remembered_without_end(judged, monkeypatch):
    """Who moved to another process never comes again; the oldest is presumed innocent once more."""
    monkeypatch.setattr("consumers.email.outcomes.TURNED_AWAY_MAX", 2)
    for letter in "ABAC":
        judged(CLOSING, letter)
    judged(TAKEN, "D")

    assert [judged(CLOSING, letter) for letter in "AB"] == ["letter", "server"]


@pytest.mark.parametrize("refusal", [PUT_OFF, REFUSED])
def test_a_server_that_refuses_everybody_is_judged_itself(judged, refusal):
    """We may relay no more, or send too fast: it costs ten letters an attempt and nobody else, until it accepts one."""
    assert [judged(refusal, number) for number in range(14)] == ["letter"] * 10 + ["server"] * 4
    assert judged(refusal, 0) == "server"

    judged(TAKEN, 14)
    assert judged(refusal, 15) == "letter"


def test_who_is_refused_again_and_again_is_one_and_who_is_accepted_clears_all(judged):
    """Letters that climb the whole ladder are nobody's sign of anything."""
    assert {judged(PUT_OFF, number % 9) for number in range(60)} == {"letter"}
    for number in range(30):
        assert judged(REFUSED, f"bad {number}") == "letter"
        judged(TAKEN, f"good {number}")
