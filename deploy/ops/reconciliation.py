"""Find events that Stripe keeps and we never processed, and publish them where webhooks are published.

Stripe stops retrying a webhook after three days, and sends nothing to an endpoint that is disabled or not subscribed to the
kind of event; but it keeps every event for thirty days (https://docs.stripe.com/api/events/list). Enters: Stripe, our database
and Kafka, and a period. Leaves: the missing events, on `stripe.events` with the header `x-origin: reconciliation`, where the
payments consumer processes them like any other; an event that has come in meanwhile is known there and changes nothing.
`stripe_reconciliations` holds the time up to which everything was compared.
"""

import re
from collections.abc import AsyncIterator, Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import assert_never

from sqlalchemy.ext.asyncio import AsyncEngine

from deploy.ops import actions, insights
from deploy.ops.errors import (
    AnotherAccount,
    ConsumerBehind,
    StripeUnavailable,
    database_errors_as_ops_errors,
    kafka_errors_as_ops_errors,
)
from deploy.ops.progress import Progress
from shared import logs, settings, topics
from shared.db import reconciled
from shared.db.engine import rows
from shared.domain.ledger import Decision
from shared.kafka.records import RECONCILED, Record, headers_of_stripe
from shared.stripe_api import EventPage, ListedEvent, StripeApi
from shared.stripe_events import Kind

log = logs.get(__name__)

TAKING_SECONDS_MAX = 60.0
NAMES = re.compile(rb"\bcs_\w+|\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
# What became of an event stands in the ledger, whatever it was; but not of one that could not be read at all.
PROCESSED = """
select event_id, bool_or(decision = any($2::text[])) from payment_ledger where event_id = any($1::text[]) group by event_id
"""
SETTLED = (Decision.APPLIED, Decision.UNCHANGED, Decision.UNHANDLED)  # also after it was refused, and put back


@dataclass(frozen=True, slots=True)
class MissingEvent:
    """An event of Stripe's that we never took; `about` are the sessions, and the ids of our own, that it names."""

    event_id: str
    event_type: str
    created: datetime
    about: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReconciliationReport:
    """What Stripe keeps of this time, and what of it was missing here; `published` unless it was only looked for.

    `again` counts those that had been taken and were published with them, so that each consumer which knows them publishes once
    more what they caused.
    """

    since: datetime
    until: datetime
    events: int
    missing: tuple[MissingEvent, ...]
    again: int
    published: bool


class ReconciliationSettings(settings.Database, settings.Kafka, settings.StripeApi):
    """The settings: which Stripe account is asked, which database knows what was taken, which Kafka gets what is missing."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What a reconciliation asks: Stripe by its API, PostgreSQL by an engine, and Kafka by the settings."""

    configured: ReconciliationSettings
    api: StripeApi
    engine: AsyncEngine


@dataclass(frozen=True, slots=True)
class Window:
    """A period of Stripe's `created`, both ends included, in whole seconds."""

    since: datetime
    until: datetime


class Scope(StrEnum):
    """Which events of a window are published: those that never came, or with them those that were processed.

    `ALL` is for when Kafka lost its records: nothing else shows which of our messages were never read. Either leaves a dead
    letter to an operator, unless it was replayed and processed since.
    """

    MISSING = "missing"
    ALL = "all"


async def reconcile(
    resources: Resources, window: Window, scope: Scope, *, dry_run: bool, progress: Progress
) -> ReconciliationReport:
    """Compare Stripe's events with ours page by page, and publish those of the scope; `dry_run` only finds them.

    What was published before a failure stays, and the same call may be repeated. Raises StripeUnavailable, AnotherAccount,
    KafkaUnavailable or DatabaseUnavailable, and ConsumerBehind when the payments consumer still has events before it.
    """
    configured = resources.configured
    account_id = await _account(resources)
    refused = await _refused(configured, progress=progress)
    count, repeated, missing = 0, 0, []
    async for page in pages(resources, window):
        lost, going = await _compare(resources, page, refused, scope)
        if going and not dry_run:
            async with kafka_errors_as_ops_errors(configured):
                await actions.put_back(configured, [_record(event, prefix=configured.topic_prefix) for event in going])
        for event in lost:
            outcome = "only found" if dry_run else "published"
            log.warning("stripe_event.missing", event_id=event.id, event_type=event.type, outcome=outcome)
        missing += [MissingEvent(event.id, event.type, event.created, named(event.body)) for event in lost]
        count += len(page)
        repeated += len(going) - len(lost)
        progress(count, count)
    if not dry_run:
        async with database_errors_as_ops_errors(configured), resources.engine.begin() as tx:
            await reconciled.record(tx, account_id, since=window.since, until=window.until)
    return ReconciliationReport(window.since, window.until, count, tuple(missing), repeated, not dry_run)


def unprocessed(events: Sequence[ListedEvent], processed: Collection[str]) -> list[ListedEvent]:
    """Return the events that were not processed, oldest first. Pure."""
    return [event for event in reversed(events) if event.id not in processed]


def named(body: bytes) -> tuple[str, ...]:
    """Return the Stripe sessions and our own ids that an event names anywhere. Pure."""
    return tuple(sorted({name.decode() for name in NAMES.findall(body)}))


async def pages(resources: Resources, window: Window) -> AsyncIterator[tuple[ListedEvent, ...]]:
    """Yield the events that we handle, newest first, a page at a time; raises StripeUnavailable."""
    after, more = None, True
    while more:
        match await resources.api.events(list(Kind), since=window.since, until=window.until, after=after):
            case EventPage(events=events, has_more=has_more):
                yield events
                after, more = (events[-1].id, has_more) if events else (None, False)
            case failure:
                raise StripeUnavailable(resources.configured, failure)


async def _compare(
    resources: Resources, page: Sequence[ListedEvent], refused: AbstractSet[str], scope: Scope
) -> tuple[list[ListedEvent], list[ListedEvent]]:
    """Return which events of a page were never taken, and which are to be published, both oldest first.

    Of the dead letters (`refused`) the scope ALL has only those that were taken since. Raises DatabaseUnavailable.
    """
    async with database_errors_as_ops_errors(resources.configured), resources.engine.begin() as tx:
        processed = {row[0]: row[1] for row in await rows(tx, PROCESSED, [event.id for event in page], list(SETTLED))}
    lost = unprocessed(page, processed.keys() | refused)
    match scope:
        case Scope.MISSING:
            return lost, lost
        case Scope.ALL:
            settled = {event_id for event_id, is_settled in processed.items() if is_settled}
            return lost, unprocessed(page, refused - settled)
        case _ as never:
            assert_never(never)


async def _refused(kafka: settings.Kafka, *, progress: Progress) -> set[str]:
    """Return which events lie with the dead letters, once the payments consumer has taken whatever lies in Kafka by now."""
    async with kafka_errors_as_ops_errors(kafka):
        if left := await insights.until_taken(kafka, topics.STRIPE_EVENTS, seconds_max=TAKING_SECONDS_MAX):
            raise ConsumerBehind(left)
        letters = await insights.dead_letters(kafka, [topics.STRIPE_EVENTS_DLT], progress=progress)
    return {letter.key for letter in letters}


async def _account(resources: Resources) -> str:
    """Return the account of the key. Another account's events would be another business's."""
    configured = resources.configured
    match await resources.api.account_id():
        case str(account_id):
            if configured.stripe_account_id not in {None, account_id}:
                raise AnotherAccount(
                    f"STRIPE_ACCOUNT_ID is {configured.stripe_account_id}, but the key belongs to {account_id}"
                )
            return account_id
        case failure:
            raise StripeUnavailable(configured, failure)


def _record(event: ListedEvent, *, prefix: str) -> Record:
    headers = (*headers_of_stripe(event.id), RECONCILED)
    return Record(topics.STRIPE_EVENTS.named(prefix), event.id.encode(), event.body, headers)
