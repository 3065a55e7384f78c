"""Every table on one page.

First CultureBridge's own, which exist before us (created only where missing, never rewritten), then ours. What is true of a
booking or a letter has one writer, its consumer. `payments` has two, column by column: ingress inserts rows and writes
expires_at, checkout_request and idempotency_key; stripe_session_id and closed_at are set once, by whichever comes first;
everything else belongs to consumers/payments. deploy/ops/rights.py grants the rights for this in PostgreSQL. Amounts ending in
_minor are minor units of the currency beside them. CultureBridge's times are naive UTC, ours are `timestamptz`.
"""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

metadata = sa.MetaData()

USER_ROLE = pg.ENUM("client", "coach", "admin", name="userrole", metadata=metadata)
BOOKING_STATUS = pg.ENUM("pending", "confirmed", "completed", "cancelled", name="bookingstatus", metadata=metadata)
PAYMENT_STATUS = pg.ENUM("pending", "succeeded", "failed", "refunded", name="paymentstatus", metadata=metadata)

UTC_NOW = sa.text("(now() at time zone 'utc')")
NAIVE = sa.DateTime(timezone=False)
MOMENT = sa.DateTime(timezone=True)


def _older_times() -> tuple[sa.Column[object], sa.Column[object]]:
    return (
        sa.Column("created_at", NAIVE, nullable=False, server_default=UTC_NOW),
        sa.Column("updated_at", NAIVE, nullable=False, server_default=UTC_NOW),
    )


# --- CultureBridge's tables, which we join -----------------------------------------------------------------------------
users = sa.Table(
    "users",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("email", sa.String(255), nullable=False, unique=True),
    sa.Column("password_hash", sa.String(255), nullable=False),
    sa.Column("role", USER_ROLE, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("email_verified", sa.Boolean, nullable=False, server_default=sa.false()),
    *_older_times(),
)
client_profiles = sa.Table(
    "client_profiles",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, unique=True),
    sa.Column("first_name", sa.String(100)),
    sa.Column("last_name", sa.String(100)),
    sa.Column("photo_url", sa.String(500)),
    sa.Column("phone", sa.String(20)),
    sa.Column("timezone", sa.String(50)),
    sa.Column("quiz_data", pg.JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    sa.Column("preferences", pg.JSONB),
    *_older_times(),
)
coach_profiles = sa.Table(
    "coach_profiles",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("user_id", sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False, unique=True),
    sa.Column("first_name", sa.String(100)),
    sa.Column("last_name", sa.String(100)),
    sa.Column("photo_url", sa.String(500)),
    sa.Column("bio", sa.Text),
    sa.Column("intro_video_url", sa.String(500)),
    sa.Column("expertise", pg.ARRAY(sa.Text)),
    sa.Column("languages", pg.ARRAY(sa.Text)),
    sa.Column("countries", pg.ARRAY(sa.Text)),
    sa.Column("hourly_rate", sa.Numeric(10, 2)),
    sa.Column("currency", sa.String(3), server_default="USD"),
    sa.Column("availability", pg.JSONB),
    sa.Column("rating", sa.Numeric(3, 2)),
    sa.Column("total_sessions", sa.Integer),
    sa.Column("is_verified", sa.Boolean),
    *_older_times(),
)
bookings = sa.Table(
    "bookings",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("client_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("coach_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("session_datetime", NAIVE, nullable=False),
    sa.Column("duration_minutes", sa.Integer, nullable=False, server_default=sa.text("60")),
    sa.Column("status", BOOKING_STATUS, nullable=False, server_default="pending"),
    sa.Column("payment_id", sa.Uuid),
    sa.Column("meeting_link", sa.String(500)),
    sa.Column("notes", sa.Text),
    *_older_times(),
)
payments = sa.Table(
    "payments",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("booking_id", sa.ForeignKey("bookings.id"), nullable=False),
    sa.Column("amount", sa.Numeric(10, 2), nullable=False),
    sa.Column("currency", sa.String(3), nullable=False, server_default="USD"),
    sa.Column("status", PAYMENT_STATUS, nullable=False, server_default="pending"),
    sa.Column("stripe_session_id", sa.String(255)),
    sa.Column("stripe_payment_intent_id", sa.String(255)),
    *_older_times(),
)
OLDER = (users, client_profiles, coach_profiles, bookings, payments)

# --- what `payments` gains; every one has a default or may be null, so that an older row stays valid --------------------
PAYMENT_ADDITIONS = (
    sa.Column("amount_minor", sa.BigInteger),  # NULL: a row of the older application, seeded when it is first loaded
    sa.Column("amount_refunded_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("charge_refunded_minor", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("paid", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("failed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("cancel_due", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("slot_free", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("failure_reason", sa.Text),
    sa.Column("failure_created", sa.BigInteger),  # Stripe's `created` of the attempt whose reason is shown, in seconds
    sa.Column("closed_at", MOMENT),  # set = no longer blocks a new checkout; never cleared
    sa.Column("closed_reason", sa.Text),
    sa.Column("expires_at", MOMENT),  # when Stripe's session ends
    sa.Column("checkout_request", pg.JSONB),  # all that was asked of Stripe, so that a crash resumes with the same words
    sa.Column("idempotency_key", sa.Text),  # sha256 of user and the caller's Idempotency-Key
    sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
)
for _column in PAYMENT_ADDITIONS:
    payments.append_column(_column)

# --- ours: what consumers/payments remembers ----------------------------------------------------------------------------
payment_intents = sa.Table(
    "payment_intents",
    metadata,
    sa.Column("intent_id", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Uuid, nullable=False, index=True),
    sa.Column("paid", sa.Boolean, nullable=False, server_default=sa.false()),
)
payment_charges = sa.Table(
    "payment_charges",  # so that a refund or a dispute that names its charge alone is found
    metadata,
    sa.Column("charge_id", sa.Text, primary_key=True),
    sa.Column("payment_id", sa.Uuid, nullable=False),
)
refunds = sa.Table(
    "refunds",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # re_…
    sa.Column("payment_id", sa.Uuid, nullable=False, index=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("ever_succeeded", sa.Boolean, nullable=False),
    sa.Column("amount_minor", sa.BigInteger, nullable=False),
)
disputes = sa.Table(
    "disputes",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # dp_… or du_…
    sa.Column("payment_id", sa.Uuid, nullable=False, index=True),
    sa.Column("status", sa.Text, nullable=False),
)
payment_ledger = sa.Table(
    "payment_ledger",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("recorded_at", MOMENT, nullable=False, server_default=sa.func.now()),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("event_created", MOMENT),
    sa.Column("payment_id", sa.Uuid, index=True),
    sa.Column("decision", sa.Text, nullable=False),  # a value of shared/domain/ledger.py
    sa.Column("reason", sa.Text),
    # What the event said: a fact of shared/domain/payment.py, and the currency of its amounts. JSONB would refuse a NUL in it.
    sa.Column("fact", pg.JSON),
    sa.Column("state_before", pg.JSONB),
    sa.Column("state_after", pg.JSONB),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    # A repeat adds nothing: one row per event, payment and decision. NULL payments count as one, also before PostgreSQL 15.
    sa.Index(
        "payment_ledger_once",
        "event_id",
        "decision",
        sa.text("coalesce(payment_id, '00000000-0000-0000-0000-000000000000'::uuid)"),
        unique=True,
    ),
)
waiting_events = sa.Table(
    "waiting_events",
    metadata,
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("object_key", sa.Text, nullable=False, index=True),  # the intent's id, else the session's, else the charge's
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("seen_at", MOMENT, nullable=False, server_default=sa.func.now(), index=True),
    sa.Column("state", sa.Text, nullable=False, server_default="waiting"),  # waiting, refused
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
)
attention = sa.Table(
    "attention",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),  # follows from reason, aggregate and cause, or from the last one's
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("aggregate", sa.Text, nullable=False, index=True),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("opened_at", MOMENT, nullable=False, server_default=sa.func.now()),
    sa.Column("resolved_at", MOMENT),
    sa.Column("resolved_by", sa.Text),
    sa.Index("attention_by_age", "opened_at", "id"),
    sa.Index("attention_open", "opened_at", "id", postgresql_where=sa.text("resolved_at is null")),
)

# --- ours: the dedup tables ---------------------------------------------------------------------------------------------
inbox = sa.Table(
    "inbox",
    metadata,
    # In this order: events arrive by time, so that inserts touch the index's right edge (a third more speed at 5 M rows).
    sa.Column("consumer", sa.Text, primary_key=True),
    sa.Column("created", MOMENT, primary_key=True),  # the event's own
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("emitted", pg.ARRAY(sa.LargeBinary), nullable=False),  # the exact bytes of the events that it caused
    sa.Column("topic", sa.Text, nullable=False),  # where it was first seen: another place is a duplicate, the same a redelivery
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    postgresql_partition_by="RANGE (created)",
)

# --- ours: what consumers/bookings remembers ----------------------------------------------------------------------------
booking_payments = sa.Table(
    "booking_payments",
    metadata,
    sa.Column("payment_id", sa.Uuid, primary_key=True),
    sa.Column("booking_id", sa.Uuid, nullable=False, index=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("paid", sa.Boolean, nullable=False),
    sa.Column("cancel_due", sa.Boolean, nullable=False),
    sa.Column("conflict_reason", sa.Text),
    sa.Column("cancelled_booking", sa.Boolean),  # whether its full refund did; unknown of what was refunded before we asked
)
booking_versions = sa.Table(
    "booking_versions",
    metadata,
    sa.Column("booking_id", sa.Uuid, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)

# --- ours: the ledger of letters (consumers/email) ----------------------------------------------------------------------
letters = sa.Table(
    "letters",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("booking_id", sa.Uuid, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # a Kind of consumers/email/kinds.py
    sa.Column("role", sa.Text, nullable=False),  # client, coach
    sa.Column("cause", sa.Text, nullable=False, server_default=""),  # payment/refunded amount of a refund, payment of a failure
    sa.Column("payment_id", sa.Uuid),
    sa.Column("amount_minor", sa.BigInteger),
    sa.Column("refunded_minor", sa.BigInteger),  # what the letter says went back
    sa.Column("currency", sa.String(3)),
    sa.Column("state", sa.Text, nullable=False),  # a State of consumers/email/ledger.py
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("claim_token", sa.Uuid),
    sa.Column("lease_until", MOMENT),
    sa.Column("handed_over_at", MOMENT),  # when the holder of the last claim began DATA: from then on it may be accepted
    sa.Column("message_id", sa.Text, nullable=False),  # stable over every attempt: a duplicate is recognised by it
    sa.Column("template_version", sa.Integer),  # of letter_templates, by which it was last written
    sa.Column("last_answer", sa.Text),
    sa.Column("possible_duplicates", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("queued_at", MOMENT, nullable=False, server_default=sa.func.now()),
    sa.Column("updated_at", MOMENT, nullable=False, server_default=sa.func.now()),
    sa.Column("sent_at", MOMENT),
    sa.UniqueConstraint("booking_id", "kind", "role", "cause", name="letters_once"),
    sa.Index("letters_open", "queued_at", postgresql_where=sa.text("state in ('queued', 'sending', 'retrying')")),
)
letter_changes = sa.Table(
    "letter_changes",  # append-only, written by a trigger upon `letters`: no change of state is without its time
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("letter_id", sa.Uuid, nullable=False, index=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("last_answer", sa.Text),
    sa.Column("changed_at", MOMENT, nullable=False, server_default=sa.func.now()),
    sa.Index("letter_changes_sent", "changed_at", postgresql_where=sa.text("state = 'sent'")),
)
dead_letter_actions = sa.Table(
    "dead_letter_actions",  # what operators did with dead letters; written by `cb-ops dlt` alone
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("topic", sa.Text, nullable=False),  # the full name in the cluster
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),  # why it was a dead letter
    sa.Column("action", sa.Text, nullable=False),  # replay, drop
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("begun_at", MOMENT, nullable=False, server_default=sa.func.now()),
    sa.Column("done_at", MOMENT),  # NULL: it was begun, and perhaps never done
    sa.Index("dead_letter_actions_by_place", "topic", "partition", "offset"),
)
letter_templates = sa.Table(
    "letter_templates",
    metadata,
    # A version is all files: of each the one with the greatest version up to it. Rows are added and never changed.
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("name", sa.Text, primary_key=True),  # as in shared/letters/seed: client_confirmation/body.html
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("put_by", sa.Text, nullable=False),  # a person; or "release": whoever migrates puts what the release brings
    sa.Column("put_at", MOMENT, nullable=False, server_default=sa.func.now()),
)
stripe_reconciliations = sa.Table(
    "stripe_reconciliations",  # written by `cb-ops stripe reconcile` alone
    metadata,
    sa.Column("account_id", sa.Text, primary_key=True),
    sa.Column("compared_until", MOMENT, nullable=False),  # what Stripe made until then is here
)
OURS = (
    payment_intents,
    payment_charges,
    refunds,
    disputes,
    payment_ledger,
    waiting_events,
    attention,
    inbox,
    booking_payments,
    booking_versions,
    letters,
    letter_changes,
    dead_letter_actions,
    letter_templates,
    stripe_reconciliations,
)
