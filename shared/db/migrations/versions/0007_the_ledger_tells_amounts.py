"""Keep in the ledger what an event said: which refund, of what amount, what a bank asks for, what was paid."""

from alembic import op

revision = "0007"
down_revision = "0006"

FACT = "alter table payment_ledger add column fact json"


def upgrade() -> None:
    """Add one column; no row that exists is rewritten, and those that do say nothing of it."""
    op.execute(FACT)
