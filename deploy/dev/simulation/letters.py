"""Checks that everybody got the right letters, once, with true contents. Pure.

Enters: Stripe's papers, our rows, what the mailbox accepted. Leaves: a Difference for each letter that is missing, too much,
addressed to another or untrue (wording.py). A booking that was cancelled quickly may have been confirmed first or not: both
fit, as long as whoever was told the one is told the other. Next: show.py.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from deploy.dev.simulation import wording
from deploy.dev.simulation.books import Paper
from deploy.dev.simulation.comparison import NOTHING, Difference, why
from deploy.dev.simulation.rows import Letter, Rows

ROLES = ("client", "coach")
JUDGED = frozenset({"confirmation", "cancellation", "refund", "payment_failed"})  # whether a letter of these is due
SENT, SUPPRESSED = "sent", "suppressed"
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Accepted:
    """One letter that the mail server accepted: its Message-ID, recipient and text."""

    message_id: str | None
    to: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Addresses:
    """The addresses of a booking's two people."""

    client: str
    coach: str

    def of(self, role: str) -> str:
        """Return the address of that role."""
        return self.client if role == "client" else self.coach


def compare(
    papers: Iterable[Paper],
    ours: Rows,
    mailbox: Sequence[Accepted],
    addresses: Mapping[str, Addresses],
    prices: Mapping[str, tuple[int, str]],
) -> Iterator[Difference]:
    """Yield every difference about letters; `addresses` and `prices` are those of every booking of the simulation."""
    of_booking: dict[str, list[Paper]] = defaultdict(list)
    for paper in papers:
        of_booking[paper.session.booking_id or ""].append(paper)
    ledger: dict[str, dict[Key, Letter]] = defaultdict(dict)
    for letter in ours.letters:
        ledger[letter.booking_id][letter.kind, letter.role, letter.cause] = letter
    for booking in ours.bookings:
        yield from _due(booking.id, booking.status, of_booking[booking.id], ledger[booking.id])
    yield from _carried(ours.letters, mailbox, addresses)
    yield from _worded(ours.letters, mailbox, prices)


def _due(booking_id: str, status: str, papers: list[Paper], known: Mapping[Key, Letter]) -> Iterator[Difference]:
    for role in ROLES:
        yield from _about_booking(booking_id, status, role, known)
    for kind, role, _ in known:
        if kind not in JUDGED:
            yield Difference(f"{kind} to {role}", "a kind of letter that is judged here", "one that is new", why(booking_id))
    wanted: list[Key] = []
    paid = [paper for paper in papers if paper.paid]
    if status == "confirmed":
        parts = [paper for paper in paid if 0 < paper.refunded_minor < paper.session.amount_minor]
        wanted += [("refund", "client", f"{paper.session.payment_id}/{paper.refunded_minor}") for paper in parts]
    for paper in paid:
        whole = ("refund", "client", f"{paper.session.payment_id}/{paper.session.amount_minor}")
        if _state(known, whole) == SENT:
            yield Difference("refund to client", "told by the cancellation alone", SENT, why(booking_id))
    if not paid:
        sent_back = [paper for paper in papers if paper.session.status == "complete"]
        wanted += [("payment_failed", "client", str(paper.session.payment_id)) for paper in sent_back if _failed(paper)]
    for key in wanted:
        if (state := _state(known, key)) != SENT:
            yield Difference(f"{key[0]} to {key[1]}", "is due", state, why(booking_id))


def _about_booking(booking_id: str, status: str, role: str, known: Mapping[Key, Letter]) -> Iterator[Difference]:
    told = _state(known, ("confirmation", role, "")), _state(known, ("cancellation", role, ""))
    match status:
        case "confirmed":
            fits = told == (SENT, NOTHING)
        case "cancelled":
            fits = told in {(SENT, SENT), (SUPPRESSED, SUPPRESSED)} or _perhaps(known, role)
        case _:
            fits = told == (NOTHING, NOTHING)
    if not fits:
        said = f"confirmation {told[0]}, cancellation {told[1]}"
        yield Difference(f"letters to {role}", f"a booking that is {status}", said, why(booking_id))


def _state(known: Mapping[Key, Letter], key: Key) -> str:
    return known[key].state if key in known else NOTHING


def _failed(paper: Paper) -> bool:
    return any(charge.status == "failed" for charge in paper.charges)


def _perhaps(known: Mapping[Key, Letter], role: str) -> bool:
    """Tell whether it is unknown if the confirmation was sent: then a cancellation is better than silence."""
    confirmation, cancellation = known.get(("confirmation", role, "")), known.get(("cancellation", role, ""))
    if confirmation is None or cancellation is None:
        return False
    unknown = confirmation.reason == "cancelled_perhaps_sent" or confirmation.possible_duplicates > 0
    return unknown and cancellation.state == SENT


def _carried(ledger: Iterable[Letter], mailbox: Iterable[Accepted], addresses: Mapping[str, Addresses]) -> Iterator[Difference]:
    ours = {address for pair in addresses.values() for address in (pair.client, pair.coach)}
    accepted = [one for one in mailbox if ours & set(one.to)]
    copies = Counter((one.message_id or "", one.to) for one in accepted)
    for letter in ledger:
        name = f"{letter.kind} to {letter.role}"
        if letter.state not in {SENT, SUPPRESSED}:
            yield Difference(name, "is due", f"{letter.state} {letter.reason}".rstrip(), why(letter.booking_id))
        here = copies.pop((letter.message_id, (addresses[letter.booking_id].of(letter.role),)), 0)
        may_be = range(1, 2 + letter.possible_duplicates) if letter.state == SENT else range(_unrecorded(letter) + 1)
        if here not in may_be:
            yield Difference(name, f"{here} in the mailbox", letter.state, why(letter.booking_id))
    booking_of = {address: booking_id for booking_id, pair in addresses.items() for address in (pair.client, pair.coach)}
    for (message_id, to), here in copies.items():
        ask = next(booking_of[address] for address in to if address in booking_of)
        yield Difference(f"letter {message_id}", f"{here} in the mailbox, to {', '.join(to)}", NOTHING, why(ask))


def _worded(
    ledger: Iterable[Letter], mailbox: Iterable[Accepted], prices: Mapping[str, tuple[int, str]]
) -> Iterator[Difference]:
    by_message = {letter.message_id: letter for letter in ledger}
    for one in mailbox:
        if (letter := by_message.get(one.message_id or "")) is not None:
            # The cause of a letter about a refund ends with what went back until then.
            refunded_minor = int(letter.cause.rpartition("/")[2]) if letter.kind == "refund" else None
            for said in wording.untrue(one.text, letter.booking_id, prices[letter.booking_id], refunded_minor):
                yield Difference(f"{letter.kind} to {letter.role}", "what is true", said, why(letter.booking_id))


def _unrecorded(letter: Letter) -> int:
    """Return how many copies a letter that does not count as sent may still have had: its sender died before the record."""
    return 1 if letter.reason == "cancelled_perhaps_sent" or letter.state != SUPPRESSED else 0
