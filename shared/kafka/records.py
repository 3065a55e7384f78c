"""What the pipeline knows of a record: plain values, so that handlers and their tests need no client library."""

import random
from dataclasses import dataclass
from typing import Any

CORRELATION_ID = "correlation_id"
TRACEPARENT = "traceparent"
CONTENT_TYPE = "content-type"
ORIGIN = "x-origin"
RECONCILED = (ORIGIN, b"reconciliation")  # of an event that no webhook brought, but `cb-ops stripe reconcile`
TRACE_IDS = random.Random()  # noqa: S311 - they need to differ, not to be secret, and asking the system costs as much as HMAC


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as it lay in Kafka; `value` is empty for a tombstone, `timestamp_ms` the broker's or producer's clock."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 0

    @property
    def place(self) -> str:
        """Where it lay, as `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    def header(self, name: str) -> bytes | None:
        """Return the value of the first header of this name, None when there is none."""
        return next((value for known, value in self.headers if known == name), None)

    def travelling(self) -> tuple[tuple[str, bytes], ...]:
        """Return the headers that go on to whatever this record causes."""
        return tuple((name, value) for name, value in self.headers if name in {CORRELATION_ID, TRACEPARENT})


@dataclass(frozen=True, slots=True)
class Record:
    """A record to be published; `topic` is the full name in this cluster."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def headers_of_stripe(event_id: str, *, traceparent: bytes | None = None) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a record of `stripe.events`, which go on to all that it causes; without a trace one begins."""
    begun = b"00-%032x-%016x-01" % (TRACE_IDS.getrandbits(128), TRACE_IDS.getrandbits(64))
    return (
        (CONTENT_TYPE, b"application/json"),
        (CORRELATION_ID, event_id.encode()),
        (TRACEPARENT, traceparent or begun),
    )


def incoming(raw: Any) -> Incoming:
    """Return what we know of aiokafka's ConsumerRecord; a header without a value counts as empty."""
    headers = tuple((name, value or b"") for name, value in raw.headers)
    return Incoming(raw.topic, raw.partition, raw.offset, raw.key or b"", raw.value or b"", headers, raw.timestamp)
