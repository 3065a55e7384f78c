"""Run checkouts that die: `python -m tests.journey.checkout_killed BASE USER_ID BOOKING_ID…`, settings from the environment.

For the k-th booking a child of this process opens a checkout and kills itself with -9 at its k-th crossing: before and after
each statement that writes, each commit, and each call to Stripe. Prints one line per child, `killed <crossing>` or `passed`,
and ends after the first that passed.
"""

import asyncio
import importlib
import os
import signal
import sys
import uuid
from contextlib import asynccontextmanager

from ingress import checkout, store
from ingress.access import Caller
from ingress.app import IngressSettings
from ingress.checkout_rules import CheckoutParams
from shared.db import engine as engines
from shared.stripe_api import StripeApi
from tests.support.door import URLS


class Failpoints:
    """Dies at the `fatal`-th crossing, telling its name through `pipe`."""

    def __init__(self, fatal, pipe):
        self.crossings, self.fatal, self.pipe = 0, fatal, pipe

    def cross(self, name):
        self.crossings += 1
        if self.crossings == self.fatal:
            os.write(self.pipe, name.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, name, function):
        async def crossed(*arguments, **named):
            self.cross(f"before {name}")
            result = await function(*arguments, **named)
            self.cross(f"after {name}")
            return result

        return crossed


def arm(points, stripe):
    for name in ("insert_payment", "close_payment", "bind_session"):
        setattr(store, name, points.around(name, getattr(store, name)))
    for name in ("create_session", "retrieve_session"):
        setattr(stripe, name, points.around(name, getattr(stripe, name)))
    begin = store.transaction

    @asynccontextmanager
    async def transaction(engine):
        async with begin(engine) as tx:
            yield tx
            points.cross("before commit")
        points.cross("after commit")

    store.transaction = transaction


async def open_one(points, configured, user_id, booking_id):
    engine = engines.create(configured, application="tests")
    stripe = StripeApi(configured)
    arm(points, stripe)
    story = checkout.Checkout(engine, stripe, configured)
    params = CheckoutParams(booking_id, URLS["success_url"], URLS["cancel_url"], key=None)
    outcome = await story.open(Caller(user_id, "admin"), params)
    assert isinstance(outcome, checkout.Opened), outcome
    await stripe.close()
    await engine.dispose()


def main(user_id, *booking_ids):
    importlib.import_module("tests.journey.forking")  # once everything else is imported
    configured = IngressSettings(_env_file=None)
    for fatal, booking_id in enumerate(booking_ids, 1):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            points = Failpoints(fatal, writing)
            asyncio.run(open_one(points, configured, uuid.UUID(user_id), uuid.UUID(booking_id)))
            os._exit(0)
        os.close(writing)
        _, status = os.waitpid(child, 0)
        where = os.read(reading, 100).decode()
        os.close(reading)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write(f"killed {where}\n" if killed else f"passed {status}\n")
        if not killed:
            break


if __name__ == "__main__":
    main(*sys.argv[1:])
