"""The health server and what it is told: dead tasks, taken ports, answers for machines."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import aiohttp
import pytest

from shared import clock, metrics, settings
from shared.kafka import health, liveness, producer, service
from shared.kafka.records import Record
from tests.support.members import THINGS, Taken, make_topics, member, put
from tests.support.waiting import until


async def nothing():
    return []


async def something():
    return ["database: OSError"]


async def get(port, path):
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as answer:
        return answer.status, await answer.text()


def anywhere():
    """A port of our own, found by a default that is taken."""
    return settings.Health.model_construct(_fields_set=set(), health_port=1)


async def _ended(task):
    task.cancel()
    await asyncio.wait([task])


async def test_live_ready_and_metrics_are_served():
    """200 and 503 with reasons in JSON; metrics in Prometheus' text."""
    async with health.served(anywhere(), live=nothing, ready=something) as port:
        assert await get(port, "/health/live") == (200, '{"status": "ok", "reasons": []}')
        assert await get(port, "/health/ready") == (503, '{"status": "unavailable", "reasons": ["database: OSError"]}')
        status, text = await get(port, "/metrics")
        assert status == 200
        assert "kafka_lag_records" in text


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/nowhere"])
async def test_whoever_asks_how_we_are_hears_of_no_version(path):
    """aiohttp's own answer names it, Python, and both versions."""
    async with (
        health.served(anywhere(), live=nothing, ready=something) as port,
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{port}{path}") as answer,
    ):
        assert answer.headers["Server"] == "CultureBridge"


async def test_a_strangers_broken_request_leaves_no_address_in_the_log(caplog):
    """A scan of the network is answered 400; who it was, no log tells, nor that anything of ours went wrong."""
    async with health.served(anywhere(), live=nothing, ready=nothing) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\nno header\r\n\r\n")
        answer = await reader.read()
        writer.close()

    assert answer.split()[1] == b"400"
    assert caplog.messages == []


async def test_a_check_that_breaks_is_told_with_its_place_and_not_with_who_asked(capsys, caplog):
    """Whoever probes is told that it broke, and the log where."""

    async def breaks():
        raise RuntimeError("of 192.0.2.7")

    async with health.served(anywhere(), live=nothing, ready=breaks) as port:
        status, text = await get(port, "/health/ready")

    assert (status, text) == (503, '{"status": "unavailable", "reasons": ["the check itself broke: RuntimeError"]}')
    assert "health.check_broke" in capsys.readouterr().out
    assert caplog.messages == []


async def told_ready(port):
    """What a scrape reads in `process_ready`."""
    status, text = await get(port, "/metrics")
    assert status == 200
    [line] = [line for line in text.splitlines() if line.startswith("process_ready ")]
    return float(line.partition(" ")[2])


async def test_a_scrape_says_what_readiness_says():
    """A process that lives and cannot work is seen by whoever watches, and as soon as it can work again."""
    reasons = ["things: TopicAuthorizationFailedError"]

    async def ready():
        return reasons

    async with health.served(anywhere(), live=nothing, ready=ready) as port:
        assert await told_ready(port) == 0
        reasons.clear()
        assert await told_ready(port) == 1
        reasons.append("kafka: no answer")
        assert await told_ready(port) == 0


async def test_a_readiness_that_hangs_costs_no_scrape(monkeypatch):
    """The metrics of a process in trouble are wanted most; even a check that will not be cancelled holds nobody up."""
    monkeypatch.setattr(health, "READY_WITHIN_SECONDS", 0.1)
    over = asyncio.Event()

    async def hangs():
        while not over.is_set():
            with suppress(asyncio.CancelledError):
                await over.wait()
        return []

    async with health.served(anywhere(), live=nothing, ready=hangs) as port:
        try:
            async with asyncio.timeout(5):
                assert await told_ready(port) == 0
        finally:
            over.set()
        assert await told_ready(port) == 1


async def test_who_asks_how_we_are_keeps_no_process_from_its_end():
    """A probe that takes its time, or a reader that reads no more: left to aiohttp it is waited for a minute, and again."""
    asked = asyncio.Event()

    async def hangs():
        asked.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(30), health.served(anywhere(), live=hangs, ready=nothing) as port:
        probe = asyncio.create_task(get(port, "/health/live"))
        await asked.wait()

    with pytest.raises(aiohttp.ClientError):
        await probe


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_readiness_that_breaks_costs_no_scrape(error):
    """Whatever a client library throws while it falls apart: the process is not ready, and tells its metrics."""

    async def breaks():
        raise error

    async with health.served(anywhere(), live=nothing, ready=breaks) as port:
        assert await told_ready(port) == 0


async def test_a_default_port_that_is_taken_gives_way():
    """Two consumers on one machine: the second takes any free port, and says which."""
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), port=0, host="0.0.0.0")
    number = taken.sockets[0].getsockname()[1]

    class Consumer(settings.Health):
        health_port: int = number

    async with taken, health.served(Consumer(), live=nothing, ready=nothing) as port:
        assert port not in {number, 0, None}
        assert (await get(port, "/health/live"))[0] == 200


async def test_a_set_port_that_is_taken_raises():
    """Whoever asked for it watches exactly this one."""
    taken = await asyncio.start_server(lambda _reader, writer: writer.close(), port=0, host="0.0.0.0")
    number = taken.sockets[0].getsockname()[1]
    async with taken:
        with pytest.raises(health.NotServed, match=f"HEALTH_PORT={number} cannot be had: OSError:EADDRINUSE"):
            async with health.served(settings.Health(health_port=number), live=nothing, ready=nothing):
                pass


async def test_port_0_serves_nothing():
    """Off is off."""
    async with health.served(settings.Health(health_port=0), live=nothing, ready=nothing) as port:
        assert port is None


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (lambda joined: joined.consumer._fetcher._fetch_task, "the fetch task ended"),
        (lambda joined: joined.consumer._coordinator._coordination_task, "the coordination task ended"),
        (lambda joined: next(iter(joined.subscription.subscriber.tasks)), "the consume loop ended"),
    ],
    ids=["fetch", "coordination", "loop"],
)
async def test_a_task_that_died_is_noticed_while_the_cluster_answers(kafka, task, reason):
    """aiokafka's tasks can end in silence: a ping would go on saying that all is well."""
    await make_topics(kafka, THINGS)
    async with member(kafka, Taken()) as joined:
        assert await joined.liveness.fault() is None
        await _ended(task(joined))
        assert await liveness._cluster_answers(joined.consumer)
        assert reason in await joined.liveness.fault()


async def test_a_silent_cluster_is_asked_by_all_at_once_whether_it_lives():
    """A probe waits for 5 s: seven of email's, each given 2 s in its turn, would have it restarted in every such outage."""
    everybody = asyncio.Barrier(7)

    class Silent:
        async def fault(self):
            await everybody.wait()

    async with asyncio.timeout(10):
        assert await service._faults([Silent() for _ in range(7)], None) == []


async def test_a_silent_database_and_a_silent_cluster_are_asked_at_once(monkeypatch):
    """Whoever asks a process how it is, while both are silent, is to hear it before he gives up."""
    both = asyncio.Barrier(2)

    class Silent:
        trouble, topic = None, "things"

        async def answers(self, *_topics):
            await both.wait()
            return False

    async def database():
        await both.wait()
        return ["database: TimeoutError"]

    monkeypatch.setattr(liveness, "has_assignment", lambda _subscription: True)
    async with asyncio.timeout(10):
        told = await service._reasons([Silent()], Silent(), database)

    assert told == ["kafka: no answer, or not for every topic", "database: TimeoutError"]


async def test_a_producer_that_can_send_no_more_is_a_fault():
    """Every batch that has something to tell would be put back for ever; only a new process has a new sender."""

    class Dead:
        is_dead = True

    assert await service._faults([], Dead()) == ["the producer's sender task ended"]


async def test_a_process_one_of_whose_groups_has_not_joined_is_not_ready(monkeypatch):
    """The email consumer reads seven topics: six of them are not all of its work."""

    class Subscribed:
        trouble, topic = None, "things"

    joined, joining = Subscribed(), Subscribed()
    monkeypatch.setattr(liveness, "has_assignment", lambda subscription: subscription is joined)

    assert await service._trouble_of_kafka([joined, joining], Subscribed()) == ["no partitions assigned yet"]


class Polled:
    """A consumer of two partitions and its subscription, as liveness sees them; `polls` says when each was polled last."""

    topic, has_ended, busy_since, ended_task, waiting = "things", False, None, None, ()

    def __init__(self):
        self.polls, self.trouble, self.consumer = {0: 1, 1: 1}, None, self

    def assignment(self):
        return set(self.polls)

    def last_poll_timestamp(self, partition):
        return self.polls[partition]

    async def topics(self):
        return set()


async def test_one_partition_that_is_polled_no_more_is_noticed_beside_another_that_is(monkeypatch):
    """Its records would lie there for ever, while all else goes well; where a poll says why it fails, nobody is restarted."""
    now = [1000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: now[0])
    consumer = Polled()
    watched = liveness.Liveness(consumer)
    assert await watched.fault() is None
    now[0] += liveness.POLL_AGE_SECONDS_MAX + 1
    consumer.polls[1] = 2
    assert await watched.fault() == "things: not polled for 60 s"

    consumer.trouble = "TopicAuthorizationFailedError"
    assert await watched.fault() is None


async def test_an_idle_consumer_is_polled_and_therefore_alive(kafka, monkeypatch):
    """No record for as long as one likes: fetches go on, and their age says so."""
    await make_topics(kafka, THINGS)
    async with member(kafka, Taken()) as joined:
        place = next(iter(joined.consumer.assignment()))
        await until(lambda: joined.consumer.last_poll_timestamp(place), "it polls")
        first = joined.consumer.last_poll_timestamp(place)
        await until(lambda: joined.consumer.last_poll_timestamp(place) > first, "it polls again")
        assert await joined.liveness.fault() is None
        monkeypatch.setattr(liveness, "POLL_AGE_SECONDS_MAX", -1.0)
        assert "not polled" in await joined.liveness.fault()


@pytest.mark.parametrize("minutes", [10, -10])
async def test_a_clock_that_is_set_ends_no_consumer_and_blinds_nobody(kafka, monkeypatch, minutes):
    """A machine that slept, or whose clock was wrong: the last poll is neither ten minutes old, nor to come."""
    await make_topics(kafka, THINGS)
    async with member(kafka, Taken()) as joined:
        [place] = joined.consumer.assignment()
        await until(lambda: joined.consumer.last_poll_timestamp(place), "it polls")
        later = clock.now() + timedelta(minutes=minutes)
        monkeypatch.setattr(clock, "now", lambda: later)
        assert await joined.liveness.fault() is None
        monkeypatch.setattr(liveness, "POLL_AGE_SECONDS_MAX", -1.0)
        assert "not polled" in await joined.liveness.fault()


async def test_a_backlog_that_was_fetched_long_ago_is_no_silence(kafka, monkeypatch):
    """Of a partition whose fetched records wait nothing more is asked for; between two of its batches that is no fault."""
    await make_topics(kafka, THINGS)
    async with producer.opened(kafka, client_id="tests") as publisher:
        await publisher.publish([Record(THINGS.named(kafka.topic_prefix), b"one", b"%d" % n) for n in range(3)])
    monkeypatch.setattr(liveness, "POLL_AGE_SECONDS_MAX", 0.2)
    going_on = asyncio.Event()
    handled = Taken(holds=going_on)
    async with member(kafka, handled, records_max=1) as joined:
        [place] = joined.consumer.assignment()
        await until(lambda: handled.calls == 1, "the first is at hand, and the others are fetched")
        assert await joined.liveness.fault() is None

        def polled_long_ago():
            return clock.now().timestamp() - joined.consumer.last_poll_timestamp(place) / 1000 > 0.4

        await until(polled_long_ago, "nothing more is asked for")
        joined.subscription.busy_since = None  # as between two batches
        assert await joined.liveness.fault() is None
        going_on.set()
        await until(lambda: len(handled.records) == 3, "all are handled")


async def test_how_old_the_batch_at_hand_is_needs_nobody_s_answer(kafka, monkeypatch):
    """What is committed Kafka may not tell, or too late for a busy process: that is when somebody has to hear of the age."""
    await make_topics(kafka, THINGS)
    going_on = asyncio.Event()
    handled = Taken(holds=going_on)
    async with member(kafka, handled) as joined:
        await put(kafka, THINGS, b"one")
        await until(lambda: handled.calls == 1, "it is at hand")

        async def silent(_partition):
            raise TimeoutError

        monkeypatch.setattr(joined.consumer, "committed", silent)
        later = clock.now() + timedelta(minutes=10)
        monkeypatch.setattr(clock, "now", lambda: later)
        with pytest.raises(TimeoutError):
            await liveness._measure(joined.subscription)
        going_on.set()

    assert metrics.oldest_unprocessed_seconds.labels(joined.subscription.topic)._value.get() > 300


@pytest.mark.parametrize("fault", [TimeoutError, ZeroDivisionError])
async def test_the_lag_is_measured_on_when_one_measure_fails(kafka, monkeypatch, fault):
    """A cluster that is away for one measure does not end the gauge for good, nor does a fault of ours."""
    await make_topics(kafka, THINGS)
    measured = []

    async def measure(subscription):
        measured.append(subscription)
        raise fault

    monkeypatch.setattr(liveness, "_measure", measure)
    monkeypatch.setattr(liveness, "LAG_EVERY_SECONDS", 0.01)
    async with member(kafka, Taken()) as joined:
        watching = asyncio.create_task(liveness.watch_lag([joined.subscription]))
        await until(lambda: len(measured) > 2, "it goes on")
        watching.cancel()
