"""Every metric of the pipeline with its unit and meaning, on one page. Scraped at /metrics on each process's HEALTH_PORT.

Labels are bounded sets; an id is never a label. Payment success rate = payments_changed_total{announcement="payment.succeeded"}
over that and {announcement="payment.failed"}; email delivery rate = letters_total{outcome="sent"}
over that and {outcome="dead"}.
"""

from prometheus_client import Counter, Gauge, Histogram

FAST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# The door
webhook_requests = Counter(
    "webhook_requests_total",
    "Webhooks answered: `accepted`, `already_processed`, `ignored_…`, or a problem's code",
    ["outcome"],
)
webhook_seconds = Histogram("webhook_processing_seconds", "From a webhook's head to its answer", buckets=FAST_SECONDS)
webhook_bytes = Histogram("webhook_body_bytes", "Size of accepted bodies", buckets=(1024, 4096, 16384, 65536, 262144))
checkout_requests = Counter("checkout_requests_total", "Checkouts answered, by problem code or `created`", ["outcome"])
stripe_calls = Counter("stripe_api_calls_total", "Calls to Stripe, by what came of them", ["call", "outcome"])
stripe_call_seconds = Histogram("stripe_api_call_seconds", "Duration of calls to Stripe", ["call"])

connections_open = Gauge("ingress_connections_open", "Connections to the door's port")
connections_dismissed = Counter(
    "ingress_connections_dismissed_total", "Connections refused or ended, by their fault", ["reason"]
)
kafka_waiting_bytes = Gauge("ingress_kafka_waiting_bytes", "Bytes of webhooks that wait for Kafka's acknowledgement")

# Payments and bookings
stripe_events = Counter("stripe_events_total", "Events judged by the payments consumer", ["decision"])
stripe_events_quarantined = Counter(
    "stripe_events_quarantined_total", "Events that contradict our rows and therefore changed nothing", ["reason"]
)
stripe_event_versions = Counter(
    "stripe_event_versions_total", "Events judged, by the API version that rendered them", ["version", "known"]
)
stripe_events_reconciled = Counter(
    "stripe_events_reconciled_total", "Events taken that no webhook brought: `cb-ops stripe reconcile` found them at Stripe"
)
payments_changed = Counter("payments_changed_total", "Payments whose shown state changed", ["announcement"])
payment_failures = Counter("payment_failures_total", "Failed attempts and expiries, by Stripe's decline code", ["reason"])
events_waiting = Counter("events_waiting_total", "Events that came before the payment they belong to was known")
events_unmatched = Gauge("events_unmatched", "Events that have waited for their payment for more than 72 h; counted hourly")
events_dropped = Counter("events_dropped_total", "Events that waited for 45 days and were given up")
bookings_changed = Counter("bookings_changed_total", "What became of bookings", ["outcome"])
operator_attention = Counter("operator_attention_total", "Matters put before an operator", ["reason"])
attention_open = Gauge("attention_open", "Matters for an operator that nobody has resolved; counted hourly")
housekeeping_success = Gauge(
    "housekeeping_success_timestamp_seconds", "When this process last did all of the hourly look: seconds since 1970, 0 before"
)

# Letters
letters = Counter("letters_total", "Letters by what came of an attempt", ["kind", "role", "outcome"])
letter_seconds = Histogram(
    "letter_delivery_seconds",
    "From the letter's entry in the ledger to the mail server's 250",
    buckets=(*FAST_SECONDS, 30, 60),
)
letter_duplicates_possible = Counter(
    "letter_duplicates_possible_total",
    "Letters tried again that may have been accepted: a sender died, or the connection, after DATA began",
)
mail_server_away = Gauge("mail_server_away", "1 while the mail server is known not to take letters; old news is none")

# Every process
process_ready = Gauge("process_ready", "1 while /health/ready says ok, else 0; asked whenever this is scraped")
log_lines_lost = Counter("log_lines_lost_total", "Log lines that could not be written: the disk is full, or nobody reads them")

# Every consumer
records_consumed = Counter("kafka_records_consumed_total", "Records handled to the end, offsets committed", ["topic"])
batch_seconds = Histogram(
    "kafka_batch_seconds", "From a batch's arrival to its committed offsets", ["topic"], buckets=FAST_SECONDS
)
batch_failures = Counter("kafka_batch_failures_total", "Batches rewound because the world was unwell", ["topic", "error"])
commit_failures = Counter("kafka_commit_failures_total", "Offset commits refused after a rebalance", ["topic"])
records_passed_over = Counter(
    "kafka_records_passed_over_total",
    "Times that Kafka no longer had a group's next record, and reading went on behind it",
    ["topic"],
)
dead_letters = Counter("dead_letters_total", "Records refused into a dead letter topic", ["topic", "reason"])
lag_records = Gauge("kafka_lag_records", "Records in assigned partitions that are not handled yet", ["topic"])
oldest_unprocessed_seconds = Gauge(
    "kafka_oldest_unprocessed_seconds",
    "Age of the oldest record that is not handled, also while its batch is put back; between two batches, of the last one "
    "handled in a partition that holds more. 0 when all are handled or deferred, or when none can be fetched",
    ["topic"],
)
