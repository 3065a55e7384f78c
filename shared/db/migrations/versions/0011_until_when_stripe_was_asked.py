"""Remember until when Stripe's events were compared with ours, so that somebody hears when nobody compares them any more."""

from alembic import op

revision = "0011"
down_revision = "0010"

RECONCILIATIONS = """
create table stripe_reconciliations (
    account_id text primary key,
    compared_until timestamptz not null
)
"""


def upgrade() -> None:
    """Add a table of ours, with a row for each of Stripe's accounts."""
    op.execute(RECONCILIATIONS)
