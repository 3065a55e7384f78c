"""What the pipeline knows of a record: plain values, so that handlers and their tests need no client."""

import random
from typing import Any

import msgspec

CORRELATION_ID = "correlation_id"
TRACEPARENT = "traceparent"
CONTENT_TYPE = "content-type"
ORIGIN = "x-origin"
RECONCILED = (ORIGIN, b"reconciliation")  # of an event that no webhook brought, but `cb-ops stripe reconcile`
# Of a foreign key or header that is copied to the next records: ids and traces are shorter, and those records have to fit.
FOREIGN_BYTES_MAX = 1_024
TRACE_IDS = random.Random()  # noqa: S311 - they need to differ, not to be secret, and asking the system costs as much as HMAC


class Incoming(msgspec.Struct, frozen=True):
    """A record as read from Kafka; `value` is empty for a tombstone, `timestamp_ms` the broker's or producer's clock."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp_ms: int = 0

    @property
    def place(self) -> str:
        """Its place in Kafka, as `topic/partition/offset`."""
        return f"{self.topic}/{self.partition}/{self.offset}"

    @property
    def first_place(self) -> bytes:
        """Its origin as its header names it; its own place when the header holds nothing that could be one."""
        origin = self.header(ORIGIN)
        return origin if origin and len(origin) <= FOREIGN_BYTES_MAX else self.place.encode()

    def header(self, name: str) -> bytes | None:
        """Return the value of the first header of this name, None when there is none."""
        return next((value for known, value in self.headers if known == name), None)

    def travelling(self) -> tuple[tuple[str, bytes], ...]:
        """Return the headers that are copied to all records that this one causes."""
        return tuple((n, v) for n, v in self.headers if n in {CORRELATION_ID, TRACEPARENT} and len(v) <= FOREIGN_BYTES_MAX)


class Record(msgspec.Struct, frozen=True):
    """A record to be published; `topic` is the full name in this cluster."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def headers_of_stripe(event_id: str, *, traceparent: bytes | None = None) -> tuple[tuple[str, bytes], ...]:
    """Return the headers of a record of `stripe.events`, which all that it causes gets, too; without a trace one begins."""
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
