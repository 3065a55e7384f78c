"""Remember of a payment whether its full refund cancelled the booking: where it did not, a letter of its own tells of it."""

from alembic import op

revision = "0009"
down_revision = "0008"

CANCELLED_BOOKING = "alter table booking_payments add column cancelled_booking boolean"


def upgrade() -> None:
    """Add one column; no row that exists is rewritten, and of those that do nobody knows it any more."""
    op.execute(CANCELLED_BOOKING)
