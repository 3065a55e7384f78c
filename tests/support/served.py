"""One `python -m ingress` on a database and topics of its own, for many tests; and what a stranger with a socket sees of it."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from shared import settings, topics
from shared.kafka import provision
from tests.journey.pipeline import _ports
from tests.support import corpus
from tests.support.builders import Sale, bytes_of

ROOT = Path(__file__).parents[2]
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 15
SILENT_SECONDS = 1.0  # who says nothing for so long waits for more of us
ANSWER_SECONDS_MAX = 5
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


class Served:
    """The door as strangers see it. `taken` is every body that was answered 2xx and not ignored."""

    def __init__(self, port, kafka):
        self.port, self.kafka, self.taken = port, kafka, []

    def say(self, sent, *, silent_seconds=SILENT_SECONDS):
        """Send these bytes over a connection of their own; return all that came back.

        Who hears nothing for `silent_seconds` says that no more will come, whereupon nobody may answer any more.
        """
        heard, has_ended = b"", False

        def end():
            nonlocal has_ended
            has_ended = True
            connection.settimeout(ANSWER_SECONDS_MAX)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS_MAX) as connection:
            with suppress(ConnectionError):
                connection.sendall(sent)
            connection.settimeout(silent_seconds)
            while True:
                try:
                    part = connection.recv(65_536)
                except TimeoutError:
                    assert not has_ended, "neither an answer nor an end"
                    end()
                    continue
                except ConnectionError:
                    return heard
                if not part:
                    return heard
                heard += part
                if is_whole(heard) and not has_ended:
                    end()

    def deliver(self, body):
        """Knock as Stripe does; return the status, and remember what was taken."""
        heard = self.say(corpus.request(body), silent_seconds=ANSWER_SECONDS_MAX)
        [status] = statuses(heard)
        if 200 <= status < 300 and b'"ignored"' not in heard:
            self.taken.append(body)
        return status

    def is_well(self):
        """Whether an honest webhook is taken now."""
        return self.deliver(bytes_of(Sale().succeeded())) == 200

    def stored(self):
        """Every value in the topic, read from its first offset by a client of its own."""
        return asyncio.run(values(self.kafka, topics.STRIPE_EVENTS.named(self.kafka.topic_prefix)))


def statuses(heard):
    """Every status among the bytes that came back."""
    return [int(status) for status in STATUS.findall(heard)]


def is_whole(heard):
    """Whether one answer has come in full, and it is not one that asks for more."""
    head, separator, body = heard.partition(b"\r\n\r\n")
    if not separator or head.startswith(b"HTTP/1.1 100"):
        return False
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return length is None or len(body) >= int(length[1])


async def values(kafka, topic):
    """Every value of a topic, from its first offset to the last one of now."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=list(kafka.kafka_bootstrap_servers),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        found = []
        while not (places := consumer.assignment()):  # noqa: ASYNC110 - aiokafka tells nobody
            await asyncio.sleep(0.02)
        ends = await consumer.end_offsets(places)
        while len(found) < sum(ends.values()):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += [record.value for record in batch]
        return found
    finally:
        await consumer.stop()


class Process:
    """One `python -m ingress`; `started` and `stopped` wait for as long as it takes, `running` is its subprocess."""

    def __init__(self, folder, kafka, **environment):
        self.port = int(environment.get("INGRESS_PORT") or next(_ports))
        self.health = next(_ports)
        self.log = folder / f"ingress-{self.health}.log"
        self.environment = {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": os.environ["DATABASE_URL"],
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(kafka.kafka_bootstrap_servers),
            "TOPIC_PREFIX": kafka.topic_prefix,
            "STRIPE_SECRET_KEY": "sk_test_" + "k" * 24,
            "STRIPE_API_BASE": "http://127.0.0.1:9",
            "STRIPE_WEBHOOK_SECRET": corpus.SECRET,
            "JWT_SECRET_KEY": "j" * 40,
            "CHECKOUT_ALLOWED_ORIGINS": "https://app.culturebridge.com",
            "INGRESS_HOST": "127.0.0.1",
            "INGRESS_PORT": str(self.port),
            "HEALTH_PORT": str(self.health),
            **environment,
        }

    def started(self):
        with self.log.open("ab") as output:
            self.running = subprocess.Popen(
                [sys.executable, "-m", "ingress"], cwd=ROOT, stdout=output, stderr=output, env=self.environment
            )
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self.is_ready():
            assert self.running.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        return self

    def is_ready(self):
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{self.health}/health/ready", timeout=3)
        except urllib.error.HTTPError as refused:
            answer = refused
        except OSError:
            return False
        with answer:
            return answer.status == 200

    def stopped(self):
        """SIGTERM; return the exit status and the seconds it took."""
        began = time.monotonic()
        self.running.terminate()
        return self.running.wait(STOP_SECONDS_MAX), time.monotonic() - began

    def said(self):
        """The end of its log."""
        return self.log.read_text()[-2000:]

    def killed(self):
        self.running.kill()
        self.running.wait()


@contextmanager
def served(folder, **environment):
    """Give a door that is ready, on topics of its own, which are left to the broker's end."""
    kafka = settings.Kafka(
        kafka_bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"], topic_prefix=f"t{uuid.uuid4().hex[:12]}."
    )
    asyncio.run(provision.apply(kafka))
    process = Process(folder, kafka, **environment)
    try:
        process.started()
        yield Served(process.port, kafka)
        assert process.running.poll() is None, process.said()
        assert "Traceback" not in process.log.read_text(), process.said()
    finally:
        process.killed()
