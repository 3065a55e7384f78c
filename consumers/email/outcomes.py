"""The outcomes of sending one letter, and whether a failure is the letter's fault or the server's; pure.

Enters: one outcome after another, as the server answered. Leaves: the same outcome, or `ServerTrouble` where the letters before
show that the server is to blame. Next: delivery.py, which holds the conversations.
"""

from dataclasses import dataclass

SERVICE_CLOSING = 421
LOST_LETTERS_MAX = 2  # that many different letters in a row do not break a connection by themselves
REFUSED_LETTERS_MAX = 10  # that many different people in a row do not all have a bad address or a full mailbox
TURNED_AWAY_MAX = 1_000  # letters remembered at most; an older one is not blamed at its next 421


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server answered 250: it is responsible for the letter from now on. `answer` is its code, without its text."""

    answer: str


@dataclass(frozen=True, slots=True)
class LetterRefused:
    """The letter was refused. `code` is None when the answer is unknown; `answer` is fit for records (no PII)."""

    code: int | None
    permanent: bool
    answer: str


@dataclass(frozen=True, slots=True)
class ServerTrouble:
    """The server takes no letter now, whichever it is; `reason` is for an operator and names no person and no secret."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotHandedOver:
    """`may_leave` refused before DATA, or did not answer in time: the server has nothing of the letter."""


Outcome = Accepted | LetterRefused | ServerTrouble | NotHandedOver


class Blame:
    """Decides whether the server or the letter is to blame, by the outcomes of the letters before.

    A connection lost before the final dot: the letter is to blame; once two different letters in a row lost theirs, the server
    is, until it judges a letter. 421: the server, unless it judged other letters since this one last met 421: then the server
    works, and this letter must not stop the others for as long as it is tried. A refusal: the letter; once ten different
    letters in a row were refused, the server, until it accepts one: it may no longer relay for us, or finds that we send too
    fast.
    """

    def __init__(self) -> None:
        self._lost: set[str] = set()  # letters that lost their connection before the final dot, since one was judged
        self._refused: set[str] = set()  # letters that were refused, since one was accepted
        self._turned_away: dict[str, int] = {}  # letters that met 421 after RCPT, and how many had been judged by then
        self._judgements = 0

    def judge(self, outcome: Outcome, message_id: str, *, at: str, after_dot: bool) -> Outcome:
        """Return the outcome, or ServerTrouble where the letter is not to blame; it came `at` RCPT TO or DATA."""
        match outcome:
            case LetterRefused(code=None):
                return outcome if after_dot else self._lost_connection(outcome, message_id)
            case LetterRefused(code=code) if code == SERVICE_CLOSING:
                return self._met_421(outcome, message_id, at)
            case LetterRefused(answer=answer):
                if len(self._refused) == REFUSED_LETTERS_MAX:
                    return ServerTrouble(f"it refuses one letter after another: {at} was answered {answer}")
                self._refused.add(message_id)
                self._judged(message_id)
            case Accepted():
                self._refused.clear()
                self._judged(message_id)
            case NotHandedOver() | ServerTrouble():
                pass
        return outcome

    def _lost_connection(self, outcome: LetterRefused, message_id: str) -> Outcome:
        if len(self._lost) < LOST_LETTERS_MAX:
            self._lost.add(message_id)
        if len(self._lost) < LOST_LETTERS_MAX:
            return outcome
        return ServerTrouble("connections are lost before the final dot, one letter after another")

    def _met_421(self, outcome: LetterRefused, message_id: str, at: str) -> Outcome:
        before = self._turned_away.pop(message_id, self._judgements)
        self._turned_away[message_id] = self._judgements
        if len(self._turned_away) > TURNED_AWAY_MAX:
            del self._turned_away[next(iter(self._turned_away))]
        return ServerTrouble(f"{at} was answered {outcome.answer}") if before == self._judgements else outcome

    def _judged(self, message_id: str) -> None:
        self._lost.clear()
        self._turned_away.pop(message_id, None)
        self._judgements += 1
