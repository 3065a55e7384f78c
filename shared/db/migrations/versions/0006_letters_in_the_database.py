"""Keep the letters' templates in the database, every version of them, and what a letter says was refunded."""

from alembic import op

revision = "0006"
down_revision = "0005"

TEMPLATES = """
create table letter_templates (
    version integer not null,
    name text not null,
    source text not null,
    put_by text not null,
    put_at timestamptz not null default now(),
    primary key (version, name)
)
"""
REFUNDED = "alter table letters add column refunded_minor bigint"


def upgrade() -> None:
    """Create one table and add a column that may be null: nothing is rewritten."""
    op.execute(TEMPLATES)
    op.execute(REFUNDED)
