"""Five bad days of the door: attackers, a lost broker, no Kafka, SIGTERM under load, a rolling restart.

Each case drives processes of `python -m ingress` and returns what it saw; the bounds are its caller's, tests/chaos/door.py.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import contextmanager

import psutil
from aiokafka.admin import AIOKafkaAdminClient

from shared import topics
from shared.kafka import connection, provision
from tests.load.seen import Load
from tests.support.frozen import frozen
from tests.support.served import ROOT, Process, values

MB = 1_000_000
WARM_REQUESTS = 500  # so that what every process learns in its first second counts as its start
TIDY_SECONDS_MAX = 25  # within which what attackers held is given back: a head's time, a body's, and a look


async def load(folder, port, rate, seconds, **more):
    return await (await Load(folder, port, rate, seconds, **more).start()).seen()


@contextmanager
def door(folder, kafka, **environment):
    """Give one process that is ready; it is gone afterwards."""
    process = Process(folder, kafka, **environment)
    try:
        yield process.started()
    finally:
        process.killed()


async def in_the_log(kafka):
    """The ids of every event in the topic, read from its first offset by a client of its own."""
    return [json.loads(value)["id"] for value in await values(kafka, topics.STRIPE_EVENTS.named(kafka.topic_prefix))]


def rss(process):
    return psutil.Process(process.running.pid).memory_info().rss / MB


async def attacked(folder, kafka, *, hostile, slow, seconds):
    """(a) Attackers of every kind, beside an honest client with a new connection each time."""
    await provision.apply(kafka)
    with door(folder, kafka) as process:
        await load(folder, process.port, 250, WARM_REQUESTS / 250)
        before = rss(process)
        attack = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.attack", str(process.port), str(hostile), str(slow), str(seconds)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        honest = await (await Load(folder, process.port, 50, seconds, fresh=True).start()).seen()
        during = rss(process)
        said, _ = await attack.communicate()
        deadline = time.monotonic() + TIDY_SECONDS_MAX
        while connections(process):
            assert time.monotonic() < deadline, "connections of attackers are still open"
            await asyncio.sleep(0.5)
        after = [rss(process)]
        for _ in range(10):  # what the crowd held is given back at the next looks
            await asyncio.sleep(0.5)
            after.append(rss(process))
        return json.loads(said), honest, before, during, min(after)


def connections(process):
    """The connections to the door's port."""
    held = psutil.Process(process.running.pid).net_connections("tcp")
    return [one for one in held if one.raddr and one.laddr.port == process.port]


async def leader_of_most(kafka):
    """The number of the broker that leads most partitions of stripe.events."""
    admin = AIOKafkaAdminClient(**connection.for_aiokafka(kafka))
    await admin.start()
    try:
        [described] = await admin.describe_topics([topics.STRIPE_EVENTS.named(kafka.topic_prefix)])
        return Counter(partition["leader"] for partition in described["partitions"]).most_common(1)[0][0]
    finally:
        await admin.close()


async def leader_lost(folder, kafka, brokers, *, rate, before_seconds, after_seconds):
    """(b) The leader of most partitions killed with -9 under load, and not brought back; `brokers` by their numbers."""
    await provision.apply(kafka)
    with door(folder, kafka) as process:
        victim = brokers[await leader_of_most(kafka)]
        await load(folder, process.port, rate / 4, 2)
        began = time.monotonic()
        honest = await Load(folder, process.port, rate, before_seconds + after_seconds).start()
        await asyncio.sleep(max(before_seconds - (time.monotonic() - began), 0))
        victim.kill()
        seen = await honest.seen()
        lost = seen.taken - set(await in_the_log(kafka))
        return seen, lost


async def kafka_away(folder, kafka, broker, *, rate, frozen_seconds, dead_seconds):
    """(c) The only broker frozen, then killed, under full load; then back."""
    await provision.apply(kafka)
    with door(folder, kafka) as process:
        await load(folder, process.port, 250, WARM_REQUESTS / 250)
        sizes = [rss(process)]
        with frozen(broker.pid):
            standing = await watched(folder, process, rate, frozen_seconds, sizes)
        await asyncio.to_thread(broker.kill)
        dead = await watched(folder, process, rate, dead_seconds, sizes)
        await asyncio.to_thread(broker.start)
        began = time.monotonic()
        after = await load(folder, process.port, rate / 2, 10)
        assert time.monotonic() - began < 60
        lost = (standing.taken | dead.taken | after.taken) - set(await in_the_log(kafka))
        return sizes, standing, dead, after, lost


async def watched(folder, process, rate, seconds, sizes):
    """Load, and the size of the process once a second beside it."""
    honest = asyncio.create_task(load(folder, process.port, rate, seconds))
    while not honest.done():
        await asyncio.wait([honest], timeout=1)
        sizes.append(rss(process))
    return await honest


async def terminated(folder, kafka, *, rate, seconds):
    """(d) SIGTERM in the middle of the load."""
    await provision.apply(kafka)
    with door(folder, kafka) as process:
        honest = await Load(folder, process.port, rate, seconds).start()
        await asyncio.sleep(seconds / 2)
        status, took_seconds = await asyncio.to_thread(process.stopped)
        seen = await honest.seen()
        return status, took_seconds, seen, seen.taken - set(await in_the_log(kafka))


async def rolled(folder, kafka, *, rate, rounds):
    """(e) Two processes on one port; each in turn is replaced by a new one, under load."""
    await provision.apply(kafka)
    first = Process(folder, kafka, INGRESS_REUSE_PORT="true")
    standing = [first.started()]
    shared = {"INGRESS_REUSE_PORT": "true", "INGRESS_PORT": str(first.port)}
    try:
        standing.append(Process(folder, kafka, **shared).started())
        honest = [
            await Load(folder, first.port, rate, rounds * 6.0).start(),
            await Load(folder, first.port, rate / 4, rounds * 6.0, fresh=True).start(),
        ]
        drained = []
        for _ in range(rounds):
            standing.append(await asyncio.to_thread(Process(folder, kafka, **shared).started))
            drained.append(await asyncio.to_thread(standing.pop(0).stopped))
        seen = [await one.seen() for one in honest]
        taken = set().union(*(one.taken for one in seen))
        return drained, seen, taken - set(await in_the_log(kafka))
    finally:
        for process in standing:
            process.killed()
