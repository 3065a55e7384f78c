"""The business rules, pure: money, the fold of a payment, what becomes of its booking. Standard library only."""
