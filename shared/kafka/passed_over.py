"""Tell what aiokafka keeps to itself: Kafka no longer has the next record of a group, and reading goes on behind it.

Retention passed a consumer that stood still, or a topic was made anew. What lay between is handled by nobody, and from here
on all looks well: no lag, no error. aiokafka says so in one line of its log alone, at a level that we do not print.
Next: the alert RecordsPassedOver.
"""

import logging

from aiokafka import TopicPartition

from shared import logs, metrics

log = logs.get(__name__)

FETCHER = logging.getLogger("aiokafka.consumer.fetcher")
SAYING = "Fetch offset %s is out of range"  # with the offset, and topic and partition


class _Hearing(logging.Filter):
    """Takes that line, and tells it in our words."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether aiokafka's line is to be printed."""
        if not (isinstance(record.msg, str) and record.msg.startswith(SAYING) and isinstance(record.args, tuple)):
            return record.levelno >= logging.WARNING
        offset, place = record.args
        assert isinstance(place, TopicPartition)
        topic, partition = place
        metrics.records_passed_over.labels(topic).inc()
        log.error("records.passed_over", topic=topic, partition=partition, offset=offset)
        return False


HEARING = _Hearing()


def listen() -> None:
    """Hear it from now on; a second call changes nothing."""
    FETCHER.setLevel(logging.INFO)
    FETCHER.addFilter(HEARING)
