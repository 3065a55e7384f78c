"""How a subscription consumes, on a real broker: nothing that fails, breaks or moves is ever lost."""

import asyncio
import itertools

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.client import AIOKafkaClient
from aiokafka.cluster import ClusterMetadata
from aiokafka.errors import CorruptRecordException
from structlog.testing import capture_logs

from shared import clock, errors
from shared.kafka import broker, liveness, metadata_pause, rewinding, subscription
from shared.kafka.rewinding import RewindingConsumer
from tests.support.members import THINGS, Taken, administration, committed, everything, make_topics, member, put
from tests.support.waiting import until


async def commits(kafka, expected, *, group="group"):
    async def holds():
        return await committed(kafka, THINGS, group) == expected

    await until(holds, f"the group has committed {expected}")


async def test_a_batch_that_fails_is_taken_again_and_nothing_is_committed_meanwhile(kafka):
    """The handler raises three times: no offset moves, and the fourth time it gets the same records."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a", b"b", b"c")
    seen = []

    async def handle(records):
        seen.append((await committed(kafka, THINGS), [r.value for r in records]))
        if len(seen) <= 3:
            raise RuntimeError("not yet")

    async with member(kafka, handle):
        await commits(kafka, {0: 3})

    assert [before for before, _ in seen] == [{}] * 4
    assert [values for _, values in seen] == [[b"a", b"b", b"c"]] * 4


@pytest.mark.parametrize(("error", "lines"), [(errors.KafkaAway("away"), 0), (RuntimeError("unforeseen"), 1)])
async def test_what_we_raised_ourselves_is_told_without_a_traceback(kafka, caplog, error, lines):
    """At each stop, and for as long as a server is away, there would be pages of it."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    taken = Taken(fails=lambda _records: error if taken.calls == 1 else None)
    async with member(kafka, taken):
        await until(lambda: taken.records, "the batch is taken")

    assert len([record for record in caplog.records if record.name == broker.FASTSTREAM.name and record.exc_info]) == lines


async def test_the_log_names_each_error_in_a_row_once(kafka, monkeypatch):
    """A database that is away for an hour is one line; that it then lacks a column is another."""
    monkeypatch.setattr(subscription.Backoff, "pause", lambda *_: asyncio.sleep(0))
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    met = [ConnectionRefusedError(), ConnectionRefusedError(), LookupError(), LookupError(), None]
    taken = Taken(fails=lambda _records: met[taken.calls - 1])
    with capture_logs() as lines:
        async with member(kafka, taken):
            await until(lambda: taken.records, "the batch is taken")

    assert [line["error"] for line in lines if line["event"] == "batch.rewound"] == ["ConnectionRefusedError", "LookupError"]


async def test_a_failing_batch_never_becomes_a_busy_loop(kafka, monkeypatch):
    """Every failure is followed by a pause, each longer than the one before, until ten seconds."""
    pauses = []

    class Counting(subscription.Backoff):
        async def pause(self, stopping):
            pauses.append(self.next_delay_seconds())
            await asyncio.sleep(0)

    monkeypatch.setattr(subscription, "Backoff", Counting)
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    taken = Taken(fails=lambda _records: RuntimeError() if len(pauses) < 8 else None)
    async with member(kafka, taken):
        await until(lambda: taken.records, "the batch is taken")

    assert len(pauses) == taken.calls - 1 == 8
    assert pauses[:7] == sorted(pauses[:7])
    assert pauses[0] >= 0.15
    assert 7.5 <= pauses[7] <= 10


async def test_a_failure_after_a_success_is_the_first_again(kafka, monkeypatch):
    """Its pause is short, and the log tells of it: a second bad day is no part of the first."""
    pauses = []

    class Counting(subscription.Backoff):
        async def pause(self, stopping):
            pauses.append((self.failures, self.next_delay_seconds() <= 0.2))

    monkeypatch.setattr(subscription, "Backoff", Counting)
    await make_topics(kafka, THINGS)
    taken = Taken(fails=lambda _records: RuntimeError() if taken.calls in {1, 2, 4} else None)
    async with member(kafka, taken):
        for count, value in enumerate((b"a", b"b"), start=1):
            await put(kafka, THINGS, value)
            await commits(kafka, {0: count})

    assert pauses == [(0, True), (1, False), (0, True)]


async def test_a_batch_at_hand_is_as_old_as_its_oldest_record(kafka):
    """Its youngest would hide for how long somebody has waited."""
    await make_topics(kafka, THINGS)
    now_ms = int(clock.now().timestamp() * 1000)
    for age_ms in (600_000, 0):
        await put(kafka, THINGS, b"%d" % age_ms, timestamp_ms=now_ms - age_ms)
    go_on = asyncio.Event()
    taken = Taken(holds=go_on)
    async with member(kafka, taken) as joined:
        await until(lambda: len(taken.started) == 2, "both are at hand")
        assert joined.subscription.oldest_timestamp_ms == now_ms - 600_000
        go_on.set()


async def test_a_failure_does_not_let_a_later_batch_commit_past_it(kafka):
    """Records that came during the pause wait behind the batch that fails."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"first")
    arrived = asyncio.Event()
    taken = Taken(fails=lambda _records: None if arrived.is_set() else RuntimeError())
    async with member(kafka, taken) as joined:
        await until(lambda: joined.subscription.trouble, "it is in trouble")
        await put(kafka, THINGS, b"second")
        arrived.set()
        await commits(kafka, {0: 2})

    assert taken.values == [b"first", b"second"]


@pytest.mark.parametrize(
    "bad", [("x-note", None), ("x-note", b"\xff\xfe"), ("correlation_id", b"\xff"), ("content-type", b"\xff")]
)
async def test_one_header_that_is_no_text_loses_nothing(kafka, bad):
    """FastStream's parser breaks on it; the batch is handled all the same, with the headers that were sent."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"good")
    await put(kafka, THINGS, b"bad", headers=[("traceparent", b"00-1"), bad])
    await put(kafka, THINGS, b"good again")
    taken = Taken()
    async with member(kafka, taken):
        await commits(kafka, {0: 3})

    assert taken.values == [b"good", b"bad", b"good again"]
    assert taken.records[1].headers == (("traceparent", b"00-1"), (bad[0], bad[1] or b""))


@pytest.mark.parametrize("value", [b"", b"[1]", b"not json", b"\x00\xff", None])
async def test_bytes_arrive_as_they_were_sent(kafka, value):
    """No decoder of FastStream's touches a value, whatever the content type says; a tombstone is empty."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, value, headers=[("content-type", b"application/json")], keys=[b"key"])
    taken = Taken()
    async with member(kafka, taken):
        await until(lambda: taken.records, "it arrives")

    assert (taken.records[0].key, taken.records[0].value) == (b"key", value or b"")


async def test_a_header_cannot_make_us_publish(kafka):
    """`reply_to` would make FastStream send the handler's result to a topic of the sender's choice."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a", headers=[("reply_to", THINGS.named(kafka.topic_prefix).encode())])
    taken = Taken()
    async with member(kafka, taken):
        await commits(kafka, {0: 1})

    assert taken.calls == 1
    assert [r.value for r in await everything(kafka, THINGS)] == [b"a"]


async def test_a_new_group_reads_from_the_first_record(kafka):
    """Records that came before the group ever joined are not skipped."""
    await make_topics(kafka, THINGS, partitions=2)
    await put(kafka, THINGS, b"old", partition=0)
    await put(kafka, THINGS, b"old too", partition=1)
    taken = Taken()
    async with member(kafka, taken):
        await until(lambda: len(taken.records) == 2, "both are read")

    assert sorted(taken.values) == [b"old", b"old too"]


async def test_offsets_are_committed_only_after_the_handler(kafka):
    """While a batch is at hand the group's offsets stand still, so that a crash repeats it."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    go_on = asyncio.Event()
    taken = Taken(holds=go_on)
    async with member(kafka, taken):
        await until(lambda: taken.started, "the handler runs")
        assert await committed(kafka, THINGS) == {}
        go_on.set()
        await commits(kafka, {0: 1})


async def test_a_handler_that_is_cut_off_is_repeated_by_the_next_member(kafka):
    """The process ends in the middle of a batch: whoever comes next gets it whole."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a", b"b")
    cut = Taken(holds=asyncio.Event())
    async with member(kafka, cut) as joined:
        await until(lambda: cut.started, "the handler runs")
        next(iter(joined.subscription.subscriber.tasks)).cancel()
        await until(lambda: joined.subscription.busy_since is None, "it is cut off")
    taken = Taken()
    async with member(kafka, taken):
        await until(lambda: len(taken.records) == 2, "the next member gets both")


async def test_a_poll_that_dies_on_one_partition_keeps_what_it_took_from_another(kafka, monkeypatch):
    """Partition 0's records are drained when partition 1 cannot be unpacked: they come again, and all is handled."""
    await make_topics(kafka, THINGS, partitions=2)
    await put(kafka, THINGS, b"zero", partition=0)
    await put(kafka, THINGS, b"one", partition=1)
    broken = _break_once(monkeypatch)
    taken = Taken()
    monkeypatch.setattr("anyio.sleep", _no_pause)
    async with member(kafka, taken) as joined:
        await commits(kafka, {0: 1, 1: 1})
        assert joined.subscription.trouble is None

    assert broken == ["broke"]
    assert sorted(taken.values) == [b"one", b"zero"]


@pytest.mark.parametrize("error", [UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a header's name"), CorruptRecordException()])
async def test_a_poll_that_keeps_failing_pauses_and_says_why(kafka, monkeypatch, error):
    """Whatever a poll dies of, the consume loop lives, waits between two tries, and readiness can name it."""
    await make_topics(kafka, THINGS)
    pauses = []

    async def breaks(*_args, **_options):
        raise error

    async def pause(seconds):
        pauses.append(seconds)
        await _no_pause(seconds)

    taken = Taken()
    async with member(kafka, taken) as joined:
        with monkeypatch.context() as patched:
            patched.setattr(joined.consumer._fetcher, "fetched_records", breaks)
            patched.setattr("anyio.sleep", pause)
            await until(lambda: len([p for p in pauses if p >= 5]) >= 3, "it pauses each time")
            assert joined.subscription.trouble == type(error).__name__
            assert await joined.liveness.fault() is None
        await put(kafka, THINGS, b"a")
        await until(lambda: taken.records, "it goes on")
        assert joined.subscription.trouble is None


async def test_an_idle_subscription_polls_once_a_second_and_is_never_deaf(kafka, monkeypatch):
    """FastStream sleeps after a poll in vain for as long as it let it wait; what comes then is not heard."""
    await make_topics(kafka, THINGS)
    slept, polled = [], []

    async def sleep(seconds):
        slept.append(seconds)
        await _sleep(seconds)

    monkeypatch.setattr("anyio.sleep", sleep)
    async with member(kafka, Taken()) as joined:
        poll = joined.consumer.getmany

        async def counted(*arguments, **options):
            polled.append(clock.monotonic())
            return await poll(*arguments, **options)

        joined.consumer.getmany = counted
        await until(lambda: len(polled) == 3, "it has polled in vain, twice")

    assert min(after - before for before, after in itertools.pairwise(polled)) > 0.9
    assert max(slept) <= 0.001


@pytest.mark.parametrize("dies", [False, True])
async def test_what_came_while_a_batch_was_at_hand_is_the_next_one(kafka, monkeypatch, dies):
    """aiokafka asks a broker for nothing while a record of it waits; what came after that one would wait for a batch more."""
    monkeypatch.setattr(rewinding, "JOINING_MS", 10_000)
    monkeypatch.setattr("anyio.sleep", _no_pause)
    await make_topics(kafka, THINGS, partitions=2)
    at_hand, go_on, batches = asyncio.Event(), asyncio.Event(), []

    async def handle(records):
        batches.append(sorted(record.value for record in records))
        at_hand.set()
        await go_on.wait()

    async with member(kafka, handle) as joined:
        joined.consumer._fetcher._prefetch_backoff = 60
        await put(kafka, THINGS, b"one")
        await at_hand.wait()
        await put(kafka, THINGS, b"two")
        await until(lambda: joined.consumer._fetcher._records, "the first to come is fetched")
        await put(kafka, THINGS, b"three", partition=1)
        broken = _break_once(monkeypatch, partition=1) if dies else ["never"]
        go_on.set()
        await commits(kafka, {0: 2, 1: 1})

    assert broken
    assert batches == [[b"one"], [b"three", b"two"]]


async def test_what_joins_a_batch_stands_behind_what_its_partition_had_and_makes_it_no_larger(kafka, monkeypatch):
    """Whatever took the place of the first records would be committed with them, and never handled."""
    monkeypatch.setattr(rewinding, "JOINING_MS", 10_000)
    await make_topics(kafka, THINGS)
    at_hand, go_on, batches = asyncio.Event(), asyncio.Event(), []

    async def handle(records):
        batches.append([record.value for record in records])
        at_hand.set()
        await go_on.wait()
        if b"two" in batches[-1]:
            monkeypatch.setattr(rewinding, "JOINING_MS", 1)  # nothing joins the last one

    async with member(kafka, handle, records_max=2) as joined:
        joined.consumer._fetcher._prefetch_backoff = 60
        await put(kafka, THINGS, b"one")
        await at_hand.wait()
        await put(kafka, THINGS, b"two")
        await until(lambda: joined.consumer._fetcher._records, "the next is fetched")
        await put(kafka, THINGS, b"three", b"four")
        go_on.set()
        await commits(kafka, {0: 4})

    assert batches == [[b"one"], [b"two", b"three"], [b"four"]]


async def test_a_partition_that_nobody_leads_spins_no_core(kafka, monkeypatch):
    """aiokafka's fetcher would ask who leads it a thousand times a second; once somebody does it is read again."""
    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a")
    asked = []
    update = AIOKafkaClient._metadata_update
    monkeypatch.setattr(AIOKafkaClient, "_metadata_update", lambda *told: asked.append(told) or update(*told))
    taken = Taken()
    async with member(kafka, taken):
        await until(lambda: taken.records, "it is read")
        with monkeypatch.context() as leaderless:  # as Kafka tells of it once its last replica in sync is gone
            leaderless.setattr(ClusterMetadata, "leader_for_partition", lambda *_: -1)
            await until(lambda: len(asked) > 3, "the fetcher asks who leads it")
            asked.clear()
            began = clock.monotonic()
            await until(lambda: len(asked) >= 10, "it goes on asking")
            seconds = clock.monotonic() - began
        await put(kafka, THINGS, b"b")
        await until(lambda: taken.values == [b"a", b"b"], "what comes then is read")

    assert seconds > 10 * metadata_pause.LEADERLESS_PAUSE_SECONDS / 2


async def test_only_rewinding_consumers_are_used(kafka):
    """FastStream would make aiokafka's own."""
    await make_topics(kafka, THINGS)
    async with member(kafka, Taken()) as joined:
        assert isinstance(joined.consumer, RewindingConsumer)
        assert (joined.consumer._key_deserializer, joined.consumer._value_deserializer) == (None, None)


async def test_a_record_packed_by_any_codec_is_read(kafka):
    """Every codec that another producer may choose is installed."""
    await make_topics(kafka, THINGS)
    codecs = ("gzip", "lz4", "zstd", "snappy")
    for codec in codecs:
        await put(kafka, THINGS, codec.encode() * 50, compression_type=codec)
    taken = Taken()
    async with member(kafka, taken):
        await until(lambda: len(taken.records) == 4, "all four are read")

    assert taken.values == [codec.encode() * 50 for codec in codecs]


async def test_the_lag_and_the_age_of_what_waits_are_measured(kafka):
    """A batch at hand shows how many wait and how old the oldest is; after it both are 0."""
    from shared import metrics

    await make_topics(kafka, THINGS)
    await put(kafka, THINGS, b"a", b"b")
    go_on = asyncio.Event()
    name = THINGS.named(kafka.topic_prefix)

    def shown(gauge):
        return gauge.labels(name)._value.get()

    async with member(kafka, Taken(holds=go_on)) as joined:
        await until(lambda: joined.subscription.busy_since, "a batch is at hand")
        await liveness._measure(joined.subscription)
        assert shown(metrics.lag_records) == 2
        assert shown(metrics.oldest_unprocessed_seconds) > 0
        go_on.set()
        await commits(kafka, {0: 2})
        await until(lambda: joined.subscription.oldest_timestamp_ms is None, "the batch is over")
        await liveness._measure(joined.subscription)
        assert (shown(metrics.lag_records), shown(metrics.oldest_unprocessed_seconds)) == (0, 0)


async def test_what_expired_before_a_group_read_for_the_first_time_is_no_lag(kafka):
    """A group is younger than its topic, and nothing is left there that it could ever commit."""
    from shared import metrics

    await make_topics(kafka, THINGS)
    place = TopicPartition(THINGS.named(kafka.topic_prefix), 0)
    await put(kafka, THINGS, b"gone", b"gone")
    async with administration(kafka) as admin:
        await admin.delete_records({place: RecordsToDelete(before_offset=2)})
    lag = metrics.lag_records.labels(place.topic)
    go_on = asyncio.Event()
    async with member(kafka, Taken(holds=go_on)) as joined:
        await until(lambda: joined.consumer.highwater(place), "a fetch was answered")
        await liveness._measure(joined.subscription)
        assert lag._value.get() == 0
        await put(kafka, THINGS, b"a", b"b")
        await until(lambda: joined.subscription.busy_since and joined.consumer.highwater(place) == 4, "both are there")
        await liveness._measure(joined.subscription)
        assert lag._value.get() == 2
        go_on.set()


async def test_the_age_of_what_waits_is_measured_between_two_batches_of_a_backlog(kafka, monkeypatch):
    """A consumer that is an hour behind shows it whenever it is measured, and one that has caught up shows nothing."""
    from shared import metrics

    await make_topics(kafka, THINGS)
    hour_ago_ms = int(clock.now().timestamp() * 1000) - 3_600_000
    await put(kafka, THINGS, b"a", b"b", timestamp_ms=hour_ago_ms)
    go_on = asyncio.Event()
    polls = RewindingConsumer.getmany
    taken = Taken()

    async def polls_again_when_let(self, *partitions, **options):
        if taken.records:
            await go_on.wait()
        return await polls(self, *partitions, **options)

    monkeypatch.setattr(RewindingConsumer, "getmany", polls_again_when_let)
    age = metrics.oldest_unprocessed_seconds.labels(THINGS.named(kafka.topic_prefix))._value
    async with member(kafka, taken, records_max=1) as joined:
        await commits(kafka, {0: 1})
        await until(lambda: joined.subscription.busy_since is None, "no batch is at hand")
        await liveness._measure(joined.subscription)
        assert age.get() >= 3600
        go_on.set()
        await commits(kafka, {0: 2})
        await until(lambda: joined.subscription.busy_since is None, "the last batch is over")
        await liveness._measure(joined.subscription)
        assert age.get() == 0


async def test_what_kafka_deleted_before_it_was_read_is_told(kafka):
    """Retention passed a consumer that stood still: it goes on with what is left, and somebody hears of it."""
    from shared import metrics

    await make_topics(kafka, THINGS)
    name = THINGS.named(kafka.topic_prefix)
    await put(kafka, THINGS, b"read")
    async with member(kafka, Taken()):
        await commits(kafka, {0: 1})
    await put(kafka, THINGS, b"gone", b"gone", b"left")
    async with administration(kafka) as admin:
        await admin.delete_records({TopicPartition(name, 0): RecordsToDelete(before_offset=3)})
    taken = Taken()

    async with member(kafka, taken):
        await until(lambda: taken.records, "what is left is read")

    assert taken.values == [b"left"]
    assert metrics.records_passed_over.labels(name)._value.get() == 1


def _break_once(monkeypatch, *, partition=0):
    """Make the first poll that drained this partition raise, as a bad checksum in another would."""
    from aiokafka.consumer.fetcher import Fetcher

    broken = []
    original = Fetcher.fetched_records

    async def breaks_once(self, *arguments, **options):
        drained = await original(self, *arguments, **options)
        if not broken and any(place.partition == partition for place in drained):
            broken.append("broke")
            raise CorruptRecordException
        return drained

    monkeypatch.setattr(Fetcher, "fetched_records", breaks_once)
    return broken


_sleep = asyncio.sleep


async def _no_pause(seconds):
    await _sleep(min(seconds, 0.02))
