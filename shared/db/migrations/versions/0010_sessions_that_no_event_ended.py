"""Find the payments whose session should be over and of which no event said so, without reading all that were ever made.

A payment enters this index when its session is bound, and leaves it when it is paid or closed: it holds those under way.
"""

from alembic import op

revision = "0010"
down_revision = "0009"

LEFT_BY_A_BUILD_THAT_WAS_STOPPED = "drop index concurrently if exists payments_under_way"
INDEX = """
create index concurrently payments_under_way on payments (expires_at)
where not paid and closed_at is null and stripe_session_id is not null
"""


def upgrade() -> None:
    """Create one small index; `payments` is read twice for it, and everybody writes meanwhile.

    It waits for transactions that began before it, and nobody for it: so its patience has no end.
    """
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        op.execute(LEFT_BY_A_BUILD_THAT_WAS_STOPPED)
        op.execute(INDEX)
