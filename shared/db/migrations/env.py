"""What Alembic runs: every pending migration in one transaction, one migrating process at a time.

Enters: an open connection under `config.attributes["connection"]`, from shared/db/migrate.py.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
