"""Remember which payment a charge belongs to: a refund or a dispute may name its charge and no payment intent."""

from alembic import op

revision = "0004"
down_revision = "0003"

CHARGES = "create table payment_charges (charge_id text primary key, payment_id uuid not null)"


def upgrade() -> None:
    """Create one table; nothing that exists is touched."""
    op.execute(CHARGES)
