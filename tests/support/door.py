"""The door over real sockets, the people who knock, and the Stripe sandbox behind it."""

import asyncio
import time
import uuid
from contextlib import asynccontextmanager

import aiohttp
import jwt
import stripe as stripe_library

from deploy.dev.stripe import checkout
from deploy.dev.stripe.app import open_sandbox
from deploy.dev.stripe.faults import Fault
from ingress import app, connections, listener
from ingress import serving as process
from shared import errors
from shared.db import engine as engines
from shared.stripe_api import StripeApi
from shared.stripe_events import WEBHOOK_PATH
from tests.referees import watch
from tests.support import description
from tests.support.database import query

WEBHOOK_SECRET = "whsec_" + "d" * 32
JWT_SECRET = "door-" + "j" * 32
ORIGIN = "https://app.culturebridge.com"
URLS = {"success_url": f"{ORIGIN}/booking/success", "cancel_url": f"{ORIGIN}/booking/cancel"}
PAYMENTS = "select id, amount_minor, currency, status::text, stripe_session_id, closed_at is null from payments order by id"


def ingress_settings(database, **changes):
    values = {
        "database_url": database.database_url.get_secret_value(),
        "kafka_bootstrap_servers": "127.0.0.1:1",
        "stripe_secret_key": "sk_test_" + "k" * 24,
        "stripe_webhook_secret": WEBHOOK_SECRET,
        "jwt_secret_key": JWT_SECRET,
        "checkout_allowed_origins": ORIGIN,
    }
    return app.IngressSettings(_env_file=None, **{**values, **changes})


class FakePublisher:
    """Kafka as the door sees it: keeps what it acknowledged, and can be away."""

    def __init__(self):
        self.away = False
        self.records = []

    async def publish(self, records, *, deadline_seconds):
        if self.away:
            raise errors.KafkaAway("away")
        self.records += records

    async def read(self):
        return self.records


@asynccontextmanager
async def serving(application, everybody, *, port=0):
    """Give the address of an application on a free loopback port, served exactly as the process serves it."""
    runner = process.runner_of(application)
    await runner.setup()
    async with everybody.watched():
        door = await listener.listen("127.0.0.1", port, everybody.guarding(process.protocol_of(runner)))
        try:
            yield f"http://127.0.0.1:{door.port}"
        finally:
            await door.stop()
            await runner.cleanup()


@asynccontextmanager
async def sandbox(folder):
    """Give a Stripe sandbox that keeps its webhooks to itself."""
    folder.mkdir(exist_ok=True)
    nobody = "http://127.0.0.1:9/payment/webhook"
    with watch.over_sockets():
        async with open_sandbox(webhook_url=nobody, webhook_secret=WEBHOOK_SECRET, state_folder=folder) as made:
            async with aiohttp.ClientSession(made.settings.public_url) as http:
                await http.post("/_sandbox/deliveries/pause")
            yield made


class Door:
    """A door with its database, seen from outside. `url` is its address, `stripe` the sandbox.

    What its methods are answered is held to the API's description.
    """

    def __init__(self, url, http, engine, stripe, publisher, routes, everybody):
        self.url, self.http, self.engine, self.stripe, self.publisher = url, http, engine, stripe, publisher
        self.routes, self.everybody = routes, everybody

    async def checkout(self, booking_id, caller, *, key=None, headers=None, **changes):
        """POST a checkout; give status and body."""
        sent = {**bearer(caller), **({"Idempotency-Key": key} if key else {}), **(headers or {})}
        body = {"booking_id": str(booking_id), **URLS, **changes}
        async with self.http.post(app.CHECKOUT, json=body, headers=sent) as answer:
            return await told(answer, app.CHECKOUT)

    async def payment(self, payment_id, caller):
        async with self.http.get(f"/payment/{payment_id}", headers=bearer(caller)) as answer:
            return await told(answer, app.PAYMENT_SHOWN)

    async def deliver(self, body, header=None, **more):
        signature = {} if header == "" else {"Stripe-Signature": header or signed(body)}
        headers = {"Content-Type": "application/json", **signature, **more}
        async with self.http.post(WEBHOOK_PATH, data=body, headers=headers) as answer:
            return await told(answer, WEBHOOK_PATH)

    async def sql(self, statement, *parameters):
        return await query(self.engine, statement, *parameters)

    def sessions(self):
        """Every session that Stripe holds, oldest first."""
        return list(self.stripe.world.tables["session"].values())

    def expire_at_stripe(self, session_id):
        checkout.expire(self.stripe.world, self.stripe.world.get("session", session_id), self.stripe.at)
        self.stripe.commit()

    def arm(self, kind, *, times=1, route="POST /v1/checkout/sessions"):
        self.stripe.faults.waiting.append(Fault(route, kind, times))


async def told(answer, path):
    """Status and body of an answer that is as the description says."""
    body = await answer.json()
    description.hold(answer.method, path, answer.status, answer.content_type, body)
    return answer.status, body


@asynccontextmanager
async def opened(database, *, stripe=None, publisher=None, stripe_api=None, port=0, **changes):
    """Give a door on this database; without more it has a Kafka of its own that is always there, and no Stripe."""
    base = stripe.settings.public_url if stripe else "http://127.0.0.1:9"
    configured = ingress_settings(database, stripe_api_base=base, **changes)
    engine = engines.create(configured, application="tests", pool_size=app.DATABASE_CONNECTIONS_MAX)
    client = stripe_api or StripeApi(configured)
    publisher = publisher or FakePublisher()
    everybody = connections.of_settings(configured, files_max=100_000)
    application = app.build(configured, app.Resources(engine, client, publisher, everybody))
    try:
        async with serving(application, everybody, port=port) as url, aiohttp.ClientSession(url) as http:
            yield Door(url, http, engine, stripe, publisher, list(application.router.routes()), everybody)
    finally:
        if stripe_api is None:
            await client.close()
        await engine.dispose()


class Person:
    """Somebody with a row in `users`."""

    def __init__(self, role):
        self.id, self.role = uuid.uuid4(), role

    def token(self, **changes):
        now = int(time.time())
        claims = {"sub": str(self.id), "email": "x@example.com", "role": self.role, "iat": now, "exp": now + 900}
        return jwt.encode({**claims, **changes}, JWT_SECRET, "HS256")


def bearer(caller):
    if caller is None:
        return {}
    return {"Authorization": f"Bearer {caller if isinstance(caller, str) else caller.token()}"}


async def person(engine, role, *, is_active=True, first="Ada", last="Lovelace"):
    somebody = Person(role)
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "insert into users (id, email, password_hash, role, is_active) values ($1, $2, 'x', $3::text::userrole, $4)",
            (somebody.id, f"{role}-{somebody.id.hex[:8]}@example.com", role, is_active),
        )
        if role != "admin":
            await tx.exec_driver_sql(
                f"insert into {role}_profiles (id, user_id, first_name, last_name) values ($1, $1, $2, $3)",
                (somebody.id, first, last),
            )
    return somebody


class Meeting:
    """A booking and its two people."""

    def __init__(self, client, coach, booking_id):
        self.client, self.coach, self.booking_id = client, coach, booking_id


async def meeting(engine, *, rate="75.00", currency="USD", minutes=60, status="pending", in_days=7):
    client = await person(engine, "client")
    coach = await person(engine, "coach", first="Grace", last="Hopper")
    booking_id = uuid.uuid4()
    async with engine.begin() as tx:
        await tx.exec_driver_sql(
            "update coach_profiles set hourly_rate = $2::text::numeric, currency = $3 where user_id = $1",
            (coach.id, rate, currency),
        )
        await tx.exec_driver_sql(
            "insert into bookings (id, client_id, coach_id, session_datetime, duration_minutes, status) values "
            "($1, $2, $3, (now() at time zone 'utc') + make_interval(days => $4), $5, $6::text::bookingstatus)",
            (booking_id, client.id, coach.id, in_days, minutes, status),
        )
    return Meeting(client, coach, booking_id)


def signed(body, *, at=None, secret=WEBHOOK_SECRET):
    moment = int(time.time()) if at is None else at
    return stripe_library.WebhookSignature.generate_signature_header(body.decode(), secret, moment)


async def gathered(*calls):
    """Run calls at the same time; give their results in order."""
    return await asyncio.gather(*calls)


# Of a webhook that nobody signed, still without its framing.
HEAD = b"POST /payment/webhook HTTP/1.1\r\nHost: x\r\nStripe-Signature: t=1,v1=x\r\n"


async def talk(url, *sent):
    """Send raw bytes over one connection; give everything that came back until it was closed."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(10):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def first_line(url, sent):
    """Send raw bytes and their end; give the first line that came back, nothing when the connection was closed."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(10):
            return (await reader.readline()).strip()
    except ConnectionError:
        return b""
    finally:
        writer.close()
