"""The language that two rooms must agree on: topics, messages, tables, money, and the fold.

Nothing here imports a process; ingress, consumers and deploy all import it.
"""
