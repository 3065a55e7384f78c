"""Indexes under the questions of `cb-ops` and of the hourly look at what waits: none of them may read a whole table."""

from alembic import op

revision = "0003"
down_revision = "0002"

INDEXES = """
create index ix_waiting_events_seen_at on waiting_events (seen_at);
create index ix_attention_aggregate on attention (aggregate);
create index attention_by_age on attention (opened_at, id);
create index attention_open on attention (opened_at, id) where resolved_at is null;
"""


def upgrade() -> None:
    """Create them; the tables are small, and a lock on them is short."""
    for statement in filter(str.strip, INDEXES.split(";")):
        op.execute(statement)
