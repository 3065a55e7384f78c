"""What a process that forks ours has imported, and then leaves alone: the last thing that it imports.

A fork shares memory with who forked it until one of them writes there, and a collector of garbage writes to every object that
it looks at: so many pages were copied at each start that it took three times as long. What is frozen it passes over.
"""

import gc

import sqlalchemy.dialects.postgresql.asyncpg
from stripe import StripeClient

__all__ = ["LATE"]

LATE = (sqlalchemy.dialects.postgresql.asyncpg, StripeClient)  # their libraries import them when somebody needs them

gc.collect()
gc.freeze()
