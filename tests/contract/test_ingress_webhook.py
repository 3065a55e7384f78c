"""POST /payment/webhook over real sockets: one suite, against a Kafka of the test's own and the real one."""

import asyncio
import json

import pytest
from aiokafka import AIOKafkaConsumer

from ingress import webhook
from ingress.publisher import Publisher
from shared import metrics, topics
from shared.kafka.records import Record
from tests.support.builders import Sale, bytes_of, stripe_event
from tests.support.door import WEBHOOK_SECRET, FakePublisher, opened, signed
from tests.support.members import make_topics
from tests.support.waiting import until


class RealPublisher(Publisher):
    """The real way to Kafka, and a reader that starts at the beginning of the topic."""

    def __init__(self, kafka):
        super().__init__(kafka, topics.STRIPE_EVENTS.named(kafka.topic_prefix))
        self.kafka = kafka

    async def read(self):
        """Everything that is in the topic now."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=list(self.kafka.kafka_bootstrap_servers), auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        try:
            consumer.subscribe([self._topic])
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=50)
            ends = await consumer.end_offsets(consumer.assignment())
            await consumer.seek_to_beginning()
            found = []
            while len(found) < sum(ends.values()):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += [Record(r.topic, r.key, r.value, r.headers) for r in batch]
            return found
        finally:
            await consumer.stop()


@pytest.fixture(params=["fake", "real"])
async def door(request, database, kafka):
    if request.param == "fake":
        async with opened(database, publisher=FakePublisher(), topic_prefix=kafka.topic_prefix) as made:
            yield made
        return
    await make_topics(kafka, topics.STRIPE_EVENTS)
    publisher = RealPublisher(kafka)
    async with publisher.reaching(), opened(database, publisher=publisher, topic_prefix=kafka.topic_prefix) as made:
        await until(lambda: is_ready(publisher), "Kafka is reached")
        yield made


async def test_a_publisher_whose_producer_died_is_not_ready_although_kafka_answers(kafka):
    """Nobody sends webhooks where none can be taken, and the reason is told."""
    await make_topics(kafka, topics.STRIPE_EVENTS)
    publisher = RealPublisher(kafka)
    async with publisher.reaching():
        await until(lambda: is_ready(publisher), "Kafka is reached", deadline_seconds=20)
        assert publisher.fault is None
        publisher._producer._client._sender.sender_task.cancel()
        await until(lambda: is_dead(publisher), "its end is noticed", deadline_seconds=5)

        assert await publisher._producer.answers(publisher._topic)
        assert await publisher.trouble() == [publisher.fault] == ["the producer's sender task ended"]


async def is_ready(publisher):
    return not await publisher.trouble()


async def is_dead(publisher):
    return publisher.fault is not None


async def test_the_exact_bytes_are_published_before_the_answer(door, kafka):
    """200 accepted means Kafka has what Stripe signed, byte by byte, keyed by its id, with the headers that travel."""
    event = Sale().succeeded()
    body = b"\n" + bytes_of(event | {"note": "caf\u00e9 \u2603"}) + b" \r\n"

    assert await door.deliver(body) == (200, {"status": "accepted"})

    [record] = await door.publisher.read()
    headers = dict(record.headers)
    assert (record.topic, record.key, record.value) == (f"{kafka.topic_prefix}stripe.events", event["id"].encode(), body)
    assert headers["content-type"] == b"application/json"
    assert headers["correlation_id"] == event["id"].encode()
    assert webhook.W3C_TRACEPARENT.fullmatch(headers["traceparent"])


async def test_a_second_delivery_says_so_and_is_published_all_the_same(door):
    """A resend heals: the answer tells what this process remembers, the inbox is the truth behind it."""
    body = bytes_of(Sale().succeeded())

    first = await door.deliver(body)
    second = await door.deliver(body)

    assert (first, second) == ((200, {"status": "accepted"}), (200, {"status": "already_processed"}))
    assert [record.value for record in await door.publisher.read()] == [body, body]


async def test_a_hundred_at_once_are_each_published_once(door):
    """Nothing is mixed up or lost among deliveries of the same moment."""
    sent = [bytes_of(Sale().succeeded()) for _ in range(100)]

    answers = await asyncio.gather(*(door.deliver(body) for body in sent))

    assert {status for status, _ in answers} == {200}
    assert sorted(record.value for record in await door.publisher.read()) == sorted(sent)


async def test_a_trace_of_the_proxy_is_carried_on(door_alone):
    """Whoever stands in front of us may have begun the trace."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    await door_alone.deliver(bytes_of(Sale().succeeded()), traceparent=trace)
    await door_alone.deliver(bytes_of(Sale().succeeded()), traceparent="00-no-trace")

    first, second = (dict(record.headers)["traceparent"] for record in door_alone.publisher.records)
    assert first == trace.encode()
    assert webhook.W3C_TRACEPARENT.fullmatch(second)


async def test_without_kafka_it_is_503_and_stripe_comes_again(door_alone):
    """Unsure means never 2xx; what was not acknowledged is not remembered either."""
    body = bytes_of(Sale().succeeded())
    door_alone.publisher.away = True

    async with door_alone.http.post("/payment/webhook", data=body, headers={"Stripe-Signature": signed(body)}) as answer:
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["code"] == "kafka_unavailable"

    door_alone.publisher.away = False
    assert await door_alone.deliver(body) == (200, {"status": "accepted"})


async def test_an_exception_is_500_and_counted_once(door_alone, monkeypatch):
    """The alert WebhooksBroken depends on this count, which is 0 before; the next delivery is accepted."""
    body = bytes_of(Sale().succeeded())
    counted = metrics.webhook_requests.labels("internal")._value
    before = counted.get()
    with monkeypatch.context() as broken:
        broken.setattr(door_alone.publisher, "publish", None)
        status, answer = await door_alone.deliver(body)

    assert (status, answer["code"]) == (500, "internal")
    assert counted.get() == before + 1
    assert await door_alone.deliver(body) == (200, {"status": "accepted"})
    assert counted.get() == before + 1


IGNORED = {
    "live event under a test key": {"livemode": True},
    "thin event": {"object": "v2.core.event"},
    "event of a connected account": {"account": "acct_other"},
}


@pytest.mark.parametrize("changes", IGNORED.values(), ids=IGNORED.keys())
async def test_foreign_events_are_ignored(database, changes):
    """200, so that Stripe does not insist, and never published."""
    async with opened(database, stripe_account_id="acct_ours") as door:
        answer = await door.deliver(bytes_of(Sale().succeeded() | changes))

        assert answer == (200, {"status": "ignored"})
        assert door.publisher.records == []


@pytest.mark.parametrize("account", [None, "acct_ours", "absent"])
async def test_our_own_account_is_no_foreigner(database, account):
    """Its events name it or not. Those of another account of ours name none either: the signing secret keeps these out."""
    event = Sale().succeeded() | ({} if account == "absent" else {"account": account})
    async with opened(database, stripe_account_id="acct_ours") as door:
        assert await door.deliver(bytes_of(event)) == (200, {"status": "accepted"})


async def test_where_no_account_is_set_nobody_is_a_foreigner(database):
    """An event that names one would else be taken for somebody's, answered, and lost."""
    async with opened(database) as door:
        event = Sale().succeeded() | {"account": "acct_ours"}
        assert await door.deliver(bytes_of(event)) == (200, {"status": "accepted"})


async def test_unknown_things_are_for_the_consumer_to_judge(door_alone):
    """A signed event of an unknown type, a future version or an odd shape is taken, not refused."""
    odd = [
        stripe_event("something.new", {"id": "x"}),
        stripe_event("payment_intent.succeeded", {}, api_version="2099-01-01.kraken"),
        stripe_event("payment_intent.succeeded", "no object"),
        {"id": "evt_1"},
        {"id": "evt_1", "livemode": "no", "account": 7, "type": ["x"], "object": None},
        {"id": "evt_1", "data": {"object": {"amount": 2**70, "name": "<script>\r\n", "metadata": {"x": "y" * 200_000}}}},
    ]
    for event in odd:
        status, body = await door_alone.deliver(json.dumps(event).encode())
        assert (status, body["status"] in {"accepted", "already_processed"}) == (200, True), event

    assert len(door_alone.publisher.records) == len(odd)


async def test_refusals_are_all_alike(door_alone):
    """Whether the header, the moment or the signature was wrong is nobody's business."""
    body = bytes_of(Sale().succeeded())
    headers = ["t=1", signed(body, at=1), signed(body, secret="whsec_" + "x" * 32), signed(b"{}")]

    answers = [await door_alone.deliver(body, header) for header in [*headers, ""]]

    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 400
    assert answers[0][1]["code"] == "signature_invalid"
    assert door_alone.publisher.records == []


async def test_two_signature_headers_are_refused(door_alone):
    """What a proxy and we may read differently is not read."""
    body = bytes_of(Sale().succeeded())
    headers = [("Stripe-Signature", signed(body)), ("Stripe-Signature", signed(body))]

    async with door_alone.http.post("/payment/webhook", data=body, headers=headers) as answer:
        assert answer.status == 400


async def test_a_bearer_token_neither_helps_nor_hurts(door_alone):
    """The signature alone counts."""
    body = bytes_of(Sale().succeeded())

    assert (await door_alone.deliver(body, "t=1,v1=x", Authorization="Bearer x"))[0] == 400
    assert (await door_alone.deliver(body, Authorization="Bearer x"))[0] == 200


async def test_either_secret_of_a_roll_is_taken(database):
    """Two endpoints, or the old and the new secret."""
    other = "whsec_" + "n" * 32
    body = bytes_of(Sale().succeeded())
    async with opened(database, stripe_webhook_secret=f"{WEBHOOK_SECRET},{other}") as door:
        assert (await door.deliver(body, signed(body)))[0] == 200
        assert (await door.deliver(body, signed(body, secret=other)))[0] == 200
