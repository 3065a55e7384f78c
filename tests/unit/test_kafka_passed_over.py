"""The line by which aiokafka mentions records that were deleted before they were read."""

import logging

import pytest
from aiokafka import TopicPartition

from shared import metrics
from shared.kafka import passed_over


@pytest.fixture
def fetcher():
    """aiokafka's logger, listened to until the test ends."""
    level = passed_over.FETCHER.level
    passed_over.listen()
    yield passed_over.FETCHER
    passed_over.FETCHER.removeFilter(passed_over.DELETED_RECORDS)
    passed_over.FETCHER.setLevel(level)


def test_the_line_is_counted_and_replaced_by_ours(fetcher, caplog):
    """An operator reads one line about it, at a level that is printed."""
    fetcher.info("Fetch offset %s is out of range for partition %s, resetting offset", 7, TopicPartition("passed.over", 0))

    assert metrics.records_passed_over.labels("passed.over")._value.get() == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("Fetch offset %s is out of range for %s", (7, "things-0")),
        ("Fetch offset %s is out of range for topic %s, partition %s", (7, "things", 0)),
        ("Fetch offset %s is out of range", (7,)),
        ("Fetch offset %s is out of range", ({"offset": 7},)),
    ],
)
def test_another_wording_of_the_line_is_printed_as_it_is_and_stops_no_fetch(fetcher, caplog, words, arguments):
    """What a filter raises is raised in aiokafka's fetch task: a new release's wording would end every consumer."""
    fetcher.info(words, *arguments)

    assert [(record.levelno, record.msg) for record in caplog.records] == [(logging.INFO, words)]


def test_what_else_the_fetcher_logs_is_printed_from_a_warning_on(fetcher, caplog):
    """Its level is lowered for the one line."""
    fetcher.info("Adding fetch request for partition %s", "things-0")
    fetcher.warning("Unexpected error while fetching data")

    assert caplog.messages == ["Unexpected error while fetching data"]
