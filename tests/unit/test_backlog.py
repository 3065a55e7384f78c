"""How old the oldest record is that is not handled: of the batch at hand, or behind the last one that was handled."""

import pytest
from aiokafka import TopicPartition

from shared.kafka.backlog import Backlog
from shared.kafka.records import Incoming

A, B = TopicPartition("things", 0), TopicPartition("things", 1)


def records(place, *timestamps_ms):
    return [Incoming(*place, offset, b"", b"", timestamp_ms=ms) for offset, ms in enumerate(timestamps_ms)]


@pytest.fixture
def more():
    """The partitions that hold records behind the last one polled."""
    return set()


@pytest.fixture
def backlog(more):
    return Backlog(more.__contains__)


def test_a_batch_at_hand_is_as_old_as_its_oldest_record(backlog):
    """In whatever order producers' clocks put its records."""
    backlog.take(records(A, 20, 10, 30))

    assert backlog.oldest_timestamp_ms() == 10


def test_between_two_batches_the_last_handled_record_of_a_partition_with_more_counts(backlog, more):
    """A consumer that is an hour behind is so between its batches, too."""
    more.add(A)
    backlog.take(records(A, 10, 20))
    backlog.finish(records(A, 10, 20))

    assert backlog.oldest_timestamp_ms() == 20


def test_what_is_handled_to_the_end_does_not_age(backlog, more):
    """Neither right away, nor when a new record comes an hour later, before it is taken."""
    backlog.take(records(A, 10))
    backlog.finish(records(A, 10))
    assert backlog.oldest_timestamp_ms() is None
    more.add(A)

    assert backlog.oldest_timestamp_ms() is None


def test_what_is_left_and_then_deleted_or_taken_from_us_does_not_age(backlog, more):
    """Retention passes a consumer that stands still: nothing may ever be handled there again."""
    more.add(A)
    backlog.finish(records(A, 10))
    more.clear()

    assert backlog.oldest_timestamp_ms() is None


def test_the_partition_that_is_behind_counts_beside_one_that_is_not(backlog, more):
    """Batches take from one partition, then from another; the age does not alternate between the two."""
    more.update({A, B})
    backlog.finish(records(A, 10))
    backlog.take(records(B, 500))
    assert backlog.oldest_timestamp_ms() == 10
    more.discard(B)
    backlog.finish(records(B, 500))

    assert backlog.oldest_timestamp_ms() == 10


def test_a_batch_that_is_put_back_waits_on_though_others_are_handled(backlog, more):
    """It comes again: until then what is handled in other partitions does not hide it, nor does its polled position."""
    backlog.take(records(A, 10))
    backlog.take(records(B, 500))
    backlog.finish(records(B, 500))

    assert backlog.oldest_timestamp_ms() == 10


def test_a_rebalance_forgets_all(backlog, more):
    """Another member may have the partitions; if not, their records are taken again."""
    more.add(B)
    backlog.take(records(A, 10))
    backlog.finish(records(B, 20))
    backlog.clear()

    assert backlog.oldest_timestamp_ms() is None
