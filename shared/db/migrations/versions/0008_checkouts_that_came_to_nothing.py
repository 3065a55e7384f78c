"""Find the payments that never got a session: what was to be asked of Stripe, name and address in it, is to be forgotten.

A row leaves this index when its session is bound, a moment after it came: it holds hardly any.
"""

from alembic import op

revision = "0008"
down_revision = "0007"

LEFT_BY_A_BUILD_THAT_WAS_STOPPED = "drop index concurrently if exists payments_with_people"
INDEX = "create index concurrently payments_with_people on payments (expires_at) where checkout_request ? 'customer_email'"


def upgrade() -> None:
    """Create one small index; `payments` is read twice for it, and everybody writes meanwhile.

    It waits for transactions that began before it, and nobody for it: so its patience has no end.
    """
    with op.get_context().autocommit_block():
        op.execute("set lock_timeout = 0")
        op.execute(LEFT_BY_A_BUILD_THAT_WAS_STOPPED)
        op.execute(INDEX)
