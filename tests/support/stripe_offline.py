"""The Stripe sandbox without sockets: calls as forms, customers at the page, and a clock that only its owner moves."""

from urllib.parse import parse_qsl, urlencode

from deploy.dev.stripe import cards, checkout, forms, payments
from deploy.dev.stripe.api import ROUTES, Call
from deploy.dev.stripe.cards import BankAccount, Card
from deploy.dev.stripe.objects import event
from deploy.dev.stripe.payments import At
from deploy.dev.stripe.timetable import Timetable
from deploy.dev.stripe.world import World

URL = "http://127.0.0.1:1"
BY_NAME = {route.name: route for route in ROUTES}


class OfflineStripe:
    """One account. `told` has every event, in the order of their birth."""

    def __init__(self, seed, now=1_800_000_000):
        self.now = now
        self.world = World(seed)
        self.timetable = Timetable(self.world, URL)
        self.told = []

    @property
    def at(self):
        return At(int(self.now), URL, event.cause())

    def call(self, name, wish=None, object_id=""):
        """Send a form; return the answer, or raise ApiError as the gate would answer it."""
        tree = forms.parse(parse_qsl(urlencode(list(pairs(wish or {}))), keep_blank_values=True))
        return BY_NAME[name].perform(self.world, Call(tree, object_id, int(self.now), URL, "req_x", None))

    def pay(self, session, number):
        """Pay an open session on its page; return whether it takes such a method and was tried."""
        paid_with = BankAccount(number) if number in cards.BY_IBAN else Card(number, 12, 2034)
        kind = "sepa_debit" if number in cards.BY_IBAN else "card"
        if session["status"] != "open" or kind not in session["payment_method_types"]:
            return False
        checkout.pay(self.world, session, paid_with, {"email": "ada@example.org"}, self.at)
        return True

    def answer_bank(self, intent, *, passed):
        """Answer at the bank's page, for an intent that waits for it."""
        payments.answer_challenge(self.world, intent, self.at, passed=passed)

    def look(self):
        """Take what changed, as the sandbox does after every call; return the new events."""
        changes = self.world.take()
        for kind, thing in changes.objects:
            self.timetable.note(kind, thing)
        self.told += changes.events
        return changes.events

    def pass_time(self, seconds):
        """Let everything that falls due happen at its moment."""
        target = self.now + seconds
        while (moment := self.timetable.next_moment) is not None and moment <= target:
            self.now = max(self.now, moment)
            self.timetable.act(self.now)
            self.look()
        self.now = target


def pairs(wish, path=""):
    """Spell a nested wish as a form's pairs."""
    for name, value in wish.items() if isinstance(wish, dict) else enumerate(wish):
        where = f"{path}[{name}]" if path else name
        if isinstance(value, dict | list):
            yield from pairs(value, where)
        else:
            yield where, {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
