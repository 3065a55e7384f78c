"""How every client of ours reaches the cluster: addresses, encryption, credentials, and the wait until it answers."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from shared import errors, logs, settings
from shared.kafka.backoff import Backoff

log = logs.get(__name__)

ASKING_TIMEOUT_MS = 3_000
CLOSE_SECONDS_MAX = 0.3  # a broker that refuses a client waits a tenth of a second before it closes
NO_ANSWER = "no broker answers"


def for_aiokafka(kafka: settings.Kafka) -> dict[str, Any]:
    """Return the arguments that aiokafka's producer, consumer and admin client share."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": list(kafka.kafka_bootstrap_servers),
        "security_protocol": kafka.kafka_security_protocol,
    }
    if kafka.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = ssl_context(kafka)
    if kafka.kafka_security_protocol.startswith("SASL"):
        assert kafka.kafka_sasl_password is not None
        arguments |= {
            "sasl_mechanism": kafka.kafka_sasl_mechanism,
            "sasl_plain_username": kafka.kafka_sasl_username,
            "sasl_plain_password": kafka.kafka_sasl_password.get_secret_value(),
        }
    return arguments


def ssl_context(kafka: settings.Kafka) -> ssl.SSLContext:
    """Return how the cluster's certificate is checked: by the given authority, else by the system's."""
    return ssl.create_default_context(cafile=kafka.kafka_ssl_ca_file)


async def until_answers(
    kafka: settings.Kafka, start: Callable[[], Awaitable[object]], *, stopping: asyncio.Event | None
) -> None:
    """Call `start` until it succeeds, with back-off; the first failure is logged with its reason, and the success after it.

    Raises errors.Stopping when `stopping` is set meanwhile.
    """
    stopping = stopping or asyncio.Event()
    waits = Backoff()
    while True:
        try:
            await _unless_stopping(start, stopping)
        except (KafkaError, OSError, TimeoutError) as error:
            if waits.failures == 0:
                known = not isinstance(error, KafkaConnectionError | OSError | TimeoutError)
                reason = str(error) if known else await refusal(kafka)
                log.warning("kafka.away", error=type(error).__name__, reason=reason)
            await waits.pause(stopping)
            if stopping.is_set():
                raise errors.Stopping("Kafka was not reached") from error
        else:
            if waits.failures:
                log.info("kafka.back", count=waits.failures)
            return


async def _unless_stopping(start: Callable[[], Awaitable[object]], stopping: asyncio.Event) -> None:
    """Await `start()`, or raise errors.Stopping once `stopping` is set: a join or a look-up of an unknown topic takes long."""
    starting, stopped = asyncio.ensure_future(start()), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            raise errors.Stopping("Kafka was not reached")
        await starting
    finally:
        for task in (starting, stopped):
            task.cancel()
        await asyncio.gather(starting, stopped, return_exceptions=True)


async def refusal(kafka: settings.Kafka) -> str:
    """Return why the cluster refuses our connections, by connecting to its servers once more; never a password.

    A wrong password, an untrusted certificate and an unreachable cluster are one error to aiokafka; only its log shows which.
    """
    reasons = await asyncio.gather(*(_refusal_by(server, kafka) for server in kafka.kafka_bootstrap_servers))
    return next((reason for reason in reasons if reason != NO_ANSWER), NO_ANSWER)


async def _refusal_by(server: str, kafka: settings.Kafka) -> str:
    host, _, port = server.rpartition(":")
    arguments = for_aiokafka(kafka) | {"request_timeout_ms": ASKING_TIMEOUT_MS}
    del arguments["bootstrap_servers"]
    asked = AIOKafkaConnection(host, int(port), **arguments)
    try:
        await asked.connect()
        # A client that had to log in and did not gets the error only now.
        await asked.send(MetadataRequest([]))
    except (KafkaError, OSError, TimeoutError) as error:
        return _reason(error, kafka)
    finally:
        # TLS waits for the other side's close, too: our caller may end with its loop before that.
        await asyncio.wait((asked.close(),), timeout=CLOSE_SECONDS_MAX)
    return NO_ANSWER  # a broker answers by now


def _reason(error: Exception, kafka: settings.Kafka) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return "it does not speak TLS"
        case SaslAuthenticationFailed():
            return f"{kafka.kafka_sasl_username} is not let in: wrong user or password ({kafka.kafka_sasl_mechanism})"
        case UnsupportedSaslMechanismError() | IllegalSaslStateError():
            return f"it does not let anybody in by {kafka.kafka_sasl_mechanism}"
        case KafkaConnectionError() | ConnectionResetError():
            return f"it hung up: does it speak {kafka.kafka_security_protocol}?"
        case _:
            return NO_ANSWER
