"""THE MAP of the database: which role may do what with which table, and nothing else.

A role is a process (`cb_ingress` … `cb_email`) or the operators (`cb_operator`); logins are made members of one. Tables are
those of shared/db/tables.py. Nobody here owns a table: what creates, alters or drops (`cb-ops migrate`, `cb-ops inbox prune`)
runs as their owner. No role may change or delete what is recorded for good: the ledger, the changes of letters, the
versions of templates. A month of the inbox needs no rights of its own, its rows go through the table `inbox`. Next: roles.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

EVERY = "*"


@dataclass(frozen=True, slots=True)
class Rights:
    """What a role may do with a table: the columns that it reads, fills in a new row, and changes, and whether it deletes rows.

    Columns stand with a blank between them; EVERY stands for all, also those that a later migration adds.
    """

    select: str = ""
    insert: str = ""
    update: str = ""
    delete: bool = False


MATTER = Rights(select="id", insert="id reason aggregate cause")
INBOX = Rights(select=EVERY, insert=EVERY)
LINE = "event_id event_type event_created payment_id decision reason fact state_before state_after topic partition offset"

RIGHTS: Mapping[str, Mapping[str, Rights]] = {
    "cb_ingress": {
        "users": Rights(select="id email role is_active"),
        "coach_profiles": Rights(select="user_id first_name last_name hourly_rate currency"),
        "bookings": Rights(select="id client_id coach_id session_datetime duration_minutes status"),
        "payments": Rights(
            select="id booking_id amount amount_minor amount_refunded_minor currency status failure_reason stripe_session_id "
            "stripe_payment_intent_id checkout_request idempotency_key created_at updated_at expires_at closed_at",
            insert="id booking_id amount amount_minor currency expires_at checkout_request idempotency_key",
            update="stripe_session_id checkout_request closed_at",
        ),
    },
    "cb_payments": {
        "payments": Rights(
            select="id booking_id amount amount_minor currency status version paid failed failure_reason failure_created "
            "charge_refunded_minor stripe_session_id stripe_payment_intent_id closed_at closed_reason slot_free",
            update="amount_minor amount_refunded_minor charge_refunded_minor status version paid failed cancel_due slot_free "
            "failure_reason failure_created closed_at closed_reason stripe_session_id stripe_payment_intent_id updated_at",
        ),
        "payment_intents": Rights(select=EVERY, insert=EVERY, update="paid"),
        "payment_charges": Rights(select=EVERY, insert=EVERY),
        "refunds": Rights(select=EVERY, insert=EVERY, update="status ever_succeeded amount_minor"),
        "disputes": Rights(select=EVERY, insert=EVERY, update="status"),
        "payment_ledger": Rights(select="event_id event_type event_created decision", insert=LINE),
        "waiting_events": Rights(select=EVERY, insert=EVERY, update="state", delete=True),
        "attention": Rights(
            select="id reason aggregate cause resolved_at", insert=MATTER.insert, update="resolved_at resolved_by"
        ),
        "inbox": INBOX,
        "stripe_reconciliations": Rights(select=EVERY),
        "booking_payments": Rights(select="payment_id paid cancel_due cancelled_booking"),
        "letters": Rights(select="id booking_id kind role payment_id amount_minor refunded_minor state queued_at updated_at"),
        "letter_changes": Rights(select="state changed_at"),
    },
    "cb_bookings": {
        "bookings": Rights(
            select="id status payment_id session_datetime duration_minutes", update="status payment_id updated_at"
        ),
        "booking_payments": Rights(
            select=EVERY, insert=EVERY, update="version paid cancel_due conflict_reason cancelled_booking"
        ),
        "booking_versions": Rights(select=EVERY, insert=EVERY, update="version"),
        "attention": Rights(select="id resolved_at", insert=MATTER.insert),
        "inbox": INBOX,
    },
    "cb_email": {
        "users": Rights(select="id email"),
        "client_profiles": Rights(select="user_id first_name last_name timezone"),
        "coach_profiles": Rights(select="user_id first_name last_name availability"),
        "bookings": Rights(select="id client_id coach_id session_datetime duration_minutes status payment_id"),
        "payments": Rights(select="id paid amount_refunded_minor"),
        "booking_payments": Rights(select="payment_id booking_id paid cancel_due conflict_reason cancelled_booking"),
        "letters": Rights(
            select=EVERY,
            insert="id booking_id kind role cause payment_id amount_minor refunded_minor currency message_id state reason",
            update="state reason attempts claim_token lease_until handed_over_at template_version last_answer "
            "possible_duplicates updated_at sent_at",
        ),
        "letter_changes": Rights(insert="letter_id state reason attempts last_answer"),
        "letter_templates": Rights(select=EVERY),
        "attention": Rights(select="id resolved_at", insert=MATTER.insert),
    },
    "cb_operator": {
        "bookings": Rights(select="id status payment_id session_datetime"),
        "payments": Rights(
            select="id booking_id amount amount_minor amount_refunded_minor currency status version failure_reason "
            "paid closed_reason closed_at stripe_session_id stripe_payment_intent_id created_at expires_at"
        ),
        "payment_intents": Rights(select="intent_id payment_id"),
        "payment_charges": Rights(select=EVERY),
        "refunds": Rights(select="id payment_id status amount_minor"),
        "disputes": Rights(select="id payment_id status"),
        "payment_ledger": Rights(
            select=EVERY, insert="event_id event_type event_created decision reason topic partition offset"
        ),
        "waiting_events": Rights(select=EVERY, delete=True),
        "attention": Rights(select=EVERY, insert=MATTER.insert, update="resolved_at resolved_by"),
        "inbox": Rights(select=EVERY),
        "letters": Rights(
            select="booking_id kind role state reason attempts last_answer possible_duplicates queued_at updated_at sent_at"
        ),
        "letter_templates": Rights(select=EVERY, insert="version name source put_by"),
        "dead_letter_actions": Rights(select=EVERY, insert="topic partition offset reason action actor", update="done_at"),
        "stripe_reconciliations": Rights(select=EVERY, insert=EVERY, update="compared_until"),
    },
}
