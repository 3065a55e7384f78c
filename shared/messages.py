"""The messages between our own processes: one envelope, and its data.

The envelope is CloudEvents 1.0 in structured JSON (https://github.com/cloudevents/spec, "JSON Event Format"). Ids and amounts
only, never names or addresses. Readers accept unknown fields, so that a newer writer does not stop them.
"""

import uuid
from datetime import datetime
from typing import Annotated, Generic, TypeVar

import msgspec

NAMESPACE = uuid.UUID("5d0f3c6e-5a86-4a53-9a3e-6f1b5c5b7f10")
TYPE_PREFIX = "com.culturebridge."
CONTENT_TYPE = b"application/cloudevents+json"
# What decoding untrusted bytes raises: they are no JSON or of another shape, no text, or nested too deeply for Python.
DECODING_ERRORS = (msgspec.DecodeError, UnicodeError, RecursionError)

Data = TypeVar("Data")


class PaymentState(msgspec.Struct, frozen=True):
    """`data` of `payments.events`: the payment's whole state after the change, amounts in minor units."""

    payment_id: uuid.UUID
    booking_id: uuid.UUID
    version: int
    status: str
    paid: bool
    cancel_due: bool
    amount_minor: int
    currency: str
    amount_refunded_minor: int
    failure_reason: str | None
    dispute_open: bool
    closed_reason: str | None
    slot_free: bool


class BookingChange(msgspec.Struct, frozen=True):
    """`data` of `bookings.events`; `version` counts per booking, `reason` is set when the cause is not plain."""

    booking_id: uuid.UUID
    version: int
    payment_id: uuid.UUID
    status: str
    reason: str | None
    amount_minor: int
    currency: str
    confirmed_elsewhere: bool = False  # the value for messages of an earlier release, which lack the field


class Envelope(msgspec.Struct, Generic[Data], frozen=True):
    """A CloudEvent; `subject` is also the Kafka key, `time` is set once, when the bytes are made."""

    id: uuid.UUID
    source: str
    type: str
    subject: str
    time: Annotated[datetime, msgspec.Meta(tz=True)]  # RFC 3339 requires a zone; without one it would mean our machine's
    dataschema: str
    data: Data
    specversion: str = "1.0"
    datacontenttype: str = "application/json"

    @property
    def name(self) -> str:
        """The type without CultureBridge's prefix: `payment.succeeded`."""
        return self.type.removeprefix(TYPE_PREFIX)


Word = Annotated[str, msgspec.Meta(max_length=64)]  # a ticket is written again at each step, and has to fit there too


class LetterTicket(msgspec.Struct, frozen=True):
    """The value of `email.retry.*` and `email.dlt`: one letter of the ledger; no text, no address."""

    letter_id: uuid.UUID
    booking_id: uuid.UUID
    kind: Word
    role: Word


class _Subject(msgspec.Struct, frozen=True):
    subject: str


_encoder = msgspec.json.Encoder()
_subject = msgspec.json.Decoder(_Subject)
payment_states = msgspec.json.Decoder(Envelope[PaymentState])
booking_changes = msgspec.json.Decoder(Envelope[BookingChange])
letter_tickets = msgspec.json.Decoder(LetterTicket)


def payment_event(name: str, data: PaymentState, *, cause: str, at: datetime) -> bytes:
    """Return the bytes of one `payments.events` message; its id follows from the cause, so a repeat is the same event."""
    return _event("payments", name, str(data.payment_id), data, cause=cause, at=at)


def booking_event(name: str, data: BookingChange, *, cause: str, at: datetime) -> bytes:
    """Return the bytes of one `bookings.events` message; `cause` is the id of the message that it follows."""
    return _event("bookings", name, str(data.booking_id), data, cause=cause, at=at)


def ticket(value: LetterTicket) -> bytes:
    """Return the bytes of a letter's ticket."""
    return _encoder.encode(value)


def subject_of(event: bytes) -> str:
    """Return the subject of stored envelope bytes: the Kafka key under which they are published."""
    return _subject.decode(event).subject


def _event(consumer: str, name: str, subject: str, data: PaymentState | BookingChange, *, cause: str, at: datetime) -> bytes:
    return _encoder.encode(
        Envelope(
            id=uuid.uuid5(NAMESPACE, f"{consumer}/{cause}/{subject}/{name}"),
            source=f"/culturebridge/{consumer}",
            type=TYPE_PREFIX + name,
            subject=subject,
            time=at,
            dataschema=f"urn:culturebridge:{consumer}.events:v1",
            data=data,
        )
    )
