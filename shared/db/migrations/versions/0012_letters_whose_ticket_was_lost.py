"""Find the letters that are open, and when the last one was sent, without reading all that were ever written.

A letter enters the first index when it is queued, and leaves it when it is sent, suppressed or given up: it holds those under
way. The second has an entry for each letter that was sent, at its right edge.
"""

from alembic import op

revision = "0012"
down_revision = "0011"

LEFT_BY_A_BUILD_THAT_WAS_STOPPED = (
    "drop index concurrently if exists letters_open",
    "drop index concurrently if exists letter_changes_sent",
)
INDEXES = (
    "create index concurrently letters_open on letters (queued_at) where state in ('queued', 'sending', 'retrying')",
    "create index concurrently letter_changes_sent on letter_changes (changed_at) where state = 'sent'",
)


def upgrade() -> None:
    """Create two indexes; the tables are read twice for each, and everybody writes meanwhile.

    They wait for transactions that began before them, and nobody for them: so their patience has no end.
    """
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        for statement in (*LEFT_BY_A_BUILD_THAT_WAS_STOPPED, *INDEXES):
            op.execute(statement)
