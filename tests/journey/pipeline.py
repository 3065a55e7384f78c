"""The four real processes around one test's database, topics and mailbox; started, killed and asked from outside."""

import asyncio
import hashlib
import hmac
import itertools
import os
import random
import signal
import sys
import time
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from deploy.dev.mailbox import open_mailbox
from deploy.dev.processes.ports import is_free
from shared.kafka import provision
from tests.journey.forked import Forked
from tests.support.corpus import SECRET as WEBHOOK_SECRET
from tests.support.waiting import DEADLINE_SECONDS, until

ROOT = Path(__file__).parent.parent.parent
PROCESSES = ("ingress", "payments", "bookings", "email")
PROGRESS = {
    "ingress": "webhook_requests_total",
    "payments": "kafka_records_consumed_total",
    "bookings": "kafka_records_consumed_total",
    "email": "kafka_records_consumed_total",
}


def _free_ports():
    """Ports below those that the system hands to outgoing connections, so that none is taken between choice and use.

    A process that was killed takes its port again: each run begins elsewhere, so that another run on this machine does not.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first, skipped = 20_000 + 1_000 * worker, random.randrange(1_000)
    ports = (first + (skipped + number) % 1_000 for number in itertools.count())
    return (port for port in ports if is_free(port))


_ports = _free_ports()


class Pipeline:
    """Processes by name, `payments-2` a second one of `payments`. Whatever is awaited has a deadline; no time is waited for."""

    def __init__(self, *, database, kafka, mailbox, logs, begin):
        self.mailbox = mailbox
        self.settings = {}  # a test's own, which win
        self.http = aiohttp.ClientSession()
        self.kills = defaultdict(int)
        self._database, self._kafka, self._logs = database, kafka, logs
        self._begin = begin
        self._running = {}
        self._health = defaultdict(lambda: next(_ports))
        self.port = next(_ports)

    @property
    def webhook_url(self):
        return f"http://127.0.0.1:{self.port}/payment/webhook"

    def environment(self, name):
        inherited = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}}
        return inherited | {
            "DATABASE_URL": self._database.database_url.get_secret_value(),
            "KAFKA_BOOTSTRAP_SERVERS": ",".join(self._kafka.kafka_bootstrap_servers),
            "TOPIC_PREFIX": self._kafka.topic_prefix,
            "KAFKA_INSTANCE_ID": name,
            "STRIPE_SECRET_KEY": "sk_test_journey",
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "STRIPE_API_BASE": "http://127.0.0.1:9",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(self.mailbox.smtp_port),
            "SMTP_SECURITY": "none",
            "SMTP_FROM_EMAIL": "noreply@culturebridge.example",
            "JWT_SECRET_KEY": "j" * 32,
            "CHECKOUT_ALLOWED_ORIGINS": "https://app.culturebridge.example",
            "INGRESS_HOST": "127.0.0.1",
            "INGRESS_PORT": str(self.port),
            "HEALTH_PORT": str(self._health[name]),
            **self.settings,
        }

    async def start(self, *names):
        for name in names:
            module = "ingress" if _kind(name) == "ingress" else f"consumers.{_kind(name)}"
            file, environment = self._logs / f"{name}.log", self.environment(name)
            self._running[name] = await self._begin(module, environment=environment, log=file)

    def running(self, name):
        """The process itself, as its `begin` gave it."""
        return self._running[name]

    def pid(self, name):
        return self._running[name].pid

    async def until_ready(self, *names, deadline_seconds=DEADLINE_SECONDS):
        for name in names:
            await until(
                lambda n=name: self._is_ready(n), f"{name} is ready", deadline_seconds=deadline_seconds, every_seconds=0.1
            )

    async def kill(self, name):
        """kill -9, and wait until it is gone."""
        process = self._running.pop(name)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()
        self.kills[name] += 1

    async def stop(self, *names):
        """SIGTERM; return each exit status."""
        stopping = [self._running.pop(name) for name in names if name in self._running]
        for process in stopping:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            return [await process.wait() for process in stopping]

    async def progress(self, name):
        """How much a process has done since it started; None while it does not answer."""
        with suppress(aiohttp.ClientError, TimeoutError):
            lines = [line for line in await self.metrics(name) if line.startswith(PROGRESS[_kind(name)])]
            return sum(float(line.rpartition(" ")[2]) for line in lines)
        return None

    async def metrics(self, name):
        """The lines of a process's /metrics."""
        async with self.http.get(f"http://127.0.0.1:{self._health[name]}/metrics", timeout=_SHORT) as answer:
            return (await answer.text()).splitlines()

    async def post(self, body, *, at=None):
        """Knock as Stripe does, once; return the status, or None when nobody answers."""
        with suppress(aiohttp.ClientError, TimeoutError):
            headers = {"Stripe-Signature": signature(body, at=at), "Content-Type": "application/json"}
            async with self.http.post(self.webhook_url, data=body, headers=headers, timeout=_SHORT) as answer:
                return answer.status
        return None

    async def deliver(self, body, *, deadline_seconds=90):
        """Knock until the answer is 2xx, as Stripe would over three days."""

        async def accepted():
            return await self.post(body) == 200

        await until(accepted, "the webhook is accepted", deadline_seconds=deadline_seconds)

    def logged(self, name):
        return (self._logs / f"{name}.log").read_text()

    async def _is_ready(self, name):
        process = self._running[name]
        assert process.returncode is None, f"{name} ended with {process.returncode}:\n{self.logged(name)[-3000:]}"
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.get(f"http://127.0.0.1:{self._health[name]}/health/ready", timeout=_SHORT) as answer:
                return answer.status == 200
        return False


async def spawned(module, *, environment, log):
    """Start `python -m` module as it is started anywhere."""
    with log.open("ab") as said:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, cwd=ROOT, env=environment, stdout=said, stderr=said
        )


def _kind(name):
    return name.partition("-")[0]


_SHORT = aiohttp.ClientTimeout(total=6)


@asynccontextmanager
async def opened(*, database, kafka, folder, tls=None, login=None, begin=Forked.start):
    """A pipeline whose topics exist and whose processes are not started yet; everything is gone afterwards.

    `tls` and `login` are what its mailbox wants of its clients. They are forked (forked.py) unless `begin` says otherwise.
    """
    await provision.apply(kafka)
    async with open_mailbox(folder / "mailbox", tls=tls, login=login) as mailbox:
        pipeline = Pipeline(database=database, kafka=kafka, mailbox=mailbox, logs=folder, begin=begin)
        try:
            yield pipeline
        finally:
            for name in list(pipeline._running):
                await pipeline.kill(name)
            await pipeline.http.close()


def signature(body, *, secret=WEBHOOK_SECRET, at=None):
    """A header as Stripe makes it (https://docs.stripe.com/webhooks#verify-manually)."""
    moment = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"
