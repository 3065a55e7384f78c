"""What is asserted before anything is consumed, and the arithmetic of waiting."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from shared import errors, settings, tracebacks
from shared.kafka import broker, connection
from shared.kafka.backoff import DELAY_SECONDS_MAX, Backoff
from shared.kafka.broker import UnsafeSubscription
from shared.kafka.subscription import IN_FLIGHT_WAIT_SECONDS, Subscription
from shared.topics import DEAD_LETTER_BYTES_MAX, DEAD_LETTER_TOPICS, STRIPE_EVENTS
from tests.support.members import End

NOBODY = settings.Kafka(kafka_bootstrap_servers="127.0.0.1:9")
SAFE = {"group_id": "g", "batch": True, "ack_policy": AckPolicy.NACK_ON_ERROR, "auto_offset_reset": "earliest"}


async def nothing(_records):
    """Handle nothing."""


def cluster(**changes):
    return settings.Kafka(kafka_bootstrap_servers="one:9092, two:9092", topic_prefix="p.", **changes)


async def created():
    subscription = Subscription(STRIPE_EVENTS, "payments", nothing, cluster(), End())
    return broker.create(cluster(), client_id="tests", subscriptions=[subscription]), subscription


@pytest.mark.filterwarnings("ignore:AckPolicy.REJECT_ON_ERROR has the same effect")
@pytest.mark.parametrize(
    "unsafe",
    [
        {"ack_policy": AckPolicy.ACK_FIRST},
        {"ack_policy": AckPolicy.ACK},
        {"ack_policy": AckPolicy.REJECT_ON_ERROR},
        {"ack_policy": AckPolicy.MANUAL},
        {"auto_offset_reset": "latest"},
        {"group_id": None},
    ],
)
def test_a_subscription_that_would_lose_messages_is_refused_at_start(unsafe):
    """Every policy of FastStream's but one commits what failed; `latest` skips; no group commits nothing."""
    made = KafkaBroker()
    made.subscriber("topic", **(SAFE | unsafe))(nothing)
    with pytest.raises(UnsafeSubscription) as refused:
        broker.require_safe(made)
    assert tracebacks.formatted(refused.value).endswith("['topic']: NACK_ON_ERROR, earliest and a group are required")


def test_the_default_policy_is_refused_at_start():
    """FastStream's own default acknowledges before the handler ran."""
    made = KafkaBroker()
    made.subscriber("topic", group_id="g", batch=True, auto_offset_reset="earliest")(nothing)
    with pytest.raises(UnsafeSubscription):
        broker.require_safe(made)


async def test_our_own_subscriptions_are_safe():
    """What `create` makes passes its own gate, with every argument that the gate cannot see."""
    made, subscription = await created()
    broker.require_safe(made)
    arguments = subscription.subscriber._connection_args

    assert subscription.subscriber.ack_policy is AckPolicy.NACK_ON_ERROR
    assert (arguments["enable_auto_commit"], arguments["auto_offset_reset"]) == (False, "earliest")
    assert (subscription.subscriber.topic_names, subscription.subscriber.group_id) == (["p.stripe.events"], "p.payments")
    assert subscription.subscriber._no_reply is True


async def test_bootstrap_servers_are_a_list():
    """FastStream does not split a string of several servers: it would be one name that nobody can resolve."""
    made, _ = await created()

    assert made._connection_kwargs["bootstrap_servers"] == ["one:9092", "two:9092"]


async def test_topics_are_never_made_by_being_used():
    """A topic made by use has one partition, one replica and the default retention."""
    made, _ = await created()

    assert made.config.broker_config.allow_auto_create_topics is False
    assert made.config.broker_config.consumer_only is True


def test_a_member_waits_for_its_batch_less_long_than_the_group_waits_for_it():
    """Each deadline lies within the next: batch, rebalance, request."""
    assert IN_FLIGHT_WAIT_SECONDS * 1000 < broker.REBALANCE_TIMEOUT_MS < broker.REQUEST_TIMEOUT_MS
    assert broker.HEARTBEAT_INTERVAL_MS * 3 < broker.SESSION_TIMEOUT_MS
    assert broker.GRACEFUL_STOP_SECONDS < 10


@pytest.mark.parametrize("topic", DEAD_LETTER_TOPICS, ids=lambda topic: topic.name)
def test_whatever_a_topic_took_fits_behind_it_with_its_reason(topic):
    """A dead letter that is refused would repeat its batch for ever."""
    assert STRIPE_EVENTS.message_bytes_max < DEAD_LETTER_BYTES_MAX < topic.message_bytes_max


def test_a_pause_grows_to_its_maximum_and_starts_anew():
    """0.2 s doubling to 10 s, jittered downwards; never nothing, never longer."""
    waits = Backoff()
    delays = [waits.next_delay_seconds() for _ in range(50)]
    waits.reset()

    assert 0.15 <= delays[0] <= 0.2
    assert all(0.15 <= delay <= DELAY_SECONDS_MAX for delay in delays)
    assert delays[10] >= 7.5
    assert waits.next_delay_seconds() <= 0.2


async def test_a_pause_is_over_at_once_when_we_stop():
    """Nobody waits out a back-off on SIGTERM."""
    stopping = asyncio.Event()
    waits = Backoff()
    waits.failures = 30
    pausing = asyncio.create_task(waits.pause(stopping))
    await asyncio.sleep(0)
    stopping.set()
    async with asyncio.timeout(1):
        await pausing


async def test_whoever_waits_for_kafka_is_let_go_on_stop_though_its_start_hangs():
    """A join or an unknown topic blocks for the whole request timeout: stopping cuts it."""
    stopping, cut = asyncio.Event(), []

    async def hangs():
        try:
            await asyncio.Event().wait()
        finally:
            cut.append(True)

    waiting = asyncio.create_task(connection.until_answers(NOBODY, hangs, stopping=stopping))
    await asyncio.sleep(0)
    stopping.set()
    with pytest.raises(errors.Stopping):
        async with asyncio.timeout(1):
            await waiting
    assert not waiting.cancelled()
    assert cut == [True]


async def test_waiting_for_kafka_says_so_once(monkeypatch):
    """One line when it is away, one when it is back, however often was tried."""
    monkeypatch.setattr("shared.kafka.backoff.DELAY_SECONDS_MIN", 0.001)
    monkeypatch.setattr("shared.kafka.backoff.DELAY_SECONDS_MAX", 0.001)
    said, tries = [], []

    class Log:
        def warning(self, event, **_fields):
            said.append(event)

        info = warning

    async def comes_back():
        tries.append(1)
        if len(tries) < 6:
            raise KafkaConnectionError

    monkeypatch.setattr(connection, "log", Log())
    await connection.until_answers(NOBODY, comes_back, stopping=None)

    assert said == ["kafka.away", "kafka.back"]
