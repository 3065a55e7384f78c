"""The world in a box: PostgreSQL, Kafka, a Stripe sandbox and a mailbox on a machine that has only Python. Never shipped."""
