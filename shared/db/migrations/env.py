"""What Alembic runs: each pending migration in a transaction of its own, one migrating process at a time.

Enters: under `config.attributes` an open connection and the name of the table that keeps our revision, from
shared/db/migrate.py.
"""

from alembic import context

given = context.config.attributes
context.configure(connection=given["connection"], version_table=given["version_table"], transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
