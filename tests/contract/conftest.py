"""Fixtures of the contract tests."""

import pytest

from consumers.email.delivery import Delivery
from deploy.dev.mailbox import open_mailbox
from tests.support import door as doors
from tests.support.builders import Sale, insert_sales
from tests.support.chain import Chain
from tests.support.consumers import Email, bookings_of, patient, payments_of
from tests.support.door import sandbox
from tests.support.fakes import Published
from tests.support.mail import smtp
from tests.support.sandboxes import listening, opened


@pytest.fixture
async def webhook():
    """A receiver of Stripe's events."""
    async with listening() as webhook:
        yield webhook


@pytest.fixture
async def world(tmp_path, webhook):
    """A Stripe sandbox that tells this webhook."""
    async with opened(tmp_path, webhook) as world:
        yield world


@pytest.fixture
async def sale(engine):
    """One pending booking with its open payment."""
    made = Sale()
    async with engine.begin() as tx:
        await insert_sales(tx, made)
    return made


@pytest.fixture
async def door(database, tmp_path):
    """A door with Stripe's sandbox behind it."""
    async with sandbox(tmp_path / "stripe") as stripe, doors.opened(database, stripe=stripe) as made:
        yield made


@pytest.fixture
async def door_alone(database):
    """A door without Stripe behind it, and with a Kafka of its own, for what never gets as far as Kafka."""
    async with doors.opened(database) as made:
        yield made


@pytest.fixture
def published():
    """What the consumers of this test published."""
    return Published()


@pytest.fixture
def payments(engine, published):
    """The payments consumer, which is handed batches."""
    return payments_of(engine, published)


@pytest.fixture
def bookings(engine, published):
    """The bookings consumer, likewise."""
    return bookings_of(engine, published)


@pytest.fixture
def chain(engine):
    """The three consumers' transactions, one after the other."""
    return Chain(engine)


@pytest.fixture
async def mailbox(tmp_path):
    """A mail server of this test's own."""
    async with open_mailbox(tmp_path) as box:
        yield box


@pytest.fixture
async def delivery(mailbox):
    """Our way to that mail server."""
    made = Delivery(smtp(mailbox))
    yield made
    await made.close()


@pytest.fixture
async def email(engine, mailbox):
    """The email consumer, wired to this test's database and mail server; no letter is slow unless a test says when it is."""
    with patient():
        made = Email(engine, mailbox)
        yield made
        await made.delivery.close()
