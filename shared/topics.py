"""THE MAP: every topic, who writes it, who reads it, and how long it is kept.

`cb-ops topics apply` makes the cluster look like this; nothing is created by being used. One page a topic, with tested
examples, stands in docs/topics/. Next in the walk: consumers/payments/handlers.py.
"""

from dataclasses import dataclass

DAY_MS = 24 * 60 * 60 * 1000
# Kafka deletes only whole segments, which by default hold a week. Records with people's names in them have to be gone on the
# promised day or the next one, so a segment holds a day.
SEGMENT_MS = DAY_MS
# Every record that a topic took must fit into its dead-letter topic, or its batch would be repeated for ever. A dead letter is
# larger than its record, by the reason in its headers, and a broker adds the overhead of a batch.
OVERHEAD_BYTES_MAX = 65_536
MESSAGE_BYTES_MAX = 1_048_576
DEAD_LETTER_BYTES_MAX = MESSAGE_BYTES_MAX + OVERHEAD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic of the map; `key` and `value` say what a record holds, `retention_days` how long it stays.

    `groups` are the consumer groups of `consumers`, in their order.
    A record of a step of a ladder is due `delay_seconds` after it was written.
    """

    name: str
    key: str
    value: str
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    retention_days: int
    groups: tuple[str, ...] = ()
    partitions: int = 12
    message_bytes_max: int = MESSAGE_BYTES_MAX
    delay_seconds: int = 0

    def group_of(self, process: str) -> str:
        """Return the consumer group in which one of its consumers reads it, without the prefix."""
        return self.groups[self.consumers.index(process)]

    def named(self, prefix: str) -> str:
        """Return the topic's name in a cluster where `TOPIC_PREFIX` is `prefix`."""
        return prefix + self.name


STRIPE_EVENTS = Topic(
    name="stripe.events",
    key="Stripe's event id",
    value="the exact bytes that Stripe signed, or rendered for a reconciliation",
    producers=("ingress",),
    consumers=("payments",),
    groups=("payments",),
    retention_days=14,
)
PAYMENTS_EVENTS = Topic(
    name="payments.events",
    key="payment id",
    value="CloudEvents 1.0, structured JSON: the payment's whole state after a change",
    producers=("payments",),
    consumers=("bookings", "email"),
    groups=("bookings", "email-payments"),
    retention_days=14,
)
BOOKINGS_EVENTS = Topic(
    name="bookings.events",
    key="booking id",
    value="CloudEvents 1.0, structured JSON: what became of a booking",
    producers=("bookings",),
    consumers=("email",),
    groups=("email",),
    retention_days=14,
)


def _email_retry(delay_seconds: int) -> Topic:
    return Topic(
        name=f"email.retry.{delay_seconds}s",
        key="booking id",
        value=f"one letter's ticket, to be tried again after {delay_seconds} s",
        producers=("email",),
        consumers=("email",),
        groups=(f"email-retry-{delay_seconds}s",),
        retention_days=14,
        delay_seconds=delay_seconds,
    )


EMAIL_LADDER = tuple(_email_retry(seconds) for seconds in (1, 2, 4, 8, 16))


def dead_letters(source: Topic, *, producers: tuple[str, ...]) -> Topic:
    """Return the topic for what could not be taken from `source`: the same key and bytes, the reason in headers."""
    return Topic(
        name=f"{source.name}.dlt",
        key=f"as in {source.name}",
        value=f"the same bytes as in {source.name}; reason, consumer group and origin in headers",
        producers=producers,
        consumers=(),
        retention_days=30,
        partitions=3,
        message_bytes_max=DEAD_LETTER_BYTES_MAX + OVERHEAD_BYTES_MAX,
    )


STRIPE_EVENTS_DLT = dead_letters(STRIPE_EVENTS, producers=("payments",))
PAYMENTS_EVENTS_DLT = dead_letters(PAYMENTS_EVENTS, producers=("bookings", "email"))
BOOKINGS_EVENTS_DLT = dead_letters(BOOKINGS_EVENTS, producers=("email",))
EMAIL_DLT = Topic(
    name="email.dlt",
    key="booking id",
    value="the ticket of a letter that was given up; attempts, last answer and origin in headers",
    producers=("email",),
    consumers=(),
    retention_days=30,
    partitions=3,
    message_bytes_max=DEAD_LETTER_BYTES_MAX + OVERHEAD_BYTES_MAX,
)

ALL = (
    STRIPE_EVENTS,
    PAYMENTS_EVENTS,
    BOOKINGS_EVENTS,
    *EMAIL_LADDER,
    STRIPE_EVENTS_DLT,
    PAYMENTS_EVENTS_DLT,
    BOOKINGS_EVENTS_DLT,
    EMAIL_DLT,
)
PROCESSES = tuple(dict.fromkeys(process for topic in ALL for process in topic.producers + topic.consumers))
DEAD_LETTER_TOPICS = (STRIPE_EVENTS_DLT, PAYMENTS_EVENTS_DLT, BOOKINGS_EVENTS_DLT, EMAIL_DLT)
