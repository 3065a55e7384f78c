"""Receives Stripe's webhooks: verify, publish the raw bytes, answer once Kafka has them; their meaning is not judged.

Enters: POST /payment/webhook. Leaves: the exact bytes in `stripe.events`, keyed by event id, and 200; or a constant refusal; or
503 when Kafka does not acknowledge, and Stripe sends the event again for three days. The database is not used: the consumer's
inbox recognises an event that was handled before. Next in the walk: shared/topics.py.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol, assert_never

import msgspec
from aiohttp import web
from prometheus_client import Counter

from ingress import answers, bodies, problems, signature
from ingress.problems import Problem
from ingress.recent_ids import RecentIds
from shared import clock, errors, logs, messages, metrics, settings
from shared.kafka.records import Record, headers_of_stripe

log = logs.get(__name__)

BODY_BYTES_MAX = 262_144  # Stripe's largest are a few dozen kB; of real events the median is 3.5 kB
# Every answer leaves within 5 s, so that hosted Checkout, which waits 10 s for ours, lets its customer go on.
PUBLISH_SECONDS_MAX = 4.5

EVENT_ID = re.compile(r"evt_[A-Za-z0-9_]{1,200}")
W3C_TRACEPARENT = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
THIN_OBJECT = "v2.core.event"  # https://docs.stripe.com/api/v2/core/events/object: it holds no state, only an address


class EventHead(msgspec.Struct):
    """What the door reads of an event; of any type, since the consumer judges values that are odd."""

    id: Any = None
    object: Any = None
    type: Any = None
    livemode: Any = None
    account: Any = None


@dataclass(frozen=True, slots=True)
class Event:
    """A signed event with a usable id."""

    id: str
    type: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A signed event that is not for us: never published, and never refused, since Stripe would send it again."""

    event: Event
    reason: Literal["foreign_mode", "foreign_account", "thin"]


@dataclass(frozen=True, slots=True)
class Published:
    """Kafka has the event; `known`: Kafka had it before, as this process still knows."""

    event: Event
    known: bool


Outcome = Published | Ignored | Problem


class Publishes(Protocol):
    """What the door needs of Kafka."""

    async def publish(self, records: Sequence[Record], *, deadline_seconds: float) -> None:
        """Return once every record is acknowledged; raises errors.KafkaAway otherwise."""


def judge(body: bytes, stripe: settings.StripeApi) -> Event | Ignored | Problem:
    """Decide by its head what a signed body is. Pure; next: the consumer's translate.py judges the rest.

    `account` names a connected account (https://docs.stripe.com/api/events/object#event_object-account). The events of another
    account of ours have none: only the signing secret, which each endpoint has for itself, keeps those out.
    """
    try:
        head = DECODER.decode(body)
    except messages.DECODING_ERRORS:
        return problems.EVENT_INVALID
    if not isinstance(head.id, str) or not EVENT_ID.fullmatch(head.id):
        return problems.EVENT_INVALID
    event = Event(head.id, head.type if isinstance(head.type, str) else "")
    if head.object == THIN_OBJECT:
        return Ignored(event, "thin")
    if isinstance(head.livemode, bool) and head.livemode != stripe.livemode:
        return Ignored(event, "foreign_mode")
    if stripe.stripe_account_id and isinstance(head.account, str) and head.account != stripe.stripe_account_id:
        return Ignored(event, "foreign_account")
    return event


DECODER = msgspec.json.Decoder(EventHead)


class WebhookHandler:
    """POST /payment/webhook; `topic` is the full name of `stripe.events` in this cluster."""

    def __init__(self, webhook: settings.Webhook, stripe: settings.StripeApi, publisher: Publishes, *, topic: str) -> None:
        self._stripe = stripe
        self._secrets = webhook.webhook_secrets
        self._publisher = publisher
        self._topic = topic
        # Chooses only the word in the answer; what is a duplicate, the inbox decides.
        self._acknowledged = RecentIds()
        _answered(problems.INTERNAL.code)  # is 0 from the start, so that the first increase can be seen

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one delivery.

        An exception is counted, too, before http_rules.no_internals answers it: the alert WebhooksBroken depends on this count.
        """
        started = clock.monotonic()
        try:
            outcome = await self._outcome(request)
        except Exception:
            _answered(problems.INTERNAL.code).inc()
            raise
        match outcome:
            case Published(event=event, known=known):
                status = "already_processed" if known else "accepted"
                log.info("webhook.taken", event_id=event.id, event_type=event.type, outcome=status)
                response = answers.json(200, {"status": status})
            case Ignored(event=event, reason=reason):
                status = f"ignored_{reason}"
                log.warning("webhook.ignored", event_id=event.id, event_type=event.type, reason=reason)
                response = answers.json(200, {"status": "ignored"})
            case Problem(code=status):
                response = problems.answer(outcome)
            case _ as rest:
                assert_never(rest)
        _answered(status).inc()
        metrics.webhook_seconds.observe(clock.monotonic() - started)
        return response

    async def _outcome(self, request: web.Request) -> Outcome:
        if refused := bodies.refusal(request, bytes_max=BODY_BYTES_MAX):
            return _refused(refused, refused.code)
        signatures = [value for name, value in request.raw_headers if name.lower() == b"stripe-signature"]
        if len(signatures) != 1:
            return _refused(problems.SIGNATURE_INVALID, "header")
        body = await bodies.read(request, bytes_max=BODY_BYTES_MAX)
        if isinstance(body, Problem):
            return _refused(body, body.code)
        match signature.verify(signatures[0], body, self._secrets, clock.now().timestamp()):
            case signature.Refused(reason=reason):
                return _refused(problems.SIGNATURE_INVALID, reason)
            case signature.Verified():
                pass
        judged = judge(body, self._stripe)
        match judged:
            case Event():
                return await self._publish(judged, body, _traceparent(request))
            case Ignored():
                return judged
            case Problem():
                return _refused(judged, "envelope")

    async def _publish(self, event: Event, body: bytes, traceparent: bytes | None) -> Published | Problem:
        record = Record(self._topic, event.id.encode(), body, headers_of_stripe(event.id, traceparent=traceparent))
        try:
            await self._publisher.publish([record], deadline_seconds=PUBLISH_SECONDS_MAX)
        except errors.KafkaAway as away:
            log.warning("webhook.unavailable", event_id=event.id, event_type=event.type, reason=str(away))
            return problems.KAFKA_UNAVAILABLE
        metrics.webhook_bytes.observe(len(body))
        return Published(event, known=self._acknowledged.add(event.id))


@cache  # looking a counter up costs four times as much as counting
def _answered(outcome: str) -> Counter:
    return metrics.webhook_requests.labels(outcome=outcome)


def _refused(problem: Problem, reason: str) -> Problem:
    """Log the reason, which the answer never shows."""
    log.info("webhook.refused", code=problem.code, reason=reason)
    return problem


def _traceparent(request: web.Request) -> bytes | None:
    """Return the trace that a proxy in front of us began, if it is valid: https://www.w3.org/TR/trace-context/."""
    for name, value in request.raw_headers:
        if name.lower() == b"traceparent" and W3C_TRACEPARENT.fullmatch(value):
            return value
    return None
