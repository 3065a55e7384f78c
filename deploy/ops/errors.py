"""The errors of `cb-ops`, each shown as one clear line, with exit status 1.

OpsError
├── KafkaUnavailable     no answer in time, or the cluster refused
├── DatabaseUnavailable  no answer, or PostgreSQL refused
├── StripeUnavailable    no answer, or Stripe refused
├── AnotherAccount       the key belongs to another account than STRIPE_ACCOUNT_ID names
├── ConsumerBehind       the payments consumer has records to take first: which events are missing is not known yet
├── InvalidTemplates     templates that cannot render every letter
└── NotFound             the topic, letter or matter that was named does not exist
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import assert_never

from aiokafka.errors import KafkaConnectionError, KafkaError
from sqlalchemy import make_url

from shared import errors, settings, topics
from shared.db import engine
from shared.kafka import connection
from shared.stripe_api import Away, Failure, KeySpent, NoSuchSession, NotAllowed, Refused

# SQLSTATE, https://www.postgresql.org/docs/current/errcodes-appendix.html
UNDEFINED_TABLE = "42P01"
UNDEFINED_COLUMN = "42703"
LOCK_NOT_AVAILABLE = "55P03"


class OpsError(Exception):
    """Shown as one line, without a traceback."""


class KafkaUnavailable(OpsError):
    """Kafka does not answer, or refuses."""


class DatabaseUnavailable(OpsError):
    """PostgreSQL does not answer, or refuses."""


class StripeUnavailable(OpsError):
    """Stripe does not answer, or refuses."""

    def __init__(self, api: settings.StripeApi, failure: Failure) -> None:
        where = api.stripe_api_base or "https://api.stripe.com"
        match failure:
            case NoSuchSession():
                why = "does not know what was asked for"
            case KeySpent(code=code) | Refused(code=code) | NotAllowed(code=code) | Away(code=code):
                why = code
            case _ as never:
                assert_never(never)
        super().__init__(f"Stripe at {where}: {why}")


class AnotherAccount(OpsError):
    """The key belongs to another Stripe account than the one that STRIPE_ACCOUNT_ID names."""


class ConsumerBehind(OpsError):
    """The payments consumer has not taken all records of its topic: which events were never taken is not known yet."""

    def __init__(self, records: int) -> None:
        super().__init__(
            f"the payments consumer has yet to take {records} records of {topics.STRIPE_EVENTS.name}: "
            "which events are missing is known only after that; is the consumer running?"
        )


class InvalidTemplates(OpsError):
    """Templates that cannot render every letter."""


class NotFound(OpsError):
    """What was named does not exist."""


@asynccontextmanager
async def kafka_errors_as_ops_errors(kafka: settings.Kafka) -> AsyncIterator[None]:
    """Raise any error of the cluster as KafkaUnavailable, whose message names the address that was tried."""
    try:
        yield
    except (KafkaError, errors.PipelineError, TimeoutError, OSError) as error:
        where = ",".join(kafka.kafka_bootstrap_servers)
        why = await connection.refusal(kafka) if isinstance(error, KafkaConnectionError) else _one_line(error)
        raise KafkaUnavailable(f"Kafka at {where}: {why}") from error


@asynccontextmanager
async def database_errors_as_ops_errors(database: settings.Database) -> AsyncIterator[None]:
    """Raise any error of PostgreSQL as DatabaseUnavailable, whose message names the address, without the password."""
    try:
        yield
    except engine.TROUBLE as error:
        url = make_url(database.database_url.get_secret_value())
        where = f"{url.host}:{url.port or 5432}/{url.database}"
        state = engine.sqlstate(error)
        if state == UNDEFINED_TABLE:
            raise DatabaseUnavailable(f"PostgreSQL at {where} lacks our tables: run `cb-ops migrate`") from error
        if state == UNDEFINED_COLUMN:
            [why, *_hints] = str(engine.driver_error(error)).splitlines()
            lacks = f"lacks what this release asks for ({why}): run `cb-ops migrate`"
            raise DatabaseUnavailable(f"PostgreSQL at {where} {lacks}") from error
        if state == LOCK_NOT_AVAILABLE:
            why = "somebody holds a table for too long; what was done stands, run it again"
            raise DatabaseUnavailable(f"PostgreSQL at {where}: {why}") from error
        raise DatabaseUnavailable(f"PostgreSQL at {where}: {_one_line(getattr(error, 'orig', None) or error)}") from error


def _one_line(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    name, text = type(error).__name__, " ".join(str(error).split())
    # aiokafka's errors begin with their own name.
    return text if text.startswith(name) else f"{name}: {text}"
