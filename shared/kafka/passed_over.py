"""Detects records that were deleted before they were read: Kafka lost a group's next one, and reading goes on behind it.

This happens when a consumer stood still for longer than its topic keeps records, or when a topic was made anew. No consumer
handles the records in between, and afterwards nothing shows it: no lag, no error. aiokafka mentions it in one line of its log,
at a level that we do not print; that line is caught here, counted, and logged as an error. Next: the alert RecordsPassedOver.
"""

import logging

from aiokafka import TopicPartition

from shared import logs, metrics

log = logs.get(__name__)

FETCHER = logging.getLogger("aiokafka.consumer.fetcher")
LINE = "Fetch offset %s is out of range"  # with the offset, and topic and partition


class _DeletedRecords(logging.Filter):
    """Catches that line, counts it, and logs it under a name of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether aiokafka's line is to be printed; one that begins like that line and names other things is, as it is.

        It raises nothing: `logging` passes on what a filter raises, which would end aiokafka's fetch task.
        """
        if not (isinstance(record.msg, str) and record.msg.startswith(LINE)):
            return record.levelno >= logging.WARNING
        match record.args:
            case (offset, TopicPartition(topic=topic, partition=partition)):
                metrics.records_passed_over.labels(topic).inc()
                log.error("records.passed_over", topic=topic, partition=partition, offset=offset)
                return False
            case _:
                return True


DELETED_RECORDS = _DeletedRecords()


def listen() -> None:
    """Detect them from now on; a second call changes nothing."""
    FETCHER.setLevel(logging.INFO)
    FETCHER.addFilter(DELETED_RECORDS)
