"""The door's way to Kafka while nobody has reached it."""

import pytest

from ingress import publisher
from ingress.publisher import Publisher
from shared import settings
from tests.support.waiting import until


async def test_a_door_that_can_never_reach_kafka_does_not_wait_for_it_in_silence(monkeypatch):
    """An error that nobody foresaw ends the task in the background: the process hears of it, and ends of it."""

    def broken(*_given, **_named):
        raise LookupError("nobody foresaw it")

    monkeypatch.setattr(publisher.producer, "opened", broken)
    door = Publisher(settings.Kafka(_env_file=None, kafka_bootstrap_servers="127.0.0.1:9"), "x")

    seen = []

    async def reach():
        async with door.reaching():
            seen.append(door.fault)
            await until(lambda: door.fault is not None, "its end is noticed", deadline_seconds=5)
            seen.append(door.fault)
            seen.extend(await door.trouble())

    with pytest.raises(LookupError):
        await reach()
    assert seen == [None, *2 * ["the task that reaches for Kafka ended"]]
